//! What the control server asks of the rest of the daemon, carried to where it belongs.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oxherd::api::Snapshot;
use oxherd_core::{AppId, ChangeId, Desired, DesiredApp, InstanceId, Refusal, Request, Slot};
use oxherd_engine::{Handle, InputError, Survey};
use std::sync::Arc;

use super::{DESIRED, alert_line};
use crate::home::Home;
use crate::ledger::{Ledger, SlotRecord};
use crate::link::Notes;
use crate::logs::Logs;
use crate::server::{Driver, Reply};
use crate::state::{Store, snapshot};
use crate::upkeep::Upkeep;

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
    /// What is wanted now.
    wanted: Mutex<Desired>,
    /// The file that somebody's `save` makes.
    snapshot: PathBuf,
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
    pub(super) fn nowhere(notes: Notes, home: &Home) -> Self {
        Self::at(notes, home, Place::Nowhere)
    }

    /// In a store that was opened.
    pub(super) fn opened(notes: Notes, home: &Home, kept: Kept) -> Self {
        let Kept { store, lines, is_lost } = kept;
        Self { past: Mutex::new(lines), ..Self::at(notes, home, Place::There { store, is_lost }) }
    }

    /// In a store that is being opened.
    pub(super) fn awaited(notes: Notes, home: &Home) -> Self {
        Self::at(notes, home, Place::Awaited { since: Instant::now(), desired: None, why: None })
    }

    fn at(notes: Notes, home: &Home, place: Place) -> Self {
        Self {
            notes,
            place: Mutex::new(place),
            has_come: Condvar::new(),
            past: Mutex::default(),
            wanted: Mutex::default(),
            snapshot: home.snapshot_file(),
        }
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
        desired.clone_into(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
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

    /// What was wanted last, and what is in the snapshot besides.
    fn resurrectable(&self) -> Result<Desired, String> {
        if matches!(*self.lock(), Place::Nowhere) {
            return Ok(Desired::default());
        }
        let snapshot = snapshot::read(&self.snapshot);
        let (mut desired, snapshot) = match (self.last_wanted(), snapshot) {
            (Ok(desired), snapshot) => (desired, snapshot?),
            (Err(_), Ok(snapshot)) if !snapshot.is_empty() => (Desired::default(), snapshot),
            (Err(error), _) => return Err(error),
        };
        let names: BTreeSet<String> = desired.apps.iter().map(|app| app.spec.name.clone()).collect();
        let missing = snapshot.iter().filter(|app| !names.contains(&app.spec.name));
        desired.apps.extend(missing.map(|app| DesiredApp::clone(app)));
        Ok(desired)
    }

    fn save(&self) -> Result<Snapshot, String> {
        if matches!(*self.lock(), Place::Nowhere) {
            return Err("a herd in the foreground saves nothing: who starts it says what is to be run".into());
        }
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot::write(&self.snapshot, &wanted)?;
        Ok(Snapshot { file: self.snapshot.display().to_string(), apps: wanted.apps.len() as u32 })
    }

    fn delete_save(&self) -> Result<Snapshot, String> {
        snapshot::remove(&self.snapshot)?;
        Ok(Snapshot { file: self.snapshot.display().to_string(), apps: 0 })
    }

    /// Waits a while for a state that is being read.
    fn last_wanted(&self) -> Result<Desired, String> {
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
    ledger: Ledger,
    upkeep: Upkeep,
}

impl HerdDriver {
    pub(super) fn new(
        handle: Handle,
        logs: Logs,
        saved: Arc<Saved>,
        (ledger, upkeep): (Ledger, Upkeep),
    ) -> Self {
        Self { handle, logs, saved, ledger, upkeep }
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

    fn signal(&self, worker: InstanceId, signal: i32, reply: Reply<io::Result<()>>) {
        self.handle.signal(worker, signal, reply);
    }

    fn message(&self, worker: InstanceId, message: Vec<u8>) -> Result<(), String> {
        self.handle.send(worker, message, None).map_err(|error| error.to_string())
    }

    fn line(&self, worker: InstanceId, line: Vec<u8>, reply: Reply<io::Result<()>>) {
        self.handle.write_line(worker, line, |written| {
            reply(written.map_err(|error| match error {
                InputError::NoWorker => io::ErrorKind::NotFound.into(),
                InputError::Closed | InputError::Full => io::Error::other(error),
            }));
        });
    }

    fn slot(&self, app: AppId, slot: Slot) -> Option<SlotRecord> {
        self.ledger.of(app, slot)
    }

    fn reset(&self, app: AppId, restarts: &[(Slot, u32)]) -> u32 {
        self.ledger.reset(app, restarts)
    }

    fn cron_at(&self, app: AppId) -> Option<u64> {
        self.upkeep.due(app)
    }

    fn save(&self) -> Result<Snapshot, String> {
        self.saved.save()
    }

    fn delete_save(&self) -> Result<Snapshot, String> {
        self.saved.delete_save()
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
