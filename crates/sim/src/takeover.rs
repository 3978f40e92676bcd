//! The primary dies and another takes over: what that one remembers, and what must hold when it has begun.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oxherd_core::{
    Action, AppId, AppStatus, Child, Desired, Fleet, FleetStatus, Image, InstanceId, InstanceStatus,
    Inventory, Limits, Notice, Slot, SlotStatus, Sockets, Status,
};

use crate::World;
use crate::process::Life;
use crate::world::{BOOT, MAX_INSTANCES};

/// How old, in actions, a stale image may be.
const STALENESS: u64 = 16;

/// What was kept of the fleet, oldest first.
#[derive(Default)]
pub(crate) struct Memories(VecDeque<(u64, Image)>);

/// What the next primary goes on from.
enum Memory {
    /// The image of the moment in which the primary died.
    Current(Image),
    /// An older one.
    Stale(Image),
    /// No image that is trusted.
    Wanted(Desired),
}

impl Memories {
    pub(crate) fn keep(&mut self, fleet: &Fleet, executed: u64) {
        self.0.push_back((executed, fleet.image()));
        while self.0.front().is_some_and(|(at, _)| at + STALENESS < executed) {
            self.0.pop_front();
        }
    }
}

impl World {
    /// The primary dies in the midst of its orders, and perhaps the next one too.
    pub(crate) fn crash(&mut self) {
        loop {
            let most = self.fate.below(4) as usize;
            self.drain(most);
            let memory = self.choose_memory();
            self.os.crash(&mut self.fate, self.now);
            if self.mode.faults() && self.fate.chance(15) {
                self.os.lose_one(&mut self.fate);
            }
            self.go_on_from(memory);
            if !self.fate.chance(25) {
                return;
            }
        }
    }

    fn choose_memory(&mut self) -> Memory {
        let current = Memory::Current(self.fleet.image());
        match self.fate.below(100) {
            _ if self.ending => current,
            0..50 => current,
            50..80 if self.mode.faults() => {
                let recent: Vec<&Image> = self.memories.0.iter().map(|(_, image)| image).collect();
                recent
                    .get(self.fate.below(recent.len().max(1) as u64) as usize)
                    .map_or(current, |image| Memory::Stale((*image).clone()))
            }
            _ => Memory::Wanted(self.fleet.desired()),
        }
    }

    fn go_on_from(&mut self, memory: Memory) {
        let (old, before) = (self.fleet.clone(), self.fleet.status(self.now));
        let children = self.children();
        let current = matches!(memory, Memory::Current(_));
        let imageless = matches!(memory, Memory::Wanted(_));
        match memory {
            Memory::Current(image) => {
                self.say("-- crash, the image is current");
                self.restore(image, children.clone());
            }
            Memory::Stale(image) => {
                self.say("-- crash, the image is stale");
                (self.forgetful, self.blameless) = (true, false);
                self.os.stopped.clear();
                self.restore(image, children.clone());
            }
            Memory::Wanted(desired) => {
                self.say("-- crash, without an image");
                self.blameless = false;
                self.changes.retain(|_, outcome| outcome.is_some());
                // Of a forgotten app with nothing left, another may get the id.
                let lives = |app: &AppId| children.iter().any(|child| child.label.0.app == *app);
                self.os.stopped.retain(|app| lives(app) || desired.apps.iter().any(|it| it.app == *app));
                self.build(desired, children.clone());
            }
        }
        self.ledger.begin_anew(self.forgetful || imageless);
        self.memories.0.clear();
        self.memories.keep(&self.fleet, self.executed);
        self.check_takeover(&old, &before, &children, current);
        if imageless {
            self.check_imageless(&before, &children);
        }
        let serving: Vec<InstanceId> = everyone(&self.fleet.status(self.now))
            .filter(|it| it.status == Status::Online)
            .map(|it| it.place.instance)
            .collect();
        serving.into_iter().for_each(|id| self.note_ready(id));
    }

    /// Another primary takes over, and nothing is lost.
    pub(crate) fn be_reborn(&mut self) {
        self.say("-- reborn");
        self.reborn_at = self.now;
        let children = self.os.children_as_told();
        self.restore(self.fleet.image(), children);
        self.drain(usize::MAX);
    }

    /// Whether somebody would be replaced by a primary who goes on under this one.
    pub(crate) fn interrupts_somebody(&self) -> bool {
        let status = self.fleet.status(self.now);
        everyone(&status).any(|it| waits(it) && self.has_channel(it.place.instance))
    }

    /// One whose end was taken note of has ended for all to see.
    fn children(&self) -> Vec<Child> {
        let mut children = self.os.children();
        for child in &mut children {
            let id = child.label.0.instance;
            let is_over = self.os.processes.get(&id).is_some_and(|it| it.life == Life::Over);
            child.ended |= is_over && self.fleet.spec_of(id).is_none();
        }
        children
    }

    fn inventory(&mut self, children: Vec<Child>) -> Inventory {
        self.starts += 1;
        let listening = self.os.listening.clone();
        let restarts = self.fleet.restarts();
        Inventory { boot_id: BOOT.into(), starts: self.starts, children, listening, restarts }
    }

    fn restore(&mut self, image: Image, children: Vec<Child>) {
        let text = serde_json::to_string(&image).expect("an image is JSON");
        let again: Image = serde_json::from_str(&text).expect("an image reads back");
        assert_eq!(again, image, "an image reads back as another");
        let inventory = self.inventory(children);
        self.fleet = Fleet::from_image(again, &inventory, self.now).expect("the image fits");
    }

    fn build(&mut self, desired: Desired, children: Vec<Child>) {
        let text = serde_json::to_string(&desired).expect("what is wanted is JSON");
        let again: Desired = serde_json::from_str(&text).expect("what is wanted reads back");
        let inventory = self.inventory(children);
        let limits = Limits { max_instances: MAX_INSTANCES, ..Limits::default() };
        self.fleet = Fleet::from_desired(again, limits, &inventory, self.now);
        assert_eq!(self.fleet.desired(), desired, "something else is wanted after the takeover");
    }

    fn check_takeover(&self, old: &Fleet, before: &FleetStatus, children: &[Child], current: bool) {
        let after = self.fleet.status(self.now);
        self.check_roll_call(&after, children);
        self.check_replaced(&after, children);
        self.check_specs(old, &after, current);
        self.check_uptimes(before, &after, children, current);
        if current {
            self.check_slots(before, &after, children);
            self.check_filled(before, &after);
            self.check_blame(before, children);
            self.check_manners(before, children);
        }
    }

    /// Each process has one place, and whoever has none is yet to be started.
    fn check_roll_call(&self, after: &FleetStatus, children: &[Child]) {
        let mut listed = BTreeMap::new();
        everyone(after).for_each(|it| *listed.entry(it.place.instance).or_insert(0) += 1);
        for child in children {
            let place = child.label.0;
            let count = listed.remove(&place.instance).unwrap_or(0);
            let known = after.apps.iter().any(|app| app.app == place.app);
            let fits = count == usize::from(known) || child.ended && count == 0;
            assert!(fits, "{} has {count} places", place.instance);
        }
        for (id, count) in listed {
            let fresh = count == 1 && !self.os.processes.contains_key(&id) && id.starts == self.starts;
            assert!(fresh, "{id} has {count} places and no process");
        }
    }

    /// Who was not ready and has a channel is on the way out.
    fn check_replaced(&self, after: &FleetStatus, children: &[Child]) {
        let living = children.iter().filter(|child| !child.ended);
        let lives: BTreeSet<InstanceId> = living.map(|child| child.label.0.instance).collect();
        for app in after.apps.iter().filter(|app| app.up) {
            for it in app.everyone() {
                let id = it.place.instance;
                let goes_on = waits(it) && lives.contains(&id) && self.has_channel(id);
                assert!(!goes_on, "{id} goes on although its primary died before it was ready");
            }
        }
    }

    /// Each process goes on with the configuration that it was started with. That of another generation than the
    /// good one may have been lost with an earlier image: then the good one's counts.
    fn check_specs(&self, old: &Fleet, after: &FleetStatus, current: bool) {
        let before = old.status(self.now);
        for app in &after.apps {
            let good = before.apps.iter().find(|it| it.app == app.app).map(|it| it.generation);
            let lasts = current && good == Some(app.generation);
            for it in app.everyone() {
                let id = it.place.instance;
                let Some(process) = self.os.processes.get(&id) else { continue };
                let (was, is) = (old.spec_of(id), self.fleet.spec_of(id));
                let same = is == Some(&process.spec) || it.place.generation != app.generation;
                assert!(same, "{id} goes on with another configuration");
                assert!(!lasts || was.is_none() || was == is, "{id} goes on with another than it had");
            }
        }
    }

    /// Nobody grows younger, where its birth is known.
    fn check_uptimes(&self, before: &FleetStatus, after: &FleetStatus, children: &[Child], current: bool) {
        let born = |id| children.iter().any(|child| child.label.0.instance == id && child.born.is_some());
        let old: BTreeMap<_, _> = everyone(before).map(|it| (it.place.instance, it.uptime)).collect();
        for it in everyone(after) {
            let id = it.place.instance;
            let Some(uptime) = old.get(&id).filter(|_| current || born(id)) else { continue };
            assert!(it.uptime >= *uptime, "{id} was {uptime} old and is {}", it.uptime);
        }
    }

    /// With a current image: counts go up by those that are gone, and a slot that served still does.
    fn check_slots(&self, before: &FleetStatus, after: &FleetStatus, children: &[Child]) {
        let now = slots(after);
        for (key, old) in slots(before) {
            let gone = old.instances.iter().filter(|it| self.is_lost(it, children)).count() as u32;
            let Some(new) = now.get(&key) else {
                let held = old.instances.iter().find(|it| is_held(it, children));
                assert!(held.is_none(), "{key:?} is gone with {held:?}");
                continue;
            };
            if !before.apps.iter().any(|app| app.app == key.0 && app.up) {
                continue;
            }
            let counts = old.restarts..=old.restarts + gone;
            assert!(
                counts.contains(&new.restarts),
                "{key:?} restarted {} times, now {}",
                old.restarts,
                new.restarts
            );
            // A reload to fewer slots may end with the takeover.
            let is_target = after.apps.iter().any(|app| app.app == key.0 && key.1.0 < app.instances);
            let serves = old.instances.iter().find(|it| it.status == Status::Online && is_target);
            // One that is gone may end a reload, and with it the slots that this had added.
            let lost = everyone(before).any(|it| it.place.app == key.0 && self.is_lost(it, children));
            if serves.is_some() && !lost {
                assert_eq!(new.status, Status::Online, "{key:?} served and does not any more");
            }
        }
    }

    /// With a current image: where an occupant was interrupted, another is on its way at once.
    fn check_filled(&self, before: &FleetStatus, after: &FleetStatus) {
        let old = slots(before);
        let reloads = |id| before.apps.iter().any(|app| app.app == id && app.reload.is_some());
        for app in after.apps.iter().filter(|app| app.up && !reloads(app.app)) {
            for slot in app.slots.iter().filter(|slot| slot.slot.0 < app.instances) {
                let Some(old) = old.get(&(app.app, slot.slot)) else { continue };
                let [started] = old.instances.as_slice() else { continue };
                let leaves = |it: &InstanceStatus| it.place == started.place && it.status == Status::Stopping;
                let interrupted = started.status == Status::Starting && slot.instances.iter().any(leaves);
                // One more that leaves and is not known of yet may take up the room.
                let fresh = slot.instances.len() > 1;
                assert!(fresh || !interrupted, "{:?} was interrupted and is not replaced", started.place);
            }
        }
    }

    /// With a current image and nobody lost: who may have connections is not sent a signal before they are
    /// finished.
    fn check_manners(&self, before: &FleetStatus, children: &[Child]) {
        if everyone(before).any(|it| self.is_lost(it, children)) {
            return;
        }
        let mut fleet = self.fleet.clone();
        while let Some(action) = fleet.poll_action() {
            let (Action::Terminate { instance, .. } | Action::Kill { instance }) = action else { continue };
            let listens = children.iter().any(|it| it.label.0.instance == instance && it.listens);
            let old = everyone(before).find(|it| it.place.instance == instance);
            let was_up = old.is_some_and(|it| matches!(it.status, Status::Starting | Status::Online));
            assert!(!listens || !was_up, "{instance} listens and is sent a signal: {action:?}");
        }
    }

    /// With a current image and nobody lost, nobody has failed.
    fn check_blame(&self, before: &FleetStatus, children: &[Child]) {
        if everyone(before).any(|it| self.is_lost(it, children)) {
            return;
        }
        let mut fleet = self.fleet.clone();
        while let Some(notice) = fleet.poll_notice() {
            let blames = matches!(
                notice,
                Notice::Respawn { .. }
                    | Notice::GaveUp { .. }
                    | Notice::Finished { .. }
                    | Notice::Exited { .. }
                    | Notice::ReloadAborted { .. }
                    | Notice::NotReady { .. }
            );
            assert!(!blames, "the takeover is blamed on somebody: {notice:?}");
        }
    }

    /// It lived, and the keeper does not hold it.
    fn is_lost(&self, it: &InstanceStatus, children: &[Child]) -> bool {
        let process = self.os.processes.get(&it.place.instance);
        let ended = process.is_some_and(|it| it.life == Life::Over && it.born_at.is_some());
        ended && !is_held(it, children)
    }

    pub(crate) fn has_channel(&self, id: InstanceId) -> bool {
        self.os.processes.get(&id).is_some_and(|it| it.spec.sockets == Sockets::Channel)
    }
}

/// It has not come so far that it needs nothing more of its primary.
fn waits(it: &InstanceStatus) -> bool {
    matches!(it.status, Status::Starting | Status::Standby)
}

fn is_held(it: &InstanceStatus, children: &[Child]) -> bool {
    children.iter().any(|child| child.label.0.instance == it.place.instance)
}

fn everyone(status: &FleetStatus) -> impl Iterator<Item = &InstanceStatus> {
    status.apps.iter().flat_map(AppStatus::everyone)
}

fn slots(status: &FleetStatus) -> BTreeMap<(AppId, Slot), &SlotStatus> {
    status.apps.iter().flat_map(|app| app.slots.iter().map(|slot| ((app.app, slot.slot), slot))).collect()
}
