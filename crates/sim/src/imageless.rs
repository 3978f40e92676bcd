//! What must hold when another primary has begun without an image: it knows what is wanted, what lives, and what
//! was noted of that. It looks and changes nothing.

use oxherd_core::{AppStatus, Child, FleetStatus, InstanceStatus, SlotStatus, Sockets, Status};

use crate::World;

impl World {
    pub(crate) fn check_imageless(&self, before: &FleetStatus, children: &[Child]) {
        let after = self.fleet.status(self.now);
        for app in &after.apps {
            for slot in app.slots.iter().filter(|slot| app.up && slot.slot.0 < app.instances) {
                check_restarts(before, app, slot);
            }
            for it in app.everyone() {
                let child = children.iter().find(|child| child.label.0 == it.place);
                if let Some(child) = child {
                    self.check_adopted(app, it, child, children);
                }
            }
        }
    }

    /// Who shows that it was ready serves in its slot, and nobody else does.
    fn check_adopted(&self, app: &AppStatus, it: &InstanceStatus, child: &Child, children: &[Child]) {
        let (id, place) = (it.place.instance, it.place);
        let age = child.born.map(|born| self.now.since(born)).unwrap_or_default();
        assert_eq!(it.uptime, age, "{id} is of another age");
        let same = |other: &&Child| {
            let other = other.label.0;
            (other.app, other.slot, other.generation) == (place.app, place.slot, place.generation)
        };
        // One that was not ready is a successor of the one that was.
        let rank = |other: &&Child| (other.was_ready && !other.leaving, other.label.0.instance);
        let newest = children.iter().filter(|other| !other.ended).filter(same).max_by_key(rank);
        let newest = newest.map(|other| other.label.0.instance);
        let fills = app.up && place.slot.0 < app.instances && place.generation == app.generation;
        let fills = fills && newest == Some(id) && !child.leaving;
        let shows = self.shows_ready(child, children);
        match it.status {
            Status::Online => assert!(fills && shows, "{id} serves: {child:?}"),
            Status::Starting => {
                assert!(fills && !self.has_channel(id), "{id} starts without its primary: {child:?}")
            }
            Status::Stopping => {
                assert!(!(fills && shows), "{id} is replaced although it was ready: {child:?}")
            }
            Status::Standby | Status::Stopped | Status::WaitingRestart | Status::Errored => {
                panic!("{id} is {:?}", it.status)
            }
        }
    }

    fn shows_ready(&self, child: &Child, children: &[Child]) -> bool {
        let place = child.label.0;
        let Some(process) = self.os.processes.get(&place.instance) else { return false };
        let spec = &process.spec;
        let channel = spec.sockets == Sockets::Channel;
        let by_listening = child.listens && !(channel && spec.wait_ready);
        let kind =
            |other: &&Child| (other.label.0.app, other.label.0.generation) == (place.app, place.generation);
        let is_seen = matches!(spec.sockets, Sockets::Channel | Sockets::Universal);
        let kind_listens = is_seen && children.iter().filter(kind).any(|other| other.listens);
        let may_be_silent = !kind_listens && !self.os.listening.contains(&place.app) && !spec.wait_ready;
        let of_age = child.born.is_some_and(|born| self.now.since(born) >= spec.min_uptime);
        let unasked = spec.ready_probe.is_none();
        child.was_ready || unasked && (by_listening || may_be_silent && of_age)
    }
}

/// What was noted of a slot's past counts.
fn check_restarts(before: &FleetStatus, app: &AppStatus, slot: &SlotStatus) {
    let old = before.apps.iter().filter(|it| it.app == app.app).flat_map(|it| &it.slots);
    let old = old.filter(|it| it.slot == slot.slot).map(|it| it.restarts).next().unwrap_or(0);
    assert_eq!(slot.restarts, old, "slot {} of {} has another past", slot.slot.0, app.name);
}
