//! The keys as the schema for editors has them, which the program prints.

use std::collections::BTreeMap;

use oxherd_e2e::Home;
use serde_json::{Map, Value};

/// How the cases call `env_` with any name.
pub(crate) const OVERLAY: &str = "env_<name>";

/// The names of all keys.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// Those that have an effect, by their first names in snake_case, with all that is in them after a dot; and their other
    /// names.
    known: BTreeMap<String, Vec<String>>,
    /// PM2's that have none, in snake_case and in camelCase, and the value that would need one, where there is such.
    pub(crate) idle: Vec<(String, Option<bool>)>,
    /// PM2's that are not offered.
    pub(crate) refused: Vec<String>,
}

impl Schema {
    pub(crate) fn read() -> Self {
        let text = Home::new().ok(&["check", "--schema"]);
        let schema: Value = serde_json::from_str(&text).expect("it is JSON");
        let app = &schema["$defs"]["app"];
        let mut read = Self::default();
        let properties = app["properties"].as_object().expect("an app has keys");
        for (name, property) in properties {
            read.take(name, property, properties);
        }
        assert!(app["patternProperties"]["^env_.+$"].is_object(), "{app}");
        read.known.insert(OVERLAY.into(), Vec::new());
        read
    }

    /// Keys that have an effect.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// All other names of a key.
    pub(crate) fn other_names(&self, key: &str) -> &[String] {
        self.known.get(key).map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, name: &str, property: &Value, all: &Map<String, Value>) {
        let says = property["description"].as_str().expect("a key is described");
        if says.starts_with("Not offered") {
            self.refused.push(name.into());
        } else if property["deprecated"] == true {
            self.idle.push((name.into(), property["not"]["const"].as_bool()));
        } else if let Some(first) = says.strip_prefix("As `").and_then(|rest| rest.split('`').next()) {
            self.known.entry(first.into()).or_default().push(name.into());
        } else if name.contains(|c: char| c.is_ascii_uppercase()) {
            let first = all.iter().find(|(other, it)| *other != name && it["description"] == says);
            let first = first.map(|(first, _)| first.clone()).expect("it is spelt in two ways");
            self.known.entry(first).or_default().push(name.into());
        } else {
            self.known.entry(name.into()).or_default();
            self.take_parts(name, property);
        }
    }

    /// What is in a key, however deep.
    fn take_parts(&mut self, name: &str, property: &Value) {
        for choice in property["anyOf"].as_array().into_iter().flatten().chain([property]) {
            let parts = choice["properties"].as_object().into_iter().flatten();
            for (part, inner) in parts.filter(|(_, inner)| inner["deprecated"] != true) {
                let name = format!("{name}.{part}");
                self.known.entry(name.clone()).or_default();
                self.take_parts(&name, inner);
            }
        }
    }
}
