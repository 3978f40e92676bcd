//! In what two configurations of an app differ, in the words of files. Values of variables are never told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oxherd_core::AppSpec;
use serde_json::Value;

/// Longer values are cut short.
const VALUE_CHARS_MAX: usize = 60;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of a file, or `env.NAME`.
    pub key: String,
    /// What it was; nothing where it was not set.
    pub old: Option<String>,
    /// What it is to be; nothing where it is not set any more.
    pub new: Option<String>,
    /// Whether the values are somebody's secrets, perhaps.
    pub is_secret: bool,
}

/// Where the parts of a configuration are not called as in files.
const NAMES: [(&str, &str); 14] = [
    ("upkeep.cron", "cron_restart"),
    ("upkeep.logs.out", "out_file"),
    ("upkeep.logs.err", "error_file"),
    ("upkeep.logs.both", "log_file"),
    ("upkeep.logs.disabled", "disable_logs"),
    ("upkeep.logs.json", "log_type"),
    ("upkeep.logs.date_format", "log_date_format"),
    ("upkeep.logs.per_slot", "merge_logs"),
    ("upkeep.about.filter_env", "filter_env"),
    ("upkeep.about.script", "script"),
    ("upkeep.about.args", "args"),
    ("upkeep.about.interpreter", "interpreter"),
    ("upkeep.about.interpreter_args", "node_args"),
    ("health_interval", "health_check"),
];
/// What is compared as parts, for what it is.
const PARTS: [(&str, &str); 3] =
    [("upkeep.watch", "watch"), ("upkeep.logs.rotate", "log_rotate"), ("upkeep.", "")];
/// What says nothing of how an app runs: where it was written, and the version of what is run. Of the environment, what was
/// asked for is compared in place of all, which is the caller's.
const PASSED_OVER: [&str; 6] = [
    "name",
    "env",
    "upkeep.about.file",
    "upkeep.about.version",
    "upkeep.about.env_name",
    "upkeep.about.fork",
];
const ASKED_FOR: &str = "upkeep.about.env.";
/// The command as it is executed, which what people wrote comes to.
const COMMAND: [&str; 2] = ["program", "args"];

/// Everything in which `new` differs from `old`, in the order of the keys.
pub fn differences(old: &AppSpec, new: &AppSpec) -> Vec<Difference> {
    let (old, new) = (flat(old), flat(new));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differ = |path: &&&String| old.get(**path) != new.get(**path);
    let mut list: Vec<Difference> = Vec::new();
    let is_written = |path: &str| path.starts_with("upkeep.about.");
    let differing: Vec<&String> = paths.iter().filter(differ).copied().collect();
    let is_command_told = differing.iter().any(|path| is_written(path) && !path.starts_with(ASKED_FOR));
    for path in differing {
        if PASSED_OVER.contains(&path.as_str()) || (is_command_told && COMMAND.contains(&path.as_str())) {
            continue;
        }
        let is_secret = path.starts_with(ASKED_FOR);
        let value = |from: &BTreeMap<String, String>| from.get(path).cloned();
        list.push(Difference { key: key_of(path), old: value(&old), new: value(&new), is_secret });
    }
    list.sort_by(|one, other| one.key.cmp(&other.key));
    list
}

fn key_of(path: &str) -> String {
    if let Some(name) = path.strip_prefix(ASKED_FOR) {
        return format!("env.{name}");
    }
    if let Some((_, key)) = NAMES.iter().find(|(known, _)| *known == path) {
        return (*key).into();
    }
    let part =
        PARTS.iter().find_map(|(prefix, key)| path.strip_prefix(prefix).map(|rest| format!("{key}{rest}")));
    part.unwrap_or_else(|| path.into())
}

/// All values by their paths. What is left out where it is the default is not there.
fn flat(spec: &AppSpec) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // A specification is data without anything that could not be written.
    let value = serde_json::to_value(spec).unwrap_or_default();
    flatten(String::new(), &value, &mut all);
    let spelled = [
        ("stop_signal", spec.stop_signal.to_string()),
        ("upkeep.logs.per_slot", (!spec.upkeep.logs.per_slot).to_string()),
        ("upkeep.logs.json", "json".into()),
    ];
    for (path, value) in spelled {
        all.entry(path.into()).and_modify(|known| *known = value);
    }
    all
}

fn flatten(path: String, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(path, value, all);
            }
        }
        Value::String(text) => drop(all.insert(path, text.clone())),
        other => drop(all.insert(path, other.to_string())),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new, is_secret } = self;
        match (old, new) {
            (None, _) if *is_secret => write!(f, "{key}: added"),
            (_, None) if *is_secret => write!(f, "{key}: removed"),
            _ if *is_secret => write!(f, "{key}: changed"),
            (old, new) => write!(f, "{key}: {} → {}", shown(old.as_deref()), shown(new.as_deref())),
        }
    }
}

fn shown(value: Option<&str>) -> String {
    let Some(value) = value else { return "(default)".into() };
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut text: String = value.chars().take(VALUE_CHARS_MAX).map(plain).collect();
    if value.chars().nth(VALUE_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}
