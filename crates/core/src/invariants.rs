//! Relations that hold after every handler. They are checked in debug builds only and change nothing.

use crate::app::{App, Resize};
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::{InstanceId, Place};

impl Fleet {
    /// Panics when the fleet contradicts itself.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        for app in self.state.apps.values() {
            self.check_app(app);
        }
        for instance in self.state.instances.values() {
            self.check_instance(instance);
        }
    }

    fn check_app(&self, app: &App) {
        for (slot, state) in &app.slots {
            let mut seen: Vec<InstanceId> = state.everyone().collect();
            for id in &seen {
                let instance = self.state.instances.get(id);
                let place = instance.map(|it| it.place);
                assert!(
                    place.is_some_and(|Place { app: owner, slot: at, .. }| owner == app.id && at == *slot),
                    "{slot:?} of {:?} names {id}, which is {place:?}",
                    app.id
                );
            }
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "an instance has two roles in {slot:?}");
            assert!(
                state.successor.is_none() || app.reload.is_some() || app.recycles.starts(*slot),
                "{slot:?} has a successor without a reload"
            );
        }
        for (number, state) in &app.standbys.places {
            let instance = state.instance.and_then(|id| self.state.instances.get(&id));
            assert_eq!(instance.is_none(), state.instance.is_none(), "standby {number:?} is nobody");
            if let Some(instance) = instance {
                let Place { app: owner, slot, .. } = instance.place;
                assert!(owner == app.id && slot == *number, "standby {number:?} is {:?}", instance.place);
                assert!(!instance.is_serving(), "standby {number:?} serves");
            }
        }
        if let Some(reload) = &app.reload {
            assert!(app.specs.contains_key(&reload.generation), "the reload's configuration is forgotten");
            let successors = app.slots.values().filter(|state| state.successor.is_some()).count();
            let batch = app.spec_of(reload.generation).parallel as usize;
            assert!(successors <= batch, "{successors} successors, the batch is {batch}");
            let fits = match reload.resize {
                Some(Resize::Grown { from }) => from < app.instances,
                Some(Resize::Shrinks { to }) => to < app.instances,
                None => true,
            };
            assert!(fits, "{:?} of {} slots", reload.resize, app.instances);
        }
        let (slots, bounds) = (app.instances, app.spec().scaling);
        let within = app.spec().kept_within(slots) == slots;
        assert!(within || app.reload.is_some(), "{slots} slots are not within {bounds:?}");
        assert!(app.specs.contains_key(&app.generation), "the last good configuration is forgotten");
        assert!(app.generation <= app.newest, "a generation newer than the newest");
    }

    fn check_instance(&self, instance: &Instance) {
        let place = instance.place;
        let id = place.instance;
        let app = self.state.apps.get(&place.app);
        let state = app.and_then(|app| app.slots.get(&place.slot));
        let fills = state.is_some_and(|state| state.everyone().any(|it| it == id));
        let waits = app.is_some_and(|app| app.standbys.contains(id));
        assert!(fills != waits, "{id} fills no slot and is no standby, or is both");
        let leaving = state.is_some_and(|state| state.leaving.contains(&id))
            || app.is_some_and(|app| app.standbys.leaving.contains(&id));
        assert_eq!(
            leaving,
            instance.retired.is_some(),
            "{} leaves its slot but not its life",
            place.instance
        );
        assert!(!leaving || !instance.is_serving(), "{} leaves and serves", place.instance);
    }
}
