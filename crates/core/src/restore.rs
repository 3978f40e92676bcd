//! Taking a herd over: an image, possibly stale, is held against the processes that really live.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::app::{After, App, Desired, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::image::{Child, Inventory};
use crate::instance::Instance;
use crate::lifecycle::Surroundings;
use crate::outbox::Outbox;
use crate::{Action, Exit, InstanceId, Moment, Notice, Phase, Place, ReloadFailure, RetireReason, Standing};

/// What an unknown child can be to the slot on its label.
enum Role {
    Occupant,
    Successor,
    Stray,
}

impl Fleet {
    pub(crate) fn restore(&mut self, inventory: &Inventory, now: Moment) {
        self.renumber(inventory);
        let living: BTreeSet<InstanceId> = inventory.children.iter().map(Child::instance).collect();
        let lost: Vec<_> = self.state.instances.keys().copied().filter(|id| !living.contains(id)).collect();
        for id in lost {
            self.on_lost(id, now);
        }
        self.restore_strays(&living);
        self.note_listening(inventory);
        let (known, mut unknown): (Vec<&Child>, Vec<&Child>) =
            inventory.children.iter().partition(|child| self.state.instances.contains_key(&child.instance()));
        for child in known {
            self.with(child.instance(), now, |it, around, out| it.resume(child, around, out));
            self.replace_interrupted(child, now);
        }
        // Of two that could fill one slot the one that was not ready is a successor. Of two that were, the older one is
        // on its way out: the newest first.
        unknown.sort_by_key(|child| Reverse((child.was_ready && !child.leaving, child.instance())));
        for child in unknown {
            if !self.state.strays.contains(&child.instance()) {
                self.on_unknown_child(child, inventory, now);
            }
        }
        self.repeat_orders();
        self.settle(now);
    }

    /// No id is given twice, even if the keeper has lost count or the image is of this very start.
    fn renumber(&mut self, inventory: &Inventory) {
        let ids = inventory.children.iter().map(Child::instance).chain(self.state.instances.keys().copied());
        let last = InstanceId { starts: self.state.starts, number: self.state.last_instance };
        let newest = ids.chain([last]).max().unwrap_or(last);
        self.state.starts = newest.starts.max(inventory.starts);
        self.state.last_instance = if newest.starts == self.state.starts { newest.number } else { 0 };
        // Nor that of an app which is forgotten while something of it is left.
        let apps =
            inventory.children.iter().map(|child| child.label.0.app).chain(inventory.listening.clone());
        self.state.last_app =
            apps.map(|app| app.0.saturating_add(1)).max().unwrap_or(0).max(self.state.last_app);
    }

    /// Those without an app: who still lives is killed again, of the others the rest is swept.
    fn restore_strays(&mut self, living: &BTreeSet<InstanceId>) {
        let (here, gone): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.state.strays).into_iter().partition(|id| living.contains(id));
        gone.into_iter().for_each(|instance| self.out.order(Action::Sweep { instance }));
        here.iter().for_each(|instance| self.out.order(Action::Kill { instance: *instance }));
        self.state.strays = here;
    }

    /// Who holds a listener listens, even if the news of it was lost.
    fn note_listening(&mut self, inventory: &Inventory) {
        for place in inventory.children.iter().filter(|child| child.listens).map(|child| child.label.0) {
            if let Some(app) = self.state.apps.get_mut(&place.app)
                && app.specs.contains_key(&place.generation)
            {
                app.listens.insert(place.generation);
            }
        }
    }

    /// Orders about listeners that may have been lost.
    fn repeat_orders(&mut self) {
        for app in self.state.apps.values() {
            match app.desired {
                Desired::Closing { .. } => self.out.order(Action::CloseDoors { app: app.id }),
                Desired::Stopped => self.out.order(Action::CloseListeners { app: app.id }),
                Desired::Up | Desired::Down { .. } => {}
            }
        }
    }

    /// An instance of the image has no process: it ended unseen, or was never started.
    fn on_lost(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        let (place, ordered_only) = (instance.place, instance.spawned_at.is_none());
        self.out.order(Action::Sweep { instance: id });
        if ordered_only {
            return self.unorder(id);
        }
        let wanted = instance.retired.is_some() || instance.facts.departing;
        let uptime = instance.uptime(now);
        self.out.tell(Notice::Exited { place, exit: Exit::Unknown, uptime, wanted });
        let failure = ReloadFailure::Died { slot: place.slot, exit: Exit::Unknown };
        self.remove_instance(id, Exit::Unknown, failure, None, now);
    }

    /// The order to start it was lost with the old primary; converging gives it again.
    fn unorder(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.remove(&id) else { return };
        let place = instance.place;
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        if app.standbys.leaving.remove(&id) || app.standbys.vacate(id) {
            return;
        }
        let Some(state) = app.slots.get_mut(&place.slot) else { return };
        state.leaving.remove(&id);
        if state.successor == Some(id) {
            state.successor = None;
        }
        if state.occupant == Some(id) {
            state.occupant = None;
            state.vacancy = Vacancy::Fill;
        }
    }

    /// A worker with a channel that is not ready may wait for ever for an answer that was lost with the old
    /// primary, and the word of one that is to say when it is ready may have been lost with it. Another takes its place, and nobody is blamed: neither its slot nor a reload that it is part of. One
    /// that has ended is judged by its end.
    fn replace_interrupted(&mut self, child: &Child, now: Moment) {
        let id = child.instance();
        let Some(instance) = self.state.instances.get(&id) else { return };
        let (place, starts) = (instance.place, instance.is_starting() || instance.is_parked());
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        if child.ended || !starts || !app.is_up() || !app.spec_of(place.generation).may_wait_for_us() {
            return;
        }
        if app.standbys.vacate(id) {
            app.standbys.leaving.insert(id);
        } else {
            let Some(state) = app.slots.get_mut(&place.slot) else { return };
            state.successor.take_if(|successor| *successor == id);
            if state.occupant.take_if(|occupant| *occupant == id).is_some() {
                state.vacancy = Vacancy::Fill;
            }
            state.leaving.insert(id);
        }
        self.with(id, now, |it, around, out| {
            // One that listens may have connections: it is drained.
            it.ready_at = it.ready_at.or(child.listens.then_some(now));
            it.retire(RetireReason::Interrupted, around, out);
        });
    }

    fn on_unknown_child(&mut self, child: &Child, inventory: &Inventory, now: Moment) {
        let place = child.label.0;
        if child.ended {
            // Its end was taken note of, and only the order to sweep it was lost.
            self.state.strays.insert(place.instance);
            return;
        }
        let role = self.role_of(child);
        let may_be_silent = !inventory.listening.contains(&place.app);
        let Some(app) = self.state.apps.get_mut(&place.app) else {
            // Without an app there is no slot to lead it out of: it is killed, and only its end is awaited.
            self.state.strays.insert(place.instance);
            return self.out.order(Action::Kill { instance: place.instance });
        };
        app.newest = app.newest.max(place.generation);
        if app.desired == Desired::Stopped {
            app.desired = Desired::Down { then: After::Keep };
        }
        let state = app.slots.entry(place.slot).or_insert_with(SlotState::new);
        match role {
            Role::Occupant => {
                state.occupant = Some(place.instance);
                state.vacancy = Vacancy::Fill;
            }
            Role::Successor => state.successor = Some(place.instance),
            Role::Stray => drop(state.leaving.insert(place.instance)),
        }
        self.state.instances.insert(place.instance, Instance::new(place));
        self.with(place.instance, now, |it, around, out| match role {
            Role::Occupant | Role::Successor => it.adopt(child, may_be_silent, around, out),
            Role::Stray => it.lead_out(child, around, out),
        });
        self.replace_interrupted(child, now);
    }

    fn role_of(&self, child: &Child) -> Role {
        let place = child.label.0;
        let Some(app) = self.state.apps.get(&place.app) else { return Role::Stray };
        if child.leaving || !app.is_up() || !app.is_target(place.slot) {
            return Role::Stray;
        }
        let state = app.slots.get(&place.slot);
        let vacant = state.is_none_or(|state| state.occupant.is_none());
        let unclaimed = state.is_none_or(|state| state.successor.is_none());
        // It was on its way out when the newer one was started.
        let outlived = state.is_some_and(|state| self.has_newer(state, place));
        match &app.reload {
            _ if outlived => Role::Stray,
            _ if vacant && place.generation == app.fill_generation(place.slot) => Role::Occupant,
            Some(reload)
                if unclaimed && reload.generation == place.generation && self.has_batch_room(app) =>
            {
                Role::Successor
            }
            Some(_) | None => Role::Stray,
        }
    }

    /// Whether one that was started later from the same generation is leaving the slot already.
    fn has_newer(&self, state: &SlotState, place: Place) -> bool {
        let later = state.leaving.iter().filter(|id| **id > place.instance);
        later.filter_map(|id| self.state.instances.get(id)).any(|it| it.place.generation == place.generation)
    }

    /// Whether the batch of the running reload has room for one more that is not ready yet.
    fn has_batch_room(&self, app: &App) -> bool {
        let unready = |id: &InstanceId| self.state.instances.get(id).is_some_and(|it| !it.is_serving());
        let successors = app.slots.values().filter_map(|state| state.successor).filter(unready).count();
        let batch = app.reload.as_ref().map(|reload| app.spec_of(reload.generation).parallel);
        batch.is_some_and(|batch| successors < batch as usize)
    }
}

impl Instance {
    /// Gives the orders of its phase again: they may have been lost. All of them may come twice. What the
    /// image may have missed is made up for by what shows on the process.
    fn resume(&mut self, child: &Child, around: &Surroundings<'_>, out: &mut Outbox) {
        let instance = self.id();
        self.facts.stalled = false;
        self.facts.online |= child.listens && around.spec.has_channel();
        match self.phase {
            Phase::Spawning | Phase::Aborting => self.on_born(child.born_by(around.now), around, out),
            Phase::Starting { .. } => {
                self.let_go_again(around, out);
                if self.facts.probing {
                    out.order(Action::Probe { instance });
                }
            }
            Phase::Parked => {}
            // A stall that lasts is seen again; the end of one that does not would be missed.
            Phase::Serving(_) => {
                self.let_go_again(around, out);
                out.order(Action::Admit { instance });
                self.phase = Phase::Serving(Standing::Admitted);
            }
            Phase::Withdrawing { .. } => out.order(Action::Withdraw { instance }),
            // One that leaves by itself knows already; the others may not have been told.
            Phase::Draining { .. } if self.facts.departing => out.order(Action::Withdraw { instance }),
            Phase::Draining { until } => {
                out.order(Action::Withdraw { instance });
                self.phase = Phase::Withdrawing { until };
            }
            Phase::Leaving { .. } => out.order(Action::Withdraw { instance }),
            Phase::Terminating { .. } => {
                out.order(Action::Terminate { instance, signal: around.spec.stop_signal });
            }
            Phase::Killing { .. } => out.order(Action::Kill { instance }),
        }
        if around.standby || self.is_parked() {
            self.facts.listening |= child.listens;
            if child.listens && self.is_starting() {
                self.phase = Phase::Parked;
            }
        } else if child.shows_ready(around) && !child.ended && self.is_starting() {
            self.pass_gate(around, out);
        }
    }

    /// Calls of a worker that is lent its sockets outlive a primary, and the order to let them through may have been
    /// lost. Of one that has another slot than its label says, that is told again.
    fn let_go_again(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        let is_lent = around.spec.can_park() && !around.spec.has_channel();
        if !self.held && (is_lent || self.since.is_some()) {
            self.let_go(out);
        }
    }

    /// A process from before this primary's start goes on. Who is not ready then and has a channel does not.
    fn adopt(&mut self, child: &Child, may_be_silent: bool, around: &Surroundings<'_>, out: &mut Outbox) {
        let has_channel = around.spec.has_channel();
        self.begin(child.born_by(around.now), around);
        self.facts.online = child.listens && has_channel;
        self.let_go_again(around, out);
        let may_be_silent = may_be_silent && around.spec.ready_probe.is_none();
        let is_ready = child.was_ready
            || child.shows_ready(around) && around.spec.ready_probe.is_none()
            || may_be_silent && child.is_of_age(around);
        if is_ready || !has_channel {
            out.tell(Notice::Adopted { place: self.place });
        }
        if is_ready {
            self.serve(around, out);
        } else if child.shows_ready(around) && !has_channel {
            // That it listens is not told again.
            self.pass_gate(around, out);
        }
    }

    /// A process from before this primary's start has no place any more.
    fn lead_out(&mut self, child: &Child, around: &Surroundings<'_>, out: &mut Outbox) {
        self.begin(child.born_by(around.now), around);
        self.facts.online = child.listens && around.spec.has_channel();
        self.ready_at = (child.listens || child.was_ready).then_some(around.now);
        self.retire(RetireReason::Stray, around, out);
    }
}

impl Child {
    /// When it was started; `now` at the latest.
    fn born_by(&self, now: Moment) -> Moment {
        self.born.map_or(now, |born| born.min(now))
    }

    /// Whether it was ready as the old primary saw it, or would have in a moment.
    fn shows_ready(&self, around: &Surroundings<'_>) -> bool {
        self.was_ready || self.listens && !around.spec.wait_ready
    }

    /// Whether it is old enough to be ready, where nothing else is asked for and nobody of its kind listens.
    fn is_of_age(&self, around: &Surroundings<'_>) -> bool {
        let by_age = !around.spec.wait_ready && !around.listens;
        by_age && self.born.is_some_and(|born| around.now.since(born) >= around.spec.min_uptime)
    }
}
