//! A line of JSON as a frame with V8's value: the smallest form that every Node reads.
//!
//! V8 wants to know an array's length before its values and refuses an object with the same name twice, which JSON
//! knows only afterwards and allows. So the text is gone through twice; the first time only counts and compares.

use std::borrow::Cow;

use super::scan::{Token, Tokens};
use super::{FrameOfError, HEADER, LENGTH_BYTES, close_frame, push_number, push_varint};

/// Appends one frame.
pub(super) fn frame(json: &[u8], out: &mut Vec<u8>) -> Result<(), FrameOfError> {
    let text =
        std::str::from_utf8(json).map_err(|error| FrameOfError::NotJson { at: error.valid_up_to() })?;
    let plan = Plan::of(text)?;
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.extend_from_slice(&HEADER);
    Writer { tokens: Tokens::new(text), plan, arrays: 0, open: Vec::new(), units: Vec::new() }.write(out)?;
    close_frame(out, start)
}

/// What must be known before the first byte is written.
#[derive(Debug, Default)]
struct Plan {
    /// How many values each array has, in the order in which they open.
    lengths: Vec<u32>,
    /// Where members begin that are written again later: as in `JSON.parse` the last one counts.
    overwritten: Vec<usize>,
}

impl Plan {
    fn of(text: &str) -> Result<Self, FrameOfError> {
        let mut plan = Self::default();
        let mut tokens = Tokens::new(text);
        // What is open: an array's number in `lengths`, or where an object's names begin in `names`.
        let mut open: Vec<Container> = Vec::new();
        let mut names: Vec<(Cow<'_, [u8]>, usize)> = Vec::new();
        loop {
            let token = tokens.next()?;
            if let (Some(Container::Array(number)), true) = (open.last(), is_begin_of_value(token))
                && let Some(length) = plan.lengths.get_mut(*number)
            {
                *length += 1;
            }
            match token {
                Token::End => break,
                Token::OpenObject => open.push(Container::Object(names.len())),
                Token::OpenArray => {
                    open.push(Container::Array(plan.lengths.len()));
                    plan.lengths.push(0);
                }
                Token::Key(raw, at) => names.push((unescaped(raw), at)),
                Token::CloseObject | Token::CloseArray => {
                    if let Some(Container::Object(from)) = open.pop() {
                        plan.note_overwritten(names.get_mut(from..).unwrap_or_default());
                        names.truncate(from);
                    }
                }
                Token::Text(_) | Token::Number(_) | Token::Null | Token::True | Token::False => {}
            }
        }
        plan.overwritten.sort_unstable();
        Ok(plan)
    }

    fn note_overwritten(&mut self, names: &mut [(Cow<'_, [u8]>, usize)]) {
        names.sort_unstable();
        for pair in names.windows(2) {
            if let [first, second] = pair
                && first.0 == second.0
            {
                self.overwritten.push(first.1);
            }
        }
    }
}

/// What is open, in the first pass.
enum Container {
    Object(usize),
    Array(usize),
}

fn is_begin_of_value(token: Token<'_>) -> bool {
    match token {
        Token::OpenObject
        | Token::OpenArray
        | Token::Text(_)
        | Token::Number(_)
        | Token::Null
        | Token::True
        | Token::False => true,
        Token::CloseObject | Token::CloseArray | Token::Key(..) | Token::End => false,
    }
}

/// The second pass.
struct Writer<'a> {
    tokens: Tokens<'a>,
    plan: Plan,
    /// How many arrays were opened.
    arrays: usize,
    /// Of each open value: how many members an object has by now, how many values an array.
    open: Vec<u32>,
    units: Vec<u16>,
}

impl Writer<'_> {
    fn write(mut self, out: &mut Vec<u8>) -> Result<(), FrameOfError> {
        loop {
            match self.tokens.next()? {
                Token::End => return Ok(()),
                Token::OpenObject => {
                    out.push(b'o');
                    self.open.push(0);
                }
                Token::CloseObject => {
                    out.push(b'{');
                    push_varint(out, self.open.pop().unwrap_or_default());
                }
                Token::OpenArray => self.open_array(out),
                Token::CloseArray => {
                    out.extend_from_slice(b"$\0");
                    push_varint(out, self.open.pop().unwrap_or_default());
                }
                Token::Key(raw, at) => self.key(raw, at, out)?,
                Token::Text(raw) => self.text(raw, out),
                Token::Number(digits) => push_number(out, digits.parse().unwrap_or(f64::NAN)),
                Token::Null => out.push(b'0'),
                Token::True => out.push(b'T'),
                Token::False => out.push(b'F'),
            }
        }
    }

    fn open_array(&mut self, out: &mut Vec<u8>) {
        let length = self.plan.lengths.get(self.arrays).copied().unwrap_or_default();
        self.arrays += 1;
        out.push(b'A');
        push_varint(out, length);
        self.open.push(length);
    }

    fn key(&mut self, raw: &[u8], at: usize, out: &mut Vec<u8>) -> Result<(), FrameOfError> {
        if self.plan.overwritten.binary_search(&at).is_ok() {
            return self.skip_value();
        }
        if let Some(count) = self.open.last_mut() {
            *count += 1;
        }
        match index(raw) {
            Some(index) => push_number(out, f64::from(index)),
            None => self.text(raw, out),
        }
        Ok(())
    }

    /// Goes on behind the value that comes next.
    fn skip_value(&mut self) -> Result<(), FrameOfError> {
        let depth = self.tokens.depth();
        loop {
            self.arrays += usize::from(self.tokens.next()? == Token::OpenArray);
            if self.tokens.depth() == depth {
                return Ok(());
            }
        }
    }

    fn text(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if raw.is_ascii() && !raw.contains(&b'\\') {
            return push_one_byte(out, raw.len(), raw.iter().copied());
        }
        self.units.clear();
        push_units(raw, &mut self.units);
        if self.units.iter().all(|unit| *unit <= 0xff) {
            return push_one_byte(out, self.units.len(), self.units.iter().map(|unit| *unit as u8));
        }
        out.push(b'c');
        push_varint(out, (self.units.len() * 2) as u32);
        self.units.iter().for_each(|unit| out.extend_from_slice(&unit.to_le_bytes()));
    }
}

fn push_one_byte(out: &mut Vec<u8>, len: usize, bytes: impl Iterator<Item = u8>) {
    out.push(b'"');
    push_varint(out, len as u32);
    out.extend(bytes);
}

/// The index that a name is: V8 writes it as a number.
fn index(raw: &[u8]) -> Option<u32> {
    let is_plain =
        raw.len() <= 10 && raw.iter().all(u8::is_ascii_digit) && (raw == b"0" || raw.first()? != &b'0');
    let index = is_plain.then(|| std::str::from_utf8(raw).ok()?.parse::<u32>().ok())??;
    (index != u32::MAX).then_some(index)
}

/// The UTF-16 units of a string between its quotes, which was checked.
fn push_units(raw: &[u8], units: &mut Vec<u16>) {
    let mut rest = std::str::from_utf8(raw).unwrap_or_default();
    while let Some((before, after)) = rest.split_once('\\') {
        units.extend(before.encode_utf16());
        let mut chars = after.chars();
        let unit = match chars.next() {
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            Some('u') => (0..4).fold(0, |unit, _| {
                unit << 4 | chars.next().and_then(|digit| digit.to_digit(16)).unwrap_or_default() as u16
            }),
            Some(other) => other as u16,
            None => break,
        };
        units.push(unit);
        rest = chars.as_str();
    }
    units.extend(rest.encode_utf16());
}

/// A name in a form in which equal ones are equal.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut units = Vec::new();
    push_units(raw, &mut units);
    match String::from_utf16(&units) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        // No name in UTF-8 begins with this byte.
        Err(_) => {
            Cow::Owned([0xff].into_iter().chain(units.iter().flat_map(|it| it.to_le_bytes())).collect())
        }
    }
}
