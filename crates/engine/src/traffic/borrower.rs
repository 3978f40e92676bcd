//! The workers without a channel that are lent their listeners, as traffic sees them. It holds; other modules act.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{AppSpec, InstanceId, Place};
use oxherd_os::lending::{Trapped, Traps};

use crate::traffic::orders::Borrowing;

/// A program with so many listeners opens and closes them as it goes: few do.
pub(super) const MANY: usize = 32;

/// One worker that borrows, with all its bookkeeping.
#[derive(Debug)]
pub(crate) struct Borrower {
    pub(crate) place: Place,
    /// As its environment carries it.
    pub(crate) label: String,
    pub(crate) pid: u32,
    /// As its generation has it.
    pub(crate) spec: Arc<AppSpec>,
    /// Where its calls are heard of; nowhere for one that was started with its listeners.
    pub(crate) traps: Option<Traps>,
    /// The poller tells when it calls. Not once nobody of it is left who could.
    pub(crate) watched: bool,
    /// By which others can go on with its counters.
    pub(crate) counters_fd: Option<OwnedFd>,
    /// Its memory could not be looked into in time.
    pub(crate) is_opaque: bool,
    pub(crate) stage: Stage,
    pub(crate) parking: Parking,
    /// Calls that wait for its slot, oldest first.
    pub(crate) held: Vec<Trapped>,
    /// The number of the newest call that was received.
    pub(crate) newest: u64,
    /// The same as the stash has it.
    pub(crate) kept_newest: u64,
    /// The listeners that it uses, from its `bind` on.
    pub(crate) registered: Vec<usize>,
    /// Those of which control knows that it listens there.
    pub(crate) listening: Vec<usize>,
    /// With so many it is looked at which of them it has closed.
    pub(crate) many: usize,
}

/// How far it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is not admitted yet.
    Young,
    /// It gets connections.
    Admitted,
    /// It was withdrawn, and has connections in hand as far as is known; how often in a row none was seen.
    Withdrawing { quiet_looks: u32 },
    /// It was withdrawn, and control knows that nothing is in hand.
    Withdrawn,
}

/// Whether it is held when it wants to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parking {
    /// It is not.
    Off,
    /// It will be.
    Due,
    /// It is, and control knows.
    Parked,
    /// It is to end: what it waits for is broken off, now and later.
    Interrupted,
}

impl Borrower {
    pub(crate) fn new(borrowing: Borrowing) -> Self {
        let Borrowing { place, label, spec, pid, traps, counters_fd, parks, is_heir: _ } = borrowing;
        Self {
            place,
            label,
            pid,
            spec,
            traps: traps.map(Traps::of),
            watched: false,
            counters_fd,
            is_opaque: false,
            stage: Stage::Young,
            parking: if parks { Parking::Due } else { Parking::Off },
            held: Vec::new(),
            newest: 0,
            kept_newest: 0,
            registered: Vec::new(),
            listening: Vec::new(),
            many: MANY,
        }
    }

    /// Whether a call of it waits for an answer.
    pub(crate) fn is_pending(&self, id: u64) -> bool {
        self.traps.as_ref().is_some_and(|it| it.is_pending(id))
    }

    /// It was told to go, or is about to be.
    pub(crate) fn is_leaving(&self) -> bool {
        match self.stage {
            Stage::Young | Stage::Admitted => false,
            Stage::Withdrawing { .. } | Stage::Withdrawn => true,
        }
    }
}

/// All workers that borrow, under small numbers that the poller's tokens carry.
#[derive(Debug, Default)]
pub(crate) struct Borrowers {
    places: BTreeMap<usize, Borrower>,
    by_instance: BTreeMap<InstanceId, usize>,
    next: usize,
}

impl Borrowers {
    /// The number that the next one will get. None is used again while the primary lives, so that a late event can
    /// never mean another's.
    pub(crate) fn vacant(&self) -> usize {
        self.next
    }

    pub(crate) fn push(&mut self, borrower: Borrower) {
        self.by_instance.insert(borrower.place.instance, self.next);
        self.places.insert(self.next, borrower);
        self.next += 1;
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<Borrower> {
        let borrower = self.places.remove(&number)?;
        self.by_instance.remove(&borrower.place.instance);
        Some(borrower)
    }

    pub(crate) fn find(&self, instance: InstanceId) -> Option<usize> {
        self.by_instance.get(&instance).copied()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Borrower> {
        self.places.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Borrower> {
        self.places.get_mut(&number)
    }

    pub(crate) fn by_instance(&self, instance: InstanceId) -> Option<&Borrower> {
        self.get(self.find(instance)?)
    }

    /// All of them with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Borrower)> {
        self.places.iter().map(|(number, it)| (*number, it))
    }
}
