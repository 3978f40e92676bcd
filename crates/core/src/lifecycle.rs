//! How an instance's phases follow each other: every phase × event pair, written out. It decides for one
//! instance only; what an end or a readiness means for the slot is `fleet`.

use crate::instance::Instance;
use crate::outbox::Outbox;
use crate::{Action, AppSpec, Moment, Notice, Parting, Phase, RetireReason, Span, Standing};

/// How long a worker whose channel has ended may take to end by itself, before it gets the polite signal: a
/// Node worker that finished cleanly is on its way to exit code 0 then.
const EXIT_GRACE: Span = Span::from_millis(200);

/// What an instance needs to know of the world around it.
pub(crate) struct Surroundings<'a> {
    pub(crate) spec: &'a AppSpec,
    /// Workers of its kind are known to listen, so that living long enough is not readiness.
    pub(crate) listens: bool,
    /// It is a standby: nothing makes it ready before it has a slot.
    pub(crate) standby: bool,
    pub(crate) now: Moment,
}

/// What a passed deadline has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lateness {
    OnTime,
    NotReady,
}

impl Instance {
    /// Who is heard of lives, even when the news of its birth is still on its way.
    pub(crate) fn on_heard(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Spawning => self.on_spawned(around, out),
            Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_spawned(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        self.on_born(around.now, around, out);
    }

    pub(crate) fn on_born(&mut self, born: Moment, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Spawning => {
                self.begin(born, around);
                out.tell(Notice::Forked { place: self.place });
            }
            Phase::Aborting => {
                self.spawned_at = Some(born);
                self.kill(around, out);
            }
            Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    /// Its process lives; from now on it is expected to become ready.
    pub(crate) fn begin(&mut self, born: Moment, around: &Surroundings<'_>) {
        self.spawned_at = Some(born);
        let by_age = !around.spec.wait_ready && !around.listens && !around.standby;
        self.phase = Phase::Starting {
            lived: by_age.then_some(around.now.max(born + around.spec.min_uptime)),
            overdue: Some(around.now + around.spec.listen_timeout),
        };
    }

    pub(crate) fn on_online(&mut self, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } | Phase::Parked | Phase::Serving(_) => {
                if !std::mem::replace(&mut self.facts.online, true) {
                    out.tell(Notice::Online { place: self.place });
                }
            }
            Phase::Withdrawing { .. } | Phase::Draining { .. } => self.facts.online = true,
            Phase::Spawning
            | Phase::Aborting
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_listening(&mut self, address: String, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } if !around.standby => {
                self.note_address(address, out);
                self.facts.online |= around.spec.has_channel();
                if !around.spec.wait_ready || self.facts.said_ready {
                    self.pass_gate(around, out);
                }
            }
            // It is booted, and was let go by a primary whose last orders are forgotten.
            Phase::Starting { .. } | Phase::Parked => {
                self.note_address(address, out);
                self.facts.online |= around.spec.has_channel();
                (self.facts.listening, self.phase) = (true, Phase::Parked);
            }
            Phase::Serving(_) => self.note_address(address, out),
            Phase::Spawning
            | Phase::Aborting
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    /// A `ready` message opens the gate only where it was asked for: a program may say so before it listens.
    pub(crate) fn on_ready(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } if !around.standby => {
                self.facts.online |= around.spec.has_channel();
                if around.spec.wait_ready {
                    self.pass_gate(around, out);
                }
            }
            Phase::Starting { .. } | Phase::Parked => {
                self.facts.online |= around.spec.has_channel();
                self.facts.said_ready = true;
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_withdrawn(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Withdrawing { until } => {
                if !around.spec.has_channel() {
                    return self.terminate(around, out);
                }
                let parting = if around.spec.shutdown_with_message { Parting::Text } else { Parting::Object };
                out.order(Action::Disconnect { instance: self.id(), parting });
                self.phase = Phase::Draining { until };
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_departing(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } | Phase::Serving(_) => {
                self.facts.departing = true;
                out.order(Action::Withdraw { instance: self.id() });
                self.phase = Phase::Draining { until: around.now + around.spec.drain_timeout };
            }
            Phase::Parked => {
                self.facts.departing = true;
                self.phase = Phase::Draining { until: around.now + around.spec.drain_timeout };
            }
            Phase::Withdrawing { until } => {
                self.facts.departing = true;
                self.phase = Phase::Draining { until };
            }
            Phase::Draining { .. } | Phase::Leaving { .. } | Phase::Terminating { .. } => {
                self.facts.departing = true
            }
            Phase::Spawning | Phase::Aborting | Phase::Killing { .. } => {}
        }
    }

    /// A program that never spoke on its channel may close it and go on; a worker that did ends.
    pub(crate) fn on_channel_closed(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } | Phase::Serving(_) => {
                if self.facts.online {
                    out.order(Action::Withdraw { instance: self.id() });
                    self.phase = Phase::Leaving { until: around.now + EXIT_GRACE };
                }
            }
            Phase::Parked if !around.spec.has_channel() => {}
            Phase::Parked | Phase::Withdrawing { .. } | Phase::Draining { .. } => {
                self.phase = Phase::Leaving { until: around.now + EXIT_GRACE };
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_stalled(&mut self, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } | Phase::Parked => self.facts.stalled = true,
            Phase::Serving(Standing::Admitted) => {
                out.order(Action::Withdraw { instance: self.id() });
                out.tell(Notice::Stalled { place: self.place });
                self.phase = Phase::Serving(Standing::Stalled);
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Serving(Standing::Stalled)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_resumed(&mut self, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } | Phase::Parked => self.facts.stalled = false,
            Phase::Serving(Standing::Stalled) => {
                out.order(Action::Admit { instance: self.id() });
                out.tell(Notice::Resumed { place: self.place });
                self.phase = Phase::Serving(Standing::Admitted);
            }
            Phase::Spawning
            | Phase::Aborting
            | Phase::Serving(Standing::Admitted)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn on_misbehaved(&mut self, what: String, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. } => {
                out.tell(Notice::Misbehaved { place: self.place, what });
                self.kill(around, out);
            }
            Phase::Spawning | Phase::Aborting | Phase::Killing { .. } => {}
        }
    }

    /// Somebody wants this instance gone: politely, and with what it has in hand finished.
    pub(crate) fn retire(&mut self, reason: RetireReason, around: &Surroundings<'_>, out: &mut Outbox) {
        if self.retired.is_some() {
            return;
        }
        self.retired = Some(reason);
        match self.phase {
            Phase::Spawning => self.phase = Phase::Aborting,
            Phase::Starting { .. } | Phase::Serving(_) => {
                out.tell(Notice::Retiring { place: self.place, reason });
                if around.spec.is_given_connections() && self.may_have_connections() {
                    out.order(Action::Withdraw { instance: self.id() });
                    self.phase = Phase::Withdrawing { until: around.now + around.spec.drain_timeout };
                } else {
                    self.terminate(around, out);
                }
            }
            // It has no connections.
            Phase::Parked => {
                out.tell(Notice::Retiring { place: self.place, reason });
                self.terminate(around, out);
            }
            Phase::Aborting
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    /// Somebody wants this instance gone now.
    pub(crate) fn kill_now(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        self.retired = self.retired.or(Some(RetireReason::Stop));
        match self.phase {
            Phase::Spawning | Phase::Aborting => self.phase = Phase::Aborting,
            Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => self.kill(around, out),
        }
    }

    pub(crate) fn on_timeout(&mut self, around: &Surroundings<'_>, out: &mut Outbox) -> Lateness {
        if self.deadline().is_none_or(|deadline| deadline > around.now) {
            return Lateness::OnTime;
        }
        match self.phase {
            Phase::Starting { lived, .. } => return self.on_starting_timeout(lived, around, out),
            Phase::Withdrawing { .. } | Phase::Draining { .. } | Phase::Leaving { .. } => {
                self.terminate(around, out)
            }
            Phase::Terminating { .. } => self.kill(around, out),
            Phase::Killing { .. } => {
                if !std::mem::replace(&mut self.facts.unkillable, true) {
                    out.tell(Notice::Unkillable { place: self.place });
                }
                out.order(Action::Kill { instance: self.id() });
                self.phase = Phase::Killing { until: around.now + around.spec.kill_timeout + EXIT_GRACE };
            }
            Phase::Spawning | Phase::Aborting | Phase::Parked | Phase::Serving(_) => {}
        }
        Lateness::OnTime
    }

    /// Another worker of the app was seen to listen: age alone is not readiness any more.
    pub(crate) fn expect_listening(&mut self) {
        if let Phase::Starting { lived, .. } = &mut self.phase {
            *lived = None;
        }
    }

    /// All that it can show by itself it has shown. Where somebody is to answer for it as well, that is asked now.
    pub(crate) fn pass_gate(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        if around.spec.ready_probe.is_none() {
            return self.become_ready(around, out);
        }
        if let Phase::Starting { lived, .. } = &mut self.phase {
            *lived = None;
        }
        if !std::mem::replace(&mut self.facts.probing, true) {
            out.order(Action::Probe { instance: self.id() });
        }
    }

    pub(crate) fn on_probed(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        match self.phase {
            Phase::Starting { .. } if self.facts.probing => self.become_ready(around, out),
            Phase::Starting { .. }
            | Phase::Spawning
            | Phase::Aborting
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    pub(crate) fn become_ready(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        out.tell(Notice::Ready { place: self.place, after: self.tenure(around.now) });
        self.serve(around, out);
    }

    pub(crate) fn serve(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        self.ready_at = Some(around.now);
        if self.facts.stalled {
            out.tell(Notice::Stalled { place: self.place });
            self.phase = Phase::Serving(Standing::Stalled);
        } else {
            out.order(Action::Admit { instance: self.id() });
            self.phase = Phase::Serving(Standing::Admitted);
        }
    }

    fn on_starting_timeout(
        &mut self,
        lived: Option<Moment>,
        around: &Surroundings<'_>,
        out: &mut Outbox,
    ) -> Lateness {
        if lived.is_some_and(|lived| lived <= around.now) {
            self.pass_gate(around, out);
            return Lateness::OnTime;
        }
        out.tell(Notice::NotReady { place: self.place, after: self.tenure(around.now) });
        self.phase = Phase::Starting { lived, overdue: None };
        Lateness::NotReady
    }

    pub(crate) fn terminate(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        self.leave_service(out);
        let signal = around.spec.stop_signal;
        out.tell(Notice::Terminating { place: self.place, signal });
        out.order(Action::Terminate { instance: self.id(), signal });
        self.phase = Phase::Terminating { until: around.now + around.spec.kill_timeout };
    }

    fn kill(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        self.leave_service(out);
        out.tell(Notice::Killing { place: self.place });
        out.order(Action::Kill { instance: self.id() });
        self.phase = Phase::Killing { until: around.now + around.spec.kill_timeout + EXIT_GRACE };
    }

    /// Whoever is about to get a signal gets no more connections.
    fn leave_service(&mut self, out: &mut Outbox) {
        match self.phase {
            Phase::Serving(Standing::Admitted) => out.order(Action::Withdraw { instance: self.id() }),
            Phase::Spawning
            | Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Parked
            | Phase::Serving(Standing::Stalled)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => {}
        }
    }

    /// One that was never ready and never listened has nothing in hand to finish.
    fn may_have_connections(&self) -> bool {
        self.ready_at.is_some() || !self.addresses.is_empty()
    }

    fn note_address(&mut self, address: String, out: &mut Outbox) {
        if !self.addresses.contains(&address) {
            self.addresses.push(address.clone());
            out.tell(Notice::Listening { place: self.place, address });
        }
    }
}
