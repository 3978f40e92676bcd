//! What the control server asks of the rest of the daemon, carried to where it belongs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxherd_core::{ChangeId, Desired, DesiredApp, Refusal, Request};
use oxherd_engine::{Handle, Survey};
use std::sync::Arc;

use super::DESIRED;
use crate::link::Notes;
use crate::logs::Logs;
use crate::server::{Driver, Reply};
use crate::state::Store;

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
    store: Mutex<Option<Store>>,
    /// What was not as it should be when the state was read: told until an app runs.
    past: Mutex<Vec<String>>,
    /// Nothing could be read of what had been saved.
    is_lost: bool,
}

impl Saved {
    pub(super) fn new(notes: Notes, kept: Option<Kept>) -> Self {
        let (store, past, is_lost) = match kept {
            Some(Kept { store, lines, is_lost }) => (Some(store), lines, is_lost),
            None => (None, Vec::new(), false),
        };
        Self { notes, store: Mutex::new(store), past: Mutex::new(past), is_lost }
    }

    pub(super) fn update(&self, desired: Desired) {
        if !desired.apps.is_empty() {
            self.past().clear();
        }
        if let Ok(bytes) = serde_json::to_vec(&desired) {
            self.notes.put(DESIRED, &bytes);
        }
        if let Some(store) = self.lock().as_mut() {
            store.update(desired);
        }
    }

    fn dormant(&self) -> Vec<DesiredApp> {
        let lock = self.lock();
        lock.as_ref()
            .map_or(Vec::new(), |store| store.dormant().iter().map(|app| DesiredApp::clone(app)).collect())
    }

    pub(super) fn close(&self, timeout: Duration) {
        if let Some(store) = self.lock().take() {
            store.close(timeout);
        }
    }

    fn resurrectable(&self) -> Result<Desired, String> {
        let apps = self.dormant();
        match self.is_lost && apps.is_empty() {
            true => Err("nothing can be resurrected: what was saved could not be read".into()),
            false => Ok(Desired { apps }),
        }
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = self.past().clone();
        troubles.extend(self.lock().as_ref().and_then(Store::trouble));
        troubles
    }

    fn past(&self) -> MutexGuard<'_, Vec<String>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
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
