//! The thread that writes lines to files. It may wait for the disk; nobody waits for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxherd_os::files;

use super::path;
use super::queue::{Job, Place, Queue};

/// Between two looks whether a file was moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that nothing was written to for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// After a failure nothing is tried for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// An open file.
struct Open {
    file: File,
    path: PathBuf,
    looked: Instant,
    used: Instant,
}

struct Writer<'a> {
    queue: &'a Queue,
    folder: &'a Path,
    alert: &'a dyn Fn(String),
    files: BTreeMap<Place, Open>,
    /// Writing fails since then, and somebody was told.
    failing: Option<Instant>,
}

/// Writes until the queue is closed and empty.
pub(super) fn run(queue: &Queue, folder: &Path, alert: &dyn Fn(String)) {
    let mut writer = Writer { queue, folder, alert, files: BTreeMap::new(), failing: None };
    loop {
        match queue.next(IDLE) {
            Job::Write { place, stem, bytes, lost } => writer.write(place, &stem, &bytes, lost),
            Job::Mark(reply) => reply(()),
            Job::Close(app) => writer.files.retain(|place, _| place.0 != app),
            Job::Reopen => writer.files.clear(),
            Job::Idle => {}
            Job::End => return,
        }
        writer.close_idle();
    }
}

impl Writer<'_> {
    fn write(&mut self, place: Place, stem: &str, bytes: &[u8], lost: u64) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.failing.is_some_and(|since| since.elapsed() < PAUSE) {
            return self.queue.add_lost(place, lines, lost);
        }
        // What was lost came after these lines.
        let note = match lost {
            0 => String::new(),
            1 => "[oxherd] 1 line lost: the disk was too slow or full\n".into(),
            lost => format!("[oxherd] {lost} lines lost: the disk was too slow or full\n"),
        };
        let file = path(self.folder, stem, place.1.into());
        let written = self.open(place, file.clone()).and_then(|open| {
            open.file.write_all(bytes)?;
            open.file.write_all(note.as_bytes())
        });
        match written {
            Ok(()) => self.works(&file),
            Err(error) => {
                self.files.remove(&place);
                self.queue.add_lost(place, lines, lost);
                self.fails(&file, &error);
            }
        }
    }

    /// The file at the path, which may be another by now than the one that is open.
    fn open(&mut self, place: Place, path: PathBuf) -> io::Result<&mut Open> {
        let now = Instant::now();
        if let Some(open) = self.files.get_mut(&place) {
            let is_stale = open.path != path || now - open.looked >= LOOK_EVERY && open.is_moved();
            if is_stale {
                self.files.remove(&place);
            } else if now - open.looked >= LOOK_EVERY {
                open.looked = now;
            }
        }
        let open = match self.files.remove(&place) {
            Some(open) => open,
            None => Open { file: File::from(files::open_append(&path)?), path, looked: now, used: now },
        };
        let open = self.files.entry(place).or_insert(open);
        open.used = now;
        Ok(open)
    }

    fn close_idle(&mut self) {
        self.files.retain(|_, open| open.used.elapsed() < IDLE);
    }

    fn works(&mut self, file: &Path) {
        if self.failing.take().is_some() {
            (self.alert)(format!("Output is written to {} again", file.display()));
        }
    }

    fn fails(&mut self, file: &Path, error: &io::Error) {
        if self.failing.replace(Instant::now()).is_none() {
            (self.alert)(format!(
                "Cannot write output to {}: {error}; lines are lost until that works",
                file.display()
            ));
        }
    }
}

impl Open {
    fn is_moved(&self) -> bool {
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.metadata().map(id).ok();
        open.is_none() || fs::symlink_metadata(&self.path).map(id).ok() != open
    }
}
