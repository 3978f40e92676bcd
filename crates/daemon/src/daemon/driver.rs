//! What the control server asks of the rest of the daemon, carried to where it belongs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oxherd_core::{ChangeId, Desired, DesiredApp, Refusal, Request};
use oxherd_engine::{Handle, Survey};
use std::sync::Arc;

use super::{DESIRED, alert_line};
use crate::link::Notes;
use crate::logs::Logs;
use crate::server::{Driver, Reply};
use crate::state::Store;

/// A disk that has not answered within that time hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is said of one.
const SILENT: &str = "The saved state cannot be read, the disk does not answer";

/// The saved state as it was found.
pub(super) struct Kept {
    pub(super) store: Store,
    /// What people should know of how it was read.
    pub(super) lines: Vec<String>,
    /// Nothing could be read of what had been saved.
    pub(super) is_lost: bool,
}

/// The saved state, shared by the control thread, which updates it, and the server, which reads what is dormant.
///
/// It is with the keeper, for the next daemon; and on the disk, for the next boot, unless the herd is in the
/// foreground: then whoever starts it says anew what is to be run.
#[derive(Debug)]
pub(super) struct Saved {
    notes: Notes,
    place: Mutex<Place>,
    has_come: Condvar,
    /// What was not as it should be when the state was read: told until an app runs.
    past: Mutex<Vec<String>>,
}

/// Where what is wanted is saved.
#[derive(Debug)]
enum Place {
    /// Not on the disk, or not any more.
    Nowhere,
    /// The disk has not been read yet.
    Awaited {
        since: Instant,
        /// What is wanted meanwhile.
        desired: Option<Desired>,
        /// Why it cannot be read, as far as that is known.
        why: Option<String>,
    },
    There {
        store: Store,
        /// Nothing could be read of what had been saved.
        is_lost: bool,
    },
}

impl Saved {
    /// Not on the disk.
    pub(super) fn nowhere(notes: Notes) -> Self {
        Self::at(notes, Place::Nowhere)
    }

    /// In a store that was opened.
    pub(super) fn opened(notes: Notes, kept: Kept) -> Self {
        let Kept { store, lines, is_lost } = kept;
        Self { past: Mutex::new(lines), ..Self::at(notes, Place::There { store, is_lost }) }
    }

    /// In a store that is being opened.
    pub(super) fn awaited(notes: Notes) -> Self {
        Self::at(notes, Place::Awaited { since: Instant::now(), desired: None, why: None })
    }

    fn at(notes: Notes, place: Place) -> Self {
        Self { notes, place: Mutex::new(place), has_come: Condvar::new(), past: Mutex::default() }
    }

    /// Whether anybody still waits for the store.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(*self.lock(), Place::Awaited { .. })
    }

    /// The store cannot be opened. Told once.
    pub(super) fn still_await(&self, error: String) {
        if let Place::Awaited { why, .. } = &mut *self.lock()
            && why.as_ref() != Some(&error)
        {
            alert_line(format!("{error}; nothing is saved until that is mended"));
            *why = Some(error);
        }
    }

    /// The store is open.
    pub(super) fn arrive(&self, kept: Kept) {
        let Kept { mut store, lines, is_lost } = kept;
        let mut place = self.lock();
        let Place::Awaited { desired, why, .. } = &mut *place else { return };
        if why.is_some() {
            alert_line("What is wanted is saved again".into());
        }
        match desired.take() {
            Some(desired) => {
                if desired.apps.is_empty() {
                    *self.past() = lines;
                }
                store.update(desired);
            }
            None => *self.past() = lines,
        }
        *place = Place::There { store, is_lost };
        self.has_come.notify_all();
    }

    pub(super) fn update(&self, desired: Desired) {
        if !desired.apps.is_empty() {
            self.past().clear();
        }
        if let Ok(bytes) = serde_json::to_vec(&desired) {
            self.notes.put(DESIRED, &bytes);
        }
        match &mut *self.lock() {
            Place::Nowhere => {}
            Place::Awaited { desired: meanwhile, .. } => *meanwhile = Some(desired),
            Place::There { store, .. } => store.update(desired),
        }
    }

    pub(super) fn close(&self, timeout: Duration) {
        let place = std::mem::replace(&mut *self.lock(), Place::Nowhere);
        if let Place::There { store, .. } = place {
            store.close(timeout);
        }
    }

    /// Waits a while for a state that is being read.
    fn resurrectable(&self) -> Result<Desired, String> {
        let is_awaited = |place: &mut Place| matches!(place, Place::Awaited { why: None, .. });
        let waited = self.has_come.wait_timeout_while(self.lock(), PATIENCE, is_awaited);
        match &*waited.unwrap_or_else(PoisonError::into_inner).0 {
            Place::Nowhere => Ok(Desired { apps: Vec::new() }),
            Place::Awaited { why, .. } => {
                Err(format!("nothing can be resurrected: {}", why.as_deref().unwrap_or(SILENT)))
            }
            Place::There { store, is_lost: true } if store.dormant().is_empty() => {
                Err("nothing can be resurrected: what was saved could not be read".into())
            }
            Place::There { store, .. } => {
                Ok(Desired { apps: store.dormant().iter().map(|app| DesiredApp::clone(app)).collect() })
            }
        }
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = self.past().clone();
        troubles.extend(match &*self.lock() {
            Place::Nowhere => None,
            Place::Awaited { since, why, .. } => {
                let silent = (since.elapsed() >= PATIENCE).then(|| SILENT.to_owned());
                why.clone().or(silent).map(|why| format!("{why}; nothing is saved"))
            }
            Place::There { store, .. } => store.trouble(),
        });
        troubles
    }

    fn past(&self) -> MutexGuard<'_, Vec<String>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The herd as the server drives it.
#[derive(Debug)]
pub(super) struct HerdDriver {
    handle: Handle,
    logs: Logs,
    saved: Arc<Saved>,
}

impl HerdDriver {
    pub(super) fn new(handle: Handle, logs: Logs, saved: Arc<Saved>) -> Self {
        Self { handle, logs, saved }
    }
}

impl Driver for HerdDriver {
    fn request(&self, request: Request, reply: Reply<Result<ChangeId, Refusal>>) {
        self.handle.request(request, reply);
    }

    fn survey(&self, asked: Vec<ChangeId>, reply: Reply<Survey>) {
        self.handle.survey(asked, reply);
    }

    fn upgrade(&self, program: Option<String>, reply: Reply<Result<(), String>>) {
        self.handle.upgrade(program, reply);
    }

    fn reopen_logs(&self) {
        self.logs.reopen();
    }

    fn saved(&self) -> Result<Desired, String> {
        self.saved.resurrectable()
    }

    fn troubles(&self) -> Vec<String> {
        self.saved.troubles()
    }

    #[cfg(debug_assertions)]
    fn panic(&self, culprit: oxherd_engine::Culprit) {
        self.handle.panic(culprit);
    }
}
