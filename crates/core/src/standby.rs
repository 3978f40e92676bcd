//! Standbys: booted workers beside the slots, held before they listen. One takes the slot of a worker that has died;
//! another is booted then. None of them counts as a worker of the app, and none can end it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::app::{App, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::policy::{self, History};
use crate::{AppId, AppSpec, Exit, GiveUp, InstanceId, Moment, Notice, RetireReason, Slot};

/// How many former standbys may still be leaving, beyond one for each that is wanted, when another is booted.
const MAX_LEAVING: usize = 2;

/// The standbys of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standbys {
    /// By the numbers that stand in their environment: the first that are no slots'.
    pub(crate) places: BTreeMap<Slot, StandbyState>,
    /// Who was one, and is on the way out.
    #[serde(default)]
    pub(crate) leaving: BTreeSet<InstanceId>,
}

/// The place of one standby.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandbyState {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) boot: Boot,
    pub(crate) history: History,
}

/// When a standby that is missing is booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Boot {
    /// Once no worker is on its way to be ready.
    #[default]
    Now,
    /// The same, at that moment at the earliest.
    At(Moment),
    /// Not at all: it does not help, or is not wanted after such an end.
    Never,
}

impl Standbys {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.leaving.is_empty()
    }

    pub(crate) fn everyone(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.places.values().filter_map(|state| state.instance).chain(self.leaving.iter().copied())
    }

    pub(crate) fn contains(&self, id: InstanceId) -> bool {
        self.leaving.contains(&id) || self.is_standby(id)
    }

    /// Whether it waits for a slot, or boots for that.
    pub(crate) fn is_standby(&self, id: InstanceId) -> bool {
        self.places.values().any(|state| state.instance == Some(id))
    }

    /// Its place is vacant, and to be taken by another at once.
    pub(crate) fn vacate(&mut self, id: InstanceId) -> bool {
        let state = self.places.values_mut().find(|state| state.instance == Some(id));
        state.map(|state| (state.instance, state.boot) = (None, Boot::Now)).is_some()
    }

    /// Those that could not be booted may be able to now.
    pub(crate) fn pardon(&mut self) {
        for state in self.places.values_mut().filter(|state| state.instance.is_none()) {
            *state = StandbyState::default();
        }
    }

    /// Whoever waits in it joins those on the way out.
    fn dismiss(&mut self, number: Slot) -> Option<InstanceId> {
        let id = self.places.remove(&number)?.instance?;
        self.leaving.insert(id);
        Some(id)
    }

    pub(crate) fn dismiss_all(&mut self) -> Vec<InstanceId> {
        let numbers: Vec<Slot> = self.places.keys().copied().collect();
        numbers.into_iter().filter_map(|number| self.dismiss(number)).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        let due = self.places.values().filter(|state| state.instance.is_none());
        due.filter_map(|state| state.boot.due()).min()
    }
}

impl Boot {
    fn due(self) -> Option<Moment> {
        match self {
            Self::At(due) => Some(due),
            Self::Now | Self::Never => None,
        }
    }
}

impl Fleet {
    /// Whether the worker is held when it wants to listen: it is a standby, or one of a batch.
    pub fn holds(&self, instance: InstanceId) -> bool {
        self.state.instances.get(&instance).is_some_and(|it| it.held)
    }

    /// Parked standbys take the slots that wait to be filled again.
    pub(crate) fn promote_standbys(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let vacant: Vec<Slot> = app
            .slots
            .iter()
            .filter(|(slot, state)| {
                app.is_target(**slot) && !app.waits_for_reload(**slot) && state.takes_standby()
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in vacant {
            if let Some(instance) = self.standby_for(id, slot) {
                self.promote_standby(id, instance, slot, now);
            }
        }
    }

    fn standby_for(&self, id: AppId, slot: Slot) -> Option<InstanceId> {
        let app = self.state.apps.get(&id)?;
        let generation = app.fill_generation(slot);
        let fits = |instance: &InstanceId| {
            let instance = self.state.instances.get(instance);
            instance.is_some_and(|it| it.is_parked() && it.place.generation == generation)
        };
        // Its own number first: then what its environment says is so.
        let own = app.standbys.places.get(&slot).and_then(|state| state.instance);
        let others = app.standbys.places.values().filter_map(|state| state.instance);
        own.into_iter().chain(others).find(fits)
    }

    fn promote_standby(&mut self, id: AppId, instance: InstanceId, slot: Slot, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(state) = app.slots.get_mut(&slot) else { return };
        state.occupant = Some(instance);
        state.vacancy = Vacancy::Fill;
        app.standbys.vacate(instance);
        self.with(instance, now, |it, around, out| {
            it.place.slot = slot;
            out.tell(Notice::Promoted { place: it.place });
            it.unpark(slot, around, out);
        });
    }

    /// Whether somebody could take the slot at once if its occupant were gone.
    pub(crate) fn has_standby_for(&self, id: AppId, slot: Slot) -> bool {
        let state = self.state.apps.get(&id).and_then(|app| app.slots.get(&slot));
        let is_common = state.is_some_and(|state| state.env.is_empty() && state.has_room());
        is_common && self.standby_for(id, slot).is_some()
    }

    /// Boots the standbys that are missing, and lets those go that are not wanted any more.
    pub(crate) fn converge_standbys(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let wanted = app.wanted_standbys();
        if wanted == 0 && app.standbys.places.is_empty() {
            return;
        }
        self.drop_standbys(id, wanted, now);
        let calm = self.nobody_is_starting(id);
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        while app.standbys.places.len() < wanted {
            let Some(number) = app.free_number() else { break };
            app.standbys.places.insert(number, StandbyState::default());
        }
        let room = (wanted + MAX_LEAVING).saturating_sub(app.standbys.leaving.len());
        let mut due = Vec::new();
        for (number, state) in app.standbys.places.iter_mut().filter(|(_, state)| state.instance.is_none()) {
            if state.boot.due().is_some_and(|due| due <= now) {
                state.boot = Boot::Now;
            }
            if state.boot == Boot::Now && calm && due.len() < room {
                due.push(*number);
            }
        }
        let generation = app.generation;
        for number in due {
            let instance = self.spawn(id, number, generation, true);
            let places = self.state.apps.get_mut(&id).map(|app| &mut app.standbys.places);
            if let Some(state) = places.and_then(|places| places.get_mut(&number)) {
                state.instance = Some(instance);
            }
        }
    }

    /// Those beyond the wanted ones, those whose number is a slot's now, and those of another generation.
    fn drop_standbys(&mut self, id: AppId, wanted: usize, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let (generation, instances) = (app.generation, app.instances);
        let is_old = |state: &StandbyState| {
            let instance = state.instance.and_then(|id| self.state.instances.get(&id));
            instance.is_some_and(|it| it.place.generation != generation)
        };
        let (mut dropped, mut kept) = (Vec::new(), 0);
        for (number, state) in &app.standbys.places {
            let reason = match () {
                () if number.0 < instances || kept == wanted => Some(RetireReason::Unneeded),
                () if is_old(state) => Some(RetireReason::Replaced),
                () => None,
            };
            match reason {
                Some(reason) => dropped.push((*number, reason)),
                None => kept += 1,
            }
        }
        for (number, reason) in dropped {
            let Some(app) = self.state.apps.get_mut(&id) else { return };
            if let Some(instance) = app.standbys.dismiss(number) {
                self.with(instance, now, |it, around, out| it.retire(reason, around, out));
            }
        }
    }

    /// Workers come first: a standby that boots beside them would only slow them down.
    fn nobody_is_starting(&self, id: AppId) -> bool {
        let Some(app) = self.state.apps.get(&id) else { return false };
        let is_coming = |slot: Slot, state: &SlotState| match state.occupant {
            Some(id) => {
                self.state.instances.get(&id).is_some_and(|it| it.spawned_at.is_none() || it.is_starting())
            }
            None => app.is_target(slot) && !app.waits_for_reload(slot) && state.is_filled_next(),
        };
        !app.slots.iter().any(|(slot, state)| is_coming(*slot, state))
    }

    /// One of a batch goes on without the others; a standby is of no use, also when it was heard to listen before.
    pub(crate) fn on_cannot_park(&mut self, id: InstanceId, now: Moment) {
        let held = self.state.instances.get_mut(&id).filter(|it| it.held && !it.facts.parked);
        let Some(instance) = held else { return };
        instance.held = false;
        let place = instance.place;
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        if let Some(state) = app.standbys.places.values_mut().find(|state| state.instance == Some(id)) {
            (state.instance, state.boot) = (None, Boot::Never);
            app.standbys.leaving.insert(id);
            self.with(id, now, |it, around, out| it.retire(RetireReason::Unneeded, around, out));
        }
    }

    /// A standby has ended. It is booted again, later and later while that does not help. Of any other instance the
    /// reason to give up is given back.
    pub(crate) fn on_standby_ended(
        &mut self,
        instance: &Instance,
        exit: Exit,
        give_up: Option<GiveUp>,
        now: Moment,
    ) -> Result<(), Option<GiveUp>> {
        let (id, place) = (instance.id(), instance.place);
        let Some(app) = self.state.apps.get_mut(&place.app) else { return Err(give_up) };
        if app.standbys.leaving.remove(&id) {
            return Ok(());
        }
        let spec = app.spec_of(place.generation).clone();
        let up = app.is_up();
        let state = app.standbys.places.iter_mut().find(|(_, state)| state.instance == Some(id));
        let Some((number, state)) = state else { return Err(give_up) };
        state.instance = None;
        if give_up.is_some() || !policy::is_restarted(spec.restart, exit) {
            state.boot = Boot::Never;
        } else if up {
            let stable = instance.facts.parked && instance.uptime(now) >= spec.min_uptime;
            let delay = state.history.back_off(&spec, stable);
            state.boot = Boot::At(now + delay);
            self.out.tell(Notice::StandbyRespawn { app: place.app, slot: *number, delay });
        }
        Ok(())
    }
}

impl App {
    /// None where no slot could be filled by one.
    fn wanted_standbys(&self) -> usize {
        let spec: &AppSpec = self.spec();
        let is_alive = |number| self.slots.get(&Slot(number)).is_some_and(|state| !state.is_settled_empty());
        let is_of_use = self.is_up() && spec.can_park() && (0..self.instances).any(is_alive);
        if is_of_use { spec.standby as usize } else { 0 }
    }

    /// The first number that neither a slot nor a standby has.
    fn free_number(&self) -> Option<Slot> {
        let is_free =
            |slot: &Slot| !self.slots.contains_key(slot) && !self.standbys.places.contains_key(slot);
        (self.instances..=u32::MAX).map(Slot).find(is_free)
    }
}

impl SlotState {
    /// Nothing is waited for but that others have left it.
    fn is_filled_next(&self) -> bool {
        match self.vacancy {
            Vacancy::Fill | Vacancy::FillAfterLeaving => true,
            Vacancy::FillAt(_) | Vacancy::Finished(_) | Vacancy::GaveUp(_) | Vacancy::Parting => false,
        }
    }

    /// Whether a standby may take it now: it waits to be filled again, and with nothing that is only its own.
    fn takes_standby(&self) -> bool {
        let waits = match self.vacancy {
            Vacancy::Fill | Vacancy::FillAt(_) => true,
            Vacancy::FillAfterLeaving | Vacancy::Finished(_) | Vacancy::GaveUp(_) | Vacancy::Parting => false,
        };
        waits && self.occupant.is_none() && self.env.is_empty() && self.has_room()
    }
}
