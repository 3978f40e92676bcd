//! Where in a program's text the keys and values stand that it exports: a guess, which is right wherever they are written out
//! as a literal. What cannot be found has the place of what it is in.

use crate::diagnostics::Place;
use crate::tree::{Node, Value};

/// A `key:` in the text.
#[derive(Debug)]
struct Property<'a> {
    name: &'a str,
    key: Place,
    value: Place,
    is_used: bool,
}

/// Gives all nodes their places.
pub(super) fn find(root: &mut Node, text: &str) {
    let mut search = Search { text, properties: properties(text), next: 0 };
    root.place = 0..0;
    search.settle(root);
}

struct Search<'a> {
    text: &'a str,
    properties: Vec<Property<'a>>,
    /// Where to look first.
    next: usize,
}

impl Search<'_> {
    fn settle(&mut self, node: &mut Node) {
        let place = node.place.clone();
        match &mut node.value {
            Value::List(items) => {
                for item in items {
                    item.place = place.clone();
                    self.settle(item);
                }
            }
            Value::Object(entries) => {
                let mut first = None;
                for entry in entries {
                    let found = self.property(&entry.key);
                    (entry.key_place, entry.node.place) =
                        found.clone().unwrap_or((place.clone(), place.clone()));
                    first = first.or(found.map(|(key, _)| key.start));
                    self.settle(&mut entry.node);
                }
                // An object in a list begins where its first key is.
                let opened = first.and_then(|first| self.text.get(..first)?.rfind('{'));
                if let Some(opened) = opened {
                    node.place = opened..opened + 1;
                }
            }
            Value::Null | Value::Flag(_) | Value::Number(_) | Value::Text(_) => {}
        }
    }

    /// The next of that name, or an earlier one that nothing was found for yet.
    fn property(&mut self, name: &str) -> Option<(Place, Place)> {
        let is_it = |it: &Property<'_>| it.name == name && !it.is_used;
        let later = self.properties.iter().skip(self.next).position(is_it).map(|at| at + self.next);
        let at = later.or_else(|| self.properties.iter().position(is_it))?;
        self.next = at + 1;
        let property = &mut self.properties[at];
        property.is_used = true;
        Some((property.key.clone(), property.value.clone()))
    }
}

/// All `name:`s that stand neither in a comment nor in a string.
fn properties(text: &str) -> Vec<Property<'_>> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = token_end(text, at);
        let is_quoted = matches!(bytes[at], b'"' | b'\'');
        if is_quoted || is_word(bytes[at]) {
            let name = text.get(at..end).unwrap_or("").trim_matches(['"', '\'']);
            let colon = skip_blanks(text, end);
            if bytes.get(colon) == Some(&b':') && bytes.get(colon + 1) != Some(&b':') {
                let value = value_place(text, skip_blanks(text, colon + 1));
                found.push(Property { name, key: at..end, value, is_used: false });
            }
        }
        at = end;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// The end of the comment, string, word or sign that begins here.
fn token_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let rest = text.get(start..).unwrap_or("");
    let end = match bytes[start] {
        b'/' if rest.starts_with("//") => rest.find('\n'),
        b'/' if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
        quote @ (b'"' | b'\'' | b'`') => {
            let mut is_escaped = false;
            let close = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
                let is_close = *byte == quote && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_close
            });
            close.map(|(at, _)| at + 1)
        }
        byte if is_word(byte) => rest.bytes().position(|byte| !is_word(byte)),
        _ => Some(1),
    };
    start + end.unwrap_or(rest.len()).max(1)
}

fn skip_blanks(text: &str, mut at: usize) -> usize {
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'/' if matches!(text.as_bytes().get(at + 1), Some(b'/' | b'*')) => at = token_end(text, at),
            _ => break,
        }
    }
    at
}

/// A string, a word, a number with its sign and point, or the one sign that something longer begins with.
fn value_place(text: &str, start: usize) -> Place {
    let bytes = text.as_bytes();
    let Some(first) = bytes.get(start) else { return text.len()..text.len() };
    let mut end = token_end(text, start);
    let is_number = first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.');
    while is_number && bytes.get(end).is_some_and(|byte| is_word(*byte) || *byte == b'.') {
        end += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{self, Dialect};

    /// The places of all keys and values that were found, with the text that stands there.
    fn placed(json: &str, text: &str) -> Vec<String> {
        let mut root = json::read(json, Dialect::Json).unwrap().root;
        find(&mut root, text);
        let mut lines = Vec::new();
        list(&root, text, &mut lines);
        lines
    }

    fn list(node: &Node, text: &str, lines: &mut Vec<String>) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| list(item, text, lines)),
            Value::Object(entries) => {
                for entry in entries {
                    let slice = |place: &Place| text.get(place.clone()).unwrap().to_owned();
                    let line = text.get(..entry.key_place.start).unwrap().lines().count();
                    lines.push(format!("{line} {}={}", slice(&entry.key_place), slice(&entry.node.place)));
                    list(&entry.node, text, lines);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn literals_are_found_in_their_order() {
        let text = "// name: 'no'\nmodule.exports = {\n  apps: [{\n    name: 'a', \"script\": `x.js`,\n    instances: -1,\n  }, {\n    name: \"b\",\n    env: { A: process.env.A, URL: 'http://x' },\n  }],\n};\n";
        let json = r#"{"apps": [{"name": "a", "script": "x.js", "instances": -1}, {"name": "b", "env": {"A": "1", "URL": "http://x"}}]}"#;
        assert_eq!(
            placed(json, text),
            [
                "3 apps=[",
                "4 name='a'",
                "4 \"script\"=`x.js`",
                "5 instances=-1",
                "7 name=\"b\"",
                "8 env={",
                "8 A=process",
                "8 URL='http://x'"
            ]
        );
    }

    #[test]
    fn what_is_not_written_out_has_the_place_of_what_it_is_in() {
        let text = "const app = make();\nmodule.exports = { apps: [app] }";
        assert_eq!(placed(r#"{"apps": [{"name": "a"}]}"#, text), ["2 apps=[", "2 [=["]);
        assert!(placed("[{\"a\": 1}]", "é").len() == 1);
        for text in ["'", "a:", "/*", "`${", "a: 'b", "\u{1f600}:\u{1f600}"] {
            placed(r#"{"a": {"b": [1]}}"#, text);
        }
    }
}
