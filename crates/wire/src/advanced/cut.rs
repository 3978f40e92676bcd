//! Cuts a byte stream into frames by their lengths, and turns each into a line.
//!
//! A stream that begins inside a frame, because somebody else has read its beginning, has no mark where the next
//! one begins: then frames are looked for until whoever reads is sure to be in step again.

use std::ops::Range;

use super::read::{Fault, to_json};
use super::{HEADER, LENGTH_BYTES, VERSIONS};
use crate::frame::{Buffer, Frame, FrameError, KEPT_CAPACITY_BYTES};

/// Frames of the protocol that answer something are shorter than this.
const MAX_SHORT_BYTES: usize = 1024;

/// Cuts what is read into frames, keeping half a frame until the rest arrives.
#[derive(Debug, Default)]
pub(crate) struct Values {
    buffer: Buffer,
    /// The line of the frame that was handed out last.
    text: Vec<u8>,
    hunt: Option<Hunt>,
}

/// The stream may have begun inside a frame.
#[derive(Debug, Default)]
struct Hunt {
    /// Up to here the bytes kept were looked through for a frame inside what may not be one.
    inspected: usize,
    /// How many bytes were read in vain. What would be read again and again must end.
    wasted: usize,
}

/// Where a frame's value is.
pub(crate) enum Place<'d> {
    Kept(Range<usize>),
    Fresh(&'d [u8]),
}

impl<'d> Place<'d> {
    fn value(&self, buffer: &'d Buffer) -> &'d [u8] {
        match self {
            Place::Fresh(value) => value,
            Place::Kept(range) => buffer.get(range.clone()),
        }
    }
}

/// How much of what stands at some place is a frame.
enum Candidate {
    None,
    /// It may be one that is not whole yet.
    Part,
    Whole(usize),
}

impl Values {
    pub(crate) fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    pub(crate) fn pending(&self) -> usize {
        self.buffer.pending()
    }

    /// Called when the stream may begin inside a frame.
    pub(crate) fn resynchronise(&mut self) {
        self.hunt = Some(Hunt::default());
    }

    /// Called when it is known to be in step.
    pub(crate) fn settle(&mut self) {
        self.hunt = None;
    }

    /// Cuts the next frame off, whose line [`frame`](Self::frame) then has.
    pub(crate) fn cut<'d>(
        &mut self,
        chunk: &mut &'d [u8],
        limit: usize,
    ) -> Result<Option<Place<'d>>, FrameError> {
        self.buffer.forget_handed_out();
        self.text.clear();
        if self.text.capacity() > KEPT_CAPACITY_BYTES {
            self.text = Vec::new();
        }
        if self.hunt.is_some() {
            return self.hunt(chunk, limit);
        }
        let Some(place) = self.cut_strictly(chunk, limit)? else { return Ok(None) };
        let value = place.value(&self.buffer);
        to_json(value, limit, &mut self.text).map_err(|fault| fault.of(limit))?;
        Ok(Some(place))
    }

    /// What was cut off last.
    pub(crate) fn frame<'d>(&'d self, place: Place<'d>) -> Frame<'d> {
        Frame { line: &self.text, value: Some(place.value(&self.buffer)) }
    }

    fn cut_strictly<'d>(
        &mut self,
        chunk: &mut &'d [u8],
        limit: usize,
    ) -> Result<Option<Place<'d>>, FrameError> {
        if self.buffer.pending() == 0 {
            let whole: &'d [u8] = chunk;
            if let Some(len) = allowed_len(whole, limit)?
                && let Some(value) = whole.get(LENGTH_BYTES..LENGTH_BYTES + len)
            {
                *chunk = whole.get(LENGTH_BYTES + len..).unwrap_or_default();
                return Ok(Some(Place::Fresh(value)));
            }
        }
        if !self.fill(LENGTH_BYTES, chunk, limit) {
            return Ok(None);
        }
        let len = allowed_len(self.buffer.kept(), limit)?.unwrap_or_default();
        if !self.fill(LENGTH_BYTES + len, chunk, limit) {
            return Ok(None);
        }
        Ok(Some(Place::Kept(self.hand_out(len))))
    }

    /// Keeps as much of the chunk as makes `wanted` bytes. Returns whether they are there.
    fn fill(&mut self, wanted: usize, chunk: &mut &[u8], limit: usize) -> bool {
        let missing = wanted.saturating_sub(self.buffer.pending());
        let (head, rest) = chunk.split_at(missing.min(chunk.len()));
        self.buffer.keep(head, limit.saturating_add(LENGTH_BYTES));
        *chunk = rest;
        self.buffer.pending() >= wanted
    }

    /// The value of the frame at the beginning of what is kept.
    fn hand_out(&mut self, len: usize) -> Range<usize> {
        let place = self.buffer.take(LENGTH_BYTES + len);
        place.start + LENGTH_BYTES..place.end
    }

    /// The next frame that is one, wherever it begins.
    fn hunt<'d>(&mut self, chunk: &mut &'d [u8], limit: usize) -> Result<Option<Place<'d>>, FrameError> {
        self.buffer.keep(chunk, limit.saturating_add(LENGTH_BYTES));
        *chunk = &[];
        loop {
            match candidate(self.buffer.kept(), limit) {
                Candidate::None => self.skip(1),
                Candidate::Part => {
                    let Some(at) = self.find_inside(limit) else { return Ok(None) };
                    self.skip(at);
                }
                Candidate::Whole(len) => {
                    let value = self.buffer.kept().get(LENGTH_BYTES..LENGTH_BYTES + len).unwrap_or_default();
                    if is_value(value, limit, &mut self.text) {
                        let place = self.hand_out(len);
                        self.restart();
                        return Ok(Some(Place::Kept(place)));
                    }
                    self.waste(len, limit)?;
                    self.skip(1);
                }
            }
        }
    }

    /// Leaves out so many bytes, and all behind them with which no frame can begin.
    fn skip(&mut self, count: usize) {
        let kept = self.buffer.kept();
        let rest = kept.get(count..).unwrap_or_default();
        let next = starts(rest).next().unwrap_or(rest.len().saturating_sub(LENGTH_BYTES));
        self.buffer.take(count + next);
        self.restart();
    }

    fn restart(&mut self) {
        if let Some(hunt) = &mut self.hunt {
            hunt.inspected = 0;
        }
    }

    fn waste(&mut self, count: usize, limit: usize) -> Result<(), FrameError> {
        let Some(hunt) = &mut self.hunt else { return Ok(()) };
        hunt.wasted = hunt.wasted.saturating_add(count);
        if hunt.wasted > limit.saturating_mul(2) {
            return Err(FrameError::NotAValue { what: "no frame is found" });
        }
        Ok(())
    }

    /// What looks like the beginning of a long frame may be the middle of another. Then a frame of the protocol will
    /// come before its end: where is one?
    fn find_inside(&mut self, limit: usize) -> Option<usize> {
        let kept = self.buffer.kept();
        let hunt = self.hunt.as_mut()?;
        let from = hunt.inspected.saturating_sub(MAX_SHORT_BYTES).max(1);
        hunt.inspected = kept.len();
        let text = &mut self.text;
        starts(kept.get(from..)?).map(|at| from + at).find(|at| {
            let rest = kept.get(*at..).unwrap_or_default();
            let Candidate::Whole(len) = candidate(rest, limit.min(MAX_SHORT_BYTES)) else { return false };
            let value = rest.get(LENGTH_BYTES..LENGTH_BYTES + len).unwrap_or_default();
            is_value(value, MAX_SHORT_BYTES * 8, text) && text.starts_with(br#"{"cmd":"NODE_"#)
        })
    }
}

/// The length that a frame says it has, once that can be known.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_be_bytes(*length) as usize)
}

fn allowed_len(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    match frame_len(bytes) {
        Some(len) if len > limit => Err(FrameError::TooLong { limit }),
        len => Ok(len),
    }
}

/// Places where a frame may begin, all of its length and the mark behind it being there.
fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memchr_iter(HEADER[0], bytes.get(LENGTH_BYTES..).unwrap_or_default())
}

fn candidate(bytes: &[u8], limit: usize) -> Candidate {
    let is_possible = bytes.get(LENGTH_BYTES).is_none_or(|mark| *mark == HEADER[0])
        && bytes.get(LENGTH_BYTES + 1).is_none_or(|version| VERSIONS.contains(version));
    match frame_len(bytes) {
        None => Candidate::Part,
        Some(len) if !is_possible || len > limit || len <= HEADER.len() => Candidate::None,
        Some(len) if bytes.len() - LENGTH_BYTES < len => Candidate::Part,
        Some(len) => Candidate::Whole(len),
    }
}

/// Whether the bytes are one value and nothing more. Its line is left in `text`.
fn is_value(bytes: &[u8], limit: usize, text: &mut Vec<u8>) -> bool {
    text.clear();
    to_json(bytes, limit, text) == Ok(bytes.len())
}

impl Fault {
    fn of(self, limit: usize) -> FrameError {
        match self {
            Self::Malformed(what) => FrameError::NotAValue { what },
            Self::TooLong => FrameError::TooLong { limit },
        }
    }
}
