//! The JSON Schema of files, for editors: made of the one table of keys.

use serde_json::{Map, Value, json};

use crate::keys::{Form, IDLE, KEYS, REFUSED, Row};

/// The schema's text, with the end of its last line.
pub fn schema() -> String {
    let app = app();
    let list = json!({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/app"}});
    let whole = json!({
        "type": "object",
        "anyOf": [
            {"required": ["apps"], "properties": {"apps": {"minItems": 1}}},
            {"required": ["static"], "properties": {"static": {"minItems": 1}}},
        ],
        "additionalProperties": false,
        "properties": {
            "apps": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/app"}}, {"$ref": "#/$defs/app"}]},
            "static": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/static"}}, {"$ref": "#/$defs/static"}]},
            "deploy": {"type": "object", "description": "Passed over: deploy with another tool", "deprecated": true},
        },
        "patternProperties": {"^x-": extension()},
    });
    let alone = alone(&app);
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Oxherd: a list of apps",
        "anyOf": [whole, {"$ref": "#/$defs/apps"}, alone],
        "$defs": {"app": app, "apps": list, "environment": environment(), "span": span(), "size": size(), "static": server()},
    });
    // Data of ours can always be written.
    format!("{}\n", serde_json::to_string_pretty(&schema).unwrap_or_default())
}

fn extension() -> Value {
    json!({"description": "The file's own: passed over"})
}

/// An app that is the whole file: keys of the file's own are beside its keys.
fn alone(app: &Value) -> Value {
    let mut alone = app.clone();
    if let Some(Value::Object(properties)) = alone.get_mut("properties") {
        for (name, property) in properties {
            *property = json!({"$ref": format!("#/$defs/app/properties/{name}")});
        }
    }
    alone["patternProperties"]["^x-"] = extension();
    alone
}

/// A server of files.
fn server() -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let login = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["username", "password"],
        "properties": {"username": text, "password": text},
    });
    let mut properties = Map::new();
    let keys = [
        ("name", text.clone(), "What the app is called: `static-page-server-PORT` without it"),
        ("path", text.clone(), "The folder, relative to the file"),
        ("port", json!({"type": ["integer", "string"]}), "8080 without it"),
        ("host", text.clone(), "The address to listen at: all without it"),
        ("spa", json!({"type": "boolean"}), "Answer the homepage where there is no such file"),
        ("homepage", text, "The page for `spa`: index.html without it"),
        ("ftp", json!({"type": "boolean"}), "List folders"),
        ("basic_auth", login, "Ask for this name and password"),
        ("directory", json!({"deprecated": true}), "A key of PM2's without effect"),
        ("monitor", json!({"deprecated": true}), "A key of PM2's without effect"),
    ];
    for (name, mut property, says) in keys {
        property["description"] = says.into();
        add(&mut properties, name, property);
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn app() -> Value {
    let mut properties = Map::new();
    for row in KEYS {
        for name in row.names {
            add(&mut properties, name, property(row, name));
        }
    }
    for (name, refused) in IDLE {
        let mut property = json!({"description": "A key of PM2's without effect", "deprecated": true});
        if let (false, Value::Object(entries)) = (refused.is_empty(), &mut property) {
            entries.insert("not".into(), json!({"const": refused == "true"}));
        }
        add(&mut properties, name, property);
    }
    for (name, instead) in REFUSED {
        let says = format!("Not offered: {instead}");
        add(
            &mut properties,
            name,
            json!({"description": says, "deprecated": true, "enum": [null, false, "", []]}),
        );
    }
    let scripts = KEYS.iter().take(1).flat_map(|row| row.names);
    let has_script: Vec<Value> = scripts.map(|name| json!({"required": [name]})).collect();
    json!({
        "type": "object",
        "oneOf": has_script,
        "additionalProperties": false,
        "properties": properties,
        "patternProperties": {"^env_.+$": {"$ref": "#/$defs/environment", "description": "Laid over `env` with --env NAME"}},
    })
}

/// Under both its spellings.
fn add(properties: &mut Map<String, Value>, name: &str, property: Value) {
    let camel = camel_case(name);
    if camel != name {
        properties.insert(camel, property.clone());
    }
    properties.insert(name.into(), property);
}

pub(crate) fn camel_case(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut is_start = false;
    for c in snake.chars() {
        match c {
            '_' => is_start = true,
            c if is_start => {
                camel.extend(c.to_uppercase());
                is_start = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn property(row: &Row, name: &str) -> Value {
    let mut property = form(row.form);
    let first = row.names.first().copied().unwrap_or(name);
    let says = if first == name { row.says.to_owned() } else { format!("As `{first}`: {}", row.says) };
    if let Value::Object(entries) = &mut property {
        entries.insert("description".into(), says.into());
    }
    property
}

fn environment() -> Value {
    json!({
        "anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "array", "object"]}},
        ],
    })
}

fn span() -> Value {
    json!({"anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]+$|^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$"},
    ]})
}

fn size() -> Value {
    json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+[KkMmGg]?$"}]})
}

fn count(from: u32) -> Value {
    json!({"anyOf": [{"type": "integer", "minimum": from}, {"type": "string", "pattern": "^[0-9]+$"}]})
}

fn parts(properties: &Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn form(form: Form) -> Value {
    let span = || json!({"$ref": "#/$defs/span"});
    let flag = || json!({"type": "boolean"});
    let text = || json!({"type": "string", "minLength": 1});
    let texts = || json!({"type": "array", "items": {"type": "string", "minLength": 1}});
    let number = || json!({"type": ["integer", "string"]});
    match form {
        Form::Text => text(),
        Form::Flag => flag(),
        Form::Count(from) => count(from),
        Form::Span => json!({"anyOf": [span()]}),
        Form::Size => json!({"anyOf": [{"$ref": "#/$defs/size"}]}),
        Form::Words => {
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}]})
        }
        Form::Choice(words) => json!({"enum": words}),
        Form::TextOrNumber => json!({"type": ["string", "integer"]}),
        Form::Texts => json!({"anyOf": [text(), texts()]}),
        Form::FlagOrTexts => json!({"anyOf": [flag(), text(), texts()]}),
        Form::Numbers => json!({"anyOf": [number(), {"type": "array", "items": number()}]}),
        Form::FlagOrText => json!({"anyOf": [flag(), text()]}),
        Form::Instances => {
            let count =
                json!({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^(max|io|-?[0-9]+)$"}]});
            let bounds = parts(&json!({"min": count, "max": count}));
            json!({"anyOf": [count, bounds]})
        }
        Form::Environment => json!({"anyOf": [{"$ref": "#/$defs/environment"}]}),
        Form::Listeners => {
            json!({"anyOf": [text(), texts(), {"type": "object", "additionalProperties": text()}]})
        }
        Form::Ports => json!({"anyOf": [number(), {"type": "array", "items": number()}]}),
        Form::Weights => json!({"anyOf": [{"type": "string"}, {"type": "array", "items": number()}]}),
        Form::Cron => json!({"anyOf": [text(), {"enum": [0, false]}]}),
        Form::Probe => {
            let url = json!({"type": "string", "pattern": "^(http|tcp)://"});
            let whole = parts(&json!({"url": url, "interval": span(), "timeout": span()}));
            json!({"anyOf": [url, whole]})
        }
        Form::FlagOrSpan => json!({"anyOf": [flag(), span(), parts(&json!({"interval": span()}))]}),
        Form::Rotate => {
            let size = json!({"anyOf": [{"$ref": "#/$defs/size"}, {"enum": [0, false]}]});
            let every = json!({"anyOf": [span(), {"const": false}]});
            let whole = json!({"size": size, "every": every, "keep": count(0), "gzip": flag()});
            json!({"anyOf": [flag(), parts(&whole)]})
        }
        Form::WatchOptions => {
            let poll = json!({"anyOf": [span()], "description": "Without effect", "deprecated": true});
            let finish = json!({"anyOf": [flag(), parts(&json!({"stabilityThreshold": span(), "pollInterval": poll}))]});
            json!({"type": "object", "properties": {"ignored": {"anyOf": [text(), texts()]}, "awaitWriteFinish": finish}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `OXHERD_UPDATE=1` writes it anew.
    #[test]
    fn the_schema_in_the_documentation_is_this_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ecosystem.schema.json");
        if std::env::var_os("OXHERD_UPDATE").is_some() {
            std::fs::write(&path, schema()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == schema(),
            "docs/ecosystem.schema.json is stale: run this test with OXHERD_UPDATE=1"
        );
    }

    #[test]
    fn keys_of_the_files_own_are_where_they_are_passed_over() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let whole = schema["anyOf"].as_array().unwrap();
        let has = |it: &Value| it["patternProperties"]["^x-"].is_object();
        assert_eq!(whole.iter().map(has).collect::<Vec<_>>(), [true, false, true]);
        assert!(!has(&schema["$defs"]["app"]));
        let alone = whole[2]["properties"].as_object().unwrap();
        assert!(alone.keys().eq(schema["$defs"]["app"]["properties"].as_object().unwrap().keys()));
    }

    #[test]
    fn every_name_of_every_key_is_in_it() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let properties = schema["$defs"]["app"]["properties"].as_object().unwrap();
        for name in KEYS.iter().flat_map(|row| row.names) {
            for name in [(*name).to_owned(), camel_case(name)] {
                assert!(properties[&name]["description"].is_string(), "{name}");
            }
        }
    }
}
