//! One world: a fleet, its fake machine, wishes and crashes on virtual time, and what must hold at every step.

use std::collections::{BTreeMap, VecDeque};

use oxherd_core::{
    Action, AppStatus, ChangeId, ChangeOutcome, Fleet, Image, InstanceId, InstanceStatus, Inventory, Limits,
    Moment, Notice, Request, Sockets, Span, Status,
};

use crate::os::Os;
use crate::process::Life;
use crate::{Mode, Rng, wish};

const BOOT: &str = "a boot";
const MAX_INSTANCES: u32 = 8;
/// How old, in actions, a stale image may be.
const STALENESS: u64 = 16;
/// A slot has at most an occupant, a successor and one on its way out, or two on their way out.
const LIVES_PER_SLOT: usize = 3;
/// The longest back-off, then two reloads of all slots one after the other, each with a start, a drain and two kills.
const TIME_TO_CONVERGE: Span = Span::from_secs(180);
/// Doors 2 s, drain 2 s, terminate 1 s, a kill that takes 5 s, and lags.
const TIME_TO_END: Span = Span::from_millis(10_300);

/// How many handlers one world may need; the busiest of many thousands of seeds needs a tenth.
const HANDLERS: u64 = 50_000;

/// One seeded world.
pub struct World {
    mode: Mode,
    rng: Rng,
    fate: Rng,
    now: Moment,
    /// The fleet under test.
    pub fleet: Fleet,
    /// Its machine.
    pub os: Os,
    starts: u32,
    wishes: u64,
    executed: u64,
    images: VecDeque<(u64, Image)>,
    changes: BTreeMap<ChangeId, Option<ChangeOutcome>>,
    order: BTreeMap<InstanceId, usize>,
    /// The first time each order that matters was given.
    pub deeds: Vec<String>,
    /// Replace the fleet by its own image now and then, with nothing lost.
    pub reborn_percent: u64,
    reborn_at: Moment,
    handled: u64,
    trace: bool,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, mode: Mode, trace: bool) -> Self {
        Self {
            mode,
            rng: Rng::new(seed),
            fate: Rng::new(!seed),
            now: Moment::from_millis(1000),
            fleet: Fleet::new(Limits { max_instances: MAX_INSTANCES }, BOOT, 0),
            os: Os::new(seed, mode),
            starts: 0,
            wishes: 0,
            executed: 0,
            images: VecDeque::new(),
            changes: BTreeMap::new(),
            order: BTreeMap::new(),
            deeds: Vec::new(),
            reborn_percent: 0,
            reborn_at: Moment::default(),
            handled: 0,
            trace,
        }
    }

    /// Lives through wishes and faults, then calm, then the end.
    pub fn run(&mut self) {
        let count = 3 + self.rng.below(8);
        for _ in 0..count {
            self.wish();
            let pause = self.rng.pick(&[0, 20, 300, 2000, 6000]);
            let until = self.now + Span::from_millis(self.rng.below(pause + 1));
            self.live_until(until);
        }
        self.os.calm_down(self.now);
        self.say("-- calm");
        self.converge();
        self.end();
    }

    /// Asks for `request` now.
    pub fn ask(&mut self, request: Request) {
        self.say(&format!("? {request:?}"));
        let answer = self.fleet.handle_request(request.clone(), self.now);
        match answer {
            Ok(change) => {
                self.say(&format!("  {change:?}"));
                let known = self.changes.insert(change, None);
                assert!(known.is_none() || self.os.lossy, "{change:?} is given twice");
                self.note_stops(&request);
            }
            Err(refusal) => self.say(&format!("  refused: {refusal}")),
        }
        self.after_handler();
    }

    /// Lets everything up to `until` happen.
    pub fn live_until(&mut self, until: Moment) {
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.step(next);
        }
        self.now = self.now.max(until);
    }

    /// Lives until the fleet is as it is wanted, and checks that it comes to be so in time.
    pub fn converge(&mut self) {
        let limit = self.now + TIME_TO_CONVERGE;
        while let Some(problem) = self.unsettled() {
            let next = self.next().unwrap_or_else(|| panic!("nothing happens any more, but {problem}"));
            assert!(next <= limit, "after {TIME_TO_CONVERGE} of calm {problem}");
            self.step(next);
        }
    }

    /// Lives until the next thing has happened, however far off it is.
    pub fn live_a_step(&mut self) {
        let next = self.next().expect("something happens");
        self.step(next);
    }

    /// Whether the fleet is as it is wanted.
    pub fn is_settled(&self) -> bool {
        self.unsettled().is_none()
    }

    fn wish(&mut self) {
        let apps: Vec<_> =
            self.fleet.status(self.now).apps.into_iter().map(|app| (app.app, app.name)).collect();
        self.wishes += 1;
        let request = wish::draw(&mut self.rng, self.mode, &apps, self.wishes);
        self.ask(request);
    }

    fn note_stops(&mut self, request: &Request) {
        match request {
            Request::Stop { app } | Request::Delete { app } => drop(self.os.stopped.insert(*app)),
            Request::Restart { app } => drop(self.os.stopped.remove(app)),
            Request::Shutdown | Request::Kill => {
                self.os.killing |= *request == Request::Kill;
                let apps = self.fleet.status(self.now).apps;
                self.os.stopped.extend(apps.iter().map(|app| app.app));
            }
            Request::Start { .. }
            | Request::Register { .. }
            | Request::Reload { .. }
            | Request::Scale { .. } => {}
        }
    }

    fn next(&self) -> Option<Moment> {
        self.os.next().into_iter().chain(self.fleet.poll_timeout()).min().map(|next| next.max(self.now))
    }

    fn step(&mut self, next: Moment) {
        self.now = self.now.max(next);
        if self.fleet.poll_timeout().is_some_and(|due| due <= self.now) {
            self.say("! time");
            self.fleet.handle_timeout(self.now);
            let ahead = self.fleet.poll_timeout().is_none_or(|due| due > self.now);
            assert!(ahead, "the timer does not advance");
        } else if let Some(event) = self.os.happen(self.now) {
            self.say(&format!("! {event:?}"));
            self.fleet.handle_event(event, self.now);
        } else {
            return;
        }
        self.after_handler();
    }

    fn after_handler(&mut self) {
        self.handled += 1;
        assert!(self.handled < HANDLERS, "the world never comes to rest");
        if self.mode.crashes() {
            self.images.push_back((self.executed, self.fleet.image()));
            while self.images.front().is_some_and(|(at, _)| at + STALENESS < self.executed) {
                self.images.pop_front();
            }
            if self.fate.below(1000) < 8 {
                self.crash();
            }
        }
        self.drain(usize::MAX);
        let may = self.reborn_percent > 0 && self.reborn_at < self.now && self.os.host_is_idle();
        let may = may && !self.interrupts_somebody();
        if may && self.fate.chance(self.reborn_percent) {
            self.be_reborn();
        }
        self.check();
    }

    fn drain(&mut self, most: usize) {
        for _ in 0..most {
            let Some(action) = self.fleet.poll_action() else { break };
            self.say(&format!("  > {}", brief(&action)));
            self.executed += 1;
            self.note_deed(&action);
            self.os.obey(&action, self.now);
        }
        while let Some(notice) = self.fleet.poll_notice() {
            self.say(&format!("    {notice:?}"));
            if let Notice::Changed { change, outcome } = notice {
                let known = self.changes.insert(change, Some(outcome));
                assert!(known.is_none_or(|it| it.is_none()) || self.os.lossy, "{change:?} ends twice");
            }
        }
    }

    fn note_deed(&mut self, action: &Action) {
        if let Action::Spawn { place, .. } = action {
            let number = self.order.len();
            self.order.insert(place.instance, number);
        }
        let (verb, id) = match action {
            Action::Spawn { place, .. } => ("spawn", place.instance),
            Action::Terminate { instance, .. } => ("terminate", *instance),
            Action::Kill { instance } => ("kill", *instance),
            Action::Sweep { instance } => ("sweep", *instance),
            Action::Disconnect { instance, .. } => ("disconnect", *instance),
            Action::Admit { .. }
            | Action::Withdraw { .. }
            | Action::CloseDoors { .. }
            | Action::CloseListeners { .. }
            | Action::RetireSlot { .. } => return,
        };
        let number = self.order.get(&id).copied().unwrap_or(usize::MAX);
        let deed = format!("{verb} {number}");
        if !self.deeds.iter().any(|known| known.ends_with(&deed)) {
            self.deeds.push(format!("{} {deed}", self.now.as_millis()));
        }
    }

    /// The primary dies in the midst of its orders; another takes over from an image of any recent age.
    fn crash(&mut self) {
        let most = self.fate.below(4) as usize;
        self.drain(most);
        let recent: Vec<&Image> = self
            .images
            .iter()
            .filter(|(at, _)| at + STALENESS >= self.executed)
            .map(|(_, image)| image)
            .collect();
        let current = recent.len() - 1;
        let choice =
            if self.fate.chance(40) { current } else { self.fate.below(recent.len() as u64) as usize };
        let text = serde_json::to_string(recent[choice]).expect("an image is JSON");
        self.os.crash(self.now);
        self.os.stopped.clear();
        self.say(&format!("-- crash, image {} of {current}", choice));
        let children = self.os.children();
        self.take_over(&text, children);
        self.images.clear();
        self.images.push_back((self.executed, self.fleet.image()));
    }

    /// Another primary takes over, and nothing is lost.
    fn be_reborn(&mut self) {
        let text = serde_json::to_string(&self.fleet.image()).expect("an image is JSON");
        self.say("-- reborn");
        self.reborn_at = self.now;
        let children = self.os.children_as_told();
        self.take_over(&text, children);
        self.drain(usize::MAX);
    }

    /// Whether somebody would be replaced by the next primary who goes on under this one.
    fn interrupts_somebody(&self) -> bool {
        let apps = self.fleet.status(self.now).apps;
        let mut everyone = apps.iter().flat_map(|app| &app.slots).flat_map(|slot| &slot.instances);
        everyone.any(|it| {
            let process = self.os.processes.get(&it.place.instance);
            let has_channel = process.is_some_and(|it| it.spec.sockets == Sockets::Channel);
            it.status == Status::Starting && has_channel
        })
    }

    fn take_over(&mut self, image: &str, children: Vec<oxherd_core::Child>) {
        self.starts += 1;
        let image: Image = serde_json::from_str(image).expect("an image reads back");
        let inventory = Inventory { boot_id: BOOT.into(), starts: self.starts, children };
        self.fleet = Fleet::from_image(image, &inventory, self.now).expect("the image fits");
    }

    fn check(&self) {
        self.fleet.check_invariants();
        let status = self.fleet.status(self.now);
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
            self.check_batch(app);
        }
        assert_eq!(self.os.admitted.len(), expected, "somebody gets connections who does not serve");
    }

    /// Successors are those of the new generation that start beside somebody else.
    fn check_batch(&self, app: &AppStatus) {
        let Some(reload) = &app.reload else { return };
        let new = |it: &InstanceStatus| it.place.generation == reload.generation;
        let starts = |it: &&InstanceStatus| it.status == Status::Starting && new(it);
        let successors: Vec<_> =
            app.slots.iter().filter_map(|slot| slot.instances.iter().skip(1).find(starts)).collect();
        let Some(first) = successors.first() else { return };
        let batch = self.os.processes.get(&first.place.instance).map_or(0, |it| it.spec.parallel);
        assert!(successors.len() <= batch as usize, "{} successors, the batch is {batch}", successors.len());
    }

    /// What is not as it should be in the end.
    fn unsettled(&self) -> Option<String> {
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
                if !serves && !over {
                    return Some(format!("slot {} of {} is {:?}", slot.slot.0, app.name, slot));
                }
            }
        }
        let open = self.changes.iter().find(|(_, outcome)| outcome.is_none());
        open.filter(|_| !self.os.lossy).map(|(change, _)| format!("{change:?} is open"))
    }

    /// Everything goes, politely or not, and nothing is left.
    fn end(&mut self) {
        self.mode = if self.mode == Mode::Crashing { Mode::Faulty } else { self.mode };
        let kill = self.rng.chance(20);
        if !kill || self.rng.chance(50) {
            self.ask(Request::Shutdown);
        }
        if kill {
            self.ask(Request::Kill);
        }
        let limit = self.now + TIME_TO_END;
        while self.fleet.outcome().is_none() {
            let next = self.next().expect("nothing happens any more and the fleet has not ended");
            assert!(next <= limit, "the fleet has not ended after {TIME_TO_END}");
            self.step(next);
        }
        for (id, it) in &self.os.processes {
            assert!(it.life == Life::Over, "{id} outlives the fleet");
            let born = it.sweeps > 0 || it.plan.fails.is_some();
            assert!(born || self.os.lossy, "{id} was never swept");
        }
        assert_eq!(self.os.admitted.len(), 0, "somebody gets connections after the end");
        let open = self.changes.iter().find(|(_, outcome)| outcome.is_none());
        assert!(open.is_none() || self.os.lossy, "{open:?} never ended");
    }

    fn say(&self, line: &str) {
        if self.trace {
            println!("{:>8} {line}", self.now.as_millis());
        }
    }
}

fn brief(action: &Action) -> String {
    match action {
        Action::Spawn { place, .. } => format!("Spawn {place:?}"),
        Action::Admit { .. }
        | Action::Withdraw { .. }
        | Action::Disconnect { .. }
        | Action::Terminate { .. }
        | Action::Kill { .. }
        | Action::Sweep { .. }
        | Action::CloseDoors { .. }
        | Action::CloseListeners { .. }
        | Action::RetireSlot { .. } => format!("{action:?}"),
    }
}
