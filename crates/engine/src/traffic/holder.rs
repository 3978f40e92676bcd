//! Whoever may have a listener of its own: a worker with a channel, or one that borrows. What is asked of either is
//! asked here; nothing is changed.

use oxherd_core::{InstanceId, Terms};
use oxherd_os::foreign;

use crate::page::Page;
use crate::traffic::apps::App;
use crate::traffic::borrower::{Borrower, Borrowers, Stage};
use crate::traffic::group::{Group, Member};
use crate::traffic::worker::{Seat, Standing, Worker, Workers};

/// How long a member whose owner has ended waits for the slot's next worker before others get what is in its queue, in
/// milliseconds. A worker without a channel could only be given it by way of the primary.
pub(super) const HEIR_WAIT_MS: u64 = 1000;

/// All who may have a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holders<'a> {
    pub(super) workers: &'a Workers,
    pub(super) borrowers: &'a Borrowers,
}

enum Holder<'a> {
    Worker(usize, &'a Worker),
    Borrower(&'a Borrower),
}

impl<'a> Holders<'a> {
    fn find(&self, instance: InstanceId) -> Option<Holder<'a>> {
        let worker =
            || self.workers.find(instance).and_then(|it| Some(Holder::Worker(it, self.workers.get(it)?)));
        worker().or_else(|| self.borrowers.by_instance(instance).map(Holder::Borrower))
    }

    /// Whether new connections of a listener may go to it.
    pub(super) fn is_active(&self, app: &App, instance: InstanceId, listener: usize) -> bool {
        match self.find(instance) {
            Some(Holder::Worker(number, worker)) => {
                app.balancer.is_admitted(Seat { instance, number }) && worker.registered.contains(&listener)
            }
            Some(Holder::Borrower(borrower)) => {
                borrower.stage == Stage::Admitted && borrower.registered.contains(&listener)
            }
            None => false,
        }
    }

    /// How it is given connections, as its generation has it.
    pub(super) fn terms(&self, instance: InstanceId) -> Option<Terms> {
        match self.find(instance)? {
            Holder::Worker(_, worker) => Some(worker.terms),
            Holder::Borrower(borrower) => Some(borrower.spec.terms(borrower.place.slot)),
        }
    }

    pub(super) fn pid(&self, instance: InstanceId) -> Option<u32> {
        match self.find(instance)? {
            Holder::Worker(_, worker) => Some(worker.pid),
            Holder::Borrower(borrower) => Some(borrower.pid),
        }
    }

    /// What it counts itself, if it shares that.
    pub(super) fn page(&self, instance: InstanceId) -> Option<&Page> {
        match self.find(instance)? {
            Holder::Worker(_, worker) => worker.gauge.page(),
            Holder::Borrower(_) => None,
        }
    }

    /// Whether what completes at its listener is left to it.
    fn accepts(&self, instance: InstanceId) -> bool {
        match self.find(instance) {
            Some(Holder::Worker(_, worker)) => worker.standing == Standing::Open,
            // While it drains it goes on accepting: it knows of nothing.
            Some(Holder::Borrower(borrower)) => borrower.stage != Stage::Withdrawn,
            None => false,
        }
    }

    /// Whether it is on its way out, or gone.
    pub(super) fn is_leaving(&self, instance: InstanceId) -> bool {
        match self.find(instance) {
            Some(Holder::Worker(_, worker)) => worker.standing != Standing::Open,
            Some(Holder::Borrower(borrower)) => borrower.is_leaving(),
            None => true,
        }
    }

    /// Whether anybody is handed connections of the listener over a channel.
    pub(super) fn are_handed(&self, listener: usize) -> bool {
        self.workers.iter().any(|(_, it)| it.registered.contains(&listener))
    }

    /// Whether a worker that borrows uses the listener.
    pub(super) fn are_lent(&self, listener: usize) -> bool {
        self.borrowers.iter().any(|(_, it)| it.registered.contains(&listener))
    }

    /// Whether the primary is to accept what completes at a member itself.
    pub(super) fn is_left(
        &self,
        app: &App,
        group: &Group,
        member: &Member,
        listener: usize,
        now: u64,
    ) -> bool {
        if group.is_udp() {
            return false;
        }
        let Some(owner) = member.owner else {
            // Where only borrowers are left to serve, the slot's next one comes first.
            let is_served = |other: &Member| {
                other.slot == member.slot && other.owner.is_some_and(|it| self.is_active(app, it, listener))
            };
            return self.are_handed(listener)
                || !self.are_lent(listener)
                || member.closes_at.is_some()
                || member.left_since.is_some_and(|since| since + HEIR_WAIT_MS <= now)
                || group.members().iter().any(is_served);
        };
        // A program's own listener may make whoever accepts from it wait, and another may be faster.
        !self.accepts(owner) && foreign::is_nonblocking(&member.source.fd).unwrap_or(false)
    }
}
