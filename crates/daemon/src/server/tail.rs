//! The last lines of a file, read block by block from its end: memory stays bounded however large the file is
//! and however long its lines are. It only reads, and waits for the disk: never on the server's thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at a time, in bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Longer lines come in pieces.
const LINE_BYTES: usize = 64 << 10;

/// A line of a file, or a piece of one: whether it goes on behind it, or would if it were ended.
pub(super) type Piece = (Vec<u8>, bool);

/// A file whose last lines are being read.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    at: u64,
    end: u64,
    found: u64,
    /// The beginning of a line whose end is not read yet.
    rest: Vec<u8>,
}

impl Tail {
    /// Prepares to read the last `lines` lines before `end`, or before the file's end if that is nearer.
    pub(super) fn new(file: File, end: u64, lines: u64) -> io::Result<Self> {
        let end = end.min(file.metadata()?.len());
        let (at, found) = start_of(&file, end, lines)?;
        Ok(Self { file, at, end, found, rest: Vec::new() })
    }

    /// How many lines these are.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// Some more lines; none at the end.
    pub(super) fn next_lines(&mut self) -> io::Result<Vec<Piece>> {
        let mut lines = Vec::new();
        while lines.is_empty() && self.at < self.end {
            let block = read_block(&self.file, self.at, self.end)?;
            if block.is_empty() {
                // Somebody has cut the file meanwhile.
                self.end = self.at;
                break;
            }
            self.at += block.len() as u64;
            self.cut(&block, &mut lines);
        }
        if lines.is_empty() && !self.rest.is_empty() {
            lines.push((std::mem::take(&mut self.rest), true));
        }
        Ok(lines)
    }

    fn cut(&mut self, block: &[u8], lines: &mut Vec<Piece>) {
        for part in block.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            while self.rest.len() + text.len() > LINE_BYTES {
                let (head, tail) = text.split_at(LINE_BYTES - self.rest.len());
                self.rest.extend_from_slice(head);
                lines.push((std::mem::take(&mut self.rest), true));
                text = tail;
            }
            self.rest.extend_from_slice(text);
            if is_whole {
                lines.push((std::mem::take(&mut self.rest), false));
            }
        }
    }
}

/// Where the last `lines` lines before `end` begin, and how many there are.
fn start_of(file: &File, end: u64, lines: u64) -> io::Result<(u64, u64)> {
    if lines == 0 {
        return Ok((end, 0));
    }
    // The newline that ends the last line begins no other.
    let lines = lines.min(u64::MAX - 1);
    let mut wanted = lines + 1;
    let mut upper = end;
    let mut is_last = true;
    while upper > 0 {
        let lower = upper.saturating_sub(BLOCK_BYTES as u64);
        let block = read_block(file, lower, upper)?;
        if is_last && block.last() != Some(&b'\n') {
            wanted -= 1;
        }
        is_last = false;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            wanted -= 1;
            if wanted == 0 {
                return Ok((lower + index as u64 + 1, lines));
            }
        }
        upper = lower;
    }
    Ok((0, lines + 1 - wanted))
}

/// One block from `at`, not beyond `end`; shorter only at the file's end.
fn read_block(file: &File, at: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut block = vec![0; (end - at).min(BLOCK_BYTES as u64) as usize];
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    block.truncate(filled);
    Ok(block)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "oxherd-tail-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        File::create(&path).unwrap().write_all(content).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    fn tail(content: &[u8], end: u64, lines: u64) -> Vec<String> {
        let mut tail = Tail::new(file(content), end, lines).unwrap();
        let mut all = Vec::new();
        loop {
            let lines = tail.next_lines().unwrap();
            if lines.is_empty() {
                return all;
            }
            let shown = |(line, more): &Piece| {
                String::from_utf8_lossy(line).into_owned() + if *more { "…" } else { "" }
            };
            all.extend(lines.iter().map(shown));
        }
    }

    #[test]
    fn the_last_lines_come_in_order() {
        assert_eq!(tail(b"a\nb\nc\n", 99, 2), ["b", "c"]);
        assert_eq!(tail(b"a\nb\nc", 99, 2), ["b", "c…"], "the last line is not ended yet");
        assert_eq!(tail(b"a\nb\nc\n", 4, 1), ["b"], "what is behind the mark is left out");
        assert_eq!(tail(b"a\n\nc\n", 99, 2), ["", "c"]);
        assert_eq!(tail(b"a\nb\n", 99, 0), [""; 0]);
        assert_eq!(tail(b"a\nb\n", 99, 15), ["a", "b"]);
        assert_eq!(tail(b"", 0, 15), [""; 0]);
        assert_eq!(tail(b"\n", 1, 15), [""]);
    }

    #[test]
    fn lines_cross_blocks() {
        let line = "x".repeat(1000);
        let content = format!("{line}\n").repeat(500);
        let lines = tail(content.as_bytes(), u64::MAX, 400);
        assert_eq!(lines.len(), 400);
        assert!(lines.iter().all(|found| *found == line));
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = "y".repeat(LINE_BYTES * 2 + 5);
        let lines = tail(format!("a\n{long}\nb\n").as_bytes(), u64::MAX, 2);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES + 3, LINE_BYTES + 3, 5, 1]);
        let exact = "z".repeat(LINE_BYTES);
        assert_eq!(tail(format!("{exact}\nb\n").as_bytes(), u64::MAX, 2), [exact.as_str(), "b"]);
    }
}
