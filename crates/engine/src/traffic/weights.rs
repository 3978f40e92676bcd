//! Which program a group of the `kernel` distribution is steered by: from the strategy, the slots' weights, who is
//! active and, where the strategy looks at it, how busy everybody is.
//!
//! It must never leave a member in the program that is not active while another is: that exclusion is exact is what
//! draining rests on.

mod live;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use oxherd_core::{AppId, InstanceId, Slot, Strategy, Terms};
use oxherd_os::Poller;
use oxherd_os::sockdiag::Openings;
use oxherd_os::steering::{HASHED_MAX, Program};

use crate::Alert;
use crate::traffic::Traffic;
use crate::traffic::group::Group;
use crate::traffic::listener::Socket;
use crate::traffic::orders::News;
use crate::traffic::weights::live::Live;
use crate::traffic::worker::Seat;

/// How all groups are steered, by their listeners' numbers.
#[derive(Debug)]
pub(super) struct Steerings {
    of: BTreeMap<usize, Steering>,
    /// Tells when a connection comes to a group whose workers are not weighed while none does.
    sleepers: Poller,
    /// How many connections come to this machine, where the kernel tells.
    openings: Option<Openings>,
}

/// How one group is steered.
#[derive(Debug, Default)]
struct Steering {
    candidates: Vec<Candidate>,
    /// What the group has.
    attached: Option<Program>,
    /// Each one's share by its load, as it was weighed last.
    shares: BTreeMap<InstanceId, u32>,
    /// Where the strategy looks at loads.
    live: Option<Live>,
    /// It was told that the kernel refuses what was asked for.
    told: bool,
}

/// A member that may get what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// Its index in the kernel's group.
    index: u32,
    slot: Slot,
    owner: InstanceId,
    terms: Terms,
}

impl Steerings {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { of: BTreeMap::new(), sleepers: Poller::new()?, openings: Openings::new().ok() })
    }

    /// As where the kernel does not tell how many come.
    #[cfg(test)]
    pub(super) fn forget_openings(&mut self) {
        self.openings = None;
    }

    /// Readable when somebody is to be woken.
    pub(super) fn sleepers(&self) -> BorrowedFd<'_> {
        self.sleepers.as_fd()
    }
}

impl Traffic {
    /// Who is active at a listener may have changed, or where they are: the group's program follows.
    pub(super) fn steer(&mut self, listener: usize) {
        let Some((candidates, is_udp)) = self.candidates(listener) else {
            self.steerings.of.remove(&listener);
            return;
        };
        let listeners = &self.listeners;
        self.steerings.of.retain(|number, _| listeners.get(*number).is_some());
        let follows = strategy_of(&candidates).is_some_and(follows_load) && !is_udp && candidates.len() > 1;
        let steering = self.steerings.of.entry(listener).or_default();
        steering.shares.retain(|owner, _| candidates.iter().any(|it| it.owner == *owner));
        steering.candidates = candidates;
        if follows {
            self.follow(listener);
        } else if let Some(steering) = self.steerings.of.get_mut(&listener) {
            steering.live = None;
            steering.shares.clear();
        }
        self.attach_program(listener);
    }

    /// Under a sticky strategy a connection that came to a member which nobody serves any more belongs to the slot's
    /// next worker, if that reads its channel: however much it has in hand, it is the right one, and such are few. `None`
    /// where anybody may have it.
    pub(super) fn heir_of_what_waits(&self, listener: usize, group: &Group) -> Option<Seat> {
        let candidates = &self.steerings.of.get(&listener)?.candidates;
        if strategy_of(candidates) != Some(Strategy::Sticky) || self.has_returned(listener) {
            return None;
        }
        let source = group.pending_source()?;
        let slot = group.members().iter().find(|member| member.number == source)?.slot;
        let heirs = candidates.iter().filter(|it| it.slot == slot).map(|it| it.owner);
        let instance = heirs.max()?;
        let number = self.workers.find(instance)?;
        let may_take = self.workers.get(number).is_some_and(|worker| worker.may_take(listener));
        may_take.then_some(Seat { instance, number })
    }

    fn has_returned(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(|it| !it.returned.is_empty())
    }

    /// Attaches what follows from all that is known, if that is another program than the group has.
    fn attach_program(&mut self, listener: usize) {
        let Some(it) = self.listeners.get(listener) else { return };
        let Socket::Kernel(group) = &it.socket else { return };
        let Some(steering) = self.steerings.of.get_mut(&listener) else { return };
        let program = program(&steering.candidates, group.is_udp(), &steering.shares);
        if steering.attached.as_ref() == Some(&program) {
            return;
        }
        let Err(error) = group.steer(&program) else {
            steering.attached = Some(program);
            return;
        };
        // Whom it leaves out matters more than how it shares out what comes.
        let simpler = evenly(&steering.candidates);
        steering.attached = None;
        drop(group.steer(&simpler));
        let is_news = !std::mem::replace(&mut steering.told, true);
        if is_news {
            let (app, address): (AppId, String) = (it.identity.app, it.address.clone());
            self.tell(News::Alert(Alert::CannotSteer { app, address, why: error.to_string() }));
        }
    }

    /// The active members of a group, and whether it is one of UDP. `None` for other listeners.
    fn candidates(&self, listener: usize) -> Option<(Vec<Candidate>, bool)> {
        let it = self.listeners.get(listener)?;
        let Socket::Kernel(group) = &it.socket else { return None };
        let app = self.apps.get(&it.identity.app)?;
        let holders = self.holders();
        let candidates = (0..).zip(group.members()).filter_map(|(index, member)| {
            let owner = member.owner.filter(|owner| holders.is_active(app, *owner, listener))?;
            Some(Candidate { index, slot: member.slot, owner, terms: holders.terms(owner)? })
        });
        Some((candidates.collect(), group.is_udp()))
    }
}

/// That of the youngest, as for the balancer.
fn strategy_of(candidates: &[Candidate]) -> Option<Strategy> {
    Some(candidates.iter().max_by_key(|it| it.owner)?.terms.strategy)
}

fn follows_load(strategy: Strategy) -> bool {
    match strategy {
        Strategy::LeastBusy | Strategy::LeastConnections => true,
        Strategy::RoundRobin | Strategy::Weighted | Strategy::Random | Strategy::Sticky => false,
    }
}

/// The program for a group in which these are active; without any the first member gets what comes, which is watched.
fn program(candidates: &[Candidate], is_udp: bool, shares: &BTreeMap<InstanceId, u32>) -> Program {
    let Some(strategy) = strategy_of(candidates) else { return Program::Random(vec![0]) };
    if is_udp {
        return Program::Flow(by_slot(candidates));
    }
    match strategy {
        Strategy::Sticky => Program::Sticky(by_slot(candidates)),
        Strategy::RoundRobin | Strategy::Random => evenly(candidates),
        Strategy::Weighted => in_shares(candidates, |it| it.terms.weight),
        Strategy::LeastBusy | Strategy::LeastConnections => {
            // Whoever was not weighed yet counts as the average of the others.
            let known: u64 = shares.values().map(|share| u64::from(*share)).sum();
            let average = (known / shares.len().max(1) as u64) as u32;
            in_shares(candidates, |it| shares.get(&it.owner).copied().unwrap_or(average))
        }
    }
}

fn evenly(candidates: &[Candidate]) -> Program {
    if candidates.is_empty() {
        return Program::Random(vec![0]);
    }
    Program::Random(candidates.iter().map(|it| it.index).collect())
}

fn in_shares(candidates: &[Candidate], share: impl Fn(&Candidate) -> u32) -> Program {
    let shares: Vec<(u32, u32)> = candidates.iter().map(|it| (it.index, share(it))).collect();
    let first = shares.first().map_or(0, |(_, share)| *share);
    // Where nobody is to have any, or all the same, everybody gets as much.
    if shares.iter().all(|(_, share)| *share == first) {
        evenly(candidates)
    } else {
        Program::Weighted(shares)
    }
}

/// Each slot is a key, so that neither a generation nor a crash changes who gets what. Of two active members of a slot
/// the younger worker's counts. Slots beyond what a program can tell apart get none: only an app of UDP can have them.
fn by_slot(candidates: &[Candidate]) -> Vec<(u32, u32)> {
    let mut of_slots: BTreeMap<Slot, &Candidate> = BTreeMap::new();
    for candidate in candidates {
        let known = of_slots.entry(candidate.slot).or_insert(candidate);
        if known.owner < candidate.owner {
            *known = candidate;
        }
    }
    of_slots.values().map(|it| (it.index, it.slot.0)).take(HASHED_MAX).collect()
}

#[cfg(test)]
mod tests;
