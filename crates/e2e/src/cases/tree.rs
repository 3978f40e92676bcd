//! What the program can be told, as it says itself.

use serde_json::Value;

use crate::Home;

/// All verbs, with their options.
#[derive(Debug)]
pub struct Tree {
    /// Those that are there, `export kubernetes` as one.
    pub verbs: Vec<Verb>,
    /// Options of all verbs.
    pub globals: Vec<Flag>,
    /// Verbs of PM2's that are not offered.
    pub refused_verbs: Vec<String>,
    /// Options of PM2's that are not offered with `start`.
    pub refused_flags: Vec<String>,
}

/// A verb.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// Whether help does not name it.
    pub hidden: bool,
    /// Whether it wants a word.
    pub wants_word: bool,
    /// Its options.
    pub flags: Vec<Flag>,
}

/// An option, by all its names.
#[derive(Debug)]
pub struct Flag {
    /// Such as `--name` and `-n`.
    pub names: Vec<String>,
    /// Whether help does not name it.
    pub hidden: bool,
}

impl Tree {
    /// Asks the program.
    pub fn of(home: &Home) -> Self {
        let tree: Value = serde_json::from_str(&home.ok(&["command-tree"])).expect("it is JSON");
        Self {
            verbs: list(&tree["verbs"]).iter().map(Verb::of).collect(),
            globals: list(&tree["globals"]).iter().map(Flag::of).collect(),
            refused_verbs: words(&tree["refused_verbs"]),
            refused_flags: words(&tree["refused_flags"]),
        }
    }
}

impl Verb {
    fn of(verb: &Value) -> Self {
        Self {
            name: text(&verb["name"]),
            aliases: words(&verb["aliases"]),
            hidden: verb["hidden"] == true,
            wants_word: verb["wants_word"] == true,
            flags: list(&verb["flags"]).iter().map(Flag::of).collect(),
        }
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

impl Flag {
    fn of(flag: &Value) -> Self {
        Self { names: words(&flag["names"]), hidden: flag["hidden"] == true }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("it is a list")
}

fn words(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a text").to_owned()
}
