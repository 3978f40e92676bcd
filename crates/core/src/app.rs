//! One app: what is wanted of it, its slots, and the generations it knows. It holds; others decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::History;
use crate::recycle::Recycles;
use crate::scaling::Pressure;
use crate::standby::Standbys;
use crate::{AppId, AppSpec, ChangeId, Exit, Generation, GiveUp, InstanceId, Moment, Slot};

/// One app of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) desired: Desired,
    /// How many slots are to be filled.
    pub(crate) instances: u32,
    /// The last good generation: what a respawn uses.
    pub(crate) generation: Generation,
    /// The newest generation ever made.
    pub(crate) newest: Generation,
    /// The configuration of each generation that is still in use.
    pub(crate) specs: BTreeMap<Generation, Arc<AppSpec>>,
    pub(crate) slots: BTreeMap<Slot, SlotState>,
    pub(crate) reload: Option<Reload>,
    pub(crate) queued: Option<QueuedReload>,
    /// The generations of which a worker was seen to listen.
    pub(crate) listens: BTreeSet<Generation>,
    pub(crate) muster: Muster,
    /// It was wanted up when the fleet's end was asked for: that it stops is no wish about it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) outlasts: bool,
    #[serde(default, skip_serializing_if = "Standbys::is_empty")]
    pub(crate) standbys: Standbys,
    /// What was seen of its load.
    #[serde(default, skip_serializing_if = "Pressure::is_none")]
    pub(crate) pressure: Pressure,
    /// Slots that are replaced one by one.
    #[serde(default, skip_serializing_if = "Recycles::is_empty")]
    pub(crate) recycles: Recycles,
}

/// What is wanted of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    /// Its slots are kept filled.
    Up,
    /// It stops once nobody waits at its listeners.
    Closing { until: Moment, then: After },
    /// Its workers leave.
    Down { then: After },
    /// It is stopped, and nothing of it is left.
    Stopped,
}

impl Desired {
    /// What becomes of the app if it is now to be stopped with `then`: nobody takes back that it is forgotten.
    pub(crate) fn after_or(self, then: After) -> After {
        match self {
            Self::Closing { then: After::Forget, .. } | Self::Down { then: After::Forget } => After::Forget,
            Self::Closing { then: After::Keep | After::StartAgain, .. }
            | Self::Down { then: After::Keep | After::StartAgain }
            | Self::Up
            | Self::Stopped => then,
        }
    }
}

/// What becomes of a stopped app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum After {
    Keep,
    Forget,
    /// It was to be restarted while it stopped: once its doors and listeners are closed, it starts.
    StartAgain,
}

/// Whether all slots serve, and who was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Muster {
    /// Not all slots serve, since then.
    Incomplete { since: Moment },
    /// All serve, told so themselves, and do not all listen yet: news of that often comes right behind.
    Quiet { since: Moment, due: Moment },
    /// All serve and nobody listens as far as was told; not all served until `since`.
    Silent { since: Moment },
    /// All serve and it was told where.
    Complete,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotState {
    /// Who fills it.
    pub(crate) occupant: Option<InstanceId>,
    /// Who is to take it over.
    pub(crate) successor: Option<InstanceId>,
    /// Who is on the way out of it.
    pub(crate) leaving: BTreeSet<InstanceId>,
    pub(crate) vacancy: Vacancy,
    pub(crate) history: History,
    /// Variables for whoever fills it, beyond those of the app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<(String, String)>,
    /// Until then no rule replaces its worker: the last successor failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold_off: Option<Moment>,
}

/// What happens to a slot without an occupant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Vacancy {
    /// It is filled at once.
    Fill,
    /// It is filled when everybody has left it.
    FillAfterLeaving,
    /// It is filled at that moment.
    FillAt(Moment),
    /// It stays empty: the worker's work is done.
    Finished(Exit),
    /// It stays empty once the worker that was asked to leave has ended.
    Parting,
    /// It stays empty: filling it does not help.
    GaveUp(GiveUp),
}

/// A reload under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reload {
    pub(crate) change: ChangeId,
    pub(crate) generation: Generation,
    pub(crate) started: Moment,
    /// The slots whose occupant is of the new generation.
    pub(crate) replaced: BTreeSet<Slot>,
    /// Another number of slots that it brings, unless a later wish named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resize: Option<Resize>,
}

/// How a reload changes the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Resize {
    /// Those from `from` on were added. They are filled first and by the new generation only; an abort takes them
    /// away again.
    Grown { from: u32 },
    /// Those from `to` on are not replaced: they leave once the others are.
    Shrinks { to: u32 },
}

/// A reload that waits for the one under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueuedReload {
    pub(crate) change: ChangeId,
    pub(crate) spec: Option<Arc<AppSpec>>,
    /// How many slots it brings, unless a later wish named a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instances: Option<u32>,
}

impl QueuedReload {
    /// Without a configuration of its own it brings that of the one whose place it takes.
    pub(crate) fn or_as_in(self, replaced: &Self) -> Self {
        match self.spec {
            Some(_) => self,
            None => Self { change: self.change, ..replaced.clone() },
        }
    }
}

impl App {
    pub(crate) fn new(id: AppId, spec: Arc<AppSpec>, now: Moment) -> Self {
        let generation = Generation(1);
        Self {
            id,
            desired: Desired::Up,
            instances: spec.kept_within(spec.instances),
            generation,
            newest: generation,
            specs: BTreeMap::from([(generation, spec)]),
            slots: BTreeMap::new(),
            reload: None,
            queued: None,
            listens: BTreeSet::new(),
            muster: Muster::Incomplete { since: now },
            outlasts: false,
            standbys: Standbys::default(),
            pressure: Pressure::default(),
            recycles: Recycles::default(),
        }
    }

    /// The configuration of the last good generation.
    pub(crate) fn spec(&self) -> &Arc<AppSpec> {
        self.spec_of(self.generation)
    }

    /// The configuration that was asked for last: that of a reload under way, or the last good one.
    pub(crate) fn latest_spec(&self) -> &Arc<AppSpec> {
        let queued = self.queued.as_ref().and_then(|queued| queued.spec.as_ref());
        let coming = self.reload.as_ref().map_or(self.generation, |reload| reload.generation);
        queued.unwrap_or_else(|| self.spec_of(coming))
    }

    /// The configuration of `generation`, or of the last good one if that is forgotten.
    pub(crate) fn spec_of(&self, generation: Generation) -> &Arc<AppSpec> {
        self.specs
            .get(&generation)
            .or_else(|| self.specs.get(&self.generation))
            .expect("the last good generation always has its configuration")
    }

    /// Whether a worker of `generation` is only ready once it listens: one of its own kind did, or of the kind
    /// that it is to replace. Others are not seen to listen.
    pub(crate) fn expects_listening(&self, generation: Generation) -> bool {
        let seen = |generation| self.listens.contains(&generation);
        self.spec_of(generation).can_park()
            && (seen(generation) || generation > self.generation && seen(self.generation))
    }

    pub(crate) fn is_target(&self, slot: Slot) -> bool {
        slot.0 < self.instances
    }

    pub(crate) fn is_up(&self) -> bool {
        match self.desired {
            Desired::Up => true,
            Desired::Closing { .. } | Desired::Down { .. } | Desired::Stopped => false,
        }
    }
}

impl App {
    /// How many slots are wanted; those that a reload adds count once it is done.
    pub(crate) fn wanted_instances(&self) -> u32 {
        match self.reload.as_ref().and_then(|reload| reload.resize) {
            Some(Resize::Grown { from }) => from,
            Some(Resize::Shrinks { .. }) | None => self.instances,
        }
    }

    /// Whether its slots are to be filled, now or once it has stopped, or in the next life of the fleet.
    pub(crate) fn is_wanted_up(&self) -> bool {
        match self.desired {
            Desired::Up => true,
            Desired::Closing { then, .. } | Desired::Down { then } => {
                then == After::StartAgain || self.outlasts
            }
            Desired::Stopped => self.outlasts,
        }
    }

    pub(crate) fn is_to_be_forgotten(&self) -> bool {
        match self.desired {
            Desired::Closing { then, .. } | Desired::Down { then } => then == After::Forget,
            Desired::Up | Desired::Stopped => false,
        }
    }
}

impl SlotState {
    pub(crate) fn new() -> Self {
        Self {
            occupant: None,
            successor: None,
            leaving: BTreeSet::new(),
            vacancy: Vacancy::Fill,
            history: History::default(),
            env: Vec::new(),
            hold_off: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.occupant.is_none() && self.successor.is_none() && self.leaving.is_empty()
    }

    pub(crate) fn everyone(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.occupant.into_iter().chain(self.successor).chain(self.leaving.iter().copied())
    }

    /// Whether its vacancy has come to an end without an occupant.
    pub(crate) fn is_settled_empty(&self) -> bool {
        match self.vacancy {
            Vacancy::Finished(_) | Vacancy::GaveUp(_) => self.is_empty(),
            Vacancy::Fill | Vacancy::FillAfterLeaving | Vacancy::FillAt(_) | Vacancy::Parting => false,
        }
    }
}
