//! What a worker writes, line by line. Memory is bounded: a line that does not end comes in pieces.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxherd_core::{Moment, Span};

/// The longest piece of a line, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;
/// How long it is left alone for want of room.
const PATIENCE: Span = Span::from_secs(2);
/// How much one worker may have read at a time, so that one that only writes does not starve the others.
const MAX_READS: usize = 16;

/// One pipe of a worker.
#[derive(Debug)]
pub(super) struct Pump {
    pipe: File,
    partial: Vec<u8>,
    /// A piece of the line was given out already.
    has_begun: bool,
    flow: Flow,
}

/// How it is read while there is no room for what it brings.
#[derive(Clone, Copy, Debug)]
enum Flow {
    /// There was room.
    Free,
    /// Not, since then.
    Held(Moment),
    /// Nevertheless: a worker must not wait for a disk that hangs.
    Flooding,
}

impl Pump {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: File::from(pipe), partial: Vec::new(), has_begun: false, flow: Flow::Free }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Reads what is there and gives each line to `emit`, or a piece of one that goes on. Returns whether more may come.
    pub(super) fn read(&mut self, mut emit: impl FnMut(&[u8], bool)) -> bool {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..MAX_READS {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.finish(emit);
                    return false;
                }
                Ok(count) => self.cut(buffer.get(..count).unwrap_or_default(), &mut emit),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Whether it may be read now: there is room, or there was none for too long.
    pub(super) fn may_flow(&mut self, has_room: impl FnOnce() -> bool, now: Moment) -> bool {
        if has_room() {
            self.flow = Flow::Free;
            return true;
        }
        match self.flow {
            Flow::Free => self.flow = Flow::Held(now),
            Flow::Held(since) if now.since(since) >= PATIENCE => self.flow = Flow::Flooding,
            Flow::Held(_) | Flow::Flooding => {}
        }
        matches!(self.flow, Flow::Flooding)
    }

    /// Gives out a last line without an end.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() || self.has_begun {
            emit(&self.partial, false);
            self.partial = Vec::new();
            self.has_begun = false;
        }
    }

    fn cut(&mut self, chunk: &[u8], emit: &mut impl FnMut(&[u8], bool)) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) if self.partial.is_empty() => {
                    emit(line, false);
                    self.has_begun = false;
                }
                Some((b'\n', rest)) => {
                    self.partial.extend_from_slice(rest);
                    emit(&self.partial, false);
                    self.partial.clear();
                    self.has_begun = false;
                }
                _ => {
                    self.partial.extend_from_slice(piece);
                    if self.partial.len() >= MAX_LINE_BYTES {
                        let rest = self.partial.split_off(whole_characters(&self.partial));
                        emit(&self.partial, true);
                        self.partial = rest;
                        self.has_begun = true;
                    }
                }
            }
        }
    }
}

/// How many of these bytes can be parted from what follows without cutting a character, if it is UTF-8.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let last = bytes.iter().enumerate().skip(from).rev().find(|(_, byte)| **byte >= 0xc0);
    let length = |lead: u8| if lead >= 0xf0 { 4 } else { 2 + usize::from(lead >= 0xe0) };
    match last {
        Some((at, lead)) if at + length(*lead) > bytes.len() && at > 0 => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str]) -> Vec<String> {
        let mut pump = Pump::new(File::open("/dev/null").unwrap().into());
        let mut lines = Vec::new();
        let mut emit = |line: &[u8], more: bool| {
            lines.push(String::from_utf8_lossy(line).into_owned() + if more { "…" } else { "" });
        };
        chunks.iter().for_each(|chunk| pump.cut(chunk.as_bytes(), &mut emit));
        pump.finish(emit);
        lines
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(cut(&["one\ntwo\n"]), ["one", "two"]);
        assert_eq!(cut(&["o", "ne\nt", "wo"]), ["one", "two"]);
        assert_eq!(cut(&["\n\n"]), ["", ""]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let long = "x".repeat(MAX_LINE_BYTES);
        let piece = long.clone() + "…";
        assert_eq!(cut(&[&long, "y\n"]), [piece.as_str(), "y"]);
        assert_eq!(cut(&[&long]), [piece.as_str(), ""]);
        assert_eq!(cut(&[&long, "\nz"]), [piece.as_str(), "", "z"]);
    }

    #[test]
    fn pieces_end_between_characters() {
        assert_eq!(whole_characters("xü".as_bytes()), 3);
        for (bytes, whole) in
            [(&b"x\xc3"[..], 1), (b"x\xe2\x82", 1), (b"x\xf0\x9f\x98", 1), (b"x\xff", 1), (b"xyz", 3)]
        {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
        assert_eq!(whole_characters(b"\xbf\xbf\xbf\xbf"), 4, "none at all");
    }
}
