//! Once a second a look at what workers use and do, where somebody wants to know: memory of their trees, requests, how
//! busy they are, and whether they still answer. What follows from it is the core's to decide.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_core::{AppId, AppSpec, Event, InstanceId, Moment, Span};
use oxherd_os::{Census, proc};

use crate::Alert;
use crate::control::{Control, now};
use crate::link::Budget;
use crate::traffic::{Order, Parcel};

/// How often it is looked.
const EVERY: Span = Span::from_secs(1);
/// A worker that was silent for so many intervals is hung.
const SILENT_INTERVALS: u32 = 3;
/// What a worker is asked.
const QUESTION: &[u8] = br#"{"type":"health-check"}"#;

/// When it is looked next, and what was seen last.
#[derive(Debug, Default)]
pub(super) struct Looks {
    figures: Option<Moment>,
    health: Option<Moment>,
    /// When CPU clocks were read last.
    loads_at: Option<Moment>,
    /// How busy the apps are whose queues are being looked at.
    busy: BTreeMap<AppId, u32>,
    asking: Budget,
}

/// What was seen of a worker when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Its tree held more memory than the level at which people are told.
    is_above: bool,
    busy_micros: Option<u64>,
    health: Option<Health>,
}

/// How a worker that is asked whether it is well has answered.
#[derive(Clone, Copy, Debug)]
struct Health {
    ask_at: Moment,
    heard: u64,
    silent: u32,
}

impl Looks {
    pub(super) fn due(&self) -> Option<Moment> {
        self.figures.into_iter().chain(self.health).min()
    }
}

impl Control<'_> {
    /// Sees to it that it is looked, if this worker's app has a reason to.
    pub(super) fn arm_looks(&mut self, instance: InstanceId) {
        let Some(spec) = self.fleet.spec_of(instance) else { return };
        if wants_figures(spec) {
            self.looks.figures.get_or_insert_with(|| now() + EVERY);
        }
        if let Some(interval) = spec.health_interval {
            let due = now() + interval;
            self.looks.health = Some(self.looks.health.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// The same for all workers of an app that goes by another configuration now.
    pub(super) fn arm_looks_of(&mut self, app: AppId) {
        let places = self.children.iter().map(|child| child.place);
        let workers: Vec<InstanceId> = places.filter(|it| it.app == app).map(|it| it.instance).collect();
        workers.into_iter().for_each(|instance| self.arm_looks(instance));
    }

    pub(super) fn look_at_workers(&mut self, now: Moment) {
        if self.looks.figures.is_some_and(|due| due <= now) {
            self.look_at_figures(now);
        }
        if self.looks.health.is_some_and(|due| due <= now) {
            self.ask_for_health(now);
        }
    }

    fn look_at_figures(&mut self, now: Moment) {
        let wants = |id: &InstanceId, what: fn(&AppSpec) -> bool| {
            self.fleet.spec_of(*id).is_some_and(|spec| what(spec))
        };
        let all = self.children.iter().map(|child| child.place.instance);
        let watched: Vec<InstanceId> = all.filter(|id| wants(id, wants_figures)).collect();
        let has_levels = watched.iter().any(|id| wants(id, has_level));
        self.looks.figures = (!watched.is_empty()).then(|| now + EVERY);
        let census = if has_levels { self.census() } else { Census::default() };
        for instance in &watched {
            self.measure(*instance, &census);
        }
        self.look_at_loads(&watched, now);
    }

    /// One look at orphans for all trees.
    fn census(&self) -> Census {
        let known: BTreeSet<u32> = self.children.iter().map(|child| child.process.pid).collect();
        Census::take(self.host.reaper(), &known)
    }

    fn measure(&mut self, instance: InstanceId, census: &Census) {
        let Some(spec) = self.fleet.spec_of(instance) else { return };
        let (warning, limit) = (spec.memory_warning, spec.max_memory_restart);
        let counts_requests = spec.max_requests.is_some();
        let Some(child) = self.children.get_mut(instance) else { return };
        let lowest = warning.into_iter().chain(limit).min();
        let memory =
            lowest.and_then(|lowest| census.memory(child.process.pid, child.process.label(), lowest));
        // Of a worker that tells of no requests, its connections count.
        let counters = &child.counters;
        let requests = counts_requests.then(|| counters.all_requests().unwrap_or(counters.handed_over()));
        if let (Some(bytes), Some(level)) = (memory, lowest) {
            let was_above = std::mem::replace(&mut child.seen.is_above, bytes > level);
            if bytes > level && !was_above {
                let (place, pid) = (child.place, child.process.pid);
                self.observer.alert(&Alert::MemoryAbove { place, pid, bytes, limit: level });
            }
        }
        // Only what may change something is told: each fact has the fleet's state kept.
        if self.fleet.is_worn(instance, memory, requests) {
            self.take_in(Event::Measured { instance, memory, requests });
        }
    }

    fn look_at_loads(&mut self, watched: &[InstanceId], now: Moment) {
        let elapsed = self.looks.loads_at.replace(now).map_or(0, |last| now.since(last).as_millis() * 1000);
        let mut shares: BTreeMap<AppId, (u64, u64)> = BTreeMap::new();
        for instance in watched {
            let scales = self.fleet.spec_of(*instance).is_some_and(|spec| spec.scaling.is_some());
            let serves = scales && self.fleet.serves(*instance);
            let Some(child) = self.children.get_mut(*instance).filter(|_| scales) else { continue };
            let Ok(used) = proc::busy_micros_of(child.process.pid) else { continue };
            let Some(before) = child.seen.busy_micros.replace(used) else { continue };
            if serves && elapsed > 0 {
                let share = shares.entry(child.place.app).or_default();
                // One that computes in several threads is as busy as can be.
                share.0 += (used.saturating_sub(before).saturating_mul(1000) / elapsed).min(1000);
                share.1 += 1;
            }
        }
        for (app, (sum, count)) in shares {
            let busy = u32::try_from(sum / count.max(1)).unwrap_or(u32::MAX);
            self.looks.busy.insert(app, busy);
            self.traffic.orders.send(Order::CountWaiting(app));
        }
    }

    /// With who waits for it, all is known of an app's load.
    pub(super) fn on_waiting(&mut self, app: AppId, waiting: u32) {
        let Some(busy) = self.looks.busy.remove(&app) else { return };
        self.fleet.handle_event(Event::Loaded { app, busy, waiting }, now());
        self.carry_out();
    }

    /// Asks those whose turn it is, and tells of those that have been silent for too long.
    fn ask_for_health(&mut self, now: Moment) {
        let all: Vec<InstanceId> = self.children.iter().map(|child| child.place.instance).collect();
        self.looks.health = None;
        for instance in all {
            let Some(interval) = self.fleet.spec_of(instance).and_then(|spec| spec.health_interval) else {
                continue;
            };
            let serves = self.fleet.serves(instance);
            let Some(child) = self.children.get_mut(instance) else { continue };
            let heard = child.counters.heard();
            let known = child.seen.health.filter(|_| serves);
            let mut health = known.unwrap_or(Health { ask_at: now, heard, silent: 0 });
            let is_due = health.ask_at <= now;
            if is_due {
                let was_silent = known.is_some() && health.heard == heard;
                let silent = if was_silent { health.silent + 1 } else { 0 };
                health = Health { ask_at: now + interval, heard, silent };
            }
            child.seen.health = Some(health);
            let next = health.ask_at;
            self.looks.health = Some(self.looks.health.map_or(next, |earlier| earlier.min(next)));
            if is_due && serves {
                if health.silent >= SILENT_INTERVALS {
                    self.take_in(Event::Hung { instance });
                }
                self.ask_whether_well(instance);
            }
        }
    }

    fn ask_whether_well(&self, instance: InstanceId) {
        // Without room much is on its way to workers already, and they will be heard of.
        if let Some(permit) = self.looks.asking.take(Budget::cost(QUESTION.len(), false)) {
            let parcel = Parcel { instance, message: QUESTION.to_vec(), attachment: None, permit };
            self.traffic.orders.send(Order::Send(parcel));
        }
    }
}

fn wants_figures(spec: &AppSpec) -> bool {
    has_level(spec) || spec.max_requests.is_some() || spec.scaling.is_some()
}

/// Whether the memory of its workers is held against something.
fn has_level(spec: &AppSpec) -> bool {
    spec.memory_warning.is_some() || spec.max_memory_restart.is_some()
}
