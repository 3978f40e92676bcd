//! Other names of keys, and other languages of files: they mean the same to the daemon, which says so itself.

use std::process::Output;

use oxherd_e2e::Home;
use serde_json::{Map, Value, json};

use crate::schema::Schema;
use crate::stand::{ENV_NAME, apps};

/// All cases as apps that are known and do not run.
struct Known {
    home: Home,
    apps: Vec<Value>,
}

impl Known {
    fn new() -> Self {
        let home = Home::new();
        let cases = crate::all();
        let apps: Vec<Value> = apps(&home, &cases).into_iter().flat_map(|(.., apps)| apps).collect();
        let mut apps = apps;
        for (number, app) in apps.iter_mut().enumerate() {
            let app = app.as_object_mut().expect("an object");
            app.insert("autostart".into(), false.into());
            app.insert("name".into(), json!(format!("app-{number}")));
        }
        let known = Self { home, apps };
        let file = known.home.write("first.json", &json!(known.apps).to_string());
        known.home.ok(&["apply", &file, "--env", ENV_NAME]);
        known
    }

    /// What would be done about a file.
    fn plan(&self, name: &str, text: &str) -> Vec<String> {
        let file = self.home.write(name, text);
        let Output { status, stdout, stderr } =
            self.home.run(&["apply", &file, "--dry-run", "--env", ENV_NAME]);
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{name}: {err}\n{text}");
        out.lines().map(str::to_owned).collect()
    }

    fn assert_same(&self, name: &str, text: &str) {
        let plan = self.plan(name, text);
        let other: Vec<_> = plan.iter().filter(|line| !line.starts_with("unchanged ")).collect();
        assert!(other.is_empty(), "{name}: {other:#?}");
        assert_eq!(plan.len(), self.apps.len(), "{name}");
    }
}

/// An app with other names for its keys, where they have any left by this number.
fn renamed(app: &Value, schema: &Schema, number: usize) -> (Value, usize) {
    let mut count = 0;
    let entries = app.as_object().expect("an object").iter().map(|(key, value)| {
        let other = schema.other_names(key).get(number);
        count += usize::from(other.is_some());
        (other.unwrap_or(key).clone(), value.clone())
    });
    (Value::Object(entries.collect::<Map<_, _>>()), count)
}

#[test]
fn every_name_and_every_language_mean_the_same() {
    let known = Known::new();
    let schema = Schema::read();
    for number in 0.. {
        let apps = known.apps.iter().map(|app| renamed(app, &schema, number));
        let (apps, counts): (Vec<Value>, Vec<usize>) = apps.unzip();
        if counts.iter().sum::<usize>() == 0 {
            break;
        }
        known.assert_same("renamed.json", &json!(apps).to_string());
    }
    let apps = Value::from(known.apps.clone());
    let json5 = format!("// as people write it\n{{apps: {},}}\n", json5(&apps));
    known.assert_same("a.json", &json5);
    known.assert_same("a.json5", &json5);
    known.assert_same("a.yaml", &format!("apps:{}\n", yaml(&apps, 1)));
    known.assert_same("a.yml", &format!("---\n{}\n", yaml(&apps, 0)));
    known.assert_same("a.toml", &toml(&known.apps));
    known.assert_same("a.config.js", &format!("module.exports = () => ({{ apps: {apps} }});\n"));
    known.assert_same("a.config.cjs", &format!("exports.apps = {apps};\n"));
    known.assert_same("a.config.mjs", &format!("export default Promise.resolve({apps});\n"));
    values(&known);
    keys_count(&known);
}

/// A value as text, and as number: the same.
fn values(known: &Known) {
    let turned = |app: &Value, turn: fn(&Value) -> Value| {
        let entries = app.as_object().expect("an object").iter();
        Value::Object(
            entries
                .map(|(key, value)| (key.clone(), if key == "args" { value.clone() } else { turn(value) }))
                .collect(),
        )
    };
    let as_text = |value: &Value| match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    };
    let apps: Vec<Value> = known.apps.iter().map(|app| turned(app, as_text)).collect();
    known.assert_same("texts.json", &json!(apps).to_string());
}

/// Keys that others need, or that the app cannot be without.
const NEEDED: [&str; 12] = [
    "name",
    "script",
    "cwd",
    "env",
    "autostart",
    "interpreter",
    "exec_mode",
    "listen",
    "distribution",
    "sockets",
    "watch",
    "strategy",
];

/// Each key that is left out makes a difference to what runs.
fn keys_count(known: &Known) {
    // What is so anyway; one CPU less is one, where there are two.
    let usual = [("merge_logs", json!(true)), ("cron_restart", json!("0")), ("instances", json!(-1))];
    let is_needed = |key: &str| NEEDED.contains(&key);
    let less = |app: &Value| {
        let entries = app.as_object().expect("an object").clone().into_iter();
        entries.filter(|(key, _)| is_needed(key)).collect::<Map<_, _>>()
    };
    let apps: Vec<Map<_, _>> = known.apps.iter().map(less).collect();
    let plan = known.plan("less.json", &json!(apps).to_string());
    for app in &known.apps {
        let line = format!("unchanged {}", app["name"].as_str().expect("a name"));
        let is_usual =
            |key: &str, value: &Value| usual.iter().any(|(known, it)| *known == key && it == value);
        let mut entries = app.as_object().expect("an object").iter();
        let counts = entries.any(|(key, value)| !is_needed(key) && !is_usual(key, value));
        assert!(!counts || !plan.contains(&line), "without what it has, it is the same: {app}");
    }
}

/// Keys without quotes, single quotes, a comma after the last.
fn json5(value: &Value) -> String {
    let is_plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match value {
        Value::String(text) if !text.contains(['\'', '\\', '\n']) => format!("'{text}'"),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| format!("{}, ", json5(item))).collect::<String>())
        }
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| match is_plain(key) {
                true => format!("{key}: {}, ", json5(value)),
                false => format!("'{key}': {}, ", json5(value)),
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<String>())
        }
        other => other.to_string(),
    }
}

/// Blocks; what stands on one line is written as JSON, which YAML understands.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| format!("\n{indent}-{}", yaml(item, depth + 1))).collect()
        }
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().map(|(key, value)| format!("\n{indent}{key}:{}", yaml(value, depth + 1))).collect()
        }
        other => format!(" {other}"),
    }
}

/// A table for each app.
fn toml(apps: &[Value]) -> String {
    let table = |app: &Value| {
        let entries = app.as_object().expect("an object").iter();
        let lines: String = entries.map(|(key, value)| format!("{key} = {}\n", toml_value(value))).collect();
        format!("[[apps]]\n{lines}\n")
    };
    apps.iter().map(table).collect()
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key} = {}", toml_value(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
