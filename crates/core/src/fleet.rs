//! `Fleet`: all apps of one primary. It takes facts and wishes in, and gives orders and news out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::app::{App, Desired, Vacancy};
use crate::instance::Instance;
use crate::lifecycle::{Lateness, Surroundings};
use crate::outbox::Outbox;
use crate::policy::{Ended, Verdict};
use crate::settle::Pending;
use crate::{
    Action, AppId, AppSpec, Event, Exit, GiveUp, InstanceId, Moment, Notice, Outcome, Place, ReloadFailure,
    RetireReason, Span, SpawnFailure,
};

/// No chain of deadlines that are due at once is longer than a life, and a life has fewer phases.
const LONGEST_CHAIN: u32 = 32;

/// Bounds of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most slots an app may have.
    pub max_instances: u32,
    /// Whether an app may have no slot at all, to be given some later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_empty: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_instances: 1024, may_be_empty: false }
    }
}

/// All apps of one primary, as a pure state machine.
///
/// Its methods are of four kinds: *getters* (`status`, `image`, `desired`, `outcome`, …), *handlers* (`handle_request`,
/// `handle_event`, `handle_timeout`) that take in what happened, *polls* (`poll_action`, `poll_notice`,
/// `poll_timeout`) that are to be drained after each handler, and constructors. Handlers record facts; one
/// pass over the apps then starts and retires what is needed.
///
/// ```
/// use oxherd_core::{Action, AppSpec, Event, Fleet, Limits, Moment, Request};
///
/// let mut fleet = Fleet::new(Limits::default(), "this boot", 0);
/// let spec = Box::new(AppSpec::new("web", "node"));
/// fleet.handle_request(Request::Start { spec }, Moment::from_millis(0)).unwrap();
/// let Some(Action::Spawn { place, .. }) = fleet.poll_action() else { panic!() };
/// fleet.handle_event(Event::Spawned { instance: place.instance }, Moment::from_millis(3));
/// ```
#[derive(Clone, Debug)]
pub struct Fleet {
    pub(crate) state: State,
    pub(crate) out: Outbox,
}

/// Everything that outlives a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) limits: Limits,
    pub(crate) boot_id: String,
    /// How many primaries the keeper had started before this one.
    pub(crate) starts: u32,
    pub(crate) last_instance: u32,
    pub(crate) last_app: u32,
    pub(crate) last_change: u64,
    pub(crate) ending: Option<Ending>,
    pub(crate) apps: BTreeMap<AppId, App>,
    #[serde(with = "crate::image::as_list")]
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Processes of no app: killed, and their ends awaited.
    pub(crate) strays: BTreeSet<InstanceId>,
    pub(crate) pending: Vec<Pending>,
}

/// The fleet is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Drain,
    Kill,
}

impl Fleet {
    /// An empty fleet. `boot_id` names this boot of the machine, `starts` counts the primaries started before:
    /// together with a running number it makes instance ids that are never reused.
    pub fn new(limits: Limits, boot_id: impl Into<String>, starts: u32) -> Self {
        let state = State {
            limits,
            boot_id: boot_id.into(),
            starts,
            last_instance: 0,
            last_app: 0,
            last_change: 0,
            ending: None,
            apps: BTreeMap::new(),
            instances: BTreeMap::new(),
            strays: BTreeSet::new(),
            pending: Vec::new(),
        };
        Self { state, out: Outbox::default() }
    }

    /// Takes a fact in. Facts about instances that are no more change nothing.
    pub fn handle_event(&mut self, event: Event, now: Moment) {
        match event {
            Event::Spawned { instance } => self.with(instance, now, Instance::on_spawned),
            Event::SpawnFailed { instance, cause } => self.on_spawn_failed(instance, cause, now),
            Event::Online { instance } => self.heard(instance, now, |it, _, out| it.on_online(out)),
            Event::Listening { instance, address } => self.on_listening(instance, address, now),
            Event::Parked { instance } => self.heard(instance, now, Instance::on_parked),
            Event::CannotPark { instance } => self.on_cannot_park(instance, now),
            Event::Ready { instance } => self.heard(instance, now, Instance::on_ready),
            Event::Probed { instance } => self.with(instance, now, Instance::on_probed),
            Event::Withdrawn { instance } => self.with(instance, now, Instance::on_withdrawn),
            Event::Departing { instance } => self.heard(instance, now, Instance::on_departing),
            Event::ChannelClosed { instance } => self.heard(instance, now, Instance::on_channel_closed),
            Event::Stalled { instance } => self.heard(instance, now, |it, _, out| it.on_stalled(out)),
            Event::Resumed { instance } => self.heard(instance, now, |it, _, out| it.on_resumed(out)),
            Event::Misbehaved { instance, what } => {
                self.heard(instance, now, |it, around, out| it.on_misbehaved(what, around, out));
            }
            Event::ErrorReported { instance, error } => self.on_error_reported(instance, error, now),
            Event::Measured { instance, memory, requests } => {
                self.on_measured(instance, memory, requests, now);
            }
            Event::Loaded { app, busy, waiting } => self.on_loaded(app, busy, waiting, now),
            Event::Hung { instance } => self.on_hung(instance, now),
            Event::Exited { instance, exit } => self.on_exited(instance, exit, now),
            Event::DoorsClosed { app } => self.on_doors_closed(app),
        }
        self.settle(now);
    }

    /// Does all that is due by `now`: what is due next then lies ahead.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.pass_deadlines(now);
        // A span of zero makes the next deadline due at once.
        for _ in 0..LONGEST_CHAIN {
            if self.poll_timeout().is_none_or(|next| next > now) {
                return;
            }
            self.pass_deadlines(now);
        }
        debug_assert!(false, "deadlines are due again and again");
    }

    fn pass_deadlines(&mut self, now: Moment) {
        let due: Vec<_> = self.state.instances.keys().copied().collect();
        for id in due {
            let mut lateness = Lateness::OnTime;
            self.with(id, now, |it, around, out| lateness = it.on_timeout(around, out));
            if lateness == Lateness::NotReady {
                self.on_not_ready(id, now);
            }
        }
        self.end_closing(now);
        self.pass_lifetimes(now);
        self.settle(now);
    }

    /// The next order, if there is one. To be drained after every handler.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// The next piece of news, if there is one. To be drained after every handler.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.out.notices.pop_front()
    }

    /// When `handle_timeout` is to be called next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let instances = self.state.instances.values().filter_map(Instance::deadline);
        let apps = self.state.apps.values().filter_map(App::deadline);
        instances.chain(apps).chain(self.next_age()).min()
    }

    /// How the fleet ended, once nothing of it is left to do.
    pub fn outcome(&self) -> Option<Outcome> {
        if !self.state.instances.is_empty() || !self.state.strays.is_empty() {
            return None;
        }
        match self.state.ending {
            Some(Ending::Drain) => Some(Outcome::Stopped),
            Some(Ending::Kill) => Some(Outcome::Killed),
            None => self.natural_outcome(),
        }
    }

    /// Whether the fleet's end was asked for.
    pub fn is_ending(&self) -> bool {
        self.state.ending.is_some()
    }

    /// How the first slot failed that did, app by app; a success if none did, and nothing if no worker has ended by
    /// itself. What a program that runs the fleet for somebody else ends with.
    pub fn verdict(&self) -> Option<Exit> {
        let slots = self.state.apps.values().flat_map(|app| app.slots.values());
        let exits: Vec<Exit> = slots.filter_map(|slot| slot.history.last_exit).collect();
        exits.iter().copied().find(|exit| !exit.is_success()).or_else(|| exits.first().copied())
    }

    fn natural_outcome(&self) -> Option<Outcome> {
        let apps = &self.state.apps;
        // One that was never to run by itself keeps nobody waiting.
        let is_over = |app: &App| app.is_settled_empty() || app.is_set_aside();
        let all_empty = apps.values().any(App::is_settled_empty) && apps.values().all(is_over);
        let gave_up = || apps.values().any(App::has_given_up);
        all_empty.then(|| if gave_up() { Outcome::GaveUp } else { Outcome::AllEnded })
    }

    fn on_doors_closed(&mut self, id: AppId) {
        if let Some(app) = self.state.apps.get_mut(&id)
            && let Desired::Closing { then, .. } = app.desired
        {
            app.desired = Desired::Down { then };
        }
    }

    fn end_closing(&mut self, now: Moment) {
        for app in self.state.apps.values_mut() {
            if let Desired::Closing { until, then } = app.desired
                && until <= now
            {
                app.desired = Desired::Down { then };
            }
        }
    }

    fn on_listening(&mut self, id: InstanceId, address: String, now: Moment) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        let (app_id, generation) = (instance.place.app, instance.place.generation);
        self.heard(id, now, |it, around, out| it.on_listening(address, around, out));
        let Some(app) = self.state.apps.get_mut(&app_id) else { return };
        if app.listens.insert(generation) {
            let of_app = self.state.instances.values_mut().filter(|it| it.place.app == app_id);
            let starting = of_app.filter(|it| app.expects_listening(it.place.generation));
            starting.for_each(Instance::expect_listening);
        }
    }

    fn on_error_reported(&mut self, id: InstanceId, error: String, now: Moment) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        instance.facts.reported = true;
        let place = instance.place;
        self.heard(id, now, |_, _, _| {});
        self.out.tell(Notice::ErrorReported { place, error });
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        let spec = Arc::clone(app.spec_of(place.generation));
        let up = app.is_up();
        if app.standbys.contains(id) {
            return;
        }
        let Some(slot) = app.slots.get_mut(&place.slot) else { return };
        slot.history.count_error(&spec, now);
        if slot.occupant != Some(id) || !up {
            return;
        }
        if let Some(why) = slot.history.too_many_errors(&spec, now) {
            slot.occupant = None;
            slot.leaving.insert(id);
            slot.vacancy = Vacancy::GaveUp(why.clone());
            self.out.tell(Notice::GaveUp { app: place.app, slot: place.slot, why });
            self.with(id, now, |it, around, out| it.retire(RetireReason::Errors, around, out));
        }
    }

    fn on_spawn_failed(&mut self, id: InstanceId, cause: SpawnFailure, now: Moment) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        if instance.spawned_at.is_some() {
            return;
        }
        let place = instance.place;
        self.out.tell(Notice::SpawnFailed { place, cause: cause.clone() });
        let failure = ReloadFailure::CannotSpawn { slot: place.slot, cause: cause.clone() };
        let give_up = cause.lasting.then_some(GiveUp::CannotSpawn(cause));
        self.remove_instance(id, Exit::Unknown, failure, give_up, now);
    }

    fn on_exited(&mut self, id: InstanceId, exit: Exit, now: Moment) {
        if self.state.strays.remove(&id) {
            return self.out.order(Action::Sweep { instance: id });
        }
        let Some(instance) = self.state.instances.get(&id) else { return };
        let place = instance.place;
        let wanted = instance.retired.is_some() || instance.facts.departing;
        self.out.tell(Notice::Exited { place, exit, uptime: instance.uptime(now), wanted });
        self.out.order(Action::Sweep { instance: id });
        let failure = ReloadFailure::Died { slot: place.slot, exit };
        self.remove_instance(id, exit, failure, None, now);
    }

    /// Takes an ended instance out, and decides what that means for its slot and for a reload.
    pub(crate) fn remove_instance(
        &mut self,
        id: InstanceId,
        exit: Exit,
        failure: ReloadFailure,
        give_up: Option<GiveUp>,
        now: Moment,
    ) {
        let Some(instance) = self.state.instances.remove(&id) else { return };
        let place = instance.place;
        let give_up = match self.on_standby_ended(&instance, exit, give_up, now) {
            Ok(()) => return,
            Err(give_up) => give_up,
        };
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        let Some(slot) = app.slots.get_mut(&place.slot) else { return };
        if slot.leaving.remove(&id) && slot.is_left_for_good() {
            slot.vacancy = Vacancy::Finished(exit);
            self.out.tell(Notice::Finished { app: place.app, slot: place.slot, exit });
        }
        if slot.successor == Some(id) {
            slot.successor = None;
            self.fail_successor(place.app, place.slot, failure, now);
        } else if slot.occupant == Some(id) {
            slot.occupant = None;
            self.on_vacated(&instance, exit, failure, give_up, now);
        }
    }

    /// An occupant has ended although nobody asked it to.
    fn on_vacated(
        &mut self,
        instance: &Instance,
        exit: Exit,
        failure: ReloadFailure,
        give_up: Option<GiveUp>,
        now: Moment,
    ) {
        let place = instance.place;
        let relieved = self.has_standby_for(place.app, place.slot);
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        let spec = Arc::clone(app.spec_of(place.generation));
        let stable = instance.ready_at.is_some() && instance.tenure(now) >= spec.min_uptime;
        let fresh = app.reload.as_ref().is_some_and(|reload| reload.generation == place.generation);
        let up = app.is_up();
        let Some(slot) = app.slots.get_mut(&place.slot) else { return };
        if !up {
            slot.vacancy = Vacancy::FillAfterLeaving;
            return;
        }
        let ended = Ended { exit, stable, reported: instance.facts.reported };
        let verdict = match give_up {
            Some(why) => Verdict::GiveUp(why),
            None => slot.history.judge(&spec, ended, now),
        };
        let verdict = match verdict {
            Verdict::Respawn { unstable, .. } if relieved => Verdict::Respawn { delay: Span::ZERO, unstable },
            other @ (Verdict::Respawn { .. } | Verdict::Finish | Verdict::GiveUp(_)) => other,
        };
        slot.vacancy = announce(&mut self.out, place, exit, verdict, &spec, now);
        if fresh && !stable {
            self.abort_reload(place.app, &failure, now);
        }
    }

    /// Calls `act` on an instance with its surroundings, if the instance still is.
    pub(crate) fn with(
        &mut self,
        id: InstanceId,
        now: Moment,
        act: impl FnOnce(&mut Instance, &Surroundings<'_>, &mut Outbox),
    ) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        let Some(app) = self.state.apps.get(&instance.place.app) else { return };
        let spec = app.spec_of(instance.place.generation);
        act(
            instance,
            &Surroundings {
                spec,
                listens: app.expects_listening(instance.place.generation),
                standby: app.standbys.is_standby(id),
                now,
            },
            &mut self.out,
        );
    }

    /// The same for news that come from the worker itself.
    fn heard(
        &mut self,
        id: InstanceId,
        now: Moment,
        act: impl FnOnce(&mut Instance, &Surroundings<'_>, &mut Outbox),
    ) {
        self.with(id, now, |it, around, out| {
            it.on_heard(around, out);
            act(it, around, out);
        });
    }

    pub(crate) fn app_ids(&self) -> Vec<AppId> {
        self.state.apps.keys().copied().collect()
    }
}

/// Tells what the policy has decided, and what the slot's vacancy is to be.
fn announce(
    out: &mut Outbox,
    place: Place,
    exit: Exit,
    verdict: Verdict,
    spec: &AppSpec,
    now: Moment,
) -> Vacancy {
    let Place { app, slot, .. } = place;
    match verdict {
        Verdict::Respawn { delay, unstable } => {
            out.tell(Notice::Respawn { app, slot, unstable, max: spec.max_restarts, delay });
            Vacancy::FillAt(now + delay)
        }
        Verdict::Finish => {
            out.tell(Notice::Finished { app, slot, exit });
            Vacancy::Finished(exit)
        }
        Verdict::GiveUp(why) => {
            out.tell(Notice::GaveUp { app, slot, why: why.clone() });
            Vacancy::GaveUp(why)
        }
    }
}
