//! The last lines of a log: of the file, and where that is short of those that were put aside before it. It only reads,
//! and waits for the disk: never on the server's thread.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::tail::{Piece, Tail};
use crate::logs::attic::{Old, old_files};

/// What the lines of one compressed file may take, in bytes; earlier ones are left out.
const HELD_BYTES: usize = 4 << 20;
/// Longer lines come in pieces.
const LINE_BYTES: u64 = 64 << 10;

/// Lines that are being read, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    Tail(Tail),
    Lines(Vec<Piece>),
}

impl History {
    /// Prepares to read the last `lines` lines of what is at `path`: before `end` of the open file, if there is one.
    pub(super) fn new(path: &Path, open: Option<(File, u64)>, lines: u64) -> io::Result<Self> {
        let mut history = Self::default();
        let mut missing = lines;
        if let Some((file, end)) = open {
            let tail = Tail::new(file, end, lines)?;
            missing -= tail.found().min(missing);
            history.parts.push_front(Part::Tail(tail));
        }
        if missing > 0 {
            // A folder that is not there has none.
            let old = old_files(path).unwrap_or_default();
            for old in old.iter().rev() {
                if missing == 0 {
                    break;
                }
                let Some((part, found)) = read_old(old, missing)? else { continue };
                missing -= found.min(missing);
                history.parts.push_front(part);
            }
        }
        Ok(history)
    }

    /// Some more lines; none at the end.
    pub(super) fn next_lines(&mut self) -> io::Result<Vec<Piece>> {
        while let Some(part) = self.parts.front_mut() {
            let lines = match part {
                Part::Tail(tail) => tail.next_lines()?,
                Part::Lines(lines) => std::mem::take(lines),
            };
            if !lines.is_empty() {
                return Ok(lines);
            }
            self.parts.pop_front();
        }
        Ok(Vec::new())
    }
}

/// The last lines of a file that was put aside; nothing if it was removed meanwhile. A plain one may have been
/// compressed meanwhile.
fn read_old(old: &Old, lines: u64) -> io::Result<Option<(Part, u64)>> {
    if !old.is_compressed {
        match File::open(&old.path) {
            Ok(file) => {
                let tail = Tail::new(file, u64::MAX, lines)?;
                let found = tail.found();
                return Ok(Some((Part::Tail(tail), found)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut path = old.path.clone().into_os_string();
    if !old.is_compressed {
        path.push(".gz");
    }
    match File::open(path) {
        Ok(file) => {
            let lines = last_lines(MultiGzDecoder::new(file), lines)?;
            let found = lines.len() as u64;
            Ok(Some((Part::Lines(lines), found)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last lines of what can only be read from the beginning.
fn last_lines(from: impl Read, count: u64) -> io::Result<Vec<Piece>> {
    let mut from = BufReader::new(from);
    let (mut held, mut bytes) = (VecDeque::new(), 0);
    loop {
        let mut line = Vec::new();
        if from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(held.into());
        }
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        bytes += line.len();
        held.push_back((line, !is_whole));
        while held.len() as u64 > count || (bytes > HELD_BYTES && held.len() > 1) {
            bytes -= held.pop_front().map_or(0, |(line, _)| line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::home::scratch::Scratch;

    #[test]
    fn lines_are_found_across_files_that_were_put_aside() {
        let scratch = Scratch::new();
        let path = scratch.join("a.log");
        let mut packed =
            GzEncoder::new(File::create(scratch.join("a.log.1.gz")).unwrap(), Compression::fast());
        packed.write_all(b"1\n2\n3\n").unwrap();
        packed.finish().unwrap();
        fs::write(scratch.join("a.log.2"), "4\n5\n").unwrap();
        fs::write(&path, "6\n7").unwrap();
        let last = |lines, open: Option<(File, u64)>| {
            let mut history = History::new(&path, open, lines).unwrap();
            let mut all = String::new();
            loop {
                let lines = history.next_lines().unwrap();
                if lines.is_empty() {
                    return all;
                }
                all.extend(lines.iter().map(|(line, _)| String::from_utf8(line.clone()).unwrap()));
            }
        };
        let file = || Some((File::open(&path).unwrap(), u64::MAX));
        for (lines, expected) in [(0, ""), (1, "7"), (2, "67"), (3, "567"), (5, "34567"), (99, "1234567")] {
            assert_eq!(last(lines, file()), expected, "{lines}");
        }
        assert_eq!(last(3, None), "345");
        assert_eq!(
            last(2, Some((File::open(&path).unwrap(), 2))),
            "56",
            "what is behind the mark is left out"
        );
    }
}
