//! The thread that writes, and the only place that waits for the disk.
//!
//! Must never stop for a file that cannot be written: its lines are lost and counted, and others are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::symlink_metadata;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oxherd_core::AppId;
use oxherd_os::files::open_append;

use super::file::{LogFile, Pace};
use super::names;
use super::queue::{End, Job, Piece, Shared, Work};
use crate::home::cause;

/// Tells people of trouble.
type Alarm = Box<dyn Fn(String) + Send>;
/// What went wrong, as a number of the kernel.
type Errno = Option<i32>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: PathBuf,
    pace: Pace,
    alert: Alarm,
    files: BTreeMap<(AppId, usize), Kept>,
    /// What people were told of, and not yet that it is over.
    told: BTreeSet<Errno>,
}

struct Kept {
    file: LogFile,
    trouble: Option<Errno>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, folder: PathBuf, pace: Pace, alert: Alarm) -> Self {
        Self { shared, folder, pace, alert, files: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// Writes until the logs are closed.
    pub(super) fn run(mut self) {
        // Says so whatever happens: nobody may wait for a thread that is gone.
        let _at_the_end = Ending(Arc::clone(&self.shared));
        while let Some(work) = self.shared.next((!self.files.is_empty()).then_some(self.pace.idle)) {
            self.work(work);
            self.close_unused();
        }
    }

    fn work(&mut self, work: Work) {
        if work.reopen {
            self.files.values_mut().for_each(|kept| kept.file.close());
        }
        for job in work.jobs {
            self.write(job, work.is_closing);
        }
        match work.end {
            Some(End::Mark(reply)) => reply(()),
            Some(End::Forget(app)) => {
                self.files.retain(|(other, _), _| *other != app);
                self.shared.forgotten(app);
            }
            Some(End::Flush(app, reply)) => reply(self.flush(app)),
            None => {}
        }
    }

    fn flush(&self, app: AppId) -> Result<u32, String> {
        let stem = self.shared.stem(app);
        let mut count = 0;
        for stream in 0..2 {
            let path = self.folder.join(names::file_name(&stem, stream));
            if symlink_metadata(&path).is_err() {
                continue;
            }
            match open_append(&path).and_then(|file| file.set_len(0)) {
                Ok(()) => count += 1,
                Err(error) => return Err(format!("cannot empty {}: {}", path.display(), cause(&error))),
            }
        }
        Ok(count)
    }

    fn write(&mut self, job: Job, is_last: bool) {
        let path = self.folder.join(names::file_name(&job.stem, job.stream));
        let key = (job.app, job.stream);
        let fresh = |path| Kept { file: LogFile::new(path), trouble: None };
        let kept = self.files.entry(key).or_insert_with(|| fresh(path.clone()));
        if kept.file.path() != path {
            *kept = fresh(path);
        }
        let mut outcome = Ok(());
        let is_resting = kept.file.is_resting() && !is_last;
        if !is_resting {
            let (lost, begun) = kept.file.begin(&self.pace);
            self.shared.release(job.app, 0, lost);
            outcome = begun;
        }
        for piece in job.pile.pieces {
            let lost = if is_resting || outcome.is_err() {
                kept.file.lose(&piece)
            } else {
                let (lost, put) = kept.file.put(&piece, &self.pace);
                outcome = put;
                lost
            };
            let bytes = bytes(&piece);
            // Its memory goes before there is room for other lines.
            drop(piece);
            self.shared.release(job.app, bytes, lost);
        }
        if !is_resting {
            self.tell(key, &outcome);
        }
    }

    fn tell(&mut self, key: (AppId, usize), outcome: &io::Result<()>) {
        let Some(kept) = self.files.get_mut(&key) else { return };
        let path = kept.file.path().display();
        match outcome {
            Ok(()) => {
                if kept.trouble.take().is_some_and(|errno| self.told.remove(&errno)) {
                    (self.alert)(format!("{path} is written again"));
                }
            }
            Err(error) => {
                let errno = error.raw_os_error();
                kept.trouble = Some(errno);
                if self.told.insert(errno) {
                    (self.alert)(format!(
                        "Cannot write {path}: {}; lines are lost until it works again",
                        cause(error)
                    ));
                }
            }
        }
    }

    fn close_unused(&mut self) {
        for kept in self.files.values_mut().filter(|kept| kept.file.used.elapsed() >= self.pace.idle) {
            kept.file.close();
        }
        self.files.retain(|_, kept| !kept.file.is_spent() || kept.trouble.is_some());
    }
}

fn bytes(piece: &Piece) -> usize {
    match piece {
        Piece::Lines(lines) => lines.len(),
        Piece::Lost(_) => 0,
    }
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended();
    }
}
