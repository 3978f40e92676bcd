//! Cuts a byte stream into lines.
//!
//! The decoder must never look inside a line, copy one that lies wholly in the chunk it was fed, scan a byte
//! twice for the line's end, or hold more than one message's maximum and one chunk. Only what is not written as
//! lines is read and becomes lines here.

use std::ops::Range;

use thiserror::Error;

use crate::advanced::{LENGTH_BYTES, Serialization, Values};

/// The longest message a worker may send unless configured otherwise.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What the decoder's buffer may keep allocated between messages; a larger one is given back.
pub const KEPT_CAPACITY_BYTES: usize = 64 * 1024;

/// Why a stream cannot be cut into lines. The channel is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A line, or a frame or its text, is longer than allowed: close the channel. The rest of the stream is not
    /// looked at.
    #[error("message longer than {limit} bytes")]
    TooLong {
        /// The limit that was given to [`Decoder::new`].
        limit: usize,
    },
    /// The stream ended inside a line: the worker died while it wrote.
    #[error("channel ended inside a message")]
    Truncated,
    /// With [`Serialization::Advanced`]: a frame is no value that Node writes. Close the channel.
    #[error("message is not a value of V8's: {what}")]
    NotAValue {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Cuts what is read from a channel into lines, keeping half a line until the rest of it arrives.
///
/// Verbs: [`feed`](Self::feed) and, at the end of the channel, [`finish`](Self::finish). Getter:
/// [`is_partial`](Self::is_partial).
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Cutting(Buffer),
    Values(Box<Values>),
    /// Nothing that follows can be trusted to be the start of a line.
    Failed(FrameError),
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'d> {
    /// Its JSON, without a newline.
    pub line: &'d [u8],
    /// With [`Serialization::Advanced`] the value that the line was made of, as [`relay`](crate::relay) takes it.
    pub value: Option<&'d [u8]>,
}

/// Bytes carried from one chunk to the next. `start <= scanned <= bytes.len()`.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Everything before this was handed out.
    start: usize,
    /// Between `start` and this there is no newline.
    scanned: usize,
}

impl Decoder {
    /// A decoder that refuses lines longer than `max_message` bytes, newline not counted.
    pub fn new(max_message: usize) -> Self {
        Self::with(Serialization::Json, max_message)
    }

    /// A decoder for a channel that is written like this. With [`Serialization::Advanced`] both a frame and the line
    /// that it becomes may be `max_message` bytes long, which is what the same message could be as JSON.
    pub fn with(serialization: Serialization, max_message: usize) -> Self {
        let state = match serialization {
            Serialization::Json => State::Cutting(Buffer::default()),
            Serialization::Advanced => State::Values(Box::default()),
        };
        Self { limit: max_message, state }
    }

    /// The next byte may be in the middle of a message, because somebody else has read what was before it. Lines
    /// show by themselves where the next one begins, and what was left of the one before is no JSON. Other frames
    /// are looked for until [`settle`](Self::settle) is called, and what is no frame is left out.
    pub fn resynchronise(&mut self) {
        if let State::Values(values) = &mut self.state {
            values.resynchronise();
        }
    }

    /// The stream is in step: from now on what is no frame is an error.
    pub fn settle(&mut self) {
        if let State::Values(values) = &mut self.state {
            values.settle();
        }
    }

    /// Takes the next bytes of the stream and lends out the lines that they complete.
    ///
    /// Call [`Lines::next`] until it says `None`. Dropping [`Lines`] earlier loses nothing: what was not
    /// looked at is kept (copied) and comes first at the next `feed`, for which an empty chunk will do. Whoever
    /// never takes the complete lines is told [`FrameError::TooLong`] once the bytes kept exceed the limit.
    pub fn feed<'d>(&'d mut self, chunk: &'d [u8]) -> Lines<'d> {
        let failure = match self.state {
            State::Cutting(_) | State::Values(_) => None,
            State::Failed(error) => Some(error),
        };
        Lines { decoder: self, chunk, failure }
    }

    /// Whether bytes are kept of a message that is not whole yet.
    pub fn is_partial(&self) -> bool {
        match &self.state {
            State::Cutting(buffer) => buffer.pending() > 0,
            State::Values(values) => values.pending() > 0,
            State::Failed(_) => false,
        }
    }

    /// Says whether the stream may end here. Call it at the end of the channel, all lines taken.
    pub fn finish(&self) -> Result<(), FrameError> {
        match &self.state {
            State::Failed(error) => Err(*error),
            State::Cutting(_) | State::Values(_) if self.is_partial() => Err(FrameError::Truncated),
            State::Cutting(_) | State::Values(_) => Ok(()),
        }
    }
}

/// The lines that one chunk completes, without their newlines. Made by [`Decoder::feed`].
#[derive(Debug)]
pub struct Lines<'d> {
    decoder: &'d mut Decoder,
    chunk: &'d [u8],
    /// Told once per feed, so that a caller that goes on after an error still ends.
    failure: Option<FrameError>,
}

/// What to hand out: a place in the buffer or a piece of the chunk.
enum Cut<'d> {
    Kept { from: usize, to: usize },
    Fresh(&'d [u8]),
}

impl Lines<'_> {
    /// The next complete line, `None` when the chunk is used up. After an error there is no further line.
    ///
    /// Not an `Iterator`, because a line that arrived in pieces lives in the decoder until the next call.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<&[u8], FrameError>> {
        Some(self.next_frame()?.map(|frame| frame.line))
    }

    /// As [`next`](Self::next), with the value that the line was made of.
    #[inline]
    pub fn next_frame(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        let limit = self.decoder.limit;
        let cut = match &mut self.decoder.state {
            State::Cutting(buffer) => buffer.cut(&mut self.chunk, limit),
            State::Values(_) => return self.next_value(),
            State::Failed(_) => return None,
        };
        match cut {
            Ok(None) => None,
            Ok(Some(Cut::Fresh(line))) => Some(Ok(Frame { line, value: None })),
            Ok(Some(Cut::Kept { from, to })) => match &self.decoder.state {
                State::Cutting(buffer) => Some(Ok(Frame { line: buffer.get(from..to), value: None })),
                State::Values(_) | State::Failed(_) => None,
            },
            Err(error) => self.fail(error),
        }
    }

    fn next_value(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        let limit = self.decoder.limit;
        let State::Values(values) = &mut self.decoder.state else { return None };
        match values.cut(&mut self.chunk, limit) {
            Ok(None) => None,
            Ok(Some(place)) => match &self.decoder.state {
                State::Values(values) => Some(Ok(values.frame(place))),
                State::Cutting(_) | State::Failed(_) => None,
            },
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: FrameError) -> Option<Result<Frame<'_>, FrameError>> {
        self.decoder.state = State::Failed(error);
        self.chunk = &[];
        Some(Err(error))
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        let message = self.decoder.limit;
        let (buffer, limit) = match &mut self.decoder.state {
            State::Cutting(buffer) => (buffer, message),
            State::Values(values) => (values.buffer(), message.saturating_add(LENGTH_BYTES)),
            State::Failed(_) => return,
        };
        buffer.forget_handed_out();
        if self.chunk.is_empty() {
            return;
        }
        if buffer.pending() > limit {
            self.decoder.state = State::Failed(FrameError::TooLong { limit: message });
            return;
        }
        buffer.keep(self.chunk, limit);
    }
}

impl Buffer {
    pub(crate) fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// What was not handed out.
    pub(crate) fn kept(&self) -> &[u8] {
        self.get(self.start..self.bytes.len())
    }

    /// What was handed out last.
    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Hands out so many bytes, of which it may not have fewer.
    pub(crate) fn take(&mut self, count: usize) -> Range<usize> {
        let from = self.start;
        self.start = (from + count).min(self.bytes.len());
        self.scanned = self.start;
        from..self.start
    }

    fn cut<'d>(&mut self, chunk: &mut &'d [u8], limit: usize) -> Result<Option<Cut<'d>>, FrameError> {
        self.forget_handed_out();
        if self.pending() == 0 {
            return self.cut_fresh(chunk, limit);
        }
        if let Some(to) = self.find_newline() {
            return self.hand_out(to, limit).map(Some);
        }
        let (head, rest) = match memchr::memchr(b'\n', chunk) {
            Some(at) => chunk.split_at(at + 1),
            None => (*chunk, &[][..]),
        };
        if self.pending() + trim_newline(head).len() > limit {
            return Err(FrameError::TooLong { limit });
        }
        self.keep(head, limit);
        *chunk = rest;
        match self.bytes.last() {
            Some(b'\n') => self.hand_out(self.bytes.len() - 1, limit).map(Some),
            _ => {
                self.scanned = self.bytes.len();
                Ok(None)
            }
        }
    }

    /// The hot path: nothing is kept, so lines are lent straight from the chunk.
    fn cut_fresh<'d>(&mut self, chunk: &mut &'d [u8], limit: usize) -> Result<Option<Cut<'d>>, FrameError> {
        let whole: &'d [u8] = chunk;
        let end = memchr::memchr(b'\n', whole);
        if end.unwrap_or(whole.len()) > limit {
            return Err(FrameError::TooLong { limit });
        }
        if let Some(at) = end {
            let (line, rest) = whole.split_at(at + 1);
            *chunk = rest;
            return Ok(Some(Cut::Fresh(trim_newline(line))));
        }
        *chunk = &[];
        self.keep(whole, limit);
        self.scanned = self.bytes.len();
        Ok(None)
    }

    fn find_newline(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', self.bytes.get(self.scanned..)?);
        found.map(|at| self.scanned + at)
    }

    fn hand_out<'d>(&mut self, to: usize, limit: usize) -> Result<Cut<'d>, FrameError> {
        let from = self.start;
        if to - from > limit {
            return Err(FrameError::TooLong { limit });
        }
        self.start = to + 1;
        self.scanned = self.start;
        Ok(Cut::Kept { from, to })
    }

    pub(crate) fn forget_handed_out(&mut self) {
        if self.start == 0 || self.pending() > 0 {
            return;
        }
        self.start = 0;
        self.scanned = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_CAPACITY_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Appends, growing by doubling but not past what a message may need.
    pub(crate) fn keep(&mut self, more: &[u8], limit: usize) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            let wanted = needed.max(self.bytes.capacity().saturating_mul(2).min(limit));
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
    }
}

fn trim_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(decoder: &mut Decoder, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut lines = decoder.feed(chunk);
        while let Some(line) = lines.next() {
            taken.push(line.unwrap().to_vec());
        }
        taken
    }

    fn capacity(decoder: &Decoder) -> usize {
        match &decoder.state {
            State::Cutting(buffer) => buffer.bytes.capacity(),
            State::Values(_) | State::Failed(_) => 0,
        }
    }

    #[test]
    fn whole_lines_are_lent_from_the_chunk() {
        let chunk = b"one\ntwo\n";
        let mut decoder = Decoder::new(100);
        let mut lines = decoder.feed(chunk);
        let first = lines.next().unwrap().unwrap();
        assert_eq!(first.as_ptr(), chunk.as_ptr());
        drop(lines);
        assert_eq!(take_all(&mut decoder, b""), [b"two"]);
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_line_in_pieces_is_put_together() {
        let mut decoder = Decoder::new(100);
        assert!(take_all(&mut decoder, b"ab").is_empty());
        assert!(decoder.is_partial());
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
        assert!(take_all(&mut decoder, b"cd").is_empty());
        assert_eq!(take_all(&mut decoder, b"e\nf\n\ng"), [&b"abcde"[..], b"f", b""]);
        assert_eq!(take_all(&mut decoder, b"\n"), [b"g"]);
        assert!(!decoder.is_partial());
    }

    #[test]
    fn lines_dropped_early_come_at_the_next_feed() {
        let mut decoder = Decoder::new(100);
        drop(decoder.feed(b"x\ny\nz"));
        assert!(decoder.is_partial());
        let mut lines = decoder.feed(b"z\nq\nr");
        assert_eq!(lines.next(), Some(Ok(&b"x"[..])));
        drop(lines);
        assert_eq!(take_all(&mut decoder, b"\n"), [&b"y"[..], b"zz", b"q", b"r"]);
    }

    #[test]
    fn too_long_is_said_as_soon_as_it_is_known_and_stays() {
        for chunks in [&[&b"12345"[..]][..], &[b"123", b"45"], &[b"12", b"345\n"], &[b"12345\n"]] {
            let mut decoder = Decoder::new(4);
            let mut failed = None;
            for chunk in chunks {
                let mut lines = decoder.feed(chunk);
                while let Some(line) = lines.next() {
                    failed = line.err();
                }
            }
            assert_eq!(failed, Some(FrameError::TooLong { limit: 4 }));
            assert_eq!(capacity(&decoder), 0);
            assert_eq!(decoder.finish(), Err(FrameError::TooLong { limit: 4 }));
            let mut lines = decoder.feed(b"a\n");
            assert_eq!(lines.next(), Some(Err(FrameError::TooLong { limit: 4 })));
            assert_eq!(lines.next(), None);
        }
        assert_eq!(take_all(&mut Decoder::new(4), b"1234\n"), [b"1234"]);
    }

    #[test]
    fn lines_never_taken_are_bounded_too() {
        let mut decoder = Decoder::new(10);
        for _ in 0..20 {
            drop(decoder.feed(b"a\nb\nc\n"));
            assert!(capacity(&decoder) <= 16);
        }
        assert_eq!(decoder.feed(b"").next(), Some(Err(FrameError::TooLong { limit: 10 })));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut decoder = Decoder::new(1_000_000);
        let chunk = [b'x'; 65_536];
        for _ in 0..15 {
            assert!(take_all(&mut decoder, &chunk).is_empty());
            assert!(capacity(&decoder) <= 1_000_000 + chunk.len());
        }
        assert_eq!(take_all(&mut decoder, b"\n")[0].len(), 15 * 65_536);
        assert!(capacity(&decoder) <= KEPT_CAPACITY_BYTES);
    }
}
