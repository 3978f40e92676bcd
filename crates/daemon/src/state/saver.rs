//! The thread that saves, so that nobody waits for the disk. Only the latest state counts.
//!
//! Must never hold the lock while it touches the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oxherd_core::DesiredApp;

use super::file;
use crate::home::cause;

/// The least time between two saves.
const INTERVAL: Duration = Duration::from_millis(100);
/// The pause after a save that failed, which doubles up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is to be in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pub(super) apps: Arc<Vec<DesiredApp>>,
    pub(super) dormant: Arc<Vec<Arc<DesiredApp>>>,
}

/// The one end of the thread.
#[derive(Debug)]
pub(super) struct Saver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Something has been done.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: Option<Content>,
    is_saving: bool,
    is_ending: bool,
    has_ended: bool,
    /// Why the last save failed, if it did.
    trouble: Option<String>,
    /// How many saves were tried.
    saves: u64,
}

impl Saver {
    /// Starts the thread. `alert` is called on it, once when saving fails and once when it works again.
    pub(super) fn start(file: PathBuf, alert: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("state".into()).spawn(move || {
            run(&theirs, &file, &alert);
            theirs.lock().has_ended = true;
            theirs.done.notify_all();
        })?;
        Ok(Self { shared })
    }

    pub(super) fn save(&self, content: Content) {
        let replaced = self.shared.lock().next.replace(content);
        self.shared.work.notify_one();
        // Dropped without the lock: it may be large.
        drop(replaced);
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }

    /// Waits until everything is saved; `false` if that takes longer.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.next.is_some() || state.is_saving)
    }

    /// Saves what is left at once and ends the thread; `false` if something was not saved.
    pub(super) fn close(&self, timeout: Duration) -> bool {
        self.shared.lock().is_ending = true;
        self.shared.work.notify_one();
        self.wait(timeout, |state| !state.has_ended) && self.shared.lock().next.is_none()
    }

    fn wait(&self, timeout: Duration, busy: impl Fn(&State) -> bool) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.done.wait_timeout_while(state, timeout, |state| busy(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    #[cfg(test)]
    pub(super) fn saves(&self) -> u64 {
        self.shared.lock().saves
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    /// The fields are set one by one and never half, so that a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest content once there is some; nothing at the end.
    fn next(&self) -> Option<Content> {
        let idle = |state: &mut State| state.next.is_none() && !state.is_ending;
        let mut state = self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let next = state.next.take();
        state.is_saving = next.is_some();
        next
    }

    fn saved(&self) {
        let mut state = self.lock();
        state.is_saving = false;
        state.saves += 1;
        drop(state);
        self.done.notify_all();
    }

    /// What was not saved is tried again, unless there is something newer. Returns whether it is worth trying.
    fn not_saved(&self, content: Content) -> bool {
        let mut state = self.lock();
        state.is_saving = false;
        state.saves += 1;
        state.next.get_or_insert(content);
        !state.is_ending
    }

    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut state = self.lock();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|_| !state.is_ending) {
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn run(shared: &Shared, file: &Path, alert: &dyn Fn(String)) {
    let mut last = None;
    let mut retry: Option<Duration> = None;
    while let Some(content) = shared.next() {
        if last.as_ref() == Some(&content) {
            shared.saved();
            continue;
        }
        match file::save(file, &content.apps, &content.dormant) {
            Ok(()) => {
                if retry.take().is_some() {
                    shared.lock().trouble = None;
                    alert(format!("{} is saved again", file.display()));
                }
                last = Some(content);
                shared.saved();
                shared.pause(INTERVAL);
            }
            Err(error) => {
                if retry.is_none() {
                    let trouble = cannot_save(file, &error);
                    shared.lock().trouble = Some(trouble.clone());
                    alert(trouble);
                }
                // What is on the disk now is not certain.
                last = None;
                if !shared.not_saved(content) {
                    return;
                }
                let length = retry.map_or(RETRY, |length| RETRY_MAX.min(length * 2));
                retry = Some(length);
                shared.pause(length);
            }
        }
    }
}

fn cannot_save(file: &Path, error: &io::Error) -> String {
    format!(
        "Cannot save {}: {}; the last saved version stays, and it is tried again",
        file.display(),
        cause(error)
    )
}
