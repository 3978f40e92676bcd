//! One log file: opened when there is something to write, anew when it was moved away, put aside when it is long or
//! old enough, and tried again after a pause when it cannot be written.
//!
//! Must never follow a symbolic link, and never leave a torn line behind that it could have completed.

use std::fs::{DirBuilder, File, Metadata, rename, symlink_metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use oxherd_core::Rotate;
use oxherd_os::clock::wall_millis;
use oxherd_os::files::open_append;

use super::attic::{self, Attic};
use super::queue::{Piece, Start};
use crate::home::cause;

/// When files are looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The least time between two looks at whether the file was moved away.
    pub(super) look: Duration,
    /// How long a file that cannot be written is let alone.
    pub(super) retry: Duration,
    /// When an unused file is closed.
    pub(super) idle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), retry: Duration::from_secs(1), idle: Duration::from_secs(60) }
    }
}

/// A file of lines.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<Open>,
    /// The file whose last byte of ours ends no line: also while it is closed, its rest goes on there.
    amid: Option<FileId>,
    torn: Option<Torn>,
    unsaid: Unsaid,
    retry_at: Option<Instant>,
    /// When it is tried again to put it aside, after that has failed.
    aside_at: Option<Instant>,
    /// When it was last used.
    pub(super) used: Instant,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    looked: Instant,
    /// Its length as far as we know.
    bytes: u64,
    /// What is no file is never put aside.
    is_file: bool,
    /// When it was begun, in milliseconds since the Unix epoch.
    begun_ms: u64,
}

type FileId = (u64, u64);

/// The rest of a line whose beginning is in a file.
#[derive(Debug)]
struct Torn {
    rest: Vec<u8>,
    id: FileId,
}

/// Lines that were lost here and of which the file does not tell yet.
#[derive(Debug, Default)]
struct Unsaid {
    lines: u64,
    /// Nothing where the disk was only slow.
    failure: Option<String>,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            amid: None,
            torn: None,
            unsaid: Unsaid::default(),
            retry_at: None,
            aside_at: None,
            used: Instant::now(),
        }
    }

    /// Closes the file; the next piece opens it anew.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether nothing would be missed without it.
    pub(super) fn is_spent(&self) -> bool {
        self.open.is_none() && self.amid.is_none() && self.torn.is_none() && self.unsaid.lines == 0
    }

    /// Whether it failed a short while ago.
    pub(super) fn is_resting(&self) -> bool {
        self.retry_at.is_some_and(|at| Instant::now() < at)
    }

    /// Its length is another, because somebody has emptied it.
    pub(super) fn was_emptied(&mut self) {
        self.amid = None;
        if let Some(open) = &mut self.open {
            open.bytes = 0;
        }
    }

    /// Puts the file aside where it is due before so many bytes more. An error is told once and again only after it
    /// had worked; the file goes on meanwhile.
    pub(super) fn put_aside(
        &mut self,
        coming: usize,
        rotate: &Rotate,
        attic: &mut Attic,
        pace: &Pace,
    ) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let is_due = open.is_file
            && open.bytes > 0
            && self.amid.is_none()
            && self.torn.is_none()
            && attic::is_due(open.bytes, coming as u64, open.begun_ms, wall_millis(), rotate);
        if !is_due || self.aside_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.aside_at = None;
        let moved = attic::next_name(&self.path).and_then(|old| rename(&self.path, old));
        match moved {
            Ok(()) => {
                self.open = None;
                attic.tidy(&self.path, rotate);
                self.make_ready(false, pace).map(drop)
            }
            Err(error) => {
                self.aside_at = Some(Instant::now() + pace.retry.max(Duration::from_secs(10)));
                Err(error)
            }
        }
    }

    /// Opens it where need be, and completes what is there.
    pub(super) fn begin(&mut self, start: Start, pace: &Pace) -> (u64, io::Result<()>) {
        self.used = Instant::now();
        let (lost, opened) = match self.make_ready(start == Start::Rest, pace) {
            Ok(lost) => (lost, self.complete().and_then(|()| self.tell_lost())),
            Err(error) => (0, Err(error)),
        };
        let opened = opened.and_then(|()| match self.amid {
            // The queue did not know of it.
            Some(_) if start == Start::Anew => self.append(b"\n").1,
            _ => Ok(()),
        });
        (lost, self.note(opened, pace))
    }

    /// Writes a piece; returns how many lines of it are lost.
    pub(super) fn put(&mut self, piece: &Piece, pace: &Pace) -> (u64, io::Result<()>) {
        match piece {
            Piece::Lines(lines) => self.put_lines(lines, pace),
            Piece::Rest { joined, alone } => {
                let lines = if self.amid.is_some() { joined } else { alone };
                self.put_lines(lines, pace)
            }
            Piece::Lost(lines) => {
                self.unsaid.lines += lines;
                let outcome = self.tell_lost();
                (0, self.note(outcome, pace))
            }
        }
    }

    fn put_lines(&mut self, lines: &[u8], pace: &Pace) -> (u64, io::Result<()>) {
        let (lost, outcome) = self.append(lines);
        self.unsaid.lines += lost;
        (lost, self.note(outcome, pace))
    }

    /// Loses a piece; returns how many lines that are.
    pub(super) fn lose(&mut self, piece: &Piece) -> u64 {
        let (lost, told_before) = match piece {
            Piece::Lines(lines) | Piece::Rest { joined: lines, .. } => (count(lines), 0),
            Piece::Lost(lines) => (0, *lines),
        };
        self.unsaid.lines += lost + told_before;
        lost
    }

    fn note(&mut self, outcome: io::Result<()>, pace: &Pace) -> io::Result<()> {
        match &outcome {
            Ok(()) => self.retry_at = None,
            Err(error) => {
                self.retry_at = Some(Instant::now() + pace.retry);
                self.unsaid.failure = Some(cause(error).to_string());
                // Whatever is wrong with it may be so only with this one.
                self.open = None;
            }
        }
        outcome
    }

    /// Returns how many lines are lost with a file that is not there any more.
    fn make_ready(&mut self, goes_on: bool, pace: &Pace) -> io::Result<u64> {
        if let Some(open) = self.open.as_mut().filter(|open| open.looked.elapsed() >= pace.look) {
            open.looked = Instant::now();
            let is_gone = match symlink_metadata(&self.path) {
                Ok(metadata) => {
                    // Somebody may have cut it.
                    open.bytes = metadata.len();
                    id(&metadata) != open.id
                }
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if is_gone {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let mut file = open_in_folder(&self.path)?;
            let metadata = file.metadata()?;
            let id = id(&metadata);
            let is_torn = self.torn.as_ref().is_some_and(|torn| torn.id == id);
            let is_ours = self.amid.take() == Some(id);
            if is_ours || (!is_torn && ends_within_a_line(&self.path, &metadata)) {
                if !is_ours && !goes_on {
                    file.write_all(b"\n")?;
                } else {
                    self.amid = Some(id);
                }
            }
            self.open = Some(Open {
                file,
                id,
                looked: Instant::now(),
                bytes: metadata.len(),
                is_file: metadata.is_file(),
                begun_ms: begun(&metadata),
            });
        }
        let id = self.open.as_ref().map(|open| open.id);
        let left = self.torn.take_if(|torn| Some(torn.id) != id);
        let lost = u64::from(left.is_some());
        self.unsaid.lines += lost;
        Ok(lost)
    }

    fn complete(&mut self) -> io::Result<()> {
        let (Some(torn), Some(open)) = (&mut self.torn, &mut self.open) else { return Ok(()) };
        let (written, outcome) = write_to_the_byte(&mut open.file, &torn.rest);
        open.bytes += written as u64;
        self.amid = torn.rest.last().is_some_and(|last| *last != b'\n').then_some(open.id);
        torn.rest.drain(..written);
        self.torn.take_if(|torn| torn.rest.is_empty());
        outcome
    }

    fn tell_lost(&mut self) -> io::Result<()> {
        let Unsaid { lines, failure } = &self.unsaid;
        if *lines == 0 {
            return Ok(());
        }
        let plural = if *lines == 1 { "line" } else { "lines" };
        let why = failure.as_deref().unwrap_or("the disk was too slow");
        let start = if self.amid.is_some() { "\n" } else { "" };
        let note = format!("{start}[oxherd] {lines} {plural} lost: {why}\n");
        let (lost, outcome) = self.append(note.as_bytes());
        if lost == 0 {
            self.unsaid = Unsaid::default();
        }
        outcome
    }

    /// Appends whole lines. Where it fails within a line the rest of that line waits, and those after it are lost.
    fn append(&mut self, lines: &[u8]) -> (u64, io::Result<()>) {
        let Some(open) = &mut self.open else { return (count(lines), Err(io::ErrorKind::NotFound.into())) };
        let (written, outcome) = write_to_the_byte(&mut open.file, lines);
        open.bytes += written as u64;
        if let Some(last) = lines.get(..written).and_then(<[u8]>::last) {
            self.amid = (*last != b'\n').then_some(open.id);
        }
        if outcome.is_ok() {
            return (0, outcome);
        }
        let (before, after) = lines.split_at(written);
        if before.last().is_none_or(|last| *last == b'\n') {
            return (count(after), outcome);
        }
        let end = after.iter().position(|byte| *byte == b'\n').map_or(after.len(), |at| at + 1);
        let (rest, lost) = after.split_at(end);
        self.torn = Some(Torn { rest: rest.to_vec(), id: open.id });
        (count(lost), outcome)
    }
}

fn write_to_the_byte(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match file.write(left) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// When the file was made, as far as the file system tells.
fn begun(metadata: &Metadata) -> u64 {
    let since = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    since.map_or_else(wall_millis, |since| since.as_millis() as u64)
}

/// Opens the file, and makes its folders where they are missing.
fn open_in_folder(path: &Path) -> io::Result<File> {
    match open_append(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().ok_or(error)?;
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
            open_append(path)
        }
        outcome => outcome,
    }
}

/// A daemon before this one may have been killed within a line: ours begin on one of their own.
fn ends_within_a_line(path: &Path, metadata: &Metadata) -> bool {
    if !metadata.is_file() || metadata.len() == 0 {
        return false;
    }
    let mut last = [b'\n'];
    // One that may not be read is taken as it is.
    drop(File::open(path).and_then(|file| file.read_exact_at(&mut last, metadata.len() - 1)));
    last != [b'\n']
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// A piece of a line counts as one.
fn count(lines: &[u8]) -> u64 {
    let whole = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    whole + u64::from(lines.last().is_some_and(|last| *last != b'\n'))
}
