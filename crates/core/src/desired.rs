//! What people want, without what is: the part of a fleet that is saved to a file and survives a boot. It knows
//! no process, and nothing of what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::app::{self, App, Muster, SlotState};
use crate::fleet::{Fleet, Limits, State};
use crate::image::{Inventory, SlotRestarts};
use crate::outbox::Outbox;
use crate::recycle::Recycles;
use crate::scaling::Pressure;
use crate::standby::Standbys;
use crate::{AppId, AppSpec, Generation, Moment};

/// The changes of each primary that starts without an image are numbered from a multiple of this, so that nobody
/// who waits for a change of an earlier one hears of another.
const CHANGES_PER_START: u64 = 1_000_000;

/// All apps as they are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// In order of their ids.
    pub apps: Vec<DesiredApp>,
}

/// One app as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// Its id.
    pub app: AppId,
    /// Its last good generation.
    pub generation: Generation,
    /// That generation's configuration.
    pub spec: AppSpec,
    /// How many slots are to be filled.
    pub instances: u32,
    /// Whether they are to be filled at all.
    pub up: bool,
}

impl Fleet {
    /// What people want now. That the whole fleet ends is no wish about its apps, and a reload counts once it is
    /// done.
    pub fn desired(&self) -> Desired {
        let apps = self.state.apps.values().filter(|app| !app.is_to_be_forgotten());
        let apps = apps.map(|app| DesiredApp {
            app: app.id,
            generation: app.generation,
            spec: AppSpec::clone(app.spec()),
            instances: app.wanted_instances(),
            up: app.is_wanted_up(),
        });
        Desired { apps: apps.collect() }
    }

    /// A fleet that is to become as `desired`, where no image can be trusted.
    ///
    /// The children of `inventory` are adopted by their labels or ended; no id of theirs is given again. Changes
    /// that were under way are unknown to it, and of a slot's past only how often it was filled again.
    pub fn from_desired(desired: Desired, limits: Limits, inventory: &Inventory, now: Moment) -> Self {
        let last_app = desired.apps.iter().map(|app| app.app.0.saturating_add(1)).max().unwrap_or(0);
        let apps = desired.apps.into_iter().map(|wanted| (wanted.app, wanted.into_app(limits, now)));
        let state = State {
            limits,
            boot_id: inventory.boot_id.clone(),
            starts: inventory.starts,
            last_instance: 0,
            last_app,
            last_change: u64::from(inventory.starts).saturating_mul(CHANGES_PER_START),
            ending: None,
            apps: apps.collect(),
            instances: BTreeMap::new(),
            strays: BTreeSet::new(),
            pending: Vec::new(),
        };
        let mut fleet = Self { state, out: Outbox::default() };
        inventory.restarts.iter().for_each(|it| fleet.recall_restarts(it));
        fleet.restore(inventory, now);
        fleet
    }

    fn recall_restarts(&mut self, noted: &SlotRestarts) {
        if let Some(app) = self.state.apps.get_mut(&noted.app)
            && app.is_up()
            && app.is_target(noted.slot)
        {
            let state = app.slots.entry(noted.slot).or_insert_with(SlotState::new);
            state.history.restarts = noted.restarts;
        }
    }
}

impl DesiredApp {
    fn into_app(self, limits: Limits, now: Moment) -> App {
        let Self { app, generation, spec, instances, up } = self;
        App {
            id: app,
            desired: if up { app::Desired::Up } else { app::Desired::Stopped },
            instances: spec.kept_within(instances.clamp(1, limits.max_instances.max(1))),
            generation,
            newest: generation,
            specs: BTreeMap::from([(generation, Arc::new(spec))]),
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
}
