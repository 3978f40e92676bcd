//! What a fleet looks like from outside, serialisable. It only reports.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::app::{App, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::{AppId, AppSpec, ChangeId, Generation, InstanceId, Moment, Place, Slot, Span};

/// The word a user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A process exists but is not ready.
    Starting,
    /// Booted, and held before it listens.
    Standby,
    /// Ready.
    Online,
    /// On its way out.
    Stopping,
    /// Nothing runs and nothing is to run.
    Stopped,
    /// Nothing runs; a respawn is due.
    WaitingRestart,
    /// Given up.
    Errored,
}

/// All apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// In order of their ids.
    pub apps: Vec<AppStatus>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its id.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// The generation that respawns use.
    pub generation: Generation,
    /// How many slots are to be filled.
    pub instances: u32,
    /// Whether they are to be filled at all: not when the app is stopped or stopping.
    pub up: bool,
    /// The reload that runs, if any.
    pub reload: Option<ReloadStatus>,
    /// Its slots in order.
    pub slots: Vec<SlotStatus>,
    /// Its standbys in order of their numbers, then those on their way out.
    #[serde(default)]
    pub standbys: Vec<InstanceStatus>,
}

/// A reload under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// The change that asked for it.
    pub change: ChangeId,
    /// The generation it brings.
    pub generation: Generation,
    /// How many slots run it already.
    pub replaced: u32,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its number.
    pub slot: Slot,
    /// The word for it.
    pub status: Status,
    /// How often it was filled again after an unwanted exit.
    pub restarts: u32,
    /// The occupant first, then the successor, then those on their way out.
    pub instances: Vec<InstanceStatus>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Where and which.
    pub place: Place,
    /// The word for it.
    pub status: Status,
    /// How long its process has lived.
    pub uptime: Span,
    /// Where it listens.
    pub addresses: Vec<String>,
}

impl AppStatus {
    /// Every instance of the app, in a slot or not.
    pub fn everyone(&self) -> impl Iterator<Item = &InstanceStatus> {
        self.slots.iter().flat_map(|slot| &slot.instances).chain(&self.standbys)
    }
}

impl Fleet {
    /// What the fleet looks like now.
    pub fn status(&self, now: Moment) -> FleetStatus {
        FleetStatus { apps: self.state.apps.values().map(|app| self.app_status(app, now)).collect() }
    }

    /// The configuration of the app's last good generation. How many slots are to be filled may differ by now.
    pub fn spec(&self, app: AppId) -> Option<&Arc<AppSpec>> {
        self.state.apps.get(&app).map(App::spec)
    }

    /// The configuration that the instance was started with, as far as it is known.
    pub fn spec_of(&self, instance: InstanceId) -> Option<&Arc<AppSpec>> {
        let place = self.state.instances.get(&instance)?.place;
        self.state.apps.get(&place.app).map(|app| app.spec_of(place.generation))
    }

    /// Whether the instance is ready and has a slot.
    pub fn serves(&self, instance: InstanceId) -> bool {
        self.state.instances.get(&instance).is_some_and(Instance::is_serving)
    }

    /// Where the instance belongs now: one that was a standby has another slot than it was started with.
    pub fn place_of(&self, instance: InstanceId) -> Option<Place> {
        self.state.instances.get(&instance).map(|it| it.place)
    }

    /// The newest change that was ever accepted, as far as this fleet knows.
    pub fn last_change(&self) -> ChangeId {
        ChangeId(self.state.last_change)
    }

    /// Whether the change is under way: its [`Notice::Changed`](crate::Notice::Changed) is still to come.
    pub fn is_pending(&self, change: ChangeId) -> bool {
        let queued = |app: &App| app.queued.as_ref().is_some_and(|wish| wish.change == change);
        self.state.pending.iter().any(|it| it.change == change) || self.state.apps.values().any(queued)
    }

    fn app_status(&self, app: &App, now: Moment) -> AppStatus {
        let reload = app.reload.as_ref().map(|reload| ReloadStatus {
            change: reload.change,
            generation: reload.generation,
            replaced: reload.replaced.len() as u32,
        });
        AppStatus {
            app: app.id,
            name: app.spec().name.clone(),
            generation: app.generation,
            instances: app.instances,
            up: app.is_up(),
            reload,
            slots: app.slots.iter().map(|(slot, state)| self.slot_status(app, *slot, state, now)).collect(),
            standbys: self.instance_statuses(app.standbys.everyone(), now),
        }
    }

    fn instance_statuses(&self, ids: impl Iterator<Item = InstanceId>, now: Moment) -> Vec<InstanceStatus> {
        let instances = ids.filter_map(|id| self.state.instances.get(&id));
        let status = |it: &Instance| InstanceStatus {
            place: it.place,
            status: it.status(),
            uptime: it.uptime(now),
            addresses: it.addresses.clone(),
        };
        instances.map(status).collect()
    }

    fn slot_status(&self, app: &App, slot: Slot, state: &SlotState, now: Moment) -> SlotStatus {
        let instances = self.instance_statuses(state.everyone(), now);
        let empty = match state.vacancy {
            _ if !app.is_up() => Status::Stopped,
            Vacancy::FillAt(_) => Status::WaitingRestart,
            Vacancy::GaveUp(_) => Status::Errored,
            Vacancy::Finished(_) | Vacancy::Parting => Status::Stopped,
            Vacancy::Fill | Vacancy::FillAfterLeaving => Status::Starting,
        };
        let occupant = state.occupant.and_then(|id| self.state.instances.get(&id));
        let leaving = (!state.leaving.is_empty()).then_some(Status::Stopping);
        let status = occupant.map(Instance::status).or(leaving).unwrap_or(empty);
        SlotStatus { slot, status, restarts: state.history.restarts, instances }
    }
}
