//! The one pass that starts and retires: it compares what is wanted with what is, and orders the difference.

use crate::app::{After, App, Desired, Muster, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::{Action, AppId, Generation, InstanceId, Moment, Notice, Place, RetireReason, Slot};

/// How many of a slot's former occupants may still be leaving when it is filled again.
const MAX_LEAVING: usize = 2;

impl Fleet {
    /// Brings every app nearer to what is wanted of it.
    pub(crate) fn converge(&mut self, now: Moment) {
        for id in self.app_ids() {
            let Some(app) = self.state.apps.get(&id) else { continue };
            match app.desired {
                Desired::Up => self.converge_up(id, now),
                Desired::Closing { .. } | Desired::Stopped => {}
                Desired::Down { then } => self.converge_down(id, then, now),
            }
        }
    }

    fn converge_up(&mut self, id: AppId, now: Moment) {
        self.drop_surplus_recycles(id);
        self.drop_surplus_slots(id, now);
        self.unpark_batch(id, now);
        self.promote_ready(id, now);
        self.fill_slots(id, now);
        self.drive_reload(id, now);
        self.next_reload(id, now);
        self.drive_recycles(id, now);
        self.converge_standbys(id, now);
    }

    fn converge_down(&mut self, id: AppId, then: After, now: Moment) {
        self.empty_slots(id, RetireReason::Stop, now);
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        if !app.slots.values().all(SlotState::is_empty) || !app.standbys.is_empty() {
            return;
        }
        app.slots.clear();
        app.desired = if then == After::StartAgain { Desired::Up } else { Desired::Stopped };
        self.out.order(Action::CloseListeners { app: id });
        self.out.tell(Notice::Stopped { app: id });
        match then {
            After::Keep => {}
            After::StartAgain => self.converge_up(id, now),
            After::Forget => {
                self.state.apps.remove(&id);
                self.out.tell(Notice::Deleted { app: id });
            }
        }
    }

    /// Everybody leaves, and the slots' pasts are forgiven.
    pub(crate) fn empty_slots(&mut self, id: AppId, reason: RetireReason, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let mut going = app.standbys.dismiss_all();
        for state in app.slots.values_mut() {
            going.extend(state.dismiss_all());
            state.history.pardon();
        }
        for instance in going {
            self.with(instance, now, |it, around, out| it.retire(reason, around, out));
        }
    }

    pub(crate) fn drop_surplus_slots(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let surplus: Vec<Slot> =
            app.slots.keys().copied().filter(|slot| !app.is_target(*slot)).rev().collect();
        for slot in surplus {
            let Some(app) = self.state.apps.get_mut(&id) else { return };
            let Some(state) = app.slots.get_mut(&slot) else { continue };
            let going = state.dismiss_all();
            if state.is_empty() {
                app.slots.remove(&slot);
                self.out.order(Action::RetireSlot { app: id, slot });
            }
            if let Some(reload) = &mut app.reload {
                reload.replaced.remove(&slot);
            }
            for instance in going {
                self.with(instance, now, |it, around, out| it.retire(RetireReason::ScaledDown, around, out));
            }
        }
    }

    fn promote_ready(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let serving = |id: InstanceId| self.state.instances.get(&id).is_some_and(Instance::is_serving);
        let ready = app.slots.iter().filter(|(_, state)| state.successor.is_some_and(serving));
        let ready: Vec<Slot> = ready.map(|(slot, _)| *slot).collect();
        for slot in ready {
            self.promote(id, slot, now);
        }
    }

    fn fill_slots(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        for number in 0..app.instances {
            app.slots.entry(Slot(number)).or_insert_with(SlotState::new);
        }
        self.promote_standbys(id, now);
        let Some(app) = self.state.apps.get(&id) else { return };
        let vacant: Vec<(Slot, Generation)> = app
            .slots
            .iter()
            .filter(|(slot, state)| {
                app.is_target(**slot) && !app.waits_for_reload(**slot) && state.is_to_fill(now)
            })
            .map(|(slot, _)| (*slot, app.fill_generation(*slot)))
            .collect();
        for (slot, generation) in vacant {
            let instance = self.spawn(id, slot, generation, false);
            if let Some(state) = self.state.apps.get_mut(&id).and_then(|app| app.slots.get_mut(&slot)) {
                state.occupant = Some(instance);
                state.vacancy = Vacancy::Fill;
            }
        }
    }

    fn next_reload(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        if app.reload.is_none()
            && let Some(wish) = app.queued.take()
        {
            self.begin_reload(id, wish, now);
            self.fill_slots(id, now);
            self.drive_reload(id, now);
        }
    }

    /// Orders a new process. The caller says what it is to its slot.
    pub(crate) fn spawn(
        &mut self,
        app: AppId,
        slot: Slot,
        generation: Generation,
        parks: bool,
    ) -> InstanceId {
        self.state.last_instance += 1;
        let instance = InstanceId { starts: self.state.starts, number: self.state.last_instance };
        let place = Place { app, slot, generation, instance };
        self.state.instances.insert(instance, Instance { held: parks, ..Instance::new(place) });
        if let Some(app) = self.state.apps.get(&app) {
            self.out.order(Action::Spawn { place, spec: app.spec_for(slot, generation), parks });
        }
        instance
    }
}

impl App {
    /// When this app has something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.desired {
            Desired::Up => {
                let slots = self.slots.values().filter_map(SlotState::deadline);
                slots.chain(self.muster.deadline()).chain(self.standbys.deadline()).min()
            }
            Desired::Closing { until, .. } => Some(until),
            Desired::Down { .. } | Desired::Stopped => None,
        }
    }

    /// Nothing runs and, as things stand, nothing will.
    pub(crate) fn is_settled_empty(&self) -> bool {
        self.is_up() && !self.slots.is_empty() && self.slots.values().all(SlotState::is_settled_empty)
    }

    /// It is stopped, as it was from the beginning.
    pub(crate) fn is_set_aside(&self) -> bool {
        self.desired == Desired::Stopped && !self.spec().autostart
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.slots.values().any(|state| matches!(state.vacancy, Vacancy::GaveUp(_)))
    }

    /// A slot that the running reload has already replaced stays with the new generation.
    pub(crate) fn fill_generation(&self, slot: Slot) -> Generation {
        let replaced = self.reload.as_ref().filter(|reload| reload.replaced.contains(&slot));
        replaced.map_or(self.generation, |reload| reload.generation)
    }
}

impl Muster {
    fn deadline(self) -> Option<Moment> {
        match self {
            Self::Quiet { due, .. } => Some(due),
            Self::Incomplete { .. } | Self::Silent { .. } | Self::Complete => None,
        }
    }
}

impl SlotState {
    /// Occupant and successor join those on the way out; they are returned.
    pub(crate) fn dismiss_all(&mut self) -> Vec<InstanceId> {
        let going: Vec<_> = self.occupant.take().into_iter().chain(self.successor.take()).collect();
        self.leaving.extend(&going);
        self.vacancy = Vacancy::FillAfterLeaving;
        going
    }

    fn is_to_fill(&self, now: Moment) -> bool {
        let free = self.occupant.is_none() && self.successor.is_none() && self.has_room();
        free && match self.vacancy {
            Vacancy::Fill | Vacancy::FillAfterLeaving => true,
            Vacancy::FillAt(due) => due <= now,
            Vacancy::Finished(_) | Vacancy::GaveUp(_) | Vacancy::Parting => false,
        }
    }

    /// Whether those on the way out leave room for one more life.
    pub(crate) fn has_room(&self) -> bool {
        match self.vacancy {
            Vacancy::FillAfterLeaving => self.leaving.is_empty(),
            Vacancy::Fill
            | Vacancy::FillAt(_)
            | Vacancy::Finished(_)
            | Vacancy::Parting
            | Vacancy::GaveUp(_) => self.leaving.len() < MAX_LEAVING,
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match self.vacancy {
            Vacancy::FillAt(due) if self.occupant.is_none() && self.has_room() => {
                self.successor.is_none().then_some(due)
            }
            Vacancy::FillAt(_)
            | Vacancy::Fill
            | Vacancy::FillAfterLeaving
            | Vacancy::Finished(_)
            | Vacancy::Parting
            | Vacancy::GaveUp(_) => None,
        }
    }
}
