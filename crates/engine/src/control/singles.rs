//! Single workers: what an embedder asks of one of them, and what it hears from one.
//!
//! It looks for the process and carries out; the core decides who fills a slot.

use std::io;

use oxherd_core::{AppId, InstanceId, Place, Refusal, Request};

use crate::WorkerMessage;
use crate::control::{Control, now};
use crate::traffic::Delivery;

impl Control<'_> {
    pub(super) fn on_fork(&mut self, app: AppId, env: Vec<(String, String)>) -> Result<Place, Refusal> {
        let slot = self.fleet.vacant_slot(app).ok_or(Refusal::NoSuchApp(app))?;
        self.fleet.handle_request(Request::Fork { app, slot, env }, now())?;
        // Asked for now: should it not start, its slot is empty afterwards.
        let place = self.fleet.occupant(app, slot);
        self.keeping.touch_desired();
        self.keep_now();
        self.carry_out();
        place.ok_or(Refusal::SlotInUse(slot))
    }

    pub(super) fn signal_one(&mut self, instance: InstanceId, signal: i32) -> io::Result<()> {
        let child = self.children.process(instance).ok_or(io::ErrorKind::NotFound)?;
        self.host.signal(child, signal)
    }

    pub(super) fn kill_one(&mut self, instance: InstanceId) -> io::Result<()> {
        let child = self.children.process(instance).ok_or(io::ErrorKind::NotFound)?;
        self.host.kill_tree(child);
        Ok(())
    }

    pub(super) fn on_message(&mut self, delivery: Delivery) {
        let Delivery { place, raw, attachment, permit } = delivery;
        self.observer.message(WorkerMessage { place, raw, attachment, permit });
    }

    pub(super) fn tell_disconnected(&mut self, instance: InstanceId) {
        let taps = self.taps;
        let Some(child) = self.children.get_mut(instance).filter(|it| taps && !it.disconnected) else {
            return;
        };
        child.disconnected = true;
        let (place, had_channel) = (child.place, child.had_channel());
        if had_channel {
            self.observer.disconnected(place);
        }
    }
}
