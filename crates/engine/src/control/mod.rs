//! The control thread: the core, processes, timers, signals and output.
//!
//! It carries facts into the core and the core's orders out of it. It never decides anything itself.

mod actions;
mod children;
mod figures;
mod input;
mod keeping;
mod looks;
mod notify;
mod output;
mod probe;
mod signals;
mod singles;
mod takeover;
mod wishes;

pub(crate) use signals::block_signals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oxherd_core::{AppId, AppSpec, Fleet, InstanceId, Limits, Moment, Outcome, Request, Span};
use oxherd_os::notify::NotifySocket;
use oxherd_os::{Events, Interest, Poller, clock};

use crate::control::children::Children;
use crate::control::figures::AllTotals;
use crate::control::keeping::Keeping;
use crate::control::looks::Looks;
use crate::control::signals::SignalSource;
use crate::handle::{Handle, Wish};
use crate::host::{Estate, ProcessHost, Stash};
use crate::link::{Reader, Writer, link};
use crate::traffic::{News, TrafficHandle};
use crate::{Bulletin, EngineError, Observer, Settings};

const NEWS: u64 = 0;
const SIGNALS: u64 = 1;
const WISHES: u64 = 2;
const LOSS: u64 = 3;
const NOTIFY: u64 = 4;
/// Tokens of children begin here: four for each, in the order of [`children::Part`].
const CHILDREN: u64 = 16;
const EVENTS_PER_WAIT: usize = 128;
/// How long the primary waits for killed processes to be gone before it ends itself.
const LONGEST_DEATH: Span = Span::from_secs(2);
const LOOK_AT_DYING_EVERY: Duration = Duration::from_millis(10);
/// How often output that was left in its pipe is looked after.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(2);
/// How often exits are asked for that no event has told of, where pidfds are of no help: never more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Everything that the control thread holds.
pub(crate) struct Control<'a> {
    poller: Poller,
    host: Box<dyn ProcessHost>,
    fleet: Fleet,
    keeping: Keeping,
    children: Children,
    traffic: TrafficHandle,
    traffic_lost: bool,
    signals: Option<SignalSource>,
    wishes: Reader<Wish>,
    wishing: Writer<Wish>,
    stays: bool,
    observer: &'a mut dyn Observer,
    totals: AllTotals,
    status_interval: Option<Span>,
    next_report: Option<Moment>,
    started: Moment,
    limits: Limits,
    /// Apps of which people know that their workers cannot be lent sockets.
    told_unlent: BTreeSet<AppId>,
    /// Whether messages of workers are passed on.
    taps: bool,
    /// When what workers use and do is looked at next, if anybody wants to know.
    looks: Looks,
    /// Where workers say that they are ready, once one is to.
    notify: Option<NotifySocket>,
    /// When the fleet was first seen to have ended.
    ended: Option<Moment>,
    /// When to look for another keeper again, while there is none.
    renew_at: Option<Moment>,
    /// Streams that are not read for want of room.
    held_back: BTreeSet<(InstanceId, crate::Stream)>,
    /// Streams of which the beginning of a line is held, and when it is to be handed on.
    unended: BTreeMap<(InstanceId, crate::Stream), Moment>,
}

impl<'a> Control<'a> {
    pub(crate) fn new(
        settings: &Settings,
        host: Box<dyn ProcessHost>,
        stash: Box<dyn Stash>,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, EngineError> {
        let ear = observer.ear();
        let taps = ear.is_some();
        let os = |what| move |cause| EngineError::Os { what, cause };
        // Signals are blocked before any thread exists, so that all threads inherit the mask.
        let signals = settings.signals.then(SignalSource::open).transpose().map_err(os("watch signals"))?;
        let poller = Poller::new().map_err(os("open an epoll descriptor"))?;
        let traffic =
            TrafficHandle::start(settings.recall, ear, stash).map_err(os("start the traffic thread"))?;
        let (wishing, wishes) = link().map_err(os("make a queue"))?;
        poller.add(wishes.waker(), WISHES, Interest::READ).map_err(os("watch a queue"))?;
        if let Some(loss) = host.loss() {
            poller.add(loss, LOSS, Interest::READ).map_err(os("watch the keeper"))?;
        }
        poller.add(traffic.news.waker(), NEWS, Interest::READ).map_err(os("watch the traffic thread"))?;
        if let Some(signals) = &signals {
            poller.add(signals, SIGNALS, Interest::READ).map_err(os("watch signals"))?;
        }
        let limits = Limits { may_be_empty: settings.may_be_empty, ..Limits::default() };
        let started = now();
        let interval = settings.status_interval.map(|it| Span::from_millis(it.as_millis() as u64));
        let status_interval = interval.filter(|it| !it.is_zero());
        Ok(Self {
            poller,
            host,
            fleet: Fleet::new(limits, clock::boot_id(), 0),
            keeping: Keeping::default(),
            children: Children::default(),
            traffic,
            traffic_lost: false,
            signals,
            wishes,
            wishing,
            stays: settings.stays,
            observer,
            totals: AllTotals::default(),
            status_interval,
            next_report: status_interval.map(|it| started + it),
            started,
            limits,
            told_unlent: BTreeSet::new(),
            taps,
            looks: Looks::default(),
            notify: None,
            ended: None,
            renew_at: None,
            held_back: BTreeSet::new(),
            unended: BTreeMap::new(),
        })
    }

    /// How other threads reach it.
    pub(crate) fn handle(&self) -> Handle {
        Handle::new(self.wishing.clone(), self.traffic.orders.clone())
    }

    pub(crate) fn verdict(&self) -> Option<oxherd_core::Exit> {
        self.fleet.verdict()
    }

    pub(crate) fn into_host(self) -> Box<dyn ProcessHost> {
        self.host
    }

    pub(crate) fn run(&mut self, specs: Vec<AppSpec>, estate: Estate) -> Result<Outcome, EngineError> {
        self.take_over(estate);
        let starts_some = !specs.is_empty();
        for spec in specs {
            let (autostart, spec) = (spec.autostart, Box::new(spec));
            let wish = if autostart { Request::Start { spec } } else { Request::Register { spec } };
            self.fleet.handle_request(wish, now())?;
        }
        if starts_some {
            // Kept before anything is started, as after any wish.
            self.tell_desired();
            self.keep_now();
        }
        self.carry_out();
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        loop {
            if let Some(outcome) = self.outcome() {
                return Ok(outcome);
            }
            let timeout = self.time_to_wait();
            let waited = self.poller.wait(&mut events, Some(timeout));
            waited.map_err(|cause| EngineError::Os { what: "wait for events", cause })?;
            for event in events.iter() {
                match event.token {
                    NEWS => self.on_news(),
                    SIGNALS => self.on_signals(),
                    WISHES => self.on_wishes(),
                    LOSS => self.on_loss(),
                    NOTIFY => self.on_words(),
                    token => self.on_child(token),
                }
            }
            if self.traffic_lost {
                let cause = std::io::Error::other("the traffic thread has panicked");
                return Err(EngineError::Os { what: "hand connections over", cause });
            }
            self.on_time();
            self.keep();
        }
    }

    /// The fleet has ended, nobody's exit is still being looked at, and what was killed is gone: a process takes
    /// a moment to die, on a busy machine a long one.
    fn outcome(&mut self) -> Option<Outcome> {
        let outcome = self.fleet.outcome().filter(|_| self.children.is_empty())?;
        if self.stays && matches!(outcome, Outcome::AllEnded | Outcome::GaveUp) {
            return None;
        }
        let ended = *self.ended.get_or_insert_with(now);
        self.host.reap_strangers();
        let gone = self.host.dying() == 0 || now().since(ended) >= LONGEST_DEATH;
        gone.then_some(outcome)
    }

    fn time_to_wait(&self) -> Duration {
        if self.ended.is_some() {
            return LOOK_AT_DYING_EVERY;
        }
        let due = [
            self.fleet.poll_timeout(),
            self.next_report,
            self.keeping.due(),
            self.renew_at,
            self.looks.due(),
            self.unended.values().min().copied(),
        ];
        let next = due.into_iter().flatten().min();
        if !self.held_back.is_empty() {
            return LOOK_FOR_ROOM_EVERY;
        }
        let left = next.map(|next| Duration::from_millis(next.since(now()).as_millis()));
        left.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
    }

    fn on_time(&mut self) {
        let now = now();
        if self.fleet.poll_timeout().is_some_and(|due| due <= now) {
            self.keeping.touch();
            self.fleet.handle_timeout(now);
            self.carry_out();
        }
        self.renew_if_due(now);
        self.resume_output();
        self.hand_on_output(now);
        self.look_at_workers(now);
        if let (Some(due), Some(interval)) = (self.next_report, self.status_interval)
            && due <= now
        {
            self.next_report = Some(now + interval);
            self.report(now);
        }
    }

    fn on_news(&mut self) {
        for news in self.traffic.news.take() {
            match news {
                News::Fact(fact) => self.on_fact(fact),
                News::Alert(alert) => self.observer.alert(&alert),
                News::Message(parcel) => self.on_message(parcel),
                News::Detached(instance) => self.on_detached(instance),
                News::Waiting(app, waiting) => self.on_waiting(app, waiting),
                News::Lost => self.traffic_lost = true,
            }
        }
    }

    /// The end of a channel is heard of by whoever listens to what comes over it.
    fn on_fact(&mut self, fact: oxherd_core::Event) {
        match &fact {
            oxherd_core::Event::ChannelClosed { instance }
            | oxherd_core::Event::Misbehaved { instance, .. } => {
                self.tell_disconnected(*instance);
            }
            _ => {}
        }
        self.take_in(fact);
    }

    /// Takes a fact into the core, and carries out what follows from it.
    fn take_in(&mut self, fact: oxherd_core::Event) {
        self.keeping.touch();
        self.fleet.handle_event(fact, now());
        self.carry_out();
    }

    /// Takes a wish into the core, of which nobody waits for an answer. A refusal is told.
    fn ask(&mut self, what: &str, request: Request) {
        if let Err(refusal) = self.on_request(request) {
            let alert = crate::Alert::Refused { what: what.into(), why: refusal.to_string() };
            self.observer.alert(&alert);
        }
    }

    /// Fetches orders and news until there are none: carrying out an order may lead to more.
    fn carry_out(&mut self) {
        loop {
            while let Some(notice) = self.fleet.poll_notice() {
                let pid = notice.place().and_then(|place| self.children.pid(place.instance));
                let at = now().since(self.started);
                self.keeping.note(&notice);
                self.children.note(&notice);
                self.observer.bulletin(&Bulletin { notice, pid, at });
            }
            let Some(action) = self.fleet.poll_action() else { return };
            self.act(action);
            self.keep_in_between();
        }
    }
}

/// Now, on the clock that the core lives by.
fn now() -> Moment {
    Moment::from_millis(clock::monotonic_millis())
}
