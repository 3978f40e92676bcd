//! Single slots: one that is to be filled by itself, one worker that is to leave by itself.
//!
//! What an app has in whole is said elsewhere. Nothing is started here: that is for the pass of `converge`.

use std::sync::Arc;

use crate::app::{App, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::{
    AppId, AppSpec, ChangeId, ChangeOutcome, Generation, InstanceId, Moment, Notice, Place, Refusal,
    ReloadFailure, RetireReason, Slot,
};

impl Fleet {
    /// The slot that the next [`Request::Fork`](crate::Request::Fork) may fill: the first that stays empty, else a
    /// new one. Nothing when there is no such app.
    pub fn vacant_slot(&self, app: AppId) -> Option<Slot> {
        let app = self.state.apps.get(&app)?;
        let ended = app.slots.iter().find(|(slot, state)| app.is_target(**slot) && state.is_settled_empty());
        Some(ended.map_or(Slot(app.instances), |(slot, _)| *slot))
    }

    /// Who fills the slot.
    pub fn occupant(&self, app: AppId, slot: Slot) -> Option<Place> {
        let id = self.state.apps.get(&app)?.slots.get(&slot)?.occupant?;
        self.state.instances.get(&id).map(|it| it.place)
    }

    pub(crate) fn fork(
        &mut self,
        id: AppId,
        slot: Slot,
        env: Vec<(String, String)>,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let app = self.running_app(id)?;
        if slot.0 == app.instances {
            self.scale(id, slot.0.saturating_add(1), change, now)?;
            self.slot_of(id, slot, |state| state.env = env);
            return Ok(());
        }
        let is_free = app.is_target(slot) && app.slots.get(&slot).is_some_and(SlotState::is_settled_empty);
        if !is_free {
            return Err(Refusal::SlotInUse(slot));
        }
        self.slot_of(id, slot, |state| {
            state.env = env;
            state.vacancy = Vacancy::Fill;
            state.history.pardon();
        });
        self.out.tell(Notice::Changed { change, outcome: ChangeOutcome::Done });
        Ok(())
    }

    /// A worker that is a successor takes its reload with it; another standby is booted in place of one.
    pub(crate) fn retire_one(
        &mut self,
        id: InstanceId,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let place = self.state.instances.get(&id).map(|it| it.place).ok_or(Refusal::NoSuchInstance(id))?;
        let app = self.state.apps.get_mut(&place.app).ok_or(Refusal::NoSuchApp(place.app))?;
        let up = app.is_up();
        if app.standbys.contains(id) {
            if app.standbys.vacate(id) {
                app.standbys.leaving.insert(id);
                self.with(id, now, |it, around, out| it.retire(RetireReason::Asked, around, out));
            }
            self.out.tell(Notice::Changed { change, outcome: ChangeOutcome::Done });
            return Ok(());
        }
        let state = app.slots.entry(place.slot).or_insert_with(SlotState::new);
        if state.successor == Some(id) {
            self.fail_successor(place.app, place.slot, ReloadFailure::Superseded, now);
        } else if state.occupant == Some(id) {
            state.occupant = None;
            state.leaving.insert(id);
            state.vacancy = if up { Vacancy::Parting } else { Vacancy::FillAfterLeaving };
            self.with(id, now, |it, around, out| it.retire(RetireReason::Asked, around, out));
        }
        self.out.tell(Notice::Changed { change, outcome: ChangeOutcome::Done });
        Ok(())
    }

    fn slot_of(&mut self, id: AppId, slot: Slot, act: impl FnOnce(&mut SlotState)) {
        if let Some(app) = self.state.apps.get_mut(&id) {
            act(app.slots.entry(slot).or_insert_with(SlotState::new));
        }
    }
}

impl App {
    /// The configuration of `generation` with what is the slot's own.
    pub(crate) fn spec_for(&self, slot: Slot, generation: Generation) -> Arc<AppSpec> {
        let spec = self.spec_of(generation);
        match self.slots.get(&slot).map(|state| state.env.as_slice()) {
            None | Some([]) => Arc::clone(spec),
            Some(own) => {
                let mut spec = AppSpec::clone(spec);
                spec.env.extend_from_slice(own);
                Arc::new(spec)
            }
        }
    }
}

impl SlotState {
    /// Nobody is left in it, and the last one was asked to leave.
    pub(crate) fn is_left_for_good(&self) -> bool {
        self.vacancy == Vacancy::Parting && self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Event, Exit, Limits, Outcome, Request};

    const APP: AppId = AppId(0);

    type Env = Vec<(String, String)>;

    fn now() -> Moment {
        Moment::from_millis(5)
    }

    fn fleet(instances: u32) -> Fleet {
        let mut fleet = Fleet::new(Limits { may_be_empty: true, ..Limits::default() }, "boot", 0);
        let spec = Box::new(AppSpec { instances, ..AppSpec::new("web", "node") });
        fleet.handle_request(Request::Start { spec }, now()).unwrap();
        fleet
    }

    /// The next process that is started, with its variables.
    fn spawned(fleet: &mut Fleet) -> Option<(Slot, InstanceId, Env)> {
        while let Some(action) = fleet.poll_action() {
            if let Action::Spawn { place, spec, .. } = action {
                fleet.handle_event(Event::Spawned { instance: place.instance }, now());
                return Some((place.slot, place.instance, spec.env.clone()));
            }
        }
        None
    }

    fn env(value: &str) -> Env {
        vec![("ROLE".into(), value.into())]
    }

    fn fork(fleet: &mut Fleet, value: &str) -> Result<ChangeId, Refusal> {
        let slot = fleet.vacant_slot(APP).unwrap();
        fleet.handle_request(Request::Fork { app: APP, slot, env: env(value) }, now())
    }

    fn exit(fleet: &mut Fleet, instance: InstanceId) {
        fleet.handle_event(Event::Exited { instance, exit: Exit::Code(0) }, now());
    }

    #[test]
    fn an_empty_app_is_forked_slot_by_slot() {
        let mut fleet = fleet(0);
        assert_eq!((spawned(&mut fleet), fleet.outcome()), (None, None));
        fork(&mut fleet, "a").unwrap();
        let (slot, first, vars) = spawned(&mut fleet).unwrap();
        let occupant = fleet.occupant(APP, Slot(0)).map(|place| place.instance);
        assert_eq!((slot, vars, occupant), (Slot(0), env("a"), Some(first)));
        fork(&mut fleet, "b").unwrap();
        assert_eq!(spawned(&mut fleet).unwrap().0, Slot(1));
    }

    #[test]
    fn who_was_asked_to_leave_is_not_respawned_and_its_slot_can_be_forked() {
        let mut fleet = fleet(1);
        let (_, first, _) = spawned(&mut fleet).unwrap();
        fleet.handle_request(Request::Retire { instance: first }, now()).unwrap();
        assert_eq!(fleet.vacant_slot(APP), Some(Slot(1)), "it is still leaving");
        let in_use = Request::Fork { app: APP, slot: Slot(0), env: env("x") };
        assert_eq!(fleet.handle_request(in_use, now()), Err(Refusal::SlotInUse(Slot(0))));
        exit(&mut fleet, first);
        assert_eq!((spawned(&mut fleet), fleet.outcome()), (None, Some(Outcome::AllEnded)));
        fork(&mut fleet, "again").unwrap();
        let (slot, second, vars) = spawned(&mut fleet).unwrap();
        assert_eq!((slot, vars), (Slot(0), env("again")));
        assert_ne!(second, first);
        assert_eq!(
            fleet.handle_request(Request::Retire { instance: first }, now()),
            Err(Refusal::NoSuchInstance(first))
        );
    }

    #[test]
    fn a_respawn_keeps_the_slot_s_variables() {
        let mut fleet = fleet(0);
        fork(&mut fleet, "a").unwrap();
        let (_, first, _) = spawned(&mut fleet).unwrap();
        exit(&mut fleet, first);
        fleet.handle_timeout(Moment::from_millis(60_000));
        assert_eq!(spawned(&mut fleet).unwrap().2, env("a"));
    }

    #[test]
    fn retiring_a_successor_ends_the_reload() {
        let mut fleet = fleet(1);
        let (_, first, _) = spawned(&mut fleet).unwrap();
        let address = "127.0.0.1:1".to_owned();
        fleet.handle_event(Event::Listening { instance: first, address }, now());
        fleet.handle_request(Request::Reload { app: APP, spec: None }, now()).unwrap();
        let (_, successor, _) = spawned(&mut fleet).unwrap();
        fleet.handle_request(Request::Retire { instance: successor }, now()).unwrap();
        assert_eq!(fleet.occupant(APP, Slot(0)).map(|place| place.instance), Some(first));
        exit(&mut fleet, successor);
        assert!(fleet.status(now()).apps[0].reload.is_none());
    }
}
