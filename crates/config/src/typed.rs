//! From a value of a file to one of the right type, or to what is wrong with it. What was found and what is wanted
//! are both said.

pub(crate) mod parts;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use oxherd_core::{ListenAt, Ports, Span};

use crate::diagnostics::{Findings, Place, Source, shown};
use crate::environment;
use crate::tree::{Node, Value};
use crate::values::{self, Variable, Weights, Words};

/// Takes values and keeps what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    pub(crate) findings: Findings,
    /// What is not wrong, but odd or without effect: where, and what there is to say.
    pub(crate) doubts: Vec<(Place, String)>,
    pub(crate) as_pm2: bool,
    /// The text in which numbers are looked up where a text is wanted: `012` is none to the program that is told so. Not of
    /// JavaScript and what comes of it, where a number has one text only.
    pub(crate) written: Option<Arc<Source>>,
}

impl Typed {
    /// Takes note of something wrong, without a hint.
    pub(crate) fn wrong(&mut self, place: &Place, what: impl Into<String>) {
        self.findings.add(place, what, None);
    }

    /// The same, with what may help.
    pub(crate) fn wrong_but(&mut self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.add(place, what, Some(hint.into()));
    }

    /// Something that PM2 passes over: wrong, unless we were called as it.
    pub(crate) fn odd(&mut self, place: &Place, what: String, hint: Option<String>) {
        if self.as_pm2 {
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            self.doubts.push((place.clone(), format!("{what}; it is passed over{hint}")));
        } else {
            self.findings.add(place, what, hint);
        }
    }

    /// Something that is taken and does nothing.
    pub(crate) fn idle(&mut self, place: &Place, name: &str) {
        self.doubts.push((place.clone(), format!("`{name}` has no effect here")));
    }

    fn mistyped<T>(&mut self, key: &str, wanted: &str, node: &Node) -> Option<T> {
        self.wrong(&node.place, format!("`{key}` wants {wanted}, found {}", node.value.kind()));
        None
    }

    /// What a checking function says, as a finding.
    fn checked<T>(&mut self, key: &str, node: &Node, checked: Result<T, impl Display>) -> Option<T> {
        checked.map_err(|why| self.wrong(&node.place, format!("`{key}`: {why}"))).ok()
    }

    pub(crate) fn flag(&mut self, key: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Flag(flag) => Some(*flag),
            _ => self.mistyped(key, "true or false", node),
        }
    }

    /// A string with something in it.
    pub(crate) fn text(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.trim().is_empty() => self.checked(key, node, Err("it is empty")),
            Value::Text(text) => self.plain(key, node, text.clone()),
            _ => self.mistyped(key, "a string", node),
        }
    }

    /// What the kernel can pass on: it ends texts with NUL.
    fn plain(&mut self, key: &str, node: &Node, text: String) -> Option<String> {
        let checked = if text.contains('\0') { Err("it has a NUL character") } else { Ok(text) };
        self.checked(key, node, checked)
    }

    pub(crate) fn name(&mut self, key: &str, node: &Node) -> Option<String> {
        let text = self.text(key, node)?;
        self.checked(key, node, values::parse_name(&text))
    }

    /// A word that a type of ours can read.
    pub(crate) fn word<T: FromStr<Err: Display>>(&mut self, key: &str, node: &Node) -> Option<T> {
        let text = self.text(key, node)?;
        self.checked(key, node, text.parse())
    }

    /// The same by a function.
    pub(crate) fn word_by<T>(
        &mut self,
        key: &str,
        node: &Node,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, node)?;
        self.checked(key, node, parse(&text))
    }

    /// The same, and it may be a number.
    pub(crate) fn word_or_number<T: FromStr<Err: Display>>(&mut self, key: &str, node: &Node) -> Option<T> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => self.checked(key, node, text.parse()),
            _ => self.mistyped(key, "a string or a number", node),
        }
    }

    /// A whole number from 1.
    pub(crate) fn positive(&mut self, key: &str, node: &Node) -> Option<u32> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => self.checked(key, node, values::parse_positive(text)),
            _ => self.mistyped(key, "a number", node),
        }
    }

    /// A list of whole numbers from 0, or one string with commas.
    pub(crate) fn weights(&mut self, key: &str, node: &Node) -> Option<Vec<u32>> {
        const WANTED: &str = "a list of numbers, or a string such as \"3,1\"";
        match &node.value {
            Value::Text(text) => self.checked(key, node, text.parse::<Weights>()).map(|weights| weights.0),
            Value::List(items) => items.iter().map(|item| self.weight(key, item)).collect(),
            _ => self.mistyped(key, WANTED, node),
        }
    }

    fn weight(&mut self, key: &str, node: &Node) -> Option<u32> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => self.checked(key, node, values::parse_weight(text)),
            _ => self.mistyped(key, "numbers", node),
        }
    }

    /// A whole number from 0.
    pub(crate) fn count(&mut self, key: &str, node: &Node) -> Option<u32> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => {
                self.checked(key, node, text.parse().map_err(|_| "give a whole number from 0"))
            }
            _ => self.mistyped(key, "a number", node),
        }
    }

    /// A port, a string such as "80,8000-8999", or a list of both.
    pub(crate) fn ports(&mut self, key: &str, node: &Node) -> Option<Ports> {
        const WANTED: &str = "a port, a string such as \"80,8000-8999\", or a list of them";
        let text = match &node.value {
            Value::Number(text) | Value::Text(text) => text.clone(),
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Value::Number(text) | Value::Text(text) => texts.push(text.as_str()),
                        _ => return self.mistyped(key, "ports and ranges of ports", item),
                    }
                }
                texts.join(",")
            }
            _ => return self.mistyped(key, WANTED, node),
        };
        self.checked(key, node, text.parse())
    }

    /// An object of names and addresses, or a list of `NAME=ADDRESS`.
    pub(crate) fn listeners(&mut self, key: &str, node: &Node) -> Option<Vec<ListenAt>> {
        const WANTED: &str = "an object of names and addresses, or a list such as [\"web=0.0.0.0:8080\"]";
        match &node.value {
            Value::Text(_) => Some(vec![self.word(key, node)?]),
            Value::List(items) => items.iter().map(|item| self.word(key, item)).collect(),
            Value::Object(entries) => {
                let mut listeners = Vec::with_capacity(entries.len());
                for entry in entries {
                    let address = self.text(&shown(&entry.key), &entry.node)?;
                    let name = entry.key.clone();
                    listeners.push(ListenAt { name, address });
                }
                Some(listeners)
            }
            _ => self.mistyped(key, WANTED, node),
        }
    }

    /// Milliseconds, also as a text, or a text with a unit.
    pub(crate) fn span(&mut self, key: &str, node: &Node) -> Option<Span> {
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        let checked = match &node.value {
            Value::Number(text) => values::parse_span(&format!("{}ms", number_as_text(text)))
                .map_err(|why| if why.contains("year") { why } else { "give milliseconds from 0".into() }),
            Value::Text(text) if is_plain(text) => values::parse_span(&format!("{text}ms")),
            Value::Text(text) => values::parse_span(text),
            _ => return self.mistyped(key, "milliseconds or a string such as \"10s\"", node),
        };
        self.checked(key, node, checked)
    }

    /// Bytes, or a text with a unit.
    pub(crate) fn size(&mut self, key: &str, node: &Node) -> Option<usize> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => self.checked(key, node, values::parse_size(text)),
            _ => self.mistyped(key, "bytes or a string such as \"64M\"", node),
        }
    }

    /// A list of strings and numbers, or one string that is split as a shell would.
    pub(crate) fn words(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        match &node.value {
            Value::Text(text) => {
                let text = self.plain(key, node, text.clone())?;
                self.checked(key, node, text.parse::<Words>()).map(|words| words.0)
            }
            Value::List(items) => items.iter().map(|item| self.item(key, item)).collect(),
            _ => self.mistyped(key, "a list of strings, or one string", node),
        }
    }

    fn item(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => self.plain(key, node, text.clone()),
            Value::Number(number) => Some(self.number_text(number, &node.place)),
            _ => self.mistyped(key, "a list of strings", node),
        }
    }

    pub(crate) fn port(&mut self, key: &str, node: &Node) -> Option<u16> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => {
                self.checked(key, node, text.parse().map_err(|_| "give a number from 0 to 65535"))
            }
            _ => self.mistyped(key, "a number", node),
        }
    }

    /// An object of strings, numbers, booleans, and of what becomes JSON; or one string of `K=V`s.
    pub(crate) fn environment(&mut self, key: &str, node: &Node) -> Option<Vec<Variable>> {
        let entries = match &node.value {
            Value::Object(entries) => entries,
            Value::Text(text) => return self.variables(key, node, text),
            _ => return self.mistyped(key, "an object", node),
        };
        let mut variables = Vec::with_capacity(entries.len());
        for entry in entries {
            let name = shown(&entry.key);
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                self.wrong(&entry.key_place, format!("`{name}` cannot be the name of a variable"));
            } else if environment::is_ours(&entry.key) {
                self.wrong_but(&entry.key_place, format!("`{name}` is set by oxherd itself"), "remove it");
            }
            let value = match &entry.node.value {
                Value::Text(text) => Some(text.clone()),
                Value::Number(number) => Some(self.number_text(number, &entry.node.place)),
                Value::Flag(flag) => Some(flag.to_string()),
                Value::Null if self.as_pm2 => Some("null".into()),
                Value::Null => self.mistyped(&name, "a string, a number or a boolean", &entry.node),
                value @ (Value::List(_) | Value::Object(_)) => Some(value.to_json()),
            };
            let value = value.and_then(|value| self.plain(&name, &entry.node, value));
            variables.extend(value.map(|value| Variable { key: entry.key.clone(), value }));
        }
        Some(variables)
    }

    /// A number as it is written, where it stands there as it is.
    fn number_text(&self, number: &str, place: &Place) -> String {
        let is_plain = |text: &&str| {
            text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        let written =
            self.written.as_ref().and_then(|source| source.text.get(place.clone())).filter(is_plain);
        written.map_or_else(|| number_as_text(number), str::to_owned)
    }

    fn variables(&mut self, key: &str, node: &Node, text: &str) -> Option<Vec<Variable>> {
        let text = self.plain(key, node, text.to_owned())?;
        let words = self.checked(key, node, text.parse::<Words>())?;
        words.0.iter().map(|word| self.checked(key, node, word.parse())).collect()
    }
}

/// As JavaScript writes it: `1.0` is 1 and `1e3` is 1000. Whole numbers stay as they are, however long.
pub(crate) fn number_as_text(number: &str) -> String {
    let is_whole = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match number.parse::<f64>() {
        Ok(value) if !is_whole && value.is_finite() => value.to_string(),
        _ => number.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_plainly() {
        let given = ["3000", "1.0", "1e3", "-1.50", "12345678901234567890", "1e999", "0.1"];
        let wanted = ["3000", "1", "1000", "-1.5", "12345678901234567890", "1e999", "0.1"];
        assert_eq!(given.map(number_as_text), wanted);
    }
}
