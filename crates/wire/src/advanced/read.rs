//! A value in V8's format as JSON text: objects, arrays and all else that holds other values.
//!
//! What is open lies on a stack of its own, and an object that is referred to again is copied from what was
//! written of it, so nothing is read twice. No bytes make it recurse, panic or write more than its limit.

use super::relay::Checks;
use super::{HEADER, MAX_READ_DEPTH, VERSIONS};

/// Why a value has no JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no value of V8's: where and why is of no use to whoever sees it, what was read is.
    Malformed(&'static str),
    /// Its text would be longer than the limit.
    TooLong,
}

/// Holds a place that is taken or removed once it is known whether a `Map` is an object. Text never has this byte.
pub(super) const FILL: u8 = 1;

/// Appends the JSON text of a value, header included. Of what follows it nothing is read; returns where that begins.
pub(super) fn to_json(value: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let mut reader = Reader::new(value, limit, out, None);
    reader.run()?;
    Ok(reader.at)
}

/// Reads one value.
pub(super) struct Reader<'a, 'o> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
    pub(super) version: u8,
    pub(super) out: &'o mut Vec<u8>,
    /// Where the text begins in `out`, and where it must end.
    begin: usize,
    pub(super) max: usize,
    open: Vec<Open>,
    /// Where the text of each object is, by its number; only if something refers to one.
    pub(super) spans: Option<Vec<Span>>,
    /// The members of the `Map`s that are open: where each begins, its colon, its end.
    pub(super) pairs: Vec<[usize; 3]>,
    /// How many arrays are open whose named properties are being read, which JSON drops.
    pub(super) dropping: usize,
    /// What was dropped, for whoever refers to it.
    pub(super) aside: Vec<u8>,
    pub(super) has_fill: bool,
    /// What must be known before others are sent these bytes.
    pub(super) checks: Option<Checks>,
}

/// Where an object's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Not whole yet: whoever refers to it now is inside it.
    Open(u32),
    /// Likewise, and V8's reader has no object yet to refer to.
    Unmade(u32),
    Whole(u32, u32),
    /// It was in what JSON drops, and is kept aside.
    Aside(u32, u32),
}

/// The number of an object, for those that refer to it.
pub(super) type Id = usize;

/// What holds other values and is not whole yet.
pub(super) enum Open {
    Object(Object),
    Dense { id: Id, length: u32, left: u32 },
    Sparse { id: Id, length: u32, next: u32, count: u32 },
    Extra(Extra),
    Map { id: Id, from: usize, start: usize, is_at_value: bool, is_text: bool },
    Set { id: Id, count: u32 },
    Error { id: Id, name: &'static str, is_named: bool, has_message: bool },
    Host { id: Id, is_read: bool },
}

pub(super) struct Object {
    id: Id,
    members: u32,
    is_blank: bool,
    names_from: usize,
}

/// Named properties of an array.
pub(super) struct Extra {
    pub(super) end: u8,
    pub(super) length: u32,
    pub(super) count: u32,
    pub(super) is_dropping: bool,
    pub(super) keep: usize,
    pub(super) first_id: Id,
    pub(super) names_from: usize,
}

impl<'a, 'o> Reader<'a, 'o> {
    pub(super) fn new(input: &'a [u8], limit: usize, out: &'o mut Vec<u8>, checks: Option<Checks>) -> Self {
        let refers = memchr::memchr(b'^', input).is_some();
        let begin = out.len();
        Self {
            input,
            at: 0,
            version: 0,
            begin,
            max: begin.saturating_add(limit).min(u32::MAX as usize),
            out,
            open: Vec::new(),
            spans: refers.then(Vec::new),
            pairs: Vec::new(),
            dropping: 0,
            aside: Vec::new(),
            has_fill: false,
            checks,
        }
    }

    pub(super) fn run(&mut self) -> Result<(), Fault> {
        self.header()?;
        self.value()?;
        while let Some(open) = self.open.pop() {
            self.check_length()?;
            self.step(open)?;
        }
        self.check_length()?;
        if self.has_fill {
            let text = self.out.split_off(self.begin);
            self.out.extend(text.into_iter().filter(|byte| *byte != FILL));
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), Fault> {
        self.version = match self.input {
            [mark, version, ..] if *mark == HEADER[0] && VERSIONS.contains(version) => *version,
            _ => return Err(Fault::Malformed("its version is unknown")),
        };
        self.at = HEADER.len();
        Ok(())
    }

    /// Reads a value that holds no other, or opens one that does.
    pub(super) fn value(&mut self) -> Result<(), Fault> {
        let tag = self.tag()?;
        match tag {
            b'_' | b'0' => self.out.extend_from_slice(b"null"),
            b'T' => self.out.extend_from_slice(b"true"),
            b'F' => self.out.extend_from_slice(b"false"),
            b'"' | b'c' | b'S' => self.text(tag)?,
            b'^' => self.reference()?,
            b'\\' => self.host()?,
            b'o' | b'A' | b'a' | b';' | b'\'' | b'r' => self.open(tag)?,
            _ => self.leaf(tag)?,
        }
        Ok(())
    }

    fn open(&mut self, tag: u8) -> Result<(), Fault> {
        let id = if tag == b'r' { self.begin_unmade() } else { self.begin() };
        let start = self.out.len();
        let (first, open) = match tag {
            b'o' => {
                let names_from = self.names_from();
                (b'{', Open::Object(Object { id, members: 0, is_blank: true, names_from }))
            }
            b'A' => {
                let length = self.varint()?;
                (b'[', Open::Dense { id, length, left: length })
            }
            b'a' => (b'[', Open::Sparse { id, length: self.varint()?, next: 0, count: 0 }),
            b';' => {
                let from = self.pairs.len();
                (b'{', Open::Map { id, from, start, is_at_value: false, is_text: true })
            }
            b'\'' => (b'[', Open::Set { id, count: 0 }),
            _ => (b'{', Open::Error { id, name: "Error", is_named: false, has_message: false }),
        };
        self.out.push(first);
        self.push(open)
    }

    pub(super) fn push(&mut self, open: Open) -> Result<(), Fault> {
        if self.open.len() >= MAX_READ_DEPTH {
            return Err(Fault::Malformed("it is nested too deeply"));
        }
        self.open.push(open);
        if let Some(checks) = &mut self.checks {
            checks.note_depth(self.open.len());
        }
        Ok(())
    }

    /// Reads on in the innermost value that is open: its end, or what it holds next.
    fn step(&mut self, open: Open) -> Result<(), Fault> {
        match open {
            Open::Object(object) => self.step_object(object),
            Open::Dense { id, length, left } => self.step_dense(id, length, left),
            Open::Sparse { id, length, next, count } => self.step_sparse(id, length, next, count),
            Open::Extra(extra) => self.step_extra(extra),
            Open::Map { id, from, start, is_at_value, is_text } => {
                if is_at_value {
                    self.step_map_value(id, from, start, is_text)
                } else {
                    self.step_map_key(id, from, start, is_text)
                }
            }
            Open::Set { id, count } => self.step_set(id, count),
            Open::Error { id, name, is_named, has_message } => {
                self.step_error(id, name, is_named, has_message)
            }
            Open::Host { id, is_read: true } => {
                self.end(id);
                Ok(())
            }
            Open::Host { id, is_read: false } => {
                self.push(Open::Host { id, is_read: true })?;
                self.value()
            }
        }
    }

    fn step_object(&mut self, mut object: Object) -> Result<(), Fault> {
        let before = self.out.len();
        if self.peek_tag()? == b'{' {
            let end = self.at;
            self.at += 1;
            self.expect(object.members)?;
            self.out.push(b'}');
            let is_top = self.open.is_empty();
            if let Some(checks) = &mut self.checks {
                checks.close_names(object.names_from);
                checks.note_end(end, object.members, is_top);
            }
            self.end(object.id);
            return Ok(());
        }
        if !object.is_blank {
            self.out.push(b',');
        }
        self.name()?;
        object.members += 1;
        if self.peek_tag()? == b'_' {
            self.at += 1;
            self.out.truncate(before);
            return self.push(Open::Object(object));
        }
        self.out.push(b':');
        object.is_blank = false;
        self.push(Open::Object(object))?;
        self.value()
    }

    fn step_error(
        &mut self,
        id: Id,
        mut name: &'static str,
        mut is_named: bool,
        mut has_message: bool,
    ) -> Result<(), Fault> {
        let tag = self.byte()?;
        if let Some(known) = error_name(tag) {
            name = known;
            return self.push(Open::Error { id, name, is_named, has_message });
        }
        if !std::mem::replace(&mut is_named, true) {
            self.out.extend_from_slice(format!("\"name\":\"{name}\"").as_bytes());
        }
        match tag {
            b'm' => self.member_of_error("message")?,
            b's' => self.member_of_error("stack")?,
            b'c' => self.out.extend_from_slice(b",\"cause\":"),
            b'.' => {
                self.out.extend_from_slice(if has_message { b"}" } else { b",\"message\":\"\"}" });
                self.end(id);
                return Ok(());
            }
            _ => return Err(Fault::Malformed("an error has an unknown member")),
        }
        has_message |= tag == b'm';
        self.push(Open::Error { id, name, is_named, has_message })?;
        if tag == b'c' { self.value() } else { Ok(()) }
    }

    fn member_of_error(&mut self, name: &str) -> Result<(), Fault> {
        self.out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        let tag = self.tag()?;
        self.text(tag)
    }

    /// A host object that holds a plain one in its place.
    pub(super) fn open_host(&mut self, id: Id) -> Result<(), Fault> {
        let is_plain = self.peek_tag()? == b'o';
        if let Some(checks) = &mut self.checks {
            checks.note_host(is_plain);
        }
        self.push(Open::Host { id, is_read: false })
    }

    /// A member's name, as a string.
    pub(super) fn name(&mut self) -> Result<(), Fault> {
        let start = self.out.len();
        let tag = self.tag()?;
        match tag {
            b'"' | b'c' | b'S' => self.text(tag)?,
            b'I' | b'U' | b'N' => {
                let number = self.number(tag)?;
                if !(0.0..f64::from(u32::MAX)).contains(&number) || number.fract() != 0.0 {
                    self.doubt();
                }
                self.out.push(b'"');
                super::text::push_double(self.out, number);
                self.out.push(b'"');
            }
            _ => return Err(Fault::Malformed("a name is no string")),
        }
        let is_top = self.open.is_empty();
        if let Some(checks) = &mut self.checks {
            checks.note_name(self.out.get(start..).unwrap_or_default(), is_top);
        }
        Ok(())
    }

    pub(super) fn names_from(&self) -> usize {
        self.checks.as_ref().map_or(0, Checks::names)
    }

    fn reference(&mut self) -> Result<(), Fault> {
        let id = self.varint()? as usize;
        let span = self.spans.as_ref().and_then(|spans| spans.get(id)).copied();
        match span.ok_or(Fault::Malformed("a reference leads nowhere"))? {
            Span::Open(_) => self.out.extend_from_slice(b"null"),
            Span::Unmade(_) => {
                self.doubt();
                self.out.extend_from_slice(b"null");
            }
            Span::Whole(start, end) => {
                self.check_room((end - start) as usize)?;
                self.out.extend_from_within(start as usize..end as usize);
            }
            Span::Aside(start, end) => {
                self.check_room((end - start) as usize)?;
                self.out.extend_from_slice(self.aside.get(start as usize..end as usize).unwrap_or_default());
            }
        }
        self.view_of_known()
    }

    /// An object begins here: it has the next number.
    pub(super) fn begin(&mut self) -> Id {
        let Some(spans) = &mut self.spans else { return 0 };
        spans.push(Span::Open(self.out.len() as u32));
        spans.len() - 1
    }

    /// As [`begin`](Self::begin), for one that V8 makes when it has read all of it.
    pub(super) fn begin_unmade(&mut self) -> Id {
        let id = self.begin();
        if let Some(Some(span)) = self.spans.as_mut().map(|spans| spans.get_mut(id)) {
            *span = Span::Unmade(self.out.len() as u32);
        }
        id
    }

    /// The object is whole.
    pub(super) fn end(&mut self, id: Id) {
        if let Some(Some(span)) = self.spans.as_mut().map(|spans| spans.get_mut(id))
            && let Span::Open(start) | Span::Unmade(start) = *span
        {
            *span = Span::Whole(start, self.out.len() as u32);
        }
    }

    fn check_length(&self) -> Result<(), Fault> {
        self.check_room(0)
    }

    pub(super) fn check_room(&self, more: usize) -> Result<(), Fault> {
        if self.out.len() + self.aside.len() + more > self.max { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// The count that ends a value.
    pub(super) fn expect(&mut self, count: u32) -> Result<(), Fault> {
        if self.varint()? == count { Ok(()) } else { Err(Fault::Malformed("a count is wrong")) }
    }

    /// The next tag, padding and a count that V8 itself passes over left out.
    pub(super) fn tag(&mut self) -> Result<u8, Fault> {
        loop {
            match self.byte()? {
                0 => {}
                b'?' => drop(self.varint()?),
                tag => return Ok(tag),
            }
        }
    }

    /// The next tag, which stays the next.
    pub(super) fn peek_tag(&mut self) -> Result<u8, Fault> {
        loop {
            match self.input.get(self.at) {
                Some(0) => self.at += 1,
                Some(tag) => return Ok(*tag),
                None => return Err(END),
            }
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.input.get(self.at).ok_or(END)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn bytes(&mut self, count: u32) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count as usize).ok_or(END)?;
        let bytes = self.input.get(self.at..end).ok_or(END)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u32, Fault> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Fault::Malformed("a number is too long"))
    }
}

pub(super) const END: Fault = Fault::Malformed("it ends too early");

fn error_name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'E' => "EvalError",
        b'R' => "RangeError",
        b'F' => "ReferenceError",
        b'S' => "SyntaxError",
        b'T' => "TypeError",
        b'U' => "URIError",
        _ => return None,
    })
}
