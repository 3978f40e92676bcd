//! How an instance is held where it wants to listen, and let go: every phase, written out. Who is to be held and who
//! takes which slot is for `standby` and `reload`.

use crate::instance::Instance;
use crate::lifecycle::Surroundings;
use crate::outbox::Outbox;
use crate::{Action, Moment, Notice, Phase, Slot, Span};

impl Instance {
    /// It wants to listen. One that nobody holds, or that was let go meanwhile, is let go again.
    pub(crate) fn on_parked(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } if self.held => {
                self.facts.parked = true;
                self.phase = Phase::Parked;
                out.tell(Notice::Parked { place: self.place, standby: around.standby });
            }
            Phase::Starting { .. } | Phase::Serving(_) => self.let_go(out),
            Phase::Spawning
            | Phase::Aborting
            | Phase::Parked
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    /// From now on it fills this slot: it may listen. One that listens already is ready.
    pub(crate) fn unpark(&mut self, slot: Slot, around: &Surroundings<'_>, out: &mut Outbox) {
        self.place.slot = slot;
        self.since = Some(around.now);
        self.let_go(out);
        match self.phase {
            Phase::Parked => {
                let overdue = Some(around.now + around.spec.listen_timeout);
                self.phase = Phase::Starting { lived: None, overdue };
                let is_ready =
                    if around.spec.wait_ready { self.facts.said_ready } else { self.facts.listening };
                if is_ready {
                    self.pass_gate(around, out);
                }
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn let_go(&mut self, out: &mut Outbox) {
        self.held = false;
        out.order(Action::Unpark { instance: self.id(), slot: self.place.slot });
    }

    pub(crate) fn is_parked(&self) -> bool {
        match self.phase {
            Phase::Parked => true,
            Phase::Spawning
            | Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => false,
        }
    }

    /// How long it has had its slot: since its start, unless it was held.
    pub(crate) fn tenure(&self, now: Moment) -> Span {
        self.since.or(self.spawned_at).map_or(Span::ZERO, |since| now.since(since))
    }
}
