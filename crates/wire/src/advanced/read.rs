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
const FILL: u8 = 1;

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
    spans: Option<Vec<Span>>,
    /// The members of the `Map`s that are open: where each begins, its colon, its end.
    pairs: Vec<[usize; 3]>,
    /// How many arrays are open whose named properties are being read, which JSON drops.
    dropping: usize,
    /// What was dropped, for whoever refers to it.
    aside: Vec<u8>,
    has_fill: bool,
    /// What must be known before others are sent these bytes.
    pub(super) checks: Option<Checks>,
}

/// Where an object's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    /// Not whole yet: whoever refers to it now is inside it.
    Open(u32),
    Whole(u32, u32),
    /// It was in what JSON drops, and is kept aside.
    Aside(u32, u32),
}

/// The number of an object, for those that refer to it.
pub(super) type Id = usize;

/// What holds other values and is not whole yet.
enum Open {
    Object(Object),
    Dense { id: Id, length: u32, left: u32 },
    Sparse { id: Id, length: u32, next: u32, count: u32 },
    Extra(Extra),
    Map { id: Id, from: usize, start: usize, is_at_value: bool, is_text: bool },
    Set { id: Id, count: u32 },
    Error { id: Id, name: &'static str, is_named: bool, has_message: bool },
    Host { id: Id, is_read: bool },
}

struct Object {
    id: Id,
    members: u32,
    is_blank: bool,
    names_from: usize,
}

/// Named properties of an array.
struct Extra {
    end: u8,
    length: u32,
    count: u32,
    is_dropping: bool,
    keep: usize,
    first_id: usize,
    names_from: usize,
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
        let id = self.begin();
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

    fn push(&mut self, open: Open) -> Result<(), Fault> {
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

    fn step_dense(&mut self, id: Id, length: u32, left: u32) -> Result<(), Fault> {
        let Some(left) = left.checked_sub(1) else {
            return self.open_extra(id, b'$', length, 0);
        };
        if left + 1 < length {
            self.out.push(b',');
        }
        self.push(Open::Dense { id, length, left })?;
        if self.peek_tag()? == b'-' {
            self.at += 1;
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        self.value()
    }

    fn step_sparse(&mut self, id: Id, length: u32, next: u32, count: u32) -> Result<(), Fault> {
        let before = self.at;
        if matches!(self.peek_tag()?, b'I' | b'U' | b'N') {
            let tag = self.tag()?;
            let number = self.number(tag)?;
            let index = number as u32;
            if f64::from(index) == number && (next..length).contains(&index) {
                self.push_nulls(next, index)?;
                if index > 0 {
                    self.out.push(b',');
                }
                self.push(Open::Sparse { id, length, next: index + 1, count: count + 1 })?;
                return self.value();
            }
            self.at = before;
        }
        self.push_nulls(next, length)?;
        self.open_extra(id, b'@', length, count)
    }

    /// The places `from` to `to` of an array, the latter excluded, are empty.
    fn push_nulls(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.check_room((to - from) as usize * b"null,".len())?;
        for index in from..to {
            self.out.extend_from_slice(if index == 0 { b"null" } else { b",null" });
        }
        Ok(())
    }

    fn open_extra(&mut self, id: Id, end: u8, length: u32, count: u32) -> Result<(), Fault> {
        self.out.push(b']');
        self.end(id);
        let (keep, first_id) = (self.out.len(), self.spans.as_ref().map_or(0, Vec::len));
        let names_from = self.names_from();
        self.push(Open::Extra(Extra { end, length, count, is_dropping: false, keep, first_id, names_from }))
    }

    fn step_extra(&mut self, mut extra: Extra) -> Result<(), Fault> {
        if self.peek_tag()? != extra.end {
            if !std::mem::replace(&mut extra.is_dropping, true) {
                self.dropping += 1;
            }
            let start = self.out.len();
            self.name()?;
            if let Some(checks) = &mut self.checks {
                checks.note_name_of_array(self.out.get(start..).unwrap_or_default());
            }
            extra.count += 1;
            self.push(Open::Extra(extra))?;
            return self.value();
        }
        self.at += 1;
        self.expect(extra.count)?;
        self.expect(extra.length)?;
        if let Some(checks) = &mut self.checks {
            checks.close_names(extra.names_from);
        }
        self.dropping -= usize::from(extra.is_dropping);
        if extra.is_dropping && self.dropping == 0 {
            self.drop_from(extra.keep, extra.first_id);
        }
        Ok(())
    }

    /// Drops what was written from `keep` on. The objects in it, `first_id` and later ones, can still be referred to.
    fn drop_from(&mut self, keep: usize, first_id: Id) {
        if let Some(spans) = &mut self.spans {
            let moved = |place: u32| (self.aside.len() + place as usize - keep) as u32;
            for span in spans.iter_mut().skip(first_id) {
                if let Span::Whole(start, end) = *span {
                    *span = Span::Aside(moved(start), moved(end));
                }
            }
            self.aside.extend_from_slice(self.out.get(keep..).unwrap_or_default());
        }
        self.out.truncate(keep);
    }

    fn step_map_key(&mut self, id: Id, from: usize, start: usize, mut is_text: bool) -> Result<(), Fault> {
        let count = self.pairs.len() - from;
        if let (Some(pair), true) = (self.pairs.last_mut(), count > 0) {
            pair[2] = self.out.len();
            self.out.push(FILL);
        }
        if self.peek_tag()? == b':' {
            self.at += 1;
            self.expect((count * 2) as u32)?;
            self.close_map(from, start, is_text);
            self.end(id);
            return Ok(());
        }
        if count > 0 {
            self.out.push(b',');
        }
        self.pairs.push([self.out.len(), 0, 0]);
        self.out.push(FILL);
        is_text &= matches!(self.peek_tag()?, b'"' | b'c' | b'S');
        self.push(Open::Map { id, from, start, is_at_value: true, is_text })?;
        self.value()
    }

    fn step_map_value(&mut self, id: Id, from: usize, start: usize, is_text: bool) -> Result<(), Fault> {
        if let Some(pair) = self.pairs.last_mut() {
            pair[1] = self.out.len();
        }
        self.out.push(b':');
        self.push(Open::Map { id, from, start, is_at_value: false, is_text })?;
        self.value()
    }

    /// Without a key that is no string the places held around the pairs are removed in the end, with one they
    /// become brackets.
    fn close_map(&mut self, from: usize, start: usize, is_text: bool) {
        let end = self.out.len();
        self.out.push(b'}');
        self.has_fill |= self.pairs.len() > from;
        let pairs = self.pairs.drain(from..);
        if is_text {
            return;
        }
        let brackets = [(start, b'['), (end, b']')].into_iter();
        let brackets =
            brackets.chain(pairs.flat_map(|[begin, colon, end]| [(begin, b'['), (colon, b','), (end, b']')]));
        for (at, byte) in brackets {
            if let Some(place) = self.out.get_mut(at) {
                *place = byte;
            }
        }
    }

    fn step_set(&mut self, id: Id, count: u32) -> Result<(), Fault> {
        if self.peek_tag()? == b',' {
            self.at += 1;
            self.expect(count)?;
            self.out.push(b']');
            self.end(id);
            return Ok(());
        }
        if count > 0 {
            self.out.push(b',');
        }
        self.push(Open::Set { id, count: count + 1 })?;
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
        self.push(Open::Host { id, is_read: false })
    }

    /// A member's name, as a string.
    fn name(&mut self) -> Result<(), Fault> {
        let start = self.out.len();
        let tag = self.tag()?;
        match tag {
            b'"' | b'c' | b'S' => self.text(tag)?,
            b'I' | b'U' | b'N' => {
                let number = self.number(tag)?;
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

    fn names_from(&self) -> usize {
        self.checks.as_ref().map_or(0, Checks::names)
    }

    fn reference(&mut self) -> Result<(), Fault> {
        let id = self.varint()? as usize;
        let span = self.spans.as_ref().and_then(|spans| spans.get(id)).copied();
        match span.ok_or(Fault::Malformed("a reference leads nowhere"))? {
            Span::Open(_) => self.out.extend_from_slice(b"null"),
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

    /// The object is whole.
    pub(super) fn end(&mut self, id: Id) {
        if let Some(Some(span)) = self.spans.as_mut().map(|spans| spans.get_mut(id))
            && let Span::Open(start) = *span
        {
            *span = Span::Whole(start, self.out.len() as u32);
        }
    }

    fn check_length(&self) -> Result<(), Fault> {
        self.check_room(0)
    }

    fn check_room(&self, more: usize) -> Result<(), Fault> {
        if self.out.len() + self.aside.len() + more > self.max { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// The count that ends a value.
    fn expect(&mut self, count: u32) -> Result<(), Fault> {
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
