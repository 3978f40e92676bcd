//! How far changes have come: a picture of the slots concerned, kept current by news.
//!
//! It only notes what it is told; how that looks is the business of `results`.

use std::collections::BTreeMap;

use oxherd::api::{AppView, NewsItem};
use oxherd_engine::core::{
    AppId, ChangeOutcome, Exit, Generation, InstanceId, Notice, Place, RetireReason, Signal, Slot, Span,
    Status,
};

use super::words::count;
use crate::output::{ended, give_up};

/// After so many unstable exits of a slot nobody waits any more.
const UNSTABLE_EXITS: u32 = 3;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Resurrect,
    Stop,
    Restart,
    Reload,
    /// One worker makes room for a successor.
    Recycle,
    Delete,
    /// It goes by another configuration, and no worker is replaced.
    Adjust,
    Scale,
}

/// One app that is being changed.
#[derive(Clone, Debug)]
pub(crate) struct AppProgress {
    pub(crate) app: AppId,
    pub(crate) name: String,
    pub(crate) verb: Verb,
    /// How the change ended, once it has.
    pub(crate) outcome: Option<ChangeOutcome>,
    /// Why it is likely to fail, or has.
    pub(crate) trouble: Option<String>,
    pub(crate) serving: Option<Serving>,
    pub(crate) scaled: Option<(u32, u32)>,
    pub(crate) reloaded: Option<(Generation, Span)>,
    /// How many slots an aborted reload had replaced.
    pub(crate) replaced: Option<u32>,
    /// Nobody waits for it any more: a slot has had so many unstable exits of so many, and goes on being filled.
    pub(crate) left_trying: Option<(u32, u32)>,
    pub(crate) slots: BTreeMap<Slot, SlotProgress>,
}

/// All workers of an app are ready.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) workers: u32,
    pub(crate) addresses: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SlotProgress {
    workers: BTreeMap<InstanceId, Worker>,
    vacancy: Vacancy,
    /// It is to be there no more once its workers have ended.
    leaves: bool,
}

#[derive(Clone, Debug)]
struct Worker {
    pid: Option<u32>,
    phase: Phase,
    /// Started since the change was asked for.
    fresh: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Starting { late: bool },
    Online { after: Option<Span> },
    Leaving(Farewell),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Drains,
    Signalled(Signal),
    Killed,
}

/// Why nobody is in a slot.
#[derive(Clone, Debug, Default)]
enum Vacancy {
    #[default]
    Untouched,
    Ended(Exit),
    /// It is through, and the slot stays empty.
    Finished(Exit),
    Waiting {
        unstable: u32,
        max: u32,
        delay: Span,
        exit: Option<Exit>,
    },
    GaveUp(String),
}

/// How a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its turn is still to come.
    Pending,
    UnderWay,
    Done,
    Failed,
}

impl Verb {
    /// At the beginning of a sentence, while it goes on.
    pub(crate) fn going_on(self) -> &'static str {
        match self {
            Self::Start | Self::Resurrect => "Starting",
            Self::Stop => "Stopping",
            Self::Restart => "Restarting",
            Self::Reload => "Reloading",
            Self::Recycle => "Replacing a worker of",
            Self::Delete => "Deleting",
            Self::Adjust => "Adjusting",
            Self::Scale => "Scaling",
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Start | Self::Resurrect => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Recycle => "replacement",
            Self::Delete => "deletion",
            Self::Adjust => "adjustment",
            Self::Scale => "scaling",
        }
    }

    fn aim(self) -> &'static str {
        match self {
            Self::Start | Self::Resurrect | Self::Restart | Self::Adjust | Self::Scale => "online",
            Self::Stop | Self::Delete => "stopped",
            Self::Reload | Self::Recycle => "replaced",
        }
    }
}

impl AppProgress {
    pub(crate) fn new(verb: Verb, app: AppId, name: impl Into<String>) -> Self {
        Self {
            app,
            name: name.into(),
            verb,
            outcome: None,
            trouble: None,
            serving: None,
            scaled: None,
            reloaded: None,
            replaced: None,
            left_trying: None,
            slots: BTreeMap::new(),
        }
    }

    /// Slots that are to be filled.
    pub(crate) fn expect(&mut self, instances: u32) {
        for slot in 0..instances {
            self.slots.entry(Slot(slot)).or_default();
        }
    }

    /// How the app looked before the change.
    pub(crate) fn remember(&mut self, view: &AppView) {
        for slot in &view.slots {
            let known = self.slots.entry(slot.slot).or_default();
            for worker in &slot.workers {
                let phase = match worker.status {
                    Status::Online => Phase::Online { after: None },
                    Status::Stopping => Phase::Leaving(Farewell::Drains),
                    Status::Starting
                    | Status::Standby
                    | Status::Stopped
                    | Status::WaitingRestart
                    | Status::Errored => Phase::Starting { late: false },
                };
                known.workers.insert(worker.instance, Worker { pid: worker.pid, phase, fresh: false });
            }
        }
        if matches!(self.verb, Verb::Start | Verb::Restart | Verb::Reload) {
            self.expect(view.instances);
        }
    }

    /// Whether every worker has ended, and nobody is waited for: the program was through.
    pub(crate) fn is_through(&self) -> bool {
        let ended = |slot: &SlotProgress| {
            slot.workers.is_empty() && matches!(slot.vacancy, Vacancy::Ended(_) | Vacancy::Finished(_))
        };
        !self.slots.is_empty() && self.slots.values().all(ended)
    }

    /// How the workers of slots that are empty ended.
    pub(crate) fn exits(&self) -> Vec<Exit> {
        let exit = |slot: &SlotProgress| match slot.vacancy {
            Vacancy::Ended(exit) | Vacancy::Finished(exit) => Some(exit),
            Vacancy::Untouched | Vacancy::Waiting { .. } | Vacancy::GaveUp(_) => None,
        };
        self.slots.values().filter_map(exit).collect()
    }

    /// Whether anything was started since the change was asked for.
    pub(crate) fn has_started_any(&self) -> bool {
        self.slots.values().flat_map(|slot| slot.workers.values()).any(|worker| worker.fresh)
    }

    /// Takes note of news; those of other apps are none of its business.
    pub(crate) fn note(&mut self, item: &NewsItem) {
        if item.notice.app() != Some(self.app) {
            return;
        }
        match &item.notice {
            Notice::Forked { place } | Notice::Promoted { place } => self.on_forked(place, item.pid),
            Notice::SpawnFailed { place, cause } => self.on_spawn_failed(place, &cause.message),
            Notice::Ready { place, after } => self.set(place, Phase::Online { after: Some(*after) }),
            Notice::NotReady { place, .. } => self.set(place, Phase::Starting { late: true }),
            Notice::Retiring { place, reason } => self.on_retiring(place, *reason),
            Notice::Terminating { place, signal } => self.bid(place, Farewell::Signalled(*signal)),
            Notice::Killing { place } => self.bid(place, Farewell::Killed),
            Notice::Exited { place, exit, wanted, .. } => self.on_exited(place, *exit, *wanted),
            Notice::Respawn { slot, unstable, max, delay, .. } => {
                self.on_respawn(*slot, *unstable, *max, *delay);
            }
            Notice::GaveUp { slot, why, .. } => {
                self.on_empty_end(*slot, format!("slot {} gives up: {}", slot.0, give_up(why)));
            }
            Notice::Finished { slot, exit, .. } => self.on_finished(*slot, *exit),
            Notice::AllServing { workers, addresses, .. } => {
                self.serving = Some(Serving { workers: *workers, addresses: addresses.clone() });
            }
            Notice::ReloadDone { generation, took, .. } => self.reloaded = Some((*generation, *took)),
            Notice::ReloadAborted { replaced, .. } => self.replaced = Some(*replaced),
            Notice::Scaled { from, to, .. } => self.on_scaled(*from, *to),
            Notice::Misbehaved { place, what } => {
                self.trouble =
                    Some(format!("the worker in slot {} breaks the protocol: {what}", place.slot.0));
            }
            Notice::Online { .. }
            | Notice::Parked { .. }
            | Notice::StandbyRespawn { .. }
            | Notice::Listening { .. }
            | Notice::Unkillable { .. }
            | Notice::ErrorReported { .. }
            | Notice::Stalled { .. }
            | Notice::Resumed { .. }
            | Notice::ReloadStarted { .. }
            | Notice::ReloadQueued { .. }
            | Notice::RecycleStarted { .. }
            | Notice::RecycleDone { .. }
            | Notice::RecycleFailed { .. }
            | Notice::Stopping { .. }
            | Notice::Stopped { .. }
            | Notice::Deleted { .. }
            | Notice::Adopted { .. }
            | Notice::Changed { .. } => {}
        }
    }

    fn of(&mut self, place: &Place) -> &mut SlotProgress {
        self.slots.entry(place.slot).or_default()
    }

    fn set(&mut self, place: &Place, phase: Phase) {
        if let Some(worker) = self.of(place).workers.get_mut(&place.instance) {
            worker.phase = phase;
        }
    }

    fn bid(&mut self, place: &Place, farewell: Farewell) {
        self.set(place, Phase::Leaving(farewell));
    }

    fn on_forked(&mut self, place: &Place, pid: Option<u32>) {
        let slot = self.of(place);
        slot.workers
            .insert(place.instance, Worker { pid, phase: Phase::Starting { late: false }, fresh: true });
        slot.vacancy = Vacancy::Untouched;
    }

    fn on_spawn_failed(&mut self, place: &Place, cause: &str) {
        self.of(place).workers.remove(&place.instance);
        self.trouble = Some(format!("slot {}: {cause}", place.slot.0));
    }

    fn on_retiring(&mut self, place: &Place, reason: RetireReason) {
        self.bid(place, Farewell::Drains);
        self.of(place).leaves |= reason == RetireReason::ScaledDown;
    }

    fn on_exited(&mut self, place: &Place, exit: Exit, wanted: bool) {
        let slot = self.of(place);
        slot.workers.remove(&place.instance);
        slot.vacancy = Vacancy::Ended(exit);
        if slot.leaves && slot.workers.is_empty() {
            self.slots.remove(&place.slot);
        } else if !wanted {
            self.trouble = Some(format!("the worker in slot {} {}", place.slot.0, ended(exit)));
        }
    }

    fn on_respawn(&mut self, slot: Slot, unstable: u32, max: u32, delay: Span) {
        let slot = self.slots.entry(slot).or_default();
        let exit = match slot.vacancy {
            Vacancy::Ended(exit) | Vacancy::Finished(exit) => Some(exit),
            Vacancy::Untouched | Vacancy::Waiting { .. } | Vacancy::GaveUp(_) => None,
        };
        slot.vacancy = Vacancy::Waiting { unstable, max, delay, exit };
    }

    fn on_empty_end(&mut self, slot: Slot, why: String) {
        self.slots.entry(slot).or_default().vacancy = Vacancy::GaveUp(why.clone());
        self.trouble = Some(why);
    }

    /// Whether it is as it should be is for the outcome to say.
    fn on_finished(&mut self, slot: Slot, exit: Exit) {
        self.slots.entry(slot).or_default().vacancy = Vacancy::Finished(exit);
        self.trouble = Some(format!("the worker in slot {} {}", slot.0, ended(exit)));
    }

    fn on_scaled(&mut self, from: u32, to: u32) {
        self.scaled = Some((from, to));
        self.expect(to);
    }

    /// The unstable exits, of how many, of a slot that ends again and again: whoever waits learns no more by waiting.
    pub(crate) fn crash_loop(&self) -> Option<(u32, u32)> {
        if self.outcome.is_some() || self.verb.aim() != "online" {
            return None;
        }
        self.slots.values().find_map(|slot| match slot.vacancy {
            Vacancy::Waiting { unstable, max, .. } if unstable >= UNSTABLE_EXITS => Some((unstable, max)),
            Vacancy::Waiting { .. }
            | Vacancy::Untouched
            | Vacancy::Ended(_)
            | Vacancy::Finished(_)
            | Vacancy::GaveUp(_) => None,
        })
    }

    /// How many slots are as they are to be, of how many.
    pub(crate) fn tally(&self) -> (usize, usize) {
        let done = self.slots.values().filter(|slot| slot.standing(self.verb) == Standing::Done);
        (done.count(), self.slots.len())
    }

    /// `1 of 4 slots replaced`
    pub(crate) fn tally_line(&self) -> String {
        let (done, all) = self.tally();
        format!("{done} of {} {}", count(all as u64, "slot", "slots"), self.verb.aim())
    }
}

impl SlotProgress {
    fn newest(&self) -> Option<&Worker> {
        self.workers.values().rev().find(|worker| !worker.is_leaving())
    }

    fn leaving(&self) -> Option<&Worker> {
        self.workers.values().find(|worker| worker.is_leaving())
    }

    pub(crate) fn standing(&self, verb: Verb) -> Standing {
        if matches!(self.vacancy, Vacancy::GaveUp(_)) && self.newest().is_none() {
            return if matches!(verb, Verb::Stop | Verb::Delete) { Standing::Done } else { Standing::Failed };
        }
        if let (Vacancy::Finished(exit), None, None) = (&self.vacancy, self.newest(), self.leaving())
            && !matches!(verb, Verb::Stop | Verb::Delete)
        {
            return if exit.is_success() { Standing::Done } else { Standing::Failed };
        }
        match (verb, self.newest(), self.leaving()) {
            (Verb::Stop | Verb::Delete, None, None) => Standing::Done,
            (Verb::Stop | Verb::Delete, Some(_), None) => Standing::Pending,
            (Verb::Restart | Verb::Reload | Verb::Recycle, Some(worker), None) if !worker.fresh => {
                Standing::Pending
            }
            (_, Some(Worker { phase: Phase::Online { .. }, .. }), None) => Standing::Done,
            (_, None, None) if matches!(self.vacancy, Vacancy::Untouched) => Standing::Pending,
            _ => Standing::UnderWay,
        }
    }

    /// The word for it, and what else there is to say.
    pub(crate) fn words(&self) -> (&'static str, String) {
        match (self.newest(), self.leaving()) {
            (Some(worker), None) => worker.words(),
            (Some(worker), Some(leaving)) => {
                let (word, detail) = worker.words();
                (word, format!("{detail}; the old one {}", leaving.farewell()))
            }
            (None, Some(leaving)) => ("stopping", leaving.farewell()),
            (None, None) => self.vacancy.words(),
        }
    }
}

impl Worker {
    fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    fn named(&self) -> String {
        self.pid.map_or_else(|| "no pid yet".to_owned(), |pid| format!("pid {pid}"))
    }

    fn words(&self) -> (&'static str, String) {
        let named = self.named();
        match self.phase {
            Phase::Starting { late: false } => ("starting", named),
            Phase::Starting { late: true } => {
                ("starting", format!("{named}, late: it may still become ready"))
            }
            Phase::Online { after: None } => ("online", named),
            Phase::Online { after: Some(after) } => ("online", format!("{named}, ready after {after}")),
            Phase::Leaving(_) => ("stopping", self.farewell()),
        }
    }

    fn farewell(&self) -> String {
        let named = self.pid.map_or_else(String::new, |pid| format!("(pid {pid}) "));
        match self.phase {
            Phase::Leaving(Farewell::Signalled(signal)) => format!("{named}was sent {signal}"),
            Phase::Leaving(Farewell::Killed) => format!("{named}is killed"),
            Phase::Leaving(Farewell::Drains) | Phase::Starting { .. } | Phase::Online { .. } => {
                format!("{named}finishes what is in hand")
            }
        }
    }
}

impl Vacancy {
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Untouched => ("waiting", String::new()),
            Self::Ended(exit) | Self::Finished(exit) => ("stopped", ended(*exit)),
            Self::Waiting { unstable, max, delay, exit } => {
                let exit = exit.map_or_else(String::new, |exit| format!("{}; ", ended(exit)));
                let unstable = match unstable {
                    0 => String::new(),
                    unstable => format!(" (unstable exit {unstable} of {max})"),
                };
                ("waiting restart", format!("{exit}again in {delay}{unstable}"))
            }
            Self::GaveUp(why) => ("errored", why.clone()),
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
