//! The table of changes: those under way, how the last ones ended, and which request asked for them.
//!
//! It survives the daemon as bytes, so that a client whose connection broke can ask again and is told the same.
//! Data only: it never waits, and never decides how a change ends but for those whose end nobody saw.

use std::collections::{BTreeMap, VecDeque};

use oxherd::api::AcceptedChange;
use oxherd_core::{AppId, AppStatus, ChangeId, ChangeOutcome, FleetStatus, Generation, Status};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the bytes.
const VERSION: u32 = 1;
/// How many outcomes are remembered.
const OUTCOMES: usize = 1024;
/// How many changes may be under way; the oldest is forgotten first.
const PENDING: usize = 1024;
/// How many keys are remembered.
const KEYS: usize = 128;
/// How many changes the remembered keys may stand for, together; the newest key is always remembered.
const KEYED_CHANGES: usize = 512;

/// Why bytes are no table. Begin with an empty one: what is lost is only the memory of earlier changes.
#[derive(Debug, Error)]
pub enum ChangesError {
    /// They are damaged.
    #[error("the table of changes cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another Oxherd wrote them.
    #[error("the table of changes has version {0}, this Oxherd reads version {VERSION}")]
    Version(u32),
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pending: BTreeMap<ChangeId, Pending>,
    /// In the order in which they ended.
    finished: VecDeque<Finished>,
    /// In the order in which they came.
    keys: VecDeque<Record>,
}

/// A change under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) app: Option<AppId>,
    pub(super) aim: Aim,
}

/// What a change is to bring about: how its end is judged when nobody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aim {
    /// All slots are filled by ready workers.
    Serving,
    /// They run a generation after this one.
    Beyond(Generation),
    /// Nothing of the app runs.
    Stopped,
    /// The app is forgotten.
    Gone,
    /// The whole fleet has ended.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finished {
    change: ChangeId,
    app: Option<AppId>,
    outcome: ChangeOutcome,
}

/// A request that carried a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: String,
    /// Of the request, so that a key is not used for two.
    pub(super) digest: u64,
    pub(super) stage: Stage,
}

/// How far such a request has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It is about to be made. Changes after `after` are its own, in the order of `targets`: only one request is
    /// made at a time.
    Begun { after: ChangeId, targets: Vec<Target> },
    /// A daemon ended while it was made; so much of it was taken in.
    Cut { made: Vec<AcceptedChange> },
    /// It was answered.
    Answered { changes: Vec<AcceptedChange> },
}

/// One part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Unknown for an app that is to be made.
    pub(super) app: Option<AppId>,
    pub(super) name: String,
    pub(super) aim: Aim,
}

/// The table as it is kept: lists rather than objects, because the keeper's memory is small.
#[derive(Serialize, Deserialize)]
struct Stored<F, R> {
    version: u32,
    pending: Vec<(ChangeId, Pending)>,
    finished: F,
    keys: Vec<R>,
}

type StoredFinished = (ChangeId, Option<AppId>, ChangeOutcome);

/// What is known of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    Unknown,
    Pending,
    Finished(ChangeOutcome),
}

impl Changes {
    /// The table as bytes, for the next daemon.
    pub fn to_bytes(&self) -> Vec<u8> {
        let part = |it: &Finished| (it.change, it.app, it.outcome.clone());
        let stored = Stored {
            version: VERSION,
            pending: self.pending.iter().map(|(change, pending)| (*change, *pending)).collect(),
            finished: self.finished.iter().map(part).collect::<Vec<StoredFinished>>(),
            keys: self.keys.iter().map(|record| (&record.key, record.digest, &record.stage)).collect(),
        };
        // It holds only strings, numbers and lists: there is nothing that JSON cannot say.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// The table that another daemon left.
    ///
    /// # Errors
    /// The bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChangesError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.version != VERSION {
            return Err(ChangesError::Version(head.version));
        }
        let stored: Stored<Vec<StoredFinished>, (String, u64, Stage)> = serde_json::from_slice(bytes)?;
        let finished = |(change, app, outcome)| Finished { change, app, outcome };
        let record = |(key, digest, stage)| Record { key, digest, stage };
        Ok(Self {
            pending: stored.pending.into_iter().collect(),
            finished: stored.finished.into_iter().map(finished).collect(),
            keys: stored.keys.into_iter().map(record).collect(),
        })
    }

    /// Whether the end of the daemon before this one left anything to be found out.
    pub(super) fn is_open(&self) -> bool {
        let begun = |record: &Record| matches!(record.stage, Stage::Begun { .. });
        !self.pending.is_empty() || self.keys.iter().any(begun)
    }

    pub(super) fn pending(&self) -> Vec<ChangeId> {
        self.pending.keys().copied().collect()
    }

    pub(super) fn knowledge(&self, change: ChangeId) -> Knowledge {
        match self.finished.iter().rev().find(|finished| finished.change == change) {
            Some(finished) => Knowledge::Finished(finished.outcome.clone()),
            None if self.pending.contains_key(&change) => Knowledge::Pending,
            None => Knowledge::Unknown,
        }
    }

    /// The app that a change is about, if that is known.
    pub(super) fn app_of(&self, change: ChangeId) -> Option<AppId> {
        let finished = || self.finished.iter().rev().find(|finished| finished.change == change)?.app;
        self.pending.get(&change).map_or_else(finished, |pending| pending.app)
    }

    /// A change was taken in. Its end may have been told already.
    pub(super) fn accept(&mut self, change: ChangeId, pending: Pending) {
        if let Some(finished) = self.finished.iter_mut().find(|finished| finished.change == change) {
            finished.app = pending.app;
            return;
        }
        self.pending.insert(change, pending);
        while self.pending.len() > PENDING {
            self.pending.pop_first();
        }
    }

    /// A change has ended.
    pub(super) fn finish(&mut self, change: ChangeId, outcome: ChangeOutcome) {
        let app = self.pending.remove(&change).and_then(|pending| pending.app);
        if matches!(self.knowledge(change), Knowledge::Finished(_)) {
            return;
        }
        self.finished.push_back(Finished { change, app, outcome });
        while self.finished.len() > OUTCOMES {
            self.finished.pop_front();
        }
    }

    pub(super) fn record(&self, key: &str) -> Option<&Record> {
        self.keys.iter().find(|record| record.key == key)
    }

    /// Remembers a request, in place of what was known of its key.
    pub(super) fn put_record(&mut self, record: Record) {
        self.drop_record(&record.key);
        self.keys.push_back(record);
        let weight = |record: &Record| match &record.stage {
            Stage::Begun { targets, .. } => targets.len(),
            Stage::Cut { made: changes } | Stage::Answered { changes } => changes.len(),
        };
        let mut changes: usize = self.keys.iter().map(weight).sum();
        while self.keys.len() > KEYS || (changes > KEYED_CHANGES && self.keys.len() > 1) {
            changes -= self.keys.pop_front().as_ref().map_or(0, weight);
        }
    }

    pub(super) fn drop_record(&mut self, key: &str) {
        self.keys.retain(|record| record.key != key);
    }

    /// After another daemon's end: finds out what became of the requests that were being made and of the changes
    /// whose end nobody saw. `pending` are those that are still under way.
    pub(super) fn settle(&mut self, status: &FleetStatus, last: ChangeId, pending: &[ChangeId]) {
        // The fleet's state was lost and its numbers begin again: what is known of later ones is about others.
        self.pending.retain(|change, _| *change <= last);
        self.finished.retain(|finished| finished.change <= last);
        for (change, part) in self.settle_records(status, last) {
            self.accept(change, part);
        }
        let over: Vec<_> = self.pending.keys().copied().filter(|change| !pending.contains(change)).collect();
        for change in over {
            if let Some(outcome) = self.pending.get(&change).map(|pending| judge(*pending, status)) {
                self.finish(change, outcome);
            }
        }
    }

    fn settle_records(&mut self, status: &FleetStatus, last: ChangeId) -> Vec<(ChangeId, Pending)> {
        let mut found = Vec::new();
        for record in &mut self.keys {
            let Stage::Begun { after, targets } = &record.stage else { continue };
            // More than it could have made: the fleet's state was lost, and the numbers are others'.
            let count = last.0.saturating_sub(after.0);
            let count = if count <= targets.len() as u64 { count as usize } else { 0 };
            let mut made = Vec::new();
            for (change, target) in (after.0 + 1..).map(ChangeId).zip(&targets[..count]) {
                let by_name = || status.apps.iter().find(|app| app.name == target.name).map(|app| app.app);
                let app = target.app.or_else(by_name);
                found.push((change, Pending { app, aim: target.aim }));
                made.extend(app.map(|app| AcceptedChange { change, app, name: target.name.clone() }));
            }
            let is_whole = count == targets.len();
            record.stage = if is_whole { Stage::Answered { changes: made } } else { Stage::Cut { made } };
        }
        found
    }

    /// The changes that [`settle`](Self::settle) needs to know about: those under way, and those that a cut request
    /// may have made.
    pub(super) fn questions(&self) -> Vec<ChangeId> {
        let mut asked = self.pending();
        for record in &self.keys {
            if let Stage::Begun { after, targets } = &record.stage {
                asked.extend((1..=targets.len() as u64).map(|offset| ChangeId(after.0 + offset)));
            }
        }
        asked
    }
}

/// How a change ended that is not under way any more, judged by what it was to bring about.
fn judge(pending: Pending, status: &FleetStatus) -> ChangeOutcome {
    let app = pending.app.and_then(|id| status.apps.iter().find(|app| app.app == id));
    let serves = |app: &AppStatus| app.slots.iter().all(|slot| slot.status == Status::Online);
    let reached = match pending.aim {
        Aim::Serving => app.is_some_and(serves),
        Aim::Beyond(generation) => app.is_some_and(|app| app.generation > generation),
        Aim::Stopped => app.is_none_or(|app| !app.up),
        Aim::Gone => app.is_none(),
        Aim::Ended => true,
    };
    if reached { ChangeOutcome::Done } else { ChangeOutcome::Failed }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
