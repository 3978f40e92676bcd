//! One world: a fleet, its fake machine, wishes and crashes on virtual time, and what must hold at every step.

use std::collections::BTreeMap;

use oxherd_core::{
    Action, ChangeId, ChangeOutcome, Event, Fleet, InstanceId, Limits, Moment, Notice, ReloadFailure,
    Request, Span,
};

use crate::ledger::Ledger;
use crate::os::Os;
use crate::process::Life;
use crate::takeover::Memories;
use crate::{Mode, Rng, wish};

pub(crate) const BOOT: &str = "a boot";
pub(crate) const MAX_INSTANCES: u32 = 8;
/// The longest back-off, then two reloads of all slots one after the other, each with a start, a drain and two kills.
const TIME_TO_CONVERGE: Span = Span::from_secs(180);
/// Doors 2 s, drain 2 s, terminate 1 s, a kill that takes 5 s, and lags.
const TIME_TO_END: Span = Span::from_millis(10_300);

/// How many handlers one world may need; the busiest of many thousands of seeds needs a tenth.
const HANDLERS: u64 = 50_000;

/// One seeded world.
pub struct World {
    pub(crate) mode: Mode,
    rng: Rng,
    pub(crate) fate: Rng,
    pub(crate) now: Moment,
    /// The fleet under test.
    pub fleet: Fleet,
    /// Its machine.
    pub os: Os,
    pub(crate) starts: u32,
    wishes: u64,
    pub(crate) executed: u64,
    pub(crate) memories: Memories,
    pub(crate) changes: BTreeMap<ChangeId, Option<ChangeOutcome>>,
    /// A stale image was used: what was promised since is unknown, and changes may be told twice.
    pub(crate) forgetful: bool,
    /// Nothing fails and nothing is forgotten: nobody may be blamed for anything.
    pub(crate) blameless: bool,
    /// The end was asked for: what is wanted does not know of it, and a stale image may not.
    pub(crate) ending: bool,
    order: BTreeMap<InstanceId, usize>,
    /// The first time each order that matters was given.
    pub deeds: Vec<String>,
    /// Replace the fleet by its own image now and then, with nothing lost.
    pub reborn_percent: u64,
    pub(crate) reborn_at: Moment,
    handled: u64,
    trace: bool,
    /// When the machine is looked at next.
    pub(crate) look_at: Option<Moment>,
    /// The load of every app, in place of one that is drawn.
    pub load: Option<u32>,
    /// What must not become less by what has happened.
    pub(crate) ledger: Ledger,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, mode: Mode, trace: bool) -> Self {
        Self {
            mode,
            rng: Rng::new(seed),
            fate: Rng::new(!seed),
            now: Moment::from_millis(1000),
            fleet: Fleet::new(Limits { max_instances: MAX_INSTANCES, ..Limits::default() }, BOOT, 0),
            os: Os::new(seed, mode),
            starts: 0,
            wishes: 0,
            executed: 0,
            memories: Memories::default(),
            changes: BTreeMap::new(),
            forgetful: false,
            blameless: mode == Mode::Upgrading,
            ending: false,
            order: BTreeMap::new(),
            deeds: Vec::new(),
            reborn_percent: 0,
            reborn_at: Moment::default(),
            handled: 0,
            trace,
            look_at: None,
            load: None,
            ledger: Ledger::default(),
        }
    }

    /// Lives through wishes and faults, then calm, then the end.
    pub fn run(&mut self) {
        let count = 3 + self.rng.below(8);
        for _ in 0..count {
            self.wish();
            if self.mode.crashes() && self.fate.chance(30) {
                self.mix_wishes();
            }
            let pause = self.rng.pick(&[0, 20, 300, 2000, 6000]);
            // Of a load it takes a minute to see that it is gone.
            let scales = self.apps_with(|spec| spec.scaling.is_some()).next().is_some();
            let pause = if scales && self.rng.chance(10) { 150_000 } else { pause };
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
                assert!(known.is_none() || self.forgetful, "{change:?} is given twice");
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

    /// Lets everything happen that does in the next `span`.
    pub fn live_for(&mut self, span: Span) {
        self.live_until(self.now + span);
    }

    /// How many slots are to be filled, of all apps.
    pub fn slots(&self) -> u32 {
        self.fleet.status(self.now).apps.iter().map(|app| app.instances).sum()
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

    /// Many wishes at once, and the primary dies on them.
    fn mix_wishes(&mut self) {
        for _ in 0..=self.fate.below(3) {
            self.wish();
            let soon = self.now + Span::from_millis(self.fate.below(150));
            self.live_until(soon);
        }
        self.crash();
        self.drain(usize::MAX);
        self.check();
    }

    fn note_stops(&mut self, request: &Request) {
        match request {
            Request::Stop { app } | Request::Delete { app } => drop(self.os.stopped.insert(*app)),
            Request::Restart { app, .. } => drop(self.os.stopped.remove(app)),
            Request::Shutdown | Request::Kill => {
                self.os.killing |= *request == Request::Kill;
                let apps = self.fleet.status(self.now).apps;
                self.os.stopped.extend(apps.iter().map(|app| app.app));
            }
            Request::Start { .. }
            | Request::Register { .. }
            | Request::Reload { .. }
            | Request::Adjust { .. }
            | Request::Scale { .. }
            | Request::Fork { .. }
            | Request::Retire { .. }
            | Request::Recycle { .. } => {}
        }
    }

    fn next(&self) -> Option<Moment> {
        let next = self.os.next().into_iter().chain(self.fleet.poll_timeout()).chain(self.look_at).min();
        next.map(|next| next.max(self.now))
    }

    fn step(&mut self, next: Moment) {
        self.now = self.now.max(next);
        self.happen();
        self.arm_looks();
    }

    fn happen(&mut self) {
        if self.fleet.poll_timeout().is_some_and(|due| due <= self.now) {
            self.say("! time");
            self.fleet.handle_timeout(self.now);
            let ahead = self.fleet.poll_timeout().is_none_or(|due| due > self.now);
            assert!(ahead, "the timer does not advance");
            self.ledger.bind(None);
        } else if self.look_at.is_some_and(|due| due <= self.now) {
            return self.look();
        } else if let Some(event) = self.os.happen(self.now) {
            return self.take_in(event);
        } else {
            return;
        }
        self.after_handler();
    }

    pub(crate) fn take_in(&mut self, event: Event) {
        self.say(&format!("! {event:?}"));
        self.ledger.bind(Some(&event));
        self.fleet.handle_event(event, self.now);
        self.after_handler();
    }

    fn after_handler(&mut self) {
        self.handled += 1;
        assert!(self.handled < HANDLERS, "the world never comes to rest");
        if self.mode.crashes() {
            self.memories.keep(&self.fleet, self.executed);
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

    pub(crate) fn drain(&mut self, most: usize) {
        for _ in 0..most {
            let Some(action) = self.fleet.poll_action() else { break };
            self.say(&format!("  > {}", brief(&action)));
            self.executed += 1;
            self.note_deed(&action);
            self.os.obey(&action, self.now);
        }
        while let Some(notice) = self.fleet.poll_notice() {
            self.say(&format!("    {notice:?}"));
            self.note_news(notice);
        }
    }

    fn note_news(&mut self, notice: Notice) {
        let blames = match &notice {
            Notice::Exited { wanted, .. } => !wanted,
            Notice::ReloadAborted { why, .. } | Notice::RecycleFailed { failure: why, .. } => {
                *why != ReloadFailure::Superseded
            }
            other => {
                matches!(
                    other,
                    Notice::Respawn { .. }
                        | Notice::StandbyRespawn { .. }
                        | Notice::GaveUp { .. }
                        | Notice::NotReady { .. }
                )
            }
        };
        assert!(!blames || !self.blameless, "somebody is blamed: {notice:?}");
        if let Notice::Ready { place, .. } = notice {
            self.note_ready(place.instance);
        }
        self.ledger.note(&notice);
        if let Notice::Changed { change, outcome } = notice {
            let known = self.changes.insert(change, Some(outcome));
            assert!(known == Some(None) || self.forgetful, "{change:?} ends and was not open: {known:?}");
        }
    }

    /// Word of it is left for the next primary.
    pub(crate) fn note_ready(&mut self, id: InstanceId) {
        self.os.processes.entry(id).and_modify(|it| it.noted_ready = true);
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
            | Action::Probe { .. }
            | Action::Unpark { .. }
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

    /// Everything goes, politely or not, and nothing is left.
    fn end(&mut self) {
        self.ending = true;
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
        assert!(open.is_none() || self.forgetful, "{open:?} never ended");
    }

    pub(crate) fn say(&self, line: &str) {
        if self.trace {
            println!("{:>8} {line}", self.now.as_millis());
        }
    }
}

fn brief(action: &Action) -> String {
    match action {
        Action::Spawn { place, .. } => format!("Spawn {place:?}"),
        Action::Admit { .. }
        | Action::Probe { .. }
        | Action::Unpark { .. }
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
