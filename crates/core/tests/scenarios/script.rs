//! The language of the scenarios: `app(3).up().reload().at(120).ready(4)…` on a fleet with one app.
//!
//! Instances are named by their numbers, in the order in which they were spawned. `did` takes the orders given
//! since it was asked last, `told` the news that matter to somebody who waits.

use oxherd_core::{
    Action, AppId, AppSpec, ChangeId, ChangeOutcome, Event, Exit, Fleet, FleetStatus, GiveUp, InstanceId,
    Limits, Moment, Notice, Outcome, RecycleReason, Refusal, ReloadFailure, Request, Signal, Slot, Span,
    SpawnFailure,
};

pub(crate) const APP: AppId = AppId(0);

const LIMITS: Limits = Limits { max_instances: 8, may_be_empty: false };

pub(crate) struct Script {
    pub(crate) fleet: Fleet,
    pub(crate) spec: AppSpec,
    pub(crate) now: u64,
    did: Vec<String>,
    told: Vec<String>,
    /// The answer to the last request.
    pub(crate) answer: Option<Result<ChangeId, Refusal>>,
}

/// An app with that many instances that is not started yet.
pub(crate) fn app(instances: u32) -> Script {
    app_with(instances, |_| {})
}

pub(crate) fn app_with(instances: u32, change: impl FnOnce(&mut AppSpec)) -> Script {
    let mut spec = AppSpec { instances, ..AppSpec::new("web", "node") };
    change(&mut spec);
    let fleet = Fleet::new(LIMITS, "boot", 0);
    Script { fleet, spec, now: 0, did: Vec::new(), told: Vec::new(), answer: None }
}

pub(crate) fn id(number: u32) -> InstanceId {
    InstanceId { starts: 0, number }
}

impl Script {
    /// Lets time pass up to `now`, with every timeout on the way.
    pub(crate) fn at(mut self, now: u64) -> Self {
        while let Some(next) = self.fleet.poll_timeout().filter(|next| next.as_millis() <= now) {
            self.now = self.now.max(next.as_millis());
            self.fleet.handle_timeout(self.moment());
            self.drain();
        }
        self.now = now;
        self
    }

    pub(crate) fn later(self, span: u64) -> Self {
        let now = self.now + span;
        self.at(now)
    }

    pub(crate) fn ask(mut self, request: Request) -> Self {
        self.answer = Some(self.fleet.handle_request(request, self.moment()));
        self.drain();
        self
    }

    pub(crate) fn start(self) -> Self {
        let spec = Box::new(self.spec.clone());
        self.ask(Request::Start { spec })
    }

    /// Starts, and every worker serves at once; what was ordered and told is taken.
    pub(crate) fn up(self) -> Self {
        let all: Vec<u32> = (1..=self.spec.instances).collect();
        let mut script = all.into_iter().fold(self.start(), Self::serves);
        script.forget();
        script
    }

    pub(crate) fn reload(self) -> Self {
        self.ask(Request::Reload { app: APP, spec: None })
    }

    pub(crate) fn reload_with(self, change: impl FnOnce(&mut AppSpec)) -> Self {
        let mut spec = self.spec.clone();
        change(&mut spec);
        self.ask(Request::Reload { app: APP, spec: Some(Box::new(spec)) })
    }

    /// Somebody wants the worker of this slot replaced.
    pub(crate) fn recycle(self, slot: u32) -> Self {
        self.ask(Request::Recycle { app: APP, slot: Slot(slot), why: RecycleReason::Asked })
    }

    /// The worker's process tree holds so much memory.
    pub(crate) fn holds(self, number: u32, bytes: u64) -> Self {
        self.event(Event::Measured { instance: id(number), memory: Some(bytes), requests: None })
    }

    pub(crate) fn restart(self) -> Self {
        self.ask(Request::Restart { app: APP, spec: None })
    }

    pub(crate) fn scale(self, instances: u32) -> Self {
        self.ask(Request::Scale { app: APP, instances })
    }

    pub(crate) fn stop(self) -> Self {
        self.ask(Request::Stop { app: APP })
    }

    pub(crate) fn delete(self) -> Self {
        self.ask(Request::Delete { app: APP })
    }

    pub(crate) fn shutdown(self) -> Self {
        self.ask(Request::Shutdown)
    }

    pub(crate) fn kill(self) -> Self {
        self.ask(Request::Kill)
    }

    pub(crate) fn event(mut self, event: Event) -> Self {
        self.fleet.handle_event(event, self.moment());
        self.drain();
        self
    }

    pub(crate) fn spawned(self, number: u32) -> Self {
        self.event(Event::Spawned { instance: id(number) })
    }

    pub(crate) fn online(self, number: u32) -> Self {
        self.event(Event::Online { instance: id(number) })
    }

    pub(crate) fn listening(self, number: u32) -> Self {
        self.event(Event::Listening { instance: id(number), address: ":80".into() })
    }

    pub(crate) fn parked(self, number: u32) -> Self {
        self.event(Event::Parked { instance: id(number) })
    }

    /// Spawned, and held where it wants to listen.
    pub(crate) fn parks(self, number: u32) -> Self {
        self.spawned(number).parked(number)
    }

    pub(crate) fn ready(self, number: u32) -> Self {
        self.event(Event::Ready { instance: id(number) })
    }

    /// Spawned, online and listening at once.
    pub(crate) fn serves(self, number: u32) -> Self {
        self.spawned(number).online(number).listening(number)
    }

    pub(crate) fn withdrawn(self, number: u32) -> Self {
        self.event(Event::Withdrawn { instance: id(number) })
    }

    pub(crate) fn doors_closed(self) -> Self {
        self.event(Event::DoorsClosed { app: APP })
    }

    pub(crate) fn exits(self, number: u32, code: i32) -> Self {
        self.event(Event::Exited { instance: id(number), exit: Exit::Code(code) })
    }

    pub(crate) fn dies(self, number: u32, signal: Signal) -> Self {
        self.event(Event::Exited { instance: id(number), exit: Exit::Signal(signal) })
    }

    /// Drains without a hitch: the last connection is answered and the process ends.
    pub(crate) fn goes(self, number: u32) -> Self {
        self.withdrawn(number).exits(number, 0)
    }

    pub(crate) fn cannot_spawn(self, number: u32, lasting: bool) -> Self {
        let cause = SpawnFailure { message: "cannot run node".into(), lasting };
        self.event(Event::SpawnFailed { instance: id(number), cause })
    }

    pub(crate) fn did<const N: usize>(mut self, expected: [&str; N]) -> Self {
        assert_eq!(std::mem::take(&mut self.did), expected, "orders at {} ms", self.now);
        self
    }

    pub(crate) fn told<const N: usize>(mut self, expected: [&str; N]) -> Self {
        assert_eq!(std::mem::take(&mut self.told), expected, "news at {} ms", self.now);
        self
    }

    pub(crate) fn ends(self, expected: Option<Outcome>) -> Self {
        assert_eq!(self.fleet.outcome(), expected, "outcome at {} ms", self.now);
        self
    }

    pub(crate) fn refused(self, expected: &str) -> Self {
        let refusal = self.answer.as_ref().and_then(|it| it.as_ref().err()).map(ToString::to_string);
        assert_eq!(refusal.as_deref(), Some(expected));
        self
    }

    pub(crate) fn forget(&mut self) {
        self.did.clear();
        self.told.clear();
    }

    pub(crate) fn status(&self) -> FleetStatus {
        self.fleet.status(self.moment())
    }

    pub(crate) fn restarts(&self, slot: usize) -> u32 {
        self.status().apps[0].slots[slot].restarts
    }

    /// Of the slot's occupant, in milliseconds.
    pub(crate) fn uptime(&self, slot: usize) -> u64 {
        self.status().apps[0].slots[slot].instances[0].uptime.as_millis()
    }

    pub(crate) fn limits(&self) -> Limits {
        LIMITS
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment::from_millis(self.now)
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.fleet.poll_action() {
            self.did.push(order(&action));
        }
        while let Some(notice) = self.fleet.poll_notice() {
            self.told.extend(news(&notice));
        }
        assert!(self.fleet.poll_timeout().is_none_or(|next| next >= self.moment()), "a timeout was missed");
    }
}

fn order(action: &Action) -> String {
    match action {
        Action::Spawn { place, parks, .. } => {
            let parks = if *parks { " parks" } else { "" };
            format!("spawn {} s{} g{}{parks}", place.instance.number, place.slot.0, place.generation.0)
        }
        Action::Unpark { instance, slot } => format!("unpark {} s{}", instance.number, slot.0),
        Action::Probe { instance } => format!("probe {}", instance.number),
        Action::Admit { instance } => format!("admit {}", instance.number),
        Action::Withdraw { instance } => format!("withdraw {}", instance.number),
        Action::Disconnect { instance, parting } => format!("disconnect {} {parting:?}", instance.number),
        Action::Terminate { instance, signal } => format!("{signal} {}", instance.number),
        Action::Kill { instance } => format!("kill {}", instance.number),
        Action::Sweep { instance } => format!("sweep {}", instance.number),
        Action::CloseDoors { .. } => "close doors".into(),
        Action::CloseListeners { .. } => "close listeners".into(),
        Action::RetireSlot { slot, .. } => format!("retire s{}", slot.0),
    }
}

/// The news that somebody waits for; what a single worker goes through shows in the orders.
fn news(notice: &Notice) -> Option<String> {
    match notice {
        Notice::AllServing { workers, addresses, after, .. } => {
            Some(format!("all {workers} serve [{}] after {after}", addresses.join(" ")))
        }
        Notice::NotReady { place, after } => {
            Some(format!("{} not ready after {after}", place.instance.number))
        }
        Notice::Unkillable { place } => Some(format!("{} unkillable", place.instance.number)),
        Notice::Respawn { slot, unstable, max, delay, .. } => {
            Some(format!("respawn s{} {unstable}/{max} in {delay}", slot.0))
        }
        Notice::GaveUp { slot, why, .. } => Some(format!("gave up s{}: {}", slot.0, reason(why))),
        Notice::Finished { slot, exit, .. } => Some(format!("finished s{} {exit}", slot.0)),
        Notice::Parked { place, .. } => Some(format!("{} parked", place.instance.number)),
        Notice::Promoted { place } => Some(format!("{} takes s{}", place.instance.number, place.slot.0)),
        Notice::StandbyRespawn { slot, delay, .. } => Some(format!("standby s{} in {delay}", slot.0)),
        Notice::Stalled { place } => Some(format!("{} stalled", place.instance.number)),
        Notice::Resumed { place } => Some(format!("{} resumed", place.instance.number)),
        Notice::ReloadQueued { change, .. } => Some(format!("change {} queued", change.0)),
        Notice::ReloadDone { generation, took, .. } => Some(format!("g{} done in {took}", generation.0)),
        Notice::ReloadAborted { generation, why, replaced, .. } => {
            Some(format!("g{} aborted with {replaced} replaced: {}", generation.0, failure(why)))
        }
        Notice::RecycleStarted { place, why } => {
            Some(format!("{} to be replaced: {why:?}", place.instance.number))
        }
        Notice::RecycleDone { slot, took, .. } => Some(format!("s{} replaced in {took}", slot.0)),
        Notice::RecycleFailed { slot, failure: why, .. } => {
            Some(format!("s{} not replaced: {}", slot.0, failure(why)))
        }
        Notice::Scaled { from, to, .. } => Some(format!("scaled {from} to {to}")),
        Notice::Stopped { .. } => Some("stopped".into()),
        Notice::Deleted { .. } => Some("deleted".into()),
        Notice::Adopted { place } => Some(format!("{} adopted", place.instance.number)),
        Notice::Changed { change, outcome } => Some(format!("change {} {}", change.0, end(outcome))),
        Notice::Forked { .. }
        | Notice::SpawnFailed { .. }
        | Notice::Online { .. }
        | Notice::Listening { .. }
        | Notice::Ready { .. }
        | Notice::Retiring { .. }
        | Notice::Terminating { .. }
        | Notice::Killing { .. }
        | Notice::Exited { .. }
        | Notice::ErrorReported { .. }
        | Notice::Misbehaved { .. }
        | Notice::ReloadStarted { .. }
        | Notice::Stopping { .. } => None,
    }
}

fn reason(why: &GiveUp) -> String {
    match why {
        GiveUp::UnstableExits { count, window } => format!("{count} exits within {window}"),
        GiveUp::Errors { count, window } => format!("{count} errors within {window}"),
        GiveUp::CannotSpawn(cause) => cause.to_string(),
    }
}

fn failure(why: &ReloadFailure) -> String {
    match why {
        ReloadFailure::NotReady { slot, after } => format!("s{} not ready after {after}", slot.0),
        ReloadFailure::Died { slot, exit } => format!("s{} died with {exit}", slot.0),
        ReloadFailure::CannotSpawn { slot, cause } => format!("s{} {cause}", slot.0),
        ReloadFailure::Superseded => "superseded".into(),
    }
}

fn end(outcome: &ChangeOutcome) -> &'static str {
    match outcome {
        ChangeOutcome::Done => "done",
        ChangeOutcome::ReloadAborted(_) => "aborted",
        ChangeOutcome::Failed => "failed",
        ChangeOutcome::Superseded => "superseded",
    }
}

/// A span of whole milliseconds, for configurations.
pub(crate) fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}
