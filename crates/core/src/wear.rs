//! When a worker is worn out: what it uses, has served, or has lived, held against what its app allows. Bounds are
//! moved a little from worker to worker, so that those that were started together are not replaced together.

use crate::fleet::Fleet;
use crate::{InstanceId, Moment, RecycleReason, Span};

/// The bounds of requests and of age lie within this part of what was given, above and below.
const JITTER_PERCENT: u64 = 10;

impl Fleet {
    pub(crate) fn on_measured(
        &mut self,
        id: InstanceId,
        memory: Option<u64>,
        requests: Option<u64>,
        now: Moment,
    ) {
        if let Some(why) = self.wear_of(id, memory, requests) {
            self.recycle_by_rule(id, why, now);
        }
    }

    /// One that does not serve has nothing to answer for.
    pub(crate) fn on_hung(&mut self, id: InstanceId, now: Moment) {
        if self.serves(id) {
            self.recycle_by_rule(id, RecycleReason::Hung, now);
        }
    }

    /// Whether figures like these are a reason to replace the worker: then they are to be told.
    pub fn is_worn(&self, id: InstanceId, memory: Option<u64>, requests: Option<u64>) -> bool {
        self.wear_of(id, memory, requests).is_some()
    }

    fn wear_of(&self, id: InstanceId, memory: Option<u64>, requests: Option<u64>) -> Option<RecycleReason> {
        let spec = self.spec_of(id)?;
        let above =
            |figure: Option<u64>, limit: Option<u64>| figure.zip(limit).is_some_and(|(it, max)| it > max);
        let max_requests = spec.max_requests.map(|max| jittered(max, id).max(1) - 1);
        match () {
            () if !self.serves(id) => None,
            () if above(memory, spec.max_memory_restart) => Some(RecycleReason::Memory),
            () if above(requests, max_requests) => Some(RecycleReason::Requests),
            () => None,
        }
    }

    /// Has those replaced that have lived long enough.
    pub(crate) fn pass_lifetimes(&mut self, now: Moment) {
        let aged: Vec<InstanceId> = self.ages().filter(|(_, due)| *due <= now).map(|(id, _)| id).collect();
        for id in aged {
            self.recycle_by_rule(id, RecycleReason::Lifetime, now);
        }
    }

    /// When the next worker will have lived long enough. One that is to be replaced for its age already is not
    /// looked at again before that has come to an end.
    pub(crate) fn next_age(&self) -> Option<Moment> {
        self.ages().map(|(_, due)| due).min()
    }

    /// Those that are to be replaced at an age, and when.
    fn ages(&self) -> impl Iterator<Item = (InstanceId, Moment)> + '_ {
        let apps = self.state.apps.values().filter(|app| app.is_up());
        let slots = apps.flat_map(|app| app.slots.iter().map(move |(slot, state)| (app, *slot, state)));
        slots.filter_map(|(app, slot, state)| {
            let instance = self.state.instances.get(&state.occupant?)?;
            let lifetime = app.spec_of(instance.place.generation).max_lifetime?;
            if !app.is_target(slot) || app.recycles.has(slot) || state.successor.is_some() {
                return None;
            }
            let span = Span::from_millis(jittered(lifetime.as_millis(), instance.id()).max(1));
            let due = instance.since.or(instance.spawned_at)? + span;
            Some((instance.id(), state.hold_off.map_or(due, |until| due.max(until))))
        })
    }
}

/// A bound that differs from worker to worker, and is always the same for one.
fn jittered(bound: u64, id: InstanceId) -> u64 {
    let width = bound.saturating_mul(2 * JITTER_PERCENT) / 100;
    let least = bound - bound.saturating_mul(JITTER_PERCENT) / 100;
    if width == 0 { bound } else { least + scatter(id) % (width + 1) }
}

/// A number that looks as if it were drawn: the finalizer of SplitMix64.
fn scatter(id: InstanceId) -> u64 {
    let mut z = (u64::from(id.starts) << 32 | u64::from(id.number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(bound: u64) -> Vec<u64> {
        (1..=1000).map(|number| jittered(bound, InstanceId { starts: 0, number })).collect()
    }

    #[test]
    fn bounds_are_spread_over_a_tenth_above_and_below() {
        let spread = bounds(1000);
        assert!(spread.iter().all(|it| (900..=1100).contains(it)));
        let below = spread.iter().filter(|it| **it < 1000).count();
        assert!((400..600).contains(&below), "{below}");
        assert!(spread.iter().min() < Some(&905) && spread.iter().max() > Some(&1095));
        assert_eq!(spread, bounds(1000), "the same worker has the same bound");
    }

    #[test]
    fn small_bounds_are_exact_and_large_ones_do_not_overflow() {
        assert!(bounds(1).iter().chain(&bounds(4)).all(|it| (1..=4).contains(it)));
        assert!(bounds(u64::MAX).iter().all(|it| *it > u64::MAX / 2));
    }
}
