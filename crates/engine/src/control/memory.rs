//! Workers that hold much memory are told of. Nothing is done to them.

use oxherd_core::{InstanceId, Moment, Span};

use crate::Alert;
use crate::control::{Control, now};

/// How often it is looked at.
const EVERY: Span = Span::from_secs(1);

impl Control<'_> {
    /// Sees to it that memory is looked at, if this worker's app has a level.
    pub(super) fn arm_memory_watch(&mut self, instance: InstanceId) {
        if self.memory_due.is_none() && self.memory_level(instance).is_some() {
            self.memory_due = Some(now() + EVERY);
        }
    }

    pub(super) fn watch_memory(&mut self, now: Moment) {
        if self.memory_due.is_none_or(|due| due > now) {
            return;
        }
        let watched: Vec<(InstanceId, u64)> = self
            .children
            .iter()
            .filter_map(|child| Some((child.place.instance, self.memory_level(child.place.instance)?)))
            .collect();
        self.memory_due = (!watched.is_empty()).then(|| now + EVERY);
        for (instance, limit) in watched {
            self.compare_memory(instance, limit);
        }
    }

    fn compare_memory(&mut self, instance: InstanceId, limit: u64) {
        let Some(child) = self.children.get_mut(instance) else { return };
        let Ok(bytes) = self.host.resident(&child.process) else { return };
        let was_above = std::mem::replace(&mut child.is_above, bytes > limit);
        if bytes > limit && !was_above {
            let (place, pid) = (child.place, child.process.pid);
            self.observer.alert(&Alert::MemoryAbove { place, pid, bytes, limit });
        }
    }

    fn memory_level(&self, instance: InstanceId) -> Option<u64> {
        self.fleet.spec_of(instance)?.memory_warning
    }
}
