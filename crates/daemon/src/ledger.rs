//! What is remembered of slots beyond what the core knows: a number among all slots, when each came, how its last
//! worker ended, how often another was started.
//!
//! It is kept with the keeper, an app at a time, so that the next daemon goes on with it. It only remembers: nothing
//! is decided by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxherd_core::{AppId, Desired, Exit, GiveUp, Notice, Slot};
use oxherd_engine::host::Entry;
use oxherd_os::clock::wall_millis;
use serde::{Deserialize, Serialize};

use crate::link::Notes;

/// The entries with the keeper: of the next number, and of each app by its id.
const NEXT: &str = "slots";
const OF_APP: &str = "slots-";

/// What is remembered of one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Its number among all slots.
    pub number: u32,
    /// When it came, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// How many workers were started in it since it came or was reset; the first is none.
    pub renewals: u32,
    /// Whether any was.
    has_begun: bool,
    /// Unstable exits that were counted.
    pub unstable: u32,
    /// How and when the last worker ended.
    pub last_exit: Option<(Exit, u64)>,
    /// The respawns that were counted when it was reset.
    pub restarts_before: u32,
}

/// The ledger. Copies are the same.
#[derive(Clone)]
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    notes: Option<Notes>,
}

#[derive(Debug, Default)]
struct Book {
    next: u32,
    apps: BTreeMap<AppId, BTreeMap<Slot, SlotRecord>>,
    /// Slots that have a worker before it is told that they are wanted.
    early: BTreeSet<(AppId, Slot)>,
}

impl Ledger {
    /// What an earlier daemon left among the keeper's `entries`, which it is taken from.
    pub(crate) fn from_entries(entries: &mut Vec<Entry>, notes: Notes) -> Self {
        let mut book = Book::default();
        entries.retain(|entry| !book.take_in(entry));
        Self { book: Arc::new(Mutex::new(book)), notes: Some(notes) }
    }

    /// One that nobody keeps.
    #[cfg(test)]
    fn alone() -> Self {
        Self { book: Arc::default(), notes: None }
    }

    /// Learns which slots there are to be. When none are, numbers begin again.
    pub(crate) fn know(&self, desired: &Desired) {
        let now = wall_millis();
        let mut book = self.lock();
        let wanted: BTreeSet<AppId> = desired.apps.iter().map(|app| app.app).collect();
        let gone: Vec<AppId> = book.apps.keys().filter(|app| !wanted.contains(app)).copied().collect();
        for app in gone {
            book.apps.remove(&app);
            self.remove(app);
        }
        if desired.apps.is_empty() && book.next != 0 {
            book.next = 0;
            self.keep_next(&book);
        }
        for app in &desired.apps {
            if book.fit(app.app, app.instances, now) {
                self.keep_next(&book);
                self.keep(&book, app.app);
            }
        }
        book.early.clear();
    }

    /// Takes note of what happens to slots.
    pub(crate) fn hear(&self, notice: &Notice) {
        let changed = match notice {
            Notice::Forked { place } => (place.app, Some(place.slot)),
            Notice::Exited { place, .. } => (place.app, Some(place.slot)),
            Notice::Respawn { app, slot, .. } | Notice::GaveUp { app, slot, .. } => (*app, Some(*slot)),
            Notice::Stopped { app } => (*app, None),
            _ => return,
        };
        let (app, slot) = changed;
        let mut book = self.lock();
        if let (Notice::Forked { .. }, Some(slot)) = (notice, slot)
            && !book.apps.get(&app).is_some_and(|records| records.contains_key(&slot))
        {
            book.early.insert((app, slot));
            return;
        }
        let Some(records) = book.apps.get_mut(&app) else { return };
        match slot {
            Some(slot) => records.get_mut(&slot).into_iter().for_each(|record| record.hear(notice)),
            None => records.values_mut().for_each(|record| record.unstable = 0),
        }
        self.keep(&book, app);
    }

    /// Counts anew for an app, whose slots were filled again so often. Returns how many slots that are.
    pub(crate) fn reset(&self, app: AppId, restarts: &[(Slot, u32)]) -> u32 {
        let mut book = self.lock();
        let Some(records) = book.apps.get_mut(&app) else { return 0 };
        let mut count = 0;
        for (slot, restarts) in restarts {
            let Some(record) = records.get_mut(slot) else { continue };
            (record.renewals, record.unstable, record.restarts_before) = (0, 0, *restarts);
            count += 1;
        }
        self.keep(&book, app);
        count
    }

    /// What is remembered of a slot.
    pub(crate) fn of(&self, app: AppId, slot: Slot) -> Option<SlotRecord> {
        self.lock().apps.get(&app)?.get(&slot).cloned()
    }

    /// The numbers of an app's slots.
    pub(crate) fn numbers(&self, app: AppId) -> BTreeMap<Slot, u32> {
        let book = self.lock();
        let records = book.apps.get(&app).into_iter().flatten();
        records.map(|(slot, record)| (*slot, record.number)).collect()
    }

    fn keep_next(&self, book: &Book) {
        self.put(NEXT, &book.next);
    }

    fn keep(&self, book: &Book, app: AppId) {
        if let Some(records) = book.apps.get(&app) {
            self.put(&format!("{OF_APP}{}", app.0), &records.iter().collect::<Vec<_>>());
        }
    }

    fn put<T: Serialize>(&self, name: &str, value: &T) {
        if let (Some(notes), Ok(bytes)) = (&self.notes, serde_json::to_vec(value)) {
            notes.put(name, &bytes);
        }
    }

    fn remove(&self, app: AppId) {
        if let Some(notes) = &self.notes {
            notes.remove(&format!("{OF_APP}{}", app.0));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Book {
    /// Whether the entry is one of a ledger's. What it cannot read is known anew as time goes on.
    fn take_in(&mut self, entry: &Entry) -> bool {
        if entry.name == NEXT {
            self.next = self.next.max(serde_json::from_slice(&entry.meta).unwrap_or(0));
            return true;
        }
        let Some(app) = entry.name.strip_prefix(OF_APP).and_then(|id| id.parse().ok()) else { return false };
        if let Ok(records) = serde_json::from_slice::<Vec<(Slot, SlotRecord)>>(&entry.meta) {
            let after = records.iter().map(|(_, record)| record.number + 1).max();
            self.next = self.next.max(after.unwrap_or(0));
            self.apps.insert(AppId(app), records.into_iter().collect());
        }
        true
    }

    /// Gives the app so many slots; tells whether it had others.
    fn fit(&mut self, app: AppId, instances: u32, now: u64) -> bool {
        let records = self.apps.entry(app).or_default();
        let before = records.len();
        records.retain(|slot, _| slot.0 < instances);
        let mut has_changed = records.len() != before;
        for slot in (0..instances).map(Slot) {
            records.entry(slot).or_insert_with(|| {
                let number = self.next;
                self.next += 1;
                has_changed = true;
                let has_begun = self.early.contains(&(app, slot));
                SlotRecord { number, created_at_ms: now, has_begun, ..SlotRecord::default() }
            });
        }
        has_changed
    }
}

impl SlotRecord {
    fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Forked { .. } => {
                self.renewals += u32::from(std::mem::replace(&mut self.has_begun, true));
            }
            Notice::Exited { exit, .. } => self.last_exit = Some((*exit, wall_millis())),
            Notice::Respawn { unstable, .. } => self.unstable = *unstable,
            Notice::GaveUp { why: GiveUp::UnstableExits { count, .. }, .. } => self.unstable = *count,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use oxherd_core::{AppSpec, DesiredApp, Generation, InstanceId, Place, Signal, Span};

    use super::*;

    fn desired(apps: &[(u32, u32)]) -> Desired {
        let app = |(id, instances): &(u32, u32)| DesiredApp {
            app: AppId(*id),
            generation: Generation(1),
            spec: AppSpec::new("web", "node"),
            instances: *instances,
            up: true,
        };
        Desired { apps: apps.iter().map(app).collect() }
    }

    fn numbers(ledger: &Ledger) -> Vec<(u32, u32, u32)> {
        let book = ledger.lock();
        let of = |(app, records): (&AppId, &BTreeMap<Slot, SlotRecord>)| {
            records.iter().map(|(slot, record)| (app.0, slot.0, record.number)).collect::<Vec<_>>()
        };
        book.apps.iter().flat_map(of).collect()
    }

    fn place(slot: u32) -> Place {
        let instance = InstanceId { starts: 0, number: 1 };
        Place { app: AppId(1), slot: Slot(slot), generation: Generation(1), instance }
    }

    #[test]
    fn numbers_are_never_given_again_until_there_are_no_apps() {
        let ledger = Ledger::alone();
        ledger.know(&desired(&[(1, 2), (2, 1)]));
        assert_eq!(numbers(&ledger), [(1, 0, 0), (1, 1, 1), (2, 0, 2)]);
        ledger.know(&desired(&[(1, 1), (2, 2)]));
        assert_eq!(numbers(&ledger), [(1, 0, 0), (2, 0, 2), (2, 1, 3)]);
        ledger.know(&desired(&[(1, 2)]));
        assert_eq!(numbers(&ledger), [(1, 0, 0), (1, 1, 4)]);
        ledger.know(&desired(&[]));
        ledger.know(&desired(&[(7, 1)]));
        assert_eq!(numbers(&ledger), [(7, 0, 0)]);
    }

    #[test]
    fn a_slot_knows_how_its_workers_came_and_went() {
        let ledger = Ledger::alone();
        ledger.know(&desired(&[(1, 1)]));
        let forked = Notice::Forked { place: place(0) };
        let exit = Exit::Signal(Signal::KILL);
        let exited = Notice::Exited { place: place(0), exit, uptime: Span::ZERO, wanted: false };
        let respawn =
            Notice::Respawn { app: AppId(1), slot: Slot(0), unstable: 3, max: 16, delay: Span::ZERO };
        for notice in [&forked, &exited, &respawn, &forked, &Notice::Forked { place: place(5) }] {
            ledger.hear(notice);
        }
        let record = ledger.of(AppId(1), Slot(0)).unwrap();
        assert_eq!((record.renewals, record.unstable), (1, 3));
        assert_eq!(record.last_exit.map(|(exit, _)| exit), Some(exit));
        assert_eq!(ledger.of(AppId(1), Slot(5)), None);
        assert_eq!(ledger.reset(AppId(1), &[(Slot(0), 4), (Slot(9), 4)]), 1);
        let record = ledger.of(AppId(1), Slot(0)).unwrap();
        assert_eq!((record.renewals, record.unstable, record.restarts_before), (0, 0, 4));
        assert!(record.last_exit.is_some());
    }

    #[test]
    fn another_daemon_goes_on_with_it() {
        let mut records = BTreeMap::from([(Slot(0), SlotRecord { number: 4, ..SlotRecord::default() })]);
        let meta = serde_json::to_vec(&records.iter().collect::<Vec<_>>()).unwrap();
        let entry = |name: &str, meta: Vec<u8>| Entry { name: name.into(), meta, fd: None };
        let mut book = Book::default();
        assert!(book.take_in(&entry("slots-3", meta)));
        assert!(!book.take_in(&entry("desired", Vec::new())));
        assert!(
            book.take_in(&entry("slots", b"2".to_vec())) && book.take_in(&entry("slots-9", b"?".to_vec()))
        );
        assert_eq!(book.apps.remove(&AppId(3)), Some(std::mem::take(&mut records)));
        assert!(book.next >= 2);
    }
}
