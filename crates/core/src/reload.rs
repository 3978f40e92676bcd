//! Replacing every worker without loss: the successor first, a batch at a time, and back out when one fails.

use crate::app::{App, QueuedReload, Reload, Resize, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::settle::Goal;
use crate::{
    AppId, ChangeOutcome, Generation, InstanceId, Moment, Notice, ReloadFailure, RetireReason, Slot,
};

impl Fleet {
    pub(crate) fn begin_reload(&mut self, id: AppId, wish: QueuedReload, now: Moment) {
        self.postpone_recycle(id, now);
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let generation = app.newest.next();
        let spec = wish.spec.unwrap_or_else(|| app.spec().clone());
        let from = app.instances;
        // It may have been asked for while other bounds held.
        let to = spec.kept_within(wish.instances.unwrap_or(from));
        let resize = match to {
            _ if to > from => Some(Resize::Grown { from }),
            _ if to < from => Some(Resize::Shrinks { to }),
            _ => None,
        };
        app.newest = generation;
        app.specs.insert(generation, spec);
        app.reload = Some(Reload {
            change: wish.change,
            generation,
            started: now,
            replaced: Default::default(),
            resize,
        });
        self.await_goal(wish.change, id, Goal::Reload);
        self.out.tell(Notice::ReloadStarted { app: id, generation, change: wish.change });
        if let Some(Resize::Grown { .. }) = resize {
            self.resize(id, to);
        }
    }

    pub(crate) fn resize(&mut self, id: AppId, to: u32) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let from = std::mem::replace(&mut app.instances, to);
        if from != to {
            self.out.tell(Notice::Scaled { app: id, from, to });
        }
    }

    /// Starts successors up to the batch, and ends a reload that has nothing left to replace.
    pub(crate) fn drive_reload(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let Some(reload) = &app.reload else { return };
        let spec = app.spec_of(reload.generation);
        let (parallel, in_step) = (spec.parallel as usize, spec.parallel > 1 && spec.can_park());
        let busy = |(slot, state): (&Slot, &SlotState)| {
            state.successor.is_some() || (reload.replaced.contains(slot) && !state.leaving.is_empty())
        };
        let in_flight = app.slots.iter().filter(|entry| busy(*entry)).count();
        let generation = reload.generation;
        let mut waiting: Vec<_> = app
            .slots
            .iter()
            .filter(|(slot, state)| {
                app.is_to_be_replaced(**slot) && !reload.replaced.contains(*slot) && state.successor.is_none()
            })
            .collect();
        waiting.sort_by_key(|(slot, _)| !app.waits_for_reload(**slot));
        if waiting.is_empty() && in_flight == 0 {
            return self.finish_reload(id, now);
        }
        let free: Vec<Slot> =
            waiting.into_iter().filter(|(_, state)| state.has_room()).map(|(slot, _)| *slot).collect();
        let room = match in_flight {
            0 => parallel,
            // Those of one batch take over together: the next begins when it is through.
            _ if in_step => 0,
            busy => parallel.saturating_sub(busy),
        };
        let batch: Vec<Slot> = free.into_iter().take(room).collect();
        let parks = in_step && batch.len() > 1;
        for slot in batch {
            self.spawn_successor(id, slot, generation, parks);
        }
    }

    /// Successors that are held are let go together, once the last of them is booted. One whose slot has lost its
    /// worker meanwhile is not waited with.
    pub(crate) fn unpark_batch(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let held = |state: &SlotState| {
            let successor = state.successor.and_then(|id| self.state.instances.get(&id));
            successor.filter(|it| it.held).map(|it| (it.id(), it.is_parked() || it.is_serving()))
        };
        let held: Vec<_> =
            app.slots.iter().filter_map(|(slot, state)| Some((*slot, state, held(state)?))).collect();
        let all_booted = held.iter().all(|(_, _, (_, booted))| *booted);
        let is_missed =
            |slot: Slot, state: &SlotState| state.occupant.is_none() && !app.waits_for_reload(slot);
        let let_go =
            held.iter().filter(|(slot, state, (_, booted))| all_booted || *booted && is_missed(*slot, state));
        let let_go: Vec<_> = let_go.map(|(slot, _, (instance, _))| (*slot, *instance)).collect();
        for (slot, instance) in let_go {
            self.with(instance, now, |it, around, out| it.unpark(slot, around, out));
        }
    }

    /// A ready successor takes its slot over, and the old occupant leaves.
    pub(crate) fn promote(&mut self, id: AppId, slot: Slot, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(state) = app.slots.get_mut(&slot) else { return };
        let Some(successor) = state.successor.take() else { return };
        let old = state.occupant.replace(successor);
        state.vacancy = Vacancy::Fill;
        if let Some(old) = old {
            state.leaving.insert(old);
        }
        let why = app.note_recycled(slot, old);
        if let Some(state) = app.slots.get_mut(&slot) {
            state.on_replaced(why, now);
        }
        if let Some(reload) = &mut app.reload {
            reload.replaced.insert(slot);
        }
        // It may be ready without having wanted to listen: when it does, it is not held any more.
        self.with(successor, now, |it, _, out| {
            if it.held {
                it.let_go(out)
            }
        });
        if let Some(old) = old {
            self.with(old, now, |it, around, out| it.retire(RetireReason::Replaced, around, out));
        }
    }

    /// Ends the reload that runs, if one does. Those on trial that are not ready go; who serves goes on.
    pub(crate) fn abort_reload(&mut self, id: AppId, why: &ReloadFailure, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(reload) = app.reload.take() else { return };
        let mut given_back: Vec<InstanceId> = Vec::new();
        let unready = |id: &InstanceId| {
            let instance = self.state.instances.get(id);
            instance.is_some_and(|it| it.place.generation == reload.generation && it.ready_at.is_none())
        };
        for state in app.slots.values_mut() {
            // Who fills an already replaced slot again is on trial like a successor.
            let on_trial = state.occupant.take_if(|id| unready(id));
            let going: Vec<_> = state.successor.take().into_iter().chain(on_trial).collect();
            state.leaving.extend(&going);
            given_back.extend(going);
        }
        let Reload { change, generation, replaced, resize, .. } = reload;
        let resized = match resize {
            Some(Resize::Grown { from }) => from,
            Some(Resize::Shrinks { .. }) | None => app.instances,
        };
        let filled = |slot: &&Slot| {
            slot.0 < resized && app.slots.get(*slot).is_some_and(|state| state.occupant.is_some())
        };
        let replaced = replaced.iter().filter(filled).count() as u32;
        self.out.tell(Notice::ReloadAborted { app: id, generation, why: why.clone(), replaced });
        self.resize(id, resized);
        self.conclude(change, ChangeOutcome::ReloadAborted(why.clone()));
        for successor in given_back {
            self.with(successor, now, |it, around, out| it.retire(RetireReason::ReloadAborted, around, out));
        }
    }

    /// A successor has failed: that is the end of the reload that it is part of, or of the replacement of its slot.
    pub(crate) fn fail_successor(&mut self, id: AppId, slot: Slot, failure: ReloadFailure, now: Moment) {
        let alone = self.state.apps.get(&id).is_some_and(|app| app.recycles.starts(slot));
        if alone { self.fail_recycle(id, failure, now) } else { self.abort_reload(id, &failure, now) }
    }

    /// A worker was not ready in time; of the reload's generation it fails the reload.
    pub(crate) fn on_not_ready(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        let (place, after) = (instance.place, instance.tenure(now));
        let Some(app) = self.state.apps.get(&place.app) else { return };
        if app.reload.as_ref().is_some_and(|reload| reload.generation == place.generation) {
            self.abort_reload(place.app, &ReloadFailure::NotReady { slot: place.slot, after }, now);
        } else if app.slots.get(&place.slot).is_some_and(|state| state.successor == Some(id)) {
            let failure = ReloadFailure::NotReady { slot: place.slot, after };
            self.fail_successor(place.app, place.slot, failure, now);
        }
    }

    pub(crate) fn spawn_successor(&mut self, id: AppId, slot: Slot, generation: Generation, parks: bool) {
        let instance = self.spawn(id, slot, generation, parks);
        if let Some(app) = self.state.apps.get_mut(&id)
            && let Some(state) = app.slots.get_mut(&slot)
        {
            state.successor = Some(instance);
        }
    }

    fn finish_reload(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(reload) = app.reload.take() else { return };
        app.generation = reload.generation;
        app.standbys.pardon();
        self.fulfil_recycles(id);
        let Reload { change, generation, started, resize, .. } = reload;
        self.out.tell(Notice::ReloadDone { app: id, generation, took: now.since(started) });
        match resize {
            Some(Resize::Shrinks { to }) => {
                self.resize(id, to);
                self.drop_surplus_slots(id, now);
                self.await_instead(change, Goal::Serving);
            }
            Some(Resize::Grown { .. }) | None => self.conclude(change, ChangeOutcome::Done),
        }
    }
}

impl App {
    /// A slot that the running reload has added and not filled yet: nothing but its successor does.
    pub(crate) fn waits_for_reload(&self, slot: Slot) -> bool {
        let Some(reload) = &self.reload else { return false };
        match reload.resize {
            Some(Resize::Grown { from }) => slot.0 >= from && !reload.replaced.contains(&slot),
            Some(Resize::Shrinks { .. }) | None => false,
        }
    }

    /// A slot that stays.
    fn is_to_be_replaced(&self, slot: Slot) -> bool {
        let to = self.reload.as_ref().and_then(|reload| match reload.resize {
            Some(Resize::Shrinks { to }) => Some(to),
            Some(Resize::Grown { .. }) | None => None,
        });
        slot.0 < to.unwrap_or(self.instances)
    }
}
