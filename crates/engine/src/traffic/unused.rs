//! Listeners that a reload has left behind: the new generation listens elsewhere, so nobody would serve who comes there,
//! and the address is somebody else's to take.

use oxherd_core::{AppId, Generation, Place};

use crate::traffic::Traffic;
use crate::traffic::timers::Timer;

/// How long such a listener stays, in milliseconds: a program may listen at another port a while after its first.
const UNUSED_GRACE_MS: u64 = 5000;

impl Traffic {
    /// A worker has gone. A later generation has what listeners it wants.
    pub(super) fn look_for_unused(&mut self, gone: Place) {
        if !self.listens_since(gone.app, gone.generation) {
            return;
        }
        for number in self.listeners.of_app(gone.app) {
            if !self.is_used_but_by(None, number) {
                self.timers.set(self.now + UNUSED_GRACE_MS, Timer::Unused(number, gone.generation));
            }
        }
    }

    /// Where its users crash one after the other a listener is unused, and wanted all the same.
    pub(super) fn on_unused_timer(&mut self, number: usize, left_by: Generation) {
        let Some(app) = self.listeners.get(number).map(|it| it.identity.app) else { return };
        if !self.is_used_but_by(None, number) && self.listens_since(app, left_by) {
            self.close_listener(number);
        }
    }

    /// Whether a worker of a later generation listens anywhere.
    fn listens_since(&self, app: AppId, generation: Generation) -> bool {
        let workers = self.workers.iter().map(|(_, it)| (it.place, it.registered.is_empty()));
        let borrowers = self.borrowers.iter().map(|(_, it)| (it.place, it.listening.is_empty()));
        workers
            .chain(borrowers)
            .any(|(place, is_idle)| place.app == app && place.generation > generation && !is_idle)
    }
}
