//! A JSON reader that remembers where everything stands. It reads RFC 8259 and nothing more, goes no deeper than
//! [`DEPTH_MAX`], and never panics.

use std::ops::ControlFlow;

use crate::diagnostics::{Place, shown};
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

/// Why a text is no JSON.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) what: String,
    pub(crate) hint: Option<&'static str>,
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

/// Reads a text as a whole.
pub(crate) fn read(text: &str) -> Result<Document, Fault> {
    let mut reader = Reader { text, at: 0, depth: 0, repeated: Vec::new() };
    let root = reader.node()?;
    reader.skip_blanks()?;
    match reader.peek() {
        None => Ok(Document { root, repeated: reader.repeated }),
        Some(_) => {
            let end = reader.at + reader.peek_char().map_or(0, char::len_utf8);
            Err(fault(reader.at..end, "there is more after the end of the JSON text", None))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    repeated: Vec<Repeated>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn peek_char(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn slice(&self, start: usize) -> &str {
        self.text.get(start..self.at).unwrap_or("")
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        match self.peek() {
            Some(b'/' | b'#') => {
                let start = self.at;
                self.skip_while(|byte| byte != b'\n');
                Err(fault(start..self.at, "JSON has no comments", Some("remove it")))
            }
            _ => Ok(()),
        }
    }

    fn node(&mut self) -> Result<Node, Fault> {
        self.skip_blanks()?;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { place: start..self.at, value })
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        if self.depth == DEPTH_MAX {
            let what = format!("lists and objects are nested deeper than {DEPTH_MAX}");
            return Err(fault(self.at..self.at + 1, what, None));
        }
        self.depth += 1;
        self.at += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let opened = self.at - 1;
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        if self.is_closed(b'}')? {
            return Ok(Value::Object(entries));
        }
        loop {
            let (key, key_place) = self.key(opened)?;
            self.skip_blanks()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            let node = self.node()?;
            match known.get(&key) {
                None => {
                    known.insert(key.clone(), key_place.clone());
                    entries.push(Entry { key, key_place, node });
                }
                Some(first) => self.repeated.push(Repeated { key, place: key_place, first: first.clone() }),
            }
            if self.after_item(opened, b'}')?.is_break() {
                return Ok(Value::Object(entries));
            }
        }
    }

    fn list(&mut self) -> Result<Value, Fault> {
        let opened = self.at - 1;
        let mut items = Vec::new();
        if self.is_closed(b']')? {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.node()?);
            if self.after_item(opened, b']')?.is_break() {
                return Ok(Value::List(items));
            }
        }
    }

    /// Takes the closing bracket if it is next.
    fn is_closed(&mut self, close: u8) -> Result<bool, Fault> {
        self.skip_blanks()?;
        let is_closed = self.peek() == Some(close);
        self.at += usize::from(is_closed);
        Ok(is_closed)
    }

    /// Takes the comma, or the bracket that ends it.
    fn after_item(&mut self, opened: usize, close: u8) -> Result<ControlFlow<()>, Fault> {
        if self.is_closed(close)? {
            return Ok(ControlFlow::Break(()));
        }
        let comma = self.at..self.at + 1;
        match self.peek() {
            Some(b',') => self.at += 1,
            None => return Err(self.not_closed(opened)),
            Some(b'}' | b']') => return Err(self.unexpected(&format!("`{}`", char::from(close)))),
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'"' | b'{' | b'[' | b'-') => {
                return Err(fault(comma, "a comma is missing before this", None));
            }
            Some(_) => return Err(self.unexpected(&format!("`,` or `{}`", char::from(close)))),
        }
        if self.is_closed(close)? {
            return Err(fault(comma, "a comma with nothing after it", Some("remove it")));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn key(&mut self, opened: usize) -> Result<(String, Place), Fault> {
        self.skip_blanks()?;
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                let key = self.text()?;
                Ok((key, start..self.at))
            }
            None => Err(self.not_closed(opened)),
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$');
                let what = format!("the key `{}` has no quotes", shown(self.slice(start)));
                Err(fault(start..self.at, what, Some("JSON wants double quotes")))
            }
            Some(_) => Err(self.unexpected("a key in double quotes")),
        }
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$');
        Ok(match self.slice(start) {
            "null" => Value::Null,
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            word => {
                let what = format!("`{}` is no value", shown(word));
                return Err(fault(start..self.at, what, Some("is it a string? JSON wants double quotes")));
            }
        })
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'));
        let text = self.slice(start);
        if is_number(text) {
            return Ok(Value::Number(text.into()));
        }
        let what = format!("`{}` is no number", shown(text));
        Err(fault(start..self.at, what, Some("is it a string? JSON wants double quotes")))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek_char() {
                Some('"') => break self.at += 1,
                Some('\\') => text.push(self.escape()?),
                None | Some('\n') => {
                    return Err(fault(start..self.at, "the string is not closed", Some("a `\"` is missing")));
                }
                Some(c) if c < ' ' => {
                    let hint = Some("write \\t for a tab, \\u001b for an escape");
                    return Err(fault(self.at..self.at + 1, "a control character in a string", hint));
                }
                Some(c) => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Ok(text)
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek_char();
        self.at += letter.map_or(0, char::len_utf8);
        let plain = match letter {
            Some(c @ ('"' | '\\' | '/')) => Some(c),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('u') => self.unicode(),
            _ => None,
        };
        plain.ok_or_else(|| {
            let what = format!("`{}` is no escape", shown(self.slice(start)));
            fault(start..self.at, what, Some("a backslash itself is written \\\\"))
        })
    }

    /// The digits after `\u`, and those of the second half where it takes two.
    fn unicode(&mut self) -> Option<char> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        if self.text.get(self.at..self.at + 2)? != "\\u" {
            return None;
        }
        self.at += 2;
        let second = self.four_digits()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        self.at += 4;
        Some(number)
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        match self.peek_char() {
            None => fault(self.at..self.at, format!("the file ends where {wanted} is wanted"), None),
            Some('\'') => fault(self.at..self.at + 1, "a single quote", Some("JSON wants double quotes")),
            Some(c) => {
                let what = format!("found `{}` where {wanted} is wanted", shown(&c.to_string()));
                fault(self.at..self.at + c.len_utf8(), what, None)
            }
        }
    }

    fn not_closed(&self, opened: usize) -> Fault {
        let what = "the file ends before this is closed";
        fault(opened..opened + 1, what, None)
    }
}

fn fault(place: Place, what: impl Into<String>, hint: Option<&'static str>) -> Fault {
    Fault { place, what: what.into(), hint }
}

/// `-? (0 | 1-9 digits) (. digits)? (e sign? digits)?`
fn is_number(text: &str) -> bool {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let has_idle_zero = whole.len() > 1 && whole.starts_with('0');
    is_digits(whole) && !has_idle_zero && is_digits(fraction) && is_digits(exponent)
}

#[cfg(test)]
mod tests;
