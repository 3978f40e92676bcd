//! Whether a worker looks at its channel: told to control when it has not for long, and when it does again.

use oxherd_core::{Event, InstanceId};

use crate::traffic::Traffic;
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;
use crate::traffic::worker::{Attention, Standing, Worker};

/// After how long without a word about the connections in hand a worker counts as stalled, in milliseconds.
pub(super) const STALL_MS: u64 = 5000;
/// How long a worker may leave frames waiting before it counts as stalled, in milliseconds.
const WRITE_STALL_MS: u64 = 2000;

impl Traffic {
    /// Sees to it that the worker is looked at by then. There is one such timer for each worker, not one for
    /// each connection.
    pub(super) fn watch_for_stall(&mut self, number: usize, due: u64) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.stall_check.is_none_or(|set| set > due) {
            worker.stall_check = Some(due);
            self.timers.set(due, Timer::Stall(worker.place.instance));
        }
    }

    /// A frame for the worker waits since now, if none did before.
    pub(super) fn note_blocked(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.blocked_since.is_none() {
            worker.blocked_since = Some(self.now);
            self.watch_for_stall(number, self.now + WRITE_STALL_MS);
        }
    }

    pub(super) fn on_stall_timer(&mut self, instance: InstanceId) {
        let Some(number) = self.worker_of(instance) else { return };
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.stall_check.is_none_or(|due| due > self.now) {
            // Another was set for an earlier moment since, and has been here.
            return;
        }
        worker.stall_check = None;
        self.check_stall(number);
    }

    /// A worker that leaves frames or connections lying for long has stopped reading its channel.
    pub(super) fn check_stall(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let instance = worker.place.instance;
        let due = worker.stalls_at();
        let is_stalled = due.is_some_and(|due| due <= self.now);
        match (worker.told_stalled, is_stalled) {
            (false, true) if worker.standing == Standing::Open => {
                worker.told_stalled = true;
                self.tell(News::Fact(Event::Stalled { instance }));
            }
            (true, false) => {
                worker.told_stalled = false;
                self.tell(News::Fact(Event::Resumed { instance }));
            }
            (false, true) | (true, true) | (false, false) => {}
        }
        if let Some(due) = due.filter(|_| !is_stalled) {
            self.watch_for_stall(number, due);
        }
    }
}

impl Worker {
    /// When it will count as stalled if it says nothing until then.
    fn stalls_at(&self) -> Option<u64> {
        let silent = self.unanswered.front().map(|handed| handed.at + STALL_MS);
        let blocked = self.blocked_since.map(|since| since + WRITE_STALL_MS);
        let suspect = match self.attention {
            Attention::Awake => None,
            Attention::Suspect { since } => Some(since + STALL_MS),
        };
        let fenced = self.fence.map(|fence| fence.since + STALL_MS);
        [silent, blocked, suspect, fenced].into_iter().flatten().min()
    }
}
