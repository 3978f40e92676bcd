//! The thread that writes, and the only place that waits for the disk.
//!
//! Must never stop for a file that cannot be written: its lines are lost and counted, and others are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::symlink_metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use oxherd_os::files::open_append;

use super::attic::Attic;
use super::file::{LogFile, Pace};
use super::queue::{End, Job, Shared, Work};
use crate::home::cause;

/// Lines that come in such quick succession are gathered.
const QUICK: Duration = Duration::from_millis(5);
/// For how long: to be woken for each line costs more than to write it.
const GATHER: Duration = Duration::from_millis(1);
/// More than this at a time is worth its waking; and who brings so much must not run out of room.
const FEW_BYTES: usize = 8 << 10;

/// Tells people of trouble.
type Alarm = Box<dyn Fn(String) + Send>;
/// What went wrong, as a number of the kernel.
type Errno = Option<i32>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    pace: Pace,
    alert: Alarm,
    files: BTreeMap<Arc<Path>, Kept>,
    attic: Attic,
    /// What people were told of, and not yet that it is over.
    told: BTreeSet<Errno>,
}

struct Kept {
    file: LogFile,
    trouble: Option<Errno>,
    /// People know that it cannot be put aside.
    is_stuck: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, pace: Pace, alert: Alarm) -> Self {
        Self { shared, pace, alert, files: BTreeMap::new(), attic: Attic::default(), told: BTreeSet::new() }
    }

    /// Writes until the logs are closed.
    pub(super) fn run(mut self) {
        // Says so whatever happens: nobody may wait for a thread that is gone.
        let _at_the_end = Ending(Arc::clone(&self.shared));
        let mut written = Instant::now();
        while let Some(work) = self.shared.next(self.has_open().then_some(self.pace.idle)) {
            let bytes: usize = work.jobs.iter().map(Job::bytes).sum();
            let is_like_more = work.end.is_none() && !work.is_closing && (1..FEW_BYTES).contains(&bytes);
            self.work(work);
            self.close_unused();
            if is_like_more && written.elapsed() < QUICK {
                thread::sleep(GATHER);
            }
            written = Instant::now();
        }
    }

    /// Whether there is a file that is to be closed when it is not used.
    fn has_open(&self) -> bool {
        self.files.values().any(|kept| kept.file.is_open())
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
                self.shared.forgotten(app);
                self.forget_unused();
            }
            Some(End::Flush(paths, reply)) => reply(self.empty(&paths)),
            None => {}
        }
    }

    fn empty(&mut self, paths: &BTreeSet<PathBuf>) -> Result<u32, String> {
        let mut count = 0;
        for path in paths {
            if !symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let emptied = open_append(path).and_then(|file| file.set_len(0));
            emptied.map_err(|error| format!("cannot empty {}: {}", path.display(), cause(&error)))?;
            if let Some(kept) = self.files.get_mut(path.as_path()) {
                kept.file.was_emptied();
            }
            count += 1;
        }
        Ok(count)
    }

    fn write(&mut self, job: Job, is_last: bool) {
        let Job { path, rotate, pile } = job;
        let fresh = || Kept { file: LogFile::new(path.to_path_buf()), trouble: None, is_stuck: false };
        let kept = self.files.entry(Arc::clone(&path)).or_insert_with(fresh);
        let mut outcome = Ok(());
        let is_resting = kept.file.is_resting() && !is_last;
        if !is_resting {
            let (lost, begun) = kept.file.begin(pile.start, &self.pace);
            let owner = pile.pieces.first().map(|(app, _)| *app);
            owner.into_iter().for_each(|app| self.shared.release(app, 0, lost));
            outcome = begun;
        }
        let mut stuck = None;
        for (app, piece) in pile.pieces {
            let lost = if is_resting || outcome.is_err() {
                kept.file.lose(&piece)
            } else {
                let aside = kept.file.put_aside(piece.bytes(), &rotate, &mut self.attic, &self.pace);
                stuck = stuck.or(aside.err());
                let (lost, put) = kept.file.put(&piece, &self.pace);
                outcome = put;
                lost
            };
            let bytes = piece.bytes();
            // Its memory goes before there is room for other lines.
            drop(piece);
            self.shared.release(app, bytes, lost);
        }
        if let Some(error) = stuck.filter(|_| !std::mem::replace(&mut kept.is_stuck, true)) {
            (self.alert)(format!("Cannot put {} aside, it goes on: {}", path.display(), cause(&error)));
        }
        if !is_resting {
            self.tell(&path, &outcome);
        }
    }

    fn tell(&mut self, path: &Arc<Path>, outcome: &io::Result<()>) {
        let Some(kept) = self.files.get_mut(path) else { return };
        match outcome {
            Ok(()) => {
                let Some(errno) = kept.trouble.take() else { return };
                self.shared.trouble(path, None);
                if self.told.remove(&errno) {
                    (self.alert)(format!("{} is written again", path.display()));
                }
            }
            Err(error) => {
                let errno = error.raw_os_error();
                kept.trouble = Some(errno);
                let what = format!(
                    "Cannot write {}: {}; lines are lost until it works again",
                    path.display(),
                    cause(error)
                );
                self.shared.trouble(path, Some(what.clone()));
                if self.told.insert(errno) {
                    (self.alert)(what);
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

    /// Files of apps that are no more.
    fn forget_unused(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.files.retain(|path, _| {
            let is_in_use = shared.is_in_use(path);
            if !is_in_use {
                shared.trouble(path, None);
            }
            is_in_use
        });
    }
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended();
    }
}
