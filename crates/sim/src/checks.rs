//! What must hold after every handler, and what is not yet as it is wanted. It looks and changes nothing.

use oxherd_core::{AppStatus, InstanceStatus, Status};

use crate::World;

/// A slot has at most an occupant, a successor and one on its way out, or two on their way out.
const LIVES_PER_SLOT: usize = 3;

impl World {
    pub(crate) fn check(&mut self) {
        self.fleet.check_invariants();
        let status = self.fleet.status(self.now);
        self.ledger.check(&self.fleet, &status);
        let mut expected = 0;
        for app in &status.apps {
            for slot in &app.slots {
                let online: Vec<_> = slot.instances.iter().filter(|it| it.status == Status::Online).collect();
                assert!(online.len() <= 1, "two serve slot {} of {}", slot.slot.0, app.name);
                for it in online {
                    let id = it.place.instance;
                    let admitted = self.os.admitted.contains(&id);
                    let stalled = self.os.processes.get(&id).is_some_and(|it| it.plan.stalls.is_some());
                    assert!(admitted || stalled, "{id} serves and gets no connections");
                    expected += usize::from(admitted);
                }
                let lives = slot.instances.len();
                assert!(lives <= LIVES_PER_SLOT || self.os.lossy, "{lives} lives in slot {}", slot.slot.0);
            }
            for it in &app.standbys {
                assert_ne!(it.status, Status::Online, "{} serves without a slot", it.place.instance);
            }
            self.check_batch(app);
        }
        assert_eq!(self.os.admitted.len(), expected, "somebody gets connections who does not serve");
        self.check_changes();
    }

    /// Whoever asks for a change hears whether it is under way.
    fn check_changes(&self) {
        if self.forgetful {
            return;
        }
        for (change, outcome) in &self.changes {
            let pending = self.fleet.is_pending(*change);
            assert_eq!(pending, outcome.is_none(), "{change:?} is pending, or is not: {outcome:?}");
            assert!(*change <= self.fleet.last_change(), "{change:?} is newer than the newest");
        }
    }

    /// Successors are those of the new generation that start beside somebody else.
    fn check_batch(&self, app: &AppStatus) {
        let Some(reload) = &app.reload else { return };
        let new = |it: &InstanceStatus| it.place.generation == reload.generation;
        let starts =
            |it: &&InstanceStatus| matches!(it.status, Status::Starting | Status::Standby) && new(it);
        let successors: Vec<_> =
            app.slots.iter().filter_map(|slot| slot.instances.iter().skip(1).find(starts)).collect();
        let Some(first) = successors.first() else { return };
        let batch = self.os.processes.get(&first.place.instance).map_or(0, |it| it.spec.parallel);
        assert!(successors.len() <= batch as usize, "{} successors, the batch is {batch}", successors.len());
    }

    fn unsettled_standbys(&self, app: &AppStatus) -> Option<String> {
        let busy = app.standbys.iter().find(|it| it.status != Status::Standby);
        if let Some(busy) = busy {
            return Some(format!("a standby of {} is {busy:?}", app.name));
        }
        let wanted = self.fleet.spec(app.app).map_or(0, |spec| spec.standby as usize);
        let of_use = app.slots.iter().any(|slot| slot.status == Status::Online);
        let wanted = if of_use { wanted } else { 0 };
        // Without faults none is given up.
        let fits = app.standbys.len() == wanted || self.mode.faults() && app.standbys.len() < wanted;
        (!fits).then(|| format!("{} has {} standbys of {wanted}", app.name, app.standbys.len()))
    }

    /// What is not as it should be in the end.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let status = self.fleet.status(self.now);
        for app in &status.apps {
            if app.reload.is_some() {
                return Some(format!("{} reloads", app.name));
            }
            if app.slots.len() != app.instances as usize && !app.slots.is_empty() {
                return Some(format!("{} has {} slots of {}", app.name, app.slots.len(), app.instances));
            }
            for slot in &app.slots {
                let serves = slot.status == Status::Online
                    && slot.instances.len() == 1
                    && self.os.admitted.contains(&slot.instances[0].place.instance);
                let over =
                    matches!(slot.status, Status::Errored | Status::Stopped) && slot.instances.is_empty();
                // One whose successors are never ready in time goes on.
                let hung = slot.instances.iter().find(|it| self.is_hung(it.place.instance));
                if let Some(hung) = hung.filter(|_| !self.mode.faults()) {
                    return Some(format!("{} does not answer and goes on", hung.place.instance));
                }
                if !serves && !over {
                    return Some(format!("slot {} of {} is {:?}", slot.slot.0, app.name, slot));
                }
            }
        }
        if let Some(problem) = status.apps.iter().find_map(|app| self.unsettled_standbys(app)) {
            return Some(problem);
        }
        let open = self.changes.iter().find(|(_, outcome)| outcome.is_none());
        open.filter(|_| !self.forgetful).map(|(change, _)| format!("{change:?} is open"))
    }
}
