//! How the fake machine carries orders out, and what no order may break as seen from its side.

use std::sync::Arc;

use oxherd_core::{Action, AppId, AppSpec, Event, Exit, InstanceId, Moment, Place, Signal, Slot, Span};

use crate::Rng;
use crate::os::{Happening, Os, Step};
use crate::plan::Plan;
use crate::process::{Life, Process};

impl Os {
    /// Carries an order out.
    pub fn obey(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Spawn { place, spec, parks } => self.spawn(*place, spec, *parks, now),
            Action::Admit { instance } => self.admit(*instance, now),
            Action::Probe { instance } => self.probe(*instance, now),
            Action::Withdraw { instance } => self.withdraw(*instance, now),
            Action::Disconnect { instance, .. } => self.disconnect(*instance, now),
            Action::Terminate { instance, .. } => self.terminate(*instance, now),
            Action::Kill { instance } => self.kill(*instance, now),
            Action::Sweep { instance } => self.sweep(*instance),
            Action::Unpark { instance, slot } => self.unpark(*instance, *slot, now),
            Action::CloseDoors { app } => self.close_doors(*app, now),
            Action::CloseListeners { app } => self.close_listeners(*app),
            Action::RetireSlot { app, slot } => {
                let holds =
                    |it: &Process| it.place.app == *app && it.slot == *slot && !it.parks && !it.unlent;
                let used = self.alive().any(holds);
                assert!(!used || self.lossy, "slot {} of {app:?} is retired under a living worker", slot.0);
            }
        }
    }

    fn spawn(&mut self, place: Place, spec: &Arc<AppSpec>, parks: bool, now: Moment) {
        let id = place.instance;
        assert!(!self.processes.contains_key(&id), "{id} is given twice");
        assert!(!self.stopped.contains(&place.app), "{id} is spawned for a stopped app");
        let shut = self.closing.contains(&place.app);
        assert!(!shut || self.lossy, "{id} is spawned behind closed doors");
        let mut rng = Rng::new(self.seed.wrapping_mul(31) ^ self.processes.len() as u64);
        let mut plan = match (self.calm, self.mode.faults()) {
            (true, _) => Plan::calm(&mut rng, spec),
            (false, false) => Plan::healthy(&mut rng, spec),
            (false, true) => Plan::faulty(&mut rng, spec),
        };
        if !self.mode.stalls() {
            plan.stalls = None;
        }
        let born = now + Span::from_millis(plan.born_after);
        assert!(!parks || spec.can_park(), "{id} cannot be held");
        let process = Process::new(place, spec, plan, parks);
        self.processes.insert(id, process);
        self.schedule(born, Happening::Step(id, Step::Born));
    }

    fn probe(&mut self, id: InstanceId, now: Moment) {
        let calm = self.calm;
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} is probed and was never ordered") };
        it.asked = true;
        let answers = if calm { Some(1) } else { it.plan.well_after };
        // Who is asked again answers no sooner.
        let answer = Happening::Tell(Event::Probed { instance: id });
        if let Some(after) = answers.filter(|_| self.queue.values().all(|it| *it != answer)) {
            self.tell(Event::Probed { instance: id }, now, after);
        }
    }

    /// It may come again, and before the process wants to listen.
    fn unpark(&mut self, id: InstanceId, slot: Slot, now: Moment) {
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} is let go and was never ordered") };
        let had_another = !it.parks && it.slot != slot;
        assert!(!had_another || self.lossy, "{id} is given slot {} and has slot {}", slot.0, it.slot.0);
        (it.parks, it.slot) = (false, slot);
        let lag = it.plan.channel_lag;
        if std::mem::take(&mut it.parked) {
            self.schedule(now + Span::from_millis(lag), Happening::Step(id, Step::Listen));
            self.schedule(now + Span::from_millis(lag + 1), Happening::Step(id, Step::Ready));
        }
    }

    fn admit(&mut self, id: InstanceId, now: Moment) {
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} is admitted and was never ordered") };
        assert!(it.life != Life::Ordered, "{id} is admitted before it is born");
        (it.withdrawing, it.withdrawn) = (false, false);
        it.was_admitted = true;
        let (stalled, lag) = (it.stalled && self.lossy, it.plan.channel_lag);
        self.admitted.insert(id);
        if stalled {
            self.schedule(now + Span::from_millis(lag + 1), Happening::Step(id, Step::SeeStall));
        }
    }

    fn withdraw(&mut self, id: InstanceId, now: Moment) {
        self.admitted.remove(&id);
        let calm = self.calm;
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} is withdrawn and was never ordered") };
        let again = std::mem::replace(&mut it.withdrawing, true);
        let answer = match (again, it.withdrawn) {
            (true, false) => None,
            (_, true) => Some(1),
            (false, false) if calm => Some(50),
            (false, false) => it.plan.answers_after,
        };
        if let Some(after) = answer.filter(|_| it.life == Life::Alive) {
            let at = now + Span::from_millis(after);
            self.schedule(at, Happening::Tell(Event::Withdrawn { instance: id }));
        }
    }

    fn disconnect(&mut self, id: InstanceId, now: Moment) {
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} was never ordered") };
        assert!(it.withdrawn, "{id} is disconnected with connections unanswered");
        let again = std::mem::replace(&mut it.disconnected, true);
        if let Some(after) = it.plan.leaves_after.filter(|_| !again) {
            self.leave(id, now, after);
        }
    }

    fn terminate(&mut self, id: InstanceId, now: Moment) {
        assert!(!self.admitted.contains(&id), "{id} is terminated while it gets connections");
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} was never ordered") };
        let again = std::mem::replace(&mut it.terminated, true);
        if let Some(after) = it.plan.obeys_after.filter(|_| !again) {
            let exit = Exit::Signal(Signal::TERM);
            self.schedule(now + Span::from_millis(after), Happening::Step(id, Step::Obey(exit)));
        }
    }

    fn kill(&mut self, id: InstanceId, now: Moment) {
        assert!(!self.admitted.contains(&id), "{id} is killed while it gets connections");
        let Some(it) = self.processes.get_mut(&id) else { panic!("{id} was never ordered") };
        let rude = it.was_admitted && it.kills == 0 && !it.terminated && !it.misbehaved;
        assert!(!rude || self.killing || self.lossy, "{id} is killed without a polite signal");
        it.kills += 1;
        if it.kills == 1 {
            let after = now + Span::from_millis(it.plan.dies_after);
            self.schedule(after, Happening::Step(id, Step::Obey(Exit::Signal(Signal::KILL))));
        }
    }

    fn sweep(&mut self, id: InstanceId) {
        self.admitted.remove(&id);
        let Some(it) = self.processes.get_mut(&id) else {
            return assert!(self.lossy, "{id} is swept and was never ordered");
        };
        it.sweeps += 1;
        assert!(it.life == Life::Over, "{id} is swept alive");
        assert!(it.sweeps == 1 || self.lossy, "{id} is swept twice");
    }

    fn close_doors(&mut self, app: AppId, now: Moment) {
        if !self.closing.insert(app) {
            return;
        }
        let mut rng = Rng::new(self.seed ^ now.as_millis());
        let after = match (self.calm || !self.mode.faults(), rng.below(4)) {
            (false, 0) => return,
            (false, 1) => 1900 + rng.below(200),
            (_, _) => rng.below(100),
        };
        self.tell(Event::DoorsClosed { app }, now, after);
    }

    fn close_listeners(&mut self, app: AppId) {
        self.closing.remove(&app);
        self.listening.remove(&app);
        let used = self.alive().any(|it| it.place.app == app);
        assert!(!used || self.lossy, "{app:?} loses its listeners under living workers");
    }
}
