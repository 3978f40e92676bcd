//! A value in V8's format as JSON text: arrays, dense and sparse, with their named properties, `Map` and `Set`.

use super::read::{Extra, FILL, Fault, Id, Open, Reader, Span};

impl Reader<'_, '_> {
    pub(super) fn step_dense(&mut self, id: Id, length: u32, left: u32) -> Result<(), Fault> {
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

    pub(super) fn step_sparse(&mut self, id: Id, length: u32, next: u32, count: u32) -> Result<(), Fault> {
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

    pub(super) fn step_extra(&mut self, mut extra: Extra) -> Result<(), Fault> {
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

    pub(super) fn step_map_key(
        &mut self,
        id: Id,
        from: usize,
        start: usize,
        mut is_text: bool,
    ) -> Result<(), Fault> {
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

    pub(super) fn step_map_value(
        &mut self,
        id: Id,
        from: usize,
        start: usize,
        is_text: bool,
    ) -> Result<(), Fault> {
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

    pub(super) fn step_set(&mut self, id: Id, count: u32) -> Result<(), Fault> {
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
}
