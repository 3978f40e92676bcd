//! What a worker writes, line by line. Memory is bounded: a line that does not end comes in pieces.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest piece of a line, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;
/// How much one worker may have read at a time, so that one that only writes does not starve the others.
const MAX_READS: usize = 16;

/// One pipe of a worker.
#[derive(Debug)]
pub(super) struct Pump {
    pipe: File,
    partial: Vec<u8>,
}

impl Pump {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: File::from(pipe), partial: Vec::new() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Reads what is there and gives each line to `emit`. Returns whether more may come.
    pub(super) fn read(&mut self, mut emit: impl FnMut(&[u8])) -> bool {
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

    /// Gives out a last line without an end.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            emit(&self.partial);
            self.partial = Vec::new();
        }
    }

    fn cut(&mut self, chunk: &[u8], emit: &mut impl FnMut(&[u8])) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) if self.partial.is_empty() => emit(line),
                Some((b'\n', rest)) => {
                    self.partial.extend_from_slice(rest);
                    emit(&self.partial);
                    self.partial.clear();
                }
                _ => {
                    self.partial.extend_from_slice(piece);
                    if self.partial.len() >= MAX_LINE_BYTES {
                        emit(&self.partial);
                        self.partial = Vec::new();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str]) -> Vec<String> {
        let mut pump = Pump::new(File::open("/dev/null").unwrap().into());
        let mut lines = Vec::new();
        let mut emit = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
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
        assert_eq!(cut(&[&long, "y\n"]), [long.as_str(), "y"]);
    }
}
