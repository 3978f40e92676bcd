//! Log files that were put aside: `web-out.log.7`, compressed `web-out.log.7.gz`. The numbers go up for ever, the highest
//! is the newest; how far they have come is seen in the folder, so that no daemon's end confuses them.
//!
//! Compressing and removing is done on a thread of its own. Must never hold up the writing, and never remove what has no
//! such name.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use oxherd_core::Rotate;

/// How many files may wait to be looked after; those beyond are when they are put aside again.
const WAITING: usize = 64;
/// How much is read at a time, in bytes.
const BLOCK_BYTES: usize = 64 << 10;
const GZIP: &str = "gz";
/// What a compressed file is called until it is whole.
const UNFINISHED: &str = "gz-unfinished";

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Old {
    pub(crate) number: u64,
    pub(crate) is_compressed: bool,
    pub(crate) path: PathBuf,
}

/// Whether a file is to be put aside before so many bytes more. After a span of hours or days it is by the clock on the
/// wall: a day's file ends at midnight.
pub(super) fn is_due(bytes: u64, coming: u64, begun_ms: u64, now_ms: u64, rotate: &Rotate) -> bool {
    let is_long = rotate.size > 0 && bytes + coming > rotate.size;
    let is_old = rotate.every.is_some_and(|every| {
        let span = every.as_millis().max(1);
        let turn = |at: u64| (local_ms(at) / span as i64, at);
        now_ms > begun_ms && turn(begun_ms).0 != turn(now_ms).0
    });
    is_long || is_old
}

fn local_ms(at_ms: u64) -> i64 {
    let at = i64::try_from(at_ms).unwrap_or(0);
    let offset = Timestamp::from_millisecond(at).map_or(0, |it| TimeZone::system().to_offset(it).seconds());
    at + i64::from(offset) * 1000
}

/// The name for the file when it is put aside.
pub(super) fn next_name(path: &Path) -> io::Result<PathBuf> {
    let last = old_files(path)?.last().map_or(0, |old| old.number);
    Ok(with_suffix(path, &(last + 1).to_string()))
}

/// The files that were put aside, the oldest first. One that is being compressed is there once.
pub(crate) fn old_files(path: &Path) -> io::Result<Vec<Old>> {
    let mut found = BTreeSet::new();
    for (number, rest, path) in siblings(path)? {
        match rest.as_deref() {
            None => found.insert(Old { number, is_compressed: false, path }),
            Some(GZIP) => found.insert(Old { number, is_compressed: true, path }),
            Some(_) => false,
        };
    }
    let mut files: Vec<Old> = found.into_iter().collect();
    // The plain one comes first, and is whole.
    files.dedup_by_key(|old| old.number);
    Ok(files)
}

/// What is beside the file under its name with a number: the number, what follows it, and where.
fn siblings(path: &Path) -> io::Result<Vec<(u64, Option<String>, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let file_name = entry.file_name();
        let rest = file_name.to_str().and_then(|it| it.strip_prefix(name)?.strip_prefix('.'));
        let Some(rest) = rest else { continue };
        let (number, end) =
            rest.split_once('.').map_or((rest, None), |(number, end)| (number, Some(end.to_owned())));
        // As it is written, so that no `007` is taken for ours.
        if let Some(number) = number.parse::<u64>().ok().filter(|it| it.to_string() == number) {
            found.push((number, end, entry.path()));
        }
    }
    Ok(found)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Looks after what was put aside.
#[derive(Debug, Default)]
pub(super) struct Attic {
    orders: Option<SyncSender<(PathBuf, Rotate)>>,
}

impl Attic {
    /// Has the old versions of the file compressed, and those that are too many removed. Never waits.
    pub(super) fn tidy(&mut self, path: &Path, rotate: &Rotate) {
        if self.orders.is_none() {
            let (orders, taken) = sync_channel(WAITING);
            let thread = thread::Builder::new().name("attic".into());
            if thread.spawn(move || work(&taken)).is_ok() {
                self.orders = Some(orders);
            }
        }
        if let Some(orders) = &self.orders {
            // Full: next time.
            drop(orders.try_send((path.to_owned(), rotate.clone())));
        }
    }
}

fn work(orders: &Receiver<(PathBuf, Rotate)>) {
    while let Ok((path, rotate)) = orders.recv() {
        // What cannot be done now is tried again the next time.
        drop(tidy(&path, &rotate));
    }
}

pub(super) fn tidy(path: &Path, rotate: &Rotate) -> io::Result<()> {
    for (_, _, unfinished) in siblings(path)?.iter().filter(|it| it.1.as_deref() == Some(UNFINISHED)) {
        fs::remove_file(unfinished)?;
    }
    let all = siblings(path)?;
    let numbers: BTreeSet<u64> = all.iter().map(|it| it.0).collect();
    let too_many = numbers.len().saturating_sub(rotate.keep as usize);
    let gone: BTreeSet<u64> = numbers.into_iter().take(too_many).collect();
    for (_, _, old) in all.iter().filter(|it| gone.contains(&it.0) && is_ours(it.1.as_deref())) {
        fs::remove_file(old)?;
    }
    if rotate.gzip {
        for (_, _, plain) in all.iter().filter(|it| !gone.contains(&it.0) && it.1.is_none()) {
            compress(plain)?;
        }
    }
    Ok(())
}

fn is_ours(end: Option<&str>) -> bool {
    matches!(end, None | Some(GZIP | UNFINISHED))
}

/// Puts a compressed file in the place of a plain one, when it is whole.
fn compress(plain: &Path) -> io::Result<()> {
    let unfinished = with_suffix(plain, UNFINISHED);
    let written = write_compressed(plain, &unfinished);
    if let Err(error) = written.and_then(|()| fs::rename(&unfinished, with_suffix(plain, GZIP))) {
        drop(fs::remove_file(&unfinished));
        return Err(error);
    }
    fs::remove_file(plain)
}

fn write_compressed(plain: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::open(plain)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match from.read(&mut block) {
            Ok(0) => break,
            Ok(count) => encoder.write_all(block.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    encoder.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;
    use oxherd_core::Span;

    use super::*;
    use crate::home::scratch::Scratch;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn numbers_go_on_from_what_is_there() {
        let scratch = Scratch::new();
        let path = scratch.join("web-out.log");
        assert_eq!(next_name(&path).unwrap(), scratch.join("web-out.log.1"));
        for name in
            ["web-out.log.9.gz", "web-out.log.10", "web-out.log.10.gz", "web-out.log.011", "web-out.log.x"]
        {
            fs::write(scratch.join(name), name).unwrap();
        }
        assert_eq!(next_name(&path).unwrap(), scratch.join("web-out.log.11"));
        let old: Vec<_> =
            old_files(&path).unwrap().into_iter().map(|it| (it.number, it.is_compressed)).collect();
        assert_eq!(old, [(9, true), (10, false)]);
    }

    #[test]
    fn old_ones_are_compressed_and_those_too_many_removed() {
        let scratch = Scratch::new();
        let path = scratch.join("a.log");
        for (name, text) in
            [("a.log", "now"), ("a.log.1", "1"), ("a.log.2", "2"), ("a.log.3.gz", "3"), ("a.log.4", "4")]
        {
            fs::write(scratch.join(name), text).unwrap();
        }
        fs::write(scratch.join("a.log.2.gz-unfinished"), "half").unwrap();
        fs::write(scratch.join("a.log.1.mine"), "kept").unwrap();
        tidy(&path, &Rotate { keep: 2, gzip: true, ..Rotate::default() }).unwrap();
        assert_eq!(names(&scratch.join("")), ["a.log", "a.log.1.mine", "a.log.3.gz", "a.log.4.gz"]);
        let mut text = String::new();
        GzDecoder::new(File::open(scratch.join("a.log.4.gz")).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "4");
        tidy(&path, &Rotate { keep: 0, gzip: false, ..Rotate::default() }).unwrap();
        assert_eq!(names(&scratch.join("")), ["a.log", "a.log.1.mine"]);
    }

    #[test]
    fn files_are_put_aside_by_length_or_by_the_clock() {
        let by = |size, every: Option<u64>| Rotate {
            size,
            every: every.map(Span::from_millis),
            ..Rotate::default()
        };
        let due = |rotate: &Rotate, bytes, begun, now| is_due(bytes, 10, begun, now, rotate);
        assert!(!due(&by(100, None), 90, 0, 0) && due(&by(100, None), 91, 0, 0));
        assert!(!due(&by(0, None), u64::MAX - 10, 0, u64::MAX));
        let hour = by(0, Some(3_600_000));
        let begun = 1_772_422_445_067 / 3_600_000 * 3_600_000 + 60_000;
        assert!(!due(&hour, 1, begun, begun + 3_000_000) && due(&hour, 1, begun, begun + 3_590_000));
        assert!(!due(&hour, 1, begun, begun - 120_000), "a clock that was set back");
    }
}
