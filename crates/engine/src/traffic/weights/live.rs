//! Shares that follow the load, for strategies that look at it: every 10 ms while connections come. While none does
//! nobody is looked at, and all that is read, once a second, is how many have come to the machine.
//!
//! Looking costs something: the rate is bounded by that, at 2 % of a CPU for each group. What is known of a worker that
//! shares no page of figures is its accept queue and its CPU time, and now and then its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oxherd_core::{InstanceId, Strategy, level};
use oxherd_os::{Events, Interest, clock, proc, sockdiag, socket};

use crate::traffic::Traffic;
use crate::traffic::holder::Holders;
use crate::traffic::listener::Socket;
use crate::traffic::timers::Timer;
use crate::traffic::weights::{Candidate, strategy_of};

/// Between two looks, in milliseconds, unless they are dear.
const LOOK_EVERY_MS: u64 = 10;
const LOOK_EVERY_MAX_MS: u64 = 1000;
/// Between two counts of connections, in milliseconds, unless they are dear.
const COUNT_EVERY_MS: u64 = 200;
const COUNT_EVERY_MAX_MS: u64 = 10_000;
/// A look and a count are followed by so many times what they took: 1 % of a CPU for each of the two.
const REST_PER_COST: u32 = 100;
/// So many looks without anybody waiting, and it sleeps until somebody comes.
const QUIET_LOOKS: u32 = 25;
/// Who comes and is accepted before the primary's turn wakes nobody; that is noticed by the count of all, read so often
/// in a sleep, in milliseconds.
const GLANCE_EVERY_MS: u64 = 1000;
/// CPU time is compared over so long at least, in milliseconds: the next look may come at once.
const CPU_SPAN_MIN_MS: u64 = 5;
/// How fast the rate of arrivals is forgotten, in milliseconds.
const RATE_MEMORY_MS: f64 = 100.0;
/// Shares that differ by less than this are left as they are: 2 % of all.
const SHARE_STEP: u32 = oxherd_core::SHARES_TOTAL / 50;
const WOKEN_PER_LOOK: usize = 64;

/// What is known of a group's load.
#[derive(Debug)]
pub(super) struct Live {
    pace: Pace,
    /// What the last looks took.
    cost: Duration,
    /// When it was looked last, in monotonic milliseconds.
    looked_at: u64,
    /// How many connections had come to the machine by then.
    opened: Option<u64>,
    /// How many come in a millisecond, with what came last.
    rate: f64,
    peak: f64,
    cpu: BTreeMap<InstanceId, Cpu>,
    count: Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The kernel tells when somebody comes; the next glance is due then.
    Asleep { glance: u64 },
    /// The next look is due then; how often in a row nobody was seen waiting.
    Awake { due: u64, quiet: u32 },
}

/// How busy a worker was.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    micros: u64,
    at: u64,
    share: f64,
}

/// The connections of workers that do not count them.
#[derive(Debug, Default)]
struct Count {
    of: BTreeMap<InstanceId, u64>,
    at: u64,
    next: u64,
    /// What it took, if there was one in this look.
    took: Duration,
}

impl Live {
    fn new(now: u64) -> Self {
        Self {
            pace: Pace::Asleep { glance: now },
            cost: Duration::ZERO,
            looked_at: now,
            opened: None,
            rate: 0.0,
            peak: 0.0,
            cpu: BTreeMap::new(),
            count: Count::default(),
        }
    }

    /// The rate of arrivals, from how many there were in all.
    fn note_openings(&mut self, opened: Option<u64>, now: u64) {
        let elapsed = now.saturating_sub(self.looked_at) as f64;
        if elapsed <= 0.0 {
            return;
        }
        if let Some((before, opened)) = self.opened.zip(opened) {
            let last = opened.saturating_sub(before) as f64 / elapsed;
            let fresh = (elapsed / RATE_MEMORY_MS).min(1.0);
            self.rate += fresh * (last - self.rate);
            self.peak = self.rate.max(last);
        }
        self.opened = opened;
        self.looked_at = now;
    }

    /// How many may come within so many milliseconds; where it is not known one for each worker.
    fn arrivals(&self, within: u64, workers: usize) -> f64 {
        if self.opened.is_some() { self.peak * within as f64 } else { workers as f64 }
    }

    fn rest(&self, at_least: u64, at_most: u64) -> u64 {
        ((self.cost * REST_PER_COST).as_millis() as u64).clamp(at_least, at_most)
    }

    /// How much of a CPU a worker uses.
    fn cpu_share(&mut self, worker: InstanceId, pid: Option<u32>, now: u64) -> f64 {
        let Some(micros) = pid.and_then(|pid| proc::cpu_micros_of(pid).ok()) else { return 0.0 };
        let known = self.cpu.entry(worker).or_insert(Cpu { micros, at: now, share: 0.0 });
        let span = now.saturating_sub(known.at);
        if span >= CPU_SPAN_MIN_MS {
            let share = micros.saturating_sub(known.micros) as f64 / (span * 1000) as f64;
            *known = Cpu { micros, at: now, share };
        }
        known.share
    }
}

impl Traffic {
    /// The loads of a listener's candidates are to be followed from now on, or others than before.
    pub(super) fn follow(&mut self, listener: usize) {
        let now = self.now;
        let Some(steering) = self.steerings.of.get_mut(&listener) else { return };
        let live = steering.live.get_or_insert_with(|| Live::new(now));
        live.cpu.retain(|owner, _| steering.candidates.iter().any(|it| it.owner == *owner));
        match live.pace {
            Pace::Asleep { .. } => self.put_to_sleep(listener),
            // The next look is never far.
            Pace::Awake { .. } => {}
        }
    }

    /// The kernel is to tell of the next connection at any of them. Once: what comes after that is seen by looking.
    fn put_to_sleep(&mut self, listener: usize) {
        let Some(it) = self.listeners.get(listener) else { return };
        let Socket::Kernel(group) = &it.socket else { return };
        let Some(steering) = self.steerings.of.get_mut(&listener) else { return };
        let once = Interest::READ | Interest::ONCE;
        for candidate in &steering.candidates {
            let Some(member) = group.members().get(candidate.index as usize) else { continue };
            let fd = &member.source.fd;
            if self.steerings.sleepers.modify(fd, listener as u64, once).is_err() {
                // It was not known yet. One that cannot be watched is seen when another wakes the group.
                drop(self.steerings.sleepers.add(fd, listener as u64, once));
            }
        }
        if let Some(live) = &mut steering.live {
            live.pace = Pace::Asleep { glance: self.now + GLANCE_EVERY_MS };
            if self.steerings.openings.is_some() {
                self.timers.set(self.now + GLANCE_EVERY_MS, Timer::Weigh(listener));
            }
        }
    }

    /// Whether connections have come to the machine that woke nobody. If not it sleeps on.
    fn glance(&mut self, listener: usize) -> bool {
        let opened = self.steerings.openings.as_ref().and_then(|it| it.count().ok());
        let live = self.steerings.of.get_mut(&listener).and_then(|it| it.live.as_mut());
        let Some((live, opened)) = live.zip(opened) else { return false };
        if live.opened.is_some_and(|known| known != opened) {
            return true;
        }
        live.opened = Some(opened);
        live.looked_at = self.now;
        live.pace = Pace::Asleep { glance: self.now + GLANCE_EVERY_MS };
        self.timers.set(self.now + GLANCE_EVERY_MS, Timer::Weigh(listener));
        false
    }

    /// Connections have come to groups that slept.
    pub(in crate::traffic) fn on_woken(&mut self) {
        let mut events = Events::with_capacity(WOKEN_PER_LOOK);
        if self.steerings.sleepers.wait(&mut events, Some(Duration::ZERO)).is_err() {
            return;
        }
        for event in events.iter() {
            let listener = event.token as usize;
            let live = self.steerings.of.get_mut(&listener).and_then(|it| it.live.as_mut());
            if let Some(live) = live.filter(|live| matches!(live.pace, Pace::Asleep { .. })) {
                live.pace = Pace::Awake { due: self.now, quiet: 0 };
                self.on_weigh_timer(listener);
            }
        }
    }

    pub(in crate::traffic) fn on_weigh_timer(&mut self, listener: usize) {
        let now = self.now;
        let live = self.steerings.of.get_mut(&listener).and_then(|it| it.live.as_mut());
        let quiet = match live.map(|live| live.pace) {
            Some(Pace::Awake { due, quiet }) if due <= now => quiet,
            Some(Pace::Asleep { glance }) if glance <= now && self.glance(listener) => 0,
            // It is of an earlier pace, or nothing has happened.
            Some(Pace::Awake { .. } | Pace::Asleep { .. }) | None => return,
        };
        let before = clock::thread_cpu();
        let Some(somebody_waits) = self.weigh(listener, quiet + 1 >= QUIET_LOOKS) else { return };
        let quiet = if somebody_waits { 0 } else { quiet + 1 };
        if quiet >= QUIET_LOOKS {
            return self.put_to_sleep(listener);
        }
        let Some(live) = self.steerings.of.get_mut(&listener).and_then(|it| it.live.as_mut()) else { return };
        // A single slow look is no reason to stay away for long.
        let took =
            clock::thread_cpu().saturating_sub(before).saturating_sub(std::mem::take(&mut live.count.took));
        live.cost = (live.cost * 3 + took) / 4;
        let due = now + live.rest(LOOK_EVERY_MS, LOOK_EVERY_MAX_MS);
        live.pace = Pace::Awake { due, quiet };
        self.timers.set(due, Timer::Weigh(listener));
    }

    /// Looks at everybody and shares out anew. Returns whether anybody waits. What is shared out before a sleep must do for
    /// a burst that ends it.
    fn weigh(&mut self, listener: usize, before_sleep: bool) -> Option<bool> {
        let now = self.now;
        let opened = self.steerings.openings.as_ref().and_then(|it| it.count().ok());
        let holders = Holders { workers: &self.workers, borrowers: &self.borrowers };
        let Socket::Kernel(group) = &self.listeners.get(listener)?.socket else { return None };
        let steering = self.steerings.of.get_mut(&listener)?;
        let live = steering.live.as_mut()?;
        let candidates = &steering.candidates;
        live.note_openings(opened, now);
        let by_connections = strategy_of(candidates)? == Strategy::LeastConnections;
        let mut stale = live.rest(LOOK_EVERY_MS, LOOK_EVERY_MAX_MS);
        if by_connections && candidates.iter().any(|it| holders.page(it.owner).is_none()) {
            stale = live.count_connections(group.address().port(), candidates, &holders, now);
        }
        let mut loads = Vec::with_capacity(candidates.len());
        let mut somebody_waits = false;
        for candidate in candidates {
            let member = group.members().get(candidate.index as usize)?;
            let waiting = socket::accept_queue_len(&member.source.fd).ok().flatten().unwrap_or(0);
            somebody_waits |= waiting > 0;
            let in_hand = match (holders.page(candidate.owner), by_connections) {
                (Some(page), false) => page.in_flight() as f64,
                (Some(page), true) => page.open() as f64,
                (None, false) => live.cpu_share(candidate.owner, holders.pid(candidate.owner), now),
                (None, true) => live.count.of.get(&candidate.owner).copied().unwrap_or(0) as f64,
            };
            loads.push(in_hand + f64::from(waiting));
        }
        let at_least = if before_sleep { candidates.len() as f64 } else { 0.0 };
        let shares = level(&loads, live.arrivals(stale, candidates.len()).max(at_least));
        let owners = candidates.iter().map(|it| it.owner);
        let shares: BTreeMap<InstanceId, u32> = owners.zip(shares).collect();
        if differ(&steering.shares, &shares) {
            steering.shares = shares;
            self.attach_program(listener);
        }
        Some(somebody_waits)
    }
}

impl Live {
    /// Counts the connections of those that share no figures, if that is due. Returns for how long the count has to do,
    /// in milliseconds.
    fn count_connections(
        &mut self,
        port: u16,
        candidates: &[Candidate],
        holders: &Holders<'_>,
        now: u64,
    ) -> u64 {
        if self.count.next > now {
            return self.count.next - self.count.at;
        }
        let before = clock::thread_cpu();
        let open: BTreeSet<u64> =
            sockdiag::connections(port).unwrap_or_default().iter().map(|it| it.inode).collect();
        self.count.of = candidates
            .iter()
            .filter(|it| holders.page(it.owner).is_none())
            .filter_map(|it| {
                let held = proc::socket_inodes_of(holders.pid(it.owner)?).ok()?;
                Some((it.owner, held.intersection(&open).count() as u64))
            })
            .collect();
        self.count.took = clock::thread_cpu().saturating_sub(before);
        let rest = (self.count.took * REST_PER_COST).as_millis() as u64;
        self.count.at = now;
        self.count.next = now + rest.clamp(COUNT_EVERY_MS, COUNT_EVERY_MAX_MS);
        self.count.next - now
    }
}

/// Whether new shares are worth another program: somebody's is another, or is none any more, or is one again.
fn differ(old: &BTreeMap<InstanceId, u32>, new: &BTreeMap<InstanceId, u32>) -> bool {
    let is_other = |(owner, share): (&InstanceId, &u32)| {
        old.get(owner)
            .is_none_or(|known| known.abs_diff(*share) > SHARE_STEP || (*known == 0) != (*share == 0))
    };
    old.len() != new.len() || new.iter().any(is_other)
}
