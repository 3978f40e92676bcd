//! The part of an app's configuration that the core carries for others and never looks at: where output goes, when
//! the app is reloaded by the clock or by a changed file, and what people are told of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Span;

/// What the daemon does for an app beyond keeping its slots filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upkeep {
    /// The group that the app belongs to, for selectors; empty: `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Where output goes, and how it is written.
    #[serde(skip_serializing_if = "is_default")]
    pub logs: LogSpec,
    /// When the app is reloaded by the clock: a cron expression in local time, with or without seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Which files' changes reload the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchSpec>,
    /// Where the pid of each worker is written; `-<slot>` goes before the extension where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// What was asked for, as people wrote it.
    #[serde(skip_serializing_if = "is_default")]
    pub about: About,
}

/// Where the output of an app goes, and how it is written. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSpec {
    /// File of standard output; by the app's name if there is none. `/dev/null` keeps nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
    /// File of standard error, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
    /// One more file, with both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both: Option<String>,
    /// A file for each slot, with `-<number>` before the extension, in place of one for all: the number that the slot
    /// has among those of all apps.
    #[serde(skip_serializing_if = "is_default")]
    pub per_slot: bool,
    /// Nothing is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub disabled: bool,
    /// A line is a JSON object.
    #[serde(skip_serializing_if = "is_default")]
    pub json: bool,
    /// What goes before each line, in the language of moment.js (`YYYY-MM-DD HH:mm:ss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_format: Option<String>,
    /// When a file is put aside and another begun.
    #[serde(skip_serializing_if = "is_default")]
    pub rotate: Rotate,
}

/// When a log file is put aside, and how many are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// At this many bytes; 0: never.
    pub size: u64,
    /// After this long; `None`: never.
    pub every: Option<Span>,
    /// So many old ones are kept.
    pub keep: u32,
    /// Old ones are compressed.
    pub gzip: bool,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { size: 10 << 20, every: None, keep: 10, gzip: true }
    }
}

/// Which files' changes reload an app. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchSpec {
    /// Files and folders, with all that is in them.
    pub paths: Vec<String>,
    /// What is not looked at: globs or plain parts of paths. Dotfiles and `node_modules` never are.
    pub ignore: Vec<String>,
    /// The pause after the last change.
    pub delay: Span,
}

/// What was asked for, as people wrote it: for those who look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    /// The script's absolute path, or the program.
    pub script: String,
    /// Its own arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What runs it; `none`: itself.
    pub interpreter: String,
    /// The interpreter's arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interpreter_args: Vec<String>,
    /// The version that stands in the nearest `package.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The file that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which of the file's environments was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_name: Option<String>,
    /// Variables that were asked for, as opposed to those of the caller.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What is left out of the caller's environment: nothing, `*` for all, a name, or `*PART*`s.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_env: String,
    /// Whether `exec_mode` was `fork`.
    #[serde(skip_serializing_if = "is_default")]
    pub fork: bool,
}

/// The name of an app as a part of a file's: what no file system minds.
pub fn file_stem(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    name.chars().map(fit).collect()
}

impl Upkeep {
    /// The group that the app belongs to.
    pub fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
