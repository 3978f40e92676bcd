//! A value in V8's format as JSON text: what holds no other value.

use super::read::{Fault, Reader};
use super::text;
use super::view::{Element, push_view};

impl<'a> Reader<'a, '_> {
    /// A value that is no string and holds nothing.
    pub(super) fn leaf(&mut self, tag: u8) -> Result<(), Fault> {
        match tag {
            b'I' | b'U' | b'N' => {
                let number = self.number(tag)?;
                text::push_double(self.out, number);
                Ok(())
            }
            b'Z' => self.bigint(),
            b'D' | b'R' | b'y' | b'x' | b'n' | b'z' | b's' => {
                let id = self.begin();
                self.object(tag)?;
                self.end(id);
                Ok(())
            }
            b'B' | b'~' => self.buffer(tag),
            _ => Err(Fault::Malformed("it has an unknown tag")),
        }
    }

    fn object(&mut self, tag: u8) -> Result<(), Fault> {
        match tag {
            b'D' => {
                let millis = self.double()?;
                text::push_date(self.out, millis);
            }
            b'R' => return self.regexp(),
            b'y' => self.out.extend_from_slice(b"true"),
            b'x' => self.out.extend_from_slice(b"false"),
            b'n' => {
                let number = self.double()?;
                text::push_double(self.out, number);
            }
            b'z' => return self.bigint(),
            _ => {
                let tag = self.tag()?;
                return self.text(tag);
            }
        }
        Ok(())
    }

    /// Whether a source is one that V8 compiles is not known here.
    fn regexp(&mut self) -> Result<(), Fault> {
        let tag = self.tag()?;
        self.text(tag)?;
        self.varint()?;
        self.doubt();
        Ok(())
    }

    pub(super) fn number(&mut self, tag: u8) -> Result<f64, Fault> {
        match tag {
            b'I' => {
                let raw = self.varint()?;
                Ok(f64::from((raw >> 1) as i32 ^ -((raw & 1) as i32)))
            }
            b'U' => Ok(f64::from(self.varint()?)),
            _ => self.double(),
        }
    }

    fn double(&mut self) -> Result<f64, Fault> {
        let bytes = self.bytes(8)?;
        Ok(bytes.try_into().map_or(f64::NAN, f64::from_le_bytes))
    }

    fn bigint(&mut self) -> Result<(), Fault> {
        let field = self.varint()?;
        let bytes = self.bytes(field >> 1)?;
        if bytes.len() % 8 != 0 || (field & 1 == 1 && bytes.is_empty()) {
            self.doubt();
        }
        text::push_bigint(self.out, field & 1 == 1, bytes);
        Ok(())
    }

    /// A string, with quotes.
    pub(super) fn text(&mut self, tag: u8) -> Result<(), Fault> {
        if !matches!(tag, b'"' | b'c' | b'S') {
            return Err(Fault::Malformed("a string is none"));
        }
        let len = self.varint()?;
        let bytes = self.bytes(len)?;
        self.out.push(b'"');
        match tag {
            b'"' => text::push_latin1(self.out, bytes),
            b'c' if len % 2 == 0 => text::push_utf16(self.out, bytes),
            b'c' => return Err(Fault::Malformed("a string ends within a character")),
            _ => {
                if std::str::from_utf8(bytes).is_err() {
                    self.doubt();
                }
                text::push_utf8(self.out, bytes);
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    /// What V8 leaves to Node: views of buffers, and objects of its own.
    pub(super) fn host(&mut self) -> Result<(), Fault> {
        let id = self.begin_unmade();
        match self.varint()? {
            0 => {
                let element = Element::of_node(self.varint()?);
                let len = self.varint()?;
                let bytes = self.bytes(len)?;
                let element = element.ok_or(Fault::Malformed("a view is of an unknown kind"))?;
                if element == Element::F16 {
                    // Older ones do not know it.
                    self.doubt();
                }
                self.view(element, bytes)?;
                self.end(id);
                Ok(())
            }
            1 => self.open_host(id),
            _ => Err(Fault::Malformed("an object is of an unknown kind")),
        }
    }

    /// A buffer, or right behind it a view of it.
    fn buffer(&mut self, tag: u8) -> Result<(), Fault> {
        let buffer = self.begin();
        let len = self.varint()?;
        if tag == b'~' {
            self.varint()?;
            self.doubt();
        }
        let bytes = self.bytes(len)?;
        if self.is_next(b'V') {
            let view = self.begin();
            let (element, offset, len) = self.view_header()?;
            let end = (offset as usize).saturating_add(len as usize);
            let bytes = bytes.get(offset as usize..end).ok_or(Fault::Malformed("a view is out of bounds"))?;
            self.view(element, bytes)?;
            self.end(view);
        } else {
            self.view(Element::Byte, bytes)?;
        }
        self.end(buffer);
        Ok(())
    }

    /// A view of a buffer that was written before: all of that is shown.
    pub(super) fn view_of_known(&mut self) -> Result<(), Fault> {
        if self.is_next(b'V') {
            let id = self.begin();
            self.view_header()?;
            self.end(id);
        }
        Ok(())
    }

    fn view_header(&mut self) -> Result<(Element, u32, u32), Fault> {
        self.doubt();
        self.tag()?;
        let letter = self.byte()?;
        let element = Element::of_v8(letter).ok_or(Fault::Malformed("a view is of an unknown kind"))?;
        let (offset, len) = (self.varint()?, self.varint()?);
        if self.version >= 14 {
            self.varint()?;
        }
        Ok((element, offset, len))
    }

    fn view(&mut self, element: Element, bytes: &[u8]) -> Result<(), Fault> {
        if !bytes.len().is_multiple_of(element.size()) {
            self.doubt();
        }
        if push_view(self.out, element, bytes, self.max) { Ok(()) } else { Err(Fault::TooLong) }
    }

    fn is_next(&mut self, tag: u8) -> bool {
        self.peek_tag().is_ok_and(|next| next == tag)
    }

    /// Nobody must be sent these bytes as they are.
    pub(super) fn doubt(&mut self) {
        if let Some(checks) = &mut self.checks {
            checks.doubt();
        }
    }
}
