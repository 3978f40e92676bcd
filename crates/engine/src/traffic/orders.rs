//! What control tells traffic and what traffic tells control. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oxherd_core::{AppId, AppSpec, Event, InstanceId, Parting, Place, Slot};

use crate::Alert;
use crate::host::{Entry, Stash};

/// From control to traffic.
#[derive(Debug)]
pub(crate) enum Order {
    /// A worker with a channel exists.
    Attach(Attachment),
    /// Give it connections.
    Admit(InstanceId),
    /// Give it none any more. Answered by `Withdrawn`.
    Withdraw(InstanceId),
    /// Tell it to finish and leave.
    Disconnect(InstanceId, Parting),
    /// Its process has ended: read what it left, take its connections back. Answered by `Detached`.
    Detach(InstanceId),
    /// Let no new client in. Answered by `DoorsClosed`.
    CloseDoors(AppId),
    /// Close an app's listeners.
    CloseListeners(AppId),
    /// A slot is gone.
    RetireSlot(AppId, Slot),
    /// Take over what another primary left, before any worker of it is attached.
    TakeOver(Bequest),
    /// Compare the listeners with what there should be: the apps with their slots.
    Reconcile(BTreeMap<AppId, BTreeSet<Slot>>),
    /// Put everything that is to outlive this primary into another stash.
    Restash(NewStash),
    /// End the thread.
    Stop,
}

/// A worker's channel and what traffic must know of it.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) place: Place,
    /// As its environment carries it.
    pub(crate) label: String,
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) pid: u32,
    /// The primary's end.
    pub(crate) channel: OwnedFd,
    /// A duplicate of the worker's end.
    pub(crate) worker_end: Option<OwnedFd>,
    pub(crate) counters: Arc<Counters>,
    /// It outlived the primary that started it.
    pub(crate) is_heir: bool,
}

/// What traffic takes over from the primary before.
#[derive(Debug)]
pub(crate) struct Bequest {
    /// How many primaries there were.
    pub(crate) starts: u32,
    /// What was in the stash.
    pub(crate) entries: Vec<Entry>,
    /// Connections that the primary held when it ended.
    pub(crate) connections: Vec<OwnedFd>,
}

/// A stash in place of the one that is lost.
pub(crate) struct NewStash(pub(crate) Box<dyn Stash>);

impl fmt::Debug for NewStash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewStash")
    }
}

/// What traffic counts for a worker and what the worker reports of itself. Only traffic writes, control reads for
/// the report; as messages, a worker's figures could fill the queue to control faster than it is read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    handed_over: AtomicU64,
    /// Since the worker's start, like the other figures.
    pub(crate) requests: Figure,
    /// As the worker's own metrics count them.
    pub(crate) errors: Figure,
    /// Messages that told of an error, which no metric is known to include.
    pub(crate) error_reports: Figure,
    pub(crate) connections: Figure,
    pub(crate) memory: Figure,
}

impl Counters {
    pub(crate) fn count_accepted(&self) {
        // Only the traffic thread writes: a plain load and store, without a locked instruction.
        self.handed_over.store(self.handed_over() + 1, Ordering::Relaxed);
    }

    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }
}

/// A number that a worker may have told: one more than it, or 0.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    /// The worker told this; what it does not tell stays as it was.
    pub(crate) fn note(&self, told: Option<u64>) {
        if let Some(told) = told {
            self.0.store(told.saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn count_one(&self) {
        self.note(Some(self.get().unwrap_or(0).saturating_add(1)));
    }

    pub(crate) fn get(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// From traffic to control.
#[derive(Debug)]
pub(crate) enum News {
    /// A fact for the core.
    Fact(Event),
    /// A condition of the primary.
    Alert(Alert),
    /// The traffic thread has panicked.
    Lost,
    /// A worker's channel is read to its end and its connections are taken back.
    Detached(InstanceId),
}
