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

/// The saved state, shared by the control thread, which updates it, and the server, which reads what is dormant.
///
/// It is with the keeper, for the next daemon; and on the disk, for the next boot, unless the herd is in the
/// foreground: then whoever starts it says anew what is to be run.
#[derive(Debug)]
pub(super) struct Saved {
    notes: Notes,
    store: Mutex<Option<Store>>,
}

impl Saved {
    pub(super) fn new(notes: Notes, store: Option<Store>) -> Self {
        Self { notes, store: Mutex::new(store) }
    }

    pub(super) fn update(&self, desired: Desired) {
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
        Ok(Desired { apps: self.saved.dormant() })
    }

    #[cfg(debug_assertions)]
    fn panic(&self, culprit: oxherd_engine::Culprit) {
        self.handle.panic(culprit);
    }
}
