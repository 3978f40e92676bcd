//! A JSON reader that remembers where everything stands. It goes no deeper than [`DEPTH_MAX`], and never panics.
//!
//! It reads RFC 8259, or JSON5 with its comments, commas and quotes. What neither has is explained.

use std::ops::ControlFlow;

use crate::diagnostics::{Place, shown};
use crate::tree::{DEPTH_MAX, Document, Entry, Fault, Node, Repeated, Value};

/// Which language is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 8259 and nothing more.
    Json,
    /// With what people write by hand.
    Json5,
}

/// Reads a text as a whole.
pub(crate) fn read(text: &str, dialect: Dialect) -> Result<Document, Fault> {
    let is_loose = dialect == Dialect::Json5;
    let mut reader = Reader { text, at: 0, depth: 0, repeated: Vec::new(), is_loose };
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
    /// Whether it is JSON5.
    is_loose: bool,
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
        while self.is_loose && self.skip_comment()? {}
        match self.peek() {
            Some(b'#') if self.is_loose => {
                let start = self.at;
                self.skip_while(|byte| byte != b'\n');
                Err(fault(start..self.at, "a comment begins with `//`", Some("remove it")))
            }
            Some(b'/' | b'#') => {
                let start = self.at;
                self.skip_while(|byte| byte != b'\n');
                Err(fault(start..self.at, "JSON has no comments", Some("remove it")))
            }
            _ => Ok(()),
        }
    }

    /// Takes a comment, or a blank that only JSON5 has, with the plain blanks behind it.
    fn skip_comment(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or("");
        if rest.starts_with("//") {
            self.skip_while(|byte| byte != b'\n');
        } else if rest.starts_with("/*") {
            let end =
                rest.find("*/").ok_or_else(|| fault(start..start + 2, "the comment is not closed", None))?;
            self.at += end + 2;
        } else {
            let blank = self.peek_char().filter(|c| c.is_whitespace() || *c == '\u{feff}');
            self.at += blank.map_or(0, char::len_utf8);
        }
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        Ok(self.at > start)
    }

    fn node(&mut self) -> Result<Node, Fault> {
        self.skip_blanks()?;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(quote @ b'"') => Value::Text(self.text(quote)?),
            Some(quote @ b'\'') if self.is_loose => Value::Text(self.text(quote)?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'+' | b'.') if self.is_loose => self.number()?,
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
        if self.is_loose {
            return Ok(if self.is_closed(close)? {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            });
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
            Some(quote @ b'"') => {
                let key = self.text(quote)?;
                Ok((key, start..self.at))
            }
            Some(quote @ b'\'') if self.is_loose => {
                let key = self.text(quote)?;
                Ok((key, start..self.at))
            }
            None => Err(self.not_closed(opened)),
            Some(_) if self.is_loose => self.bare_key(),
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$');
                let what = format!("the key `{}` has no quotes", shown(self.slice(start)));
                Err(fault(start..self.at, what, Some("JSON wants double quotes")))
            }
            Some(_) => Err(self.unexpected("a key in double quotes")),
        }
    }

    /// An identifier.
    fn bare_key(&mut self) -> Result<(String, Place), Fault> {
        let start = self.at;
        while let Some(c) = self.peek_char().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
            self.at += c.len_utf8();
        }
        if self.at == start || self.slice(start).starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.unexpected("a key"));
        }
        Ok((self.slice(start).into(), start..self.at))
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$');
        Ok(match self.slice(start) {
            "null" => Value::Null,
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            word @ ("Infinity" | "NaN") if self.is_loose => {
                return Err(fault(start..self.at, format!("`{word}` is of no use here"), None));
            }
            word => {
                let what = format!("`{}` is no value", shown(word));
                return Err(fault(start..self.at, what, Some(self.string_hint())));
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
        if let Some(number) = loose_number(text).filter(|_| self.is_loose) {
            return Ok(Value::Number(number));
        }
        let what = format!("`{}` is no number", shown(text));
        Err(fault(start..self.at, what, Some(self.string_hint())))
    }

    fn string_hint(&self) -> &'static str {
        if self.is_loose {
            "is it a string? put it in quotes"
        } else {
            "is it a string? JSON wants double quotes"
        }
    }

    fn text(&mut self, quote: u8) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek_char() {
                Some(c) if c == char::from(quote) => break self.at += 1,
                Some('\\') => text.extend(self.escape()?),
                None | Some('\n') => {
                    let hint = format!("a `{}` is missing", char::from(quote));
                    let what = "the string is not closed".into();
                    return Err(Fault { place: start..self.at, what, hint: Some(hint) });
                }
                Some(c) if c < ' ' && !(self.is_loose && c == '\t') => {
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

    /// What an escape stands for; nothing for a line that goes on.
    fn escape(&mut self) -> Result<Option<char>, Fault> {
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
            Some(letter) if self.is_loose => match self.loose_escape(letter) {
                Some(meant) => return Ok(meant),
                None => None,
            },
            _ => None,
        };
        let what = || {
            let what = format!("`{}` is no escape", shown(self.slice(start)));
            fault(start..self.at, what, Some("a backslash itself is written \\\\"))
        };
        plain.map(Some).ok_or_else(what)
    }

    /// The escapes that JSON5 has besides, if this is one.
    fn loose_escape(&mut self, letter: char) -> Option<Option<char>> {
        Some(match letter {
            'v' => Some('\u{b}'),
            '0' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => Some('\0'),
            'x' => {
                let digits = self.text.get(self.at..self.at + 2)?;
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let code = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
                self.at += 2;
                Some(char::from(code))
            }
            '\r' => {
                self.at += usize::from(self.peek() == Some(b'\n'));
                None
            }
            '\n' | '\u{2028}' | '\u{2029}' => None,
            '0'..='9' => return None,
            other => Some(other),
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
            Some('\'') if !self.is_loose => {
                fault(self.at..self.at + 1, "a single quote", Some("JSON wants double quotes"))
            }
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
    Fault { place, what: what.into(), hint: hint.map(str::to_owned) }
}

/// A number as JSON5 has it, in the form that JSON has for it: `+1`, `.5`, `5.`, `0x1F`.
fn loose_number(text: &str) -> Option<String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| is_hex)
            .map(|number| format!("{sign}{number}"));
    }
    let (mantissa, exponent) = rest.find(['e', 'E']).map_or((rest, ""), |at| rest.split_at(at));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = if whole.is_empty() && !fraction.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}{exponent}")).filter(|number| is_number(number))
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
