//! What a file of any kind says, with where everything stands in it: the common form of all readers.

use crate::diagnostics::Place;
use crate::typed::number_as_text;

/// Lists and objects within each other.
pub(crate) const DEPTH_MAX: usize = 128;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// A whole text.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// Keys that their object has had before; the entries are left out of it.
    pub(crate) repeated: Vec<Repeated>,
}

#[derive(Clone, Debug)]
pub(crate) struct Repeated {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) first: Place,
}

/// Why a text cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Value {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Whether it is this number.
    pub(crate) fn is_number(&self, wanted: &str) -> bool {
        matches!(self, Self::Number(text) if text == wanted)
    }

    /// Whether it is `true` or `false`, by name.
    pub(crate) fn is_flag(&self, wanted: &str) -> bool {
        matches!(self, Self::Flag(flag) if flag.to_string() == wanted)
    }

    /// As `JSON.stringify` has it.
    pub(crate) fn to_json(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number_as_text(number),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.value.to_json()).collect();
                format!("[{}]", items.join(","))
            }
            Self::Object(entries) => {
                let pair = |entry: &Entry| format!("{}:{}", quoted(&entry.key), entry.node.value.to_json());
                format!("{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// A text with quotes, and escapes where they are needed.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
