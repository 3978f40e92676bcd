//! Wishes: what each request changes at once. What follows from it is for the pass of `converge`.

use std::sync::Arc;

use crate::app::{After, App, Desired, Muster, QueuedReload};
use crate::fleet::{Ending, Fleet};
use crate::instance::Instance;
use crate::settle::Goal;
use crate::{
    Action, AppId, AppSpec, ChangeId, Moment, Notice, Refusal, ReloadFailure, Request, RetireReason, Span,
};

/// How long an app that stops may take to hand over the connections that wait at its listeners.
const DOORS_TIMEOUT: Span = Span::from_secs(2);

impl Fleet {
    /// Takes a wish in.
    ///
    /// # Errors
    /// A refused wish has changed nothing.
    pub fn handle_request(&mut self, request: Request, now: Moment) -> Result<ChangeId, Refusal> {
        self.check_not_ending(&request)?;
        let change = ChangeId(self.state.last_change + 1);
        match request {
            Request::Start { spec } => self.start(*spec, Desired::Up, change, now)?,
            Request::Register { spec } => self.start(*spec, Desired::Stopped, change, now)?,
            Request::Reload { app, spec } => self.request_reload(app, spec, change, now)?,
            Request::Restart { app, spec } => self.restart(app, spec, change, now)?,
            Request::Adjust { app, spec } => self.adjust(app, spec, change, now)?,
            Request::Scale { app, instances } => self.scale(app, instances, change, now)?,
            Request::Fork { app, slot, env } => self.fork(app, slot, env, change, now)?,
            Request::Retire { instance } => self.retire_one(instance, change, now)?,
            Request::Recycle { app, slot, why } => self.request_recycle(app, slot, why, change)?,
            Request::Stop { app } => self.stop(app, After::Keep, change, now)?,
            Request::Delete { app } => self.stop(app, After::Forget, change, now)?,
            Request::Shutdown => self.shutdown(change, now),
            Request::Kill => self.kill_all(change, now),
        }
        self.state.last_change = change.0;
        self.settle(now);
        Ok(change)
    }

    fn check_not_ending(&self, request: &Request) -> Result<(), Refusal> {
        match (self.state.ending, request) {
            (None, _) | (Some(_), Request::Kill | Request::Shutdown) => Ok(()),
            (
                Some(_),
                Request::Start { .. }
                | Request::Register { .. }
                | Request::Reload { .. }
                | Request::Restart { .. }
                | Request::Adjust { .. }
                | Request::Scale { .. }
                | Request::Fork { .. }
                | Request::Retire { .. }
                | Request::Recycle { .. }
                | Request::Stop { .. }
                | Request::Delete { .. },
            ) => Err(Refusal::Ending),
        }
    }

    fn start(
        &mut self,
        spec: AppSpec,
        desired: Desired,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        spec.check(self.state.limits)?;
        if self.state.apps.values().any(|app| app.spec().name == spec.name) {
            return Err(Refusal::NameTaken(spec.name));
        }
        self.state.last_app += 1;
        let id = AppId(self.state.last_app - 1);
        let goal = if desired == Desired::Up { Goal::Serving } else { Goal::Gone };
        self.state.apps.insert(id, App { desired, ..App::new(id, Arc::new(spec), now) });
        self.await_goal(change, id, goal);
        Ok(())
    }

    pub(crate) fn request_reload(
        &mut self,
        id: AppId,
        spec: Option<Box<AppSpec>>,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let limits = self.state.limits;
        let app = self.running_app(id)?;
        if let Some(spec) = &spec {
            spec.check(limits)?;
        }
        // There the old worker ends first.
        if app.spec().binds_alone() || spec.as_deref().is_some_and(AppSpec::binds_alone) {
            let spec = spec.unwrap_or_else(|| Box::new(AppSpec::clone(app.latest_spec())));
            return self.restart(id, Some(spec), change, now);
        }
        if let Some(spec) = &spec {
            check_reloadable(app.spec(), spec)?;
        }
        // Where the number follows the load, a new configuration is no reason for another one.
        let current = app.instances;
        let instances = spec.as_ref().map(|spec| match spec.scaling {
            Some(_) => spec.kept_within(current),
            None => spec.instances,
        });
        let queued = QueuedReload { change, spec: spec.map(|spec| Arc::new(*spec)), instances };
        if app.reload.is_none() {
            self.begin_reload(id, queued, now);
            return Ok(());
        }
        if let Some(replaced) = app.queued.take() {
            app.queued = Some(queued.or_as_in(&replaced));
            self.abandon(replaced.change);
        } else {
            app.queued = Some(queued);
        }
        self.out.tell(Notice::ReloadQueued { app: id, change });
        Ok(())
    }

    fn restart(
        &mut self,
        id: AppId,
        spec: Option<Box<AppSpec>>,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let limits = self.state.limits;
        let app = self.app_mut(id)?;
        if let Some(spec) = &spec {
            spec.check(limits)?;
            if spec.name != app.spec().name {
                return Err(Refusal::Fixed("name"));
            }
        }
        if let Some(spec) = spec {
            let reached = |spec: &AppSpec| (spec.sockets, spec.distribution);
            let otherwise = reached(app.spec()) != reached(&spec);
            let up = app.is_up();
            self.give_up_replacing(id, now);
            self.supersede(id);
            self.adopt_spec(id, *spec);
            if otherwise && up {
                // What its listeners are built on changes: they are closed in between.
                self.close(id, After::StartAgain, now);
            }
        }
        let app = self.app_mut(id)?;
        let (next, serves) = match app.desired {
            Desired::Up => (Desired::Up, true),
            Desired::Stopped => (Desired::Up, false),
            Desired::Closing { until, .. } => (Desired::Closing { until, then: After::StartAgain }, false),
            Desired::Down { .. } => (Desired::Down { then: After::StartAgain }, false),
        };
        app.desired = next;
        if serves {
            self.give_up_replacing(id, now);
            self.empty_slots(id, RetireReason::Restart, now);
        } else {
            app.muster = Muster::Incomplete { since: now };
        }
        self.supersede(id);
        self.await_goal(change, id, Goal::Serving);
        Ok(())
    }

    /// What the app runs by from now on. Whoever runs by another goes on by that one until it has ended.
    pub(crate) fn adopt_spec(&mut self, id: AppId, spec: AppSpec) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let to = match spec.scaling {
            Some(_) => spec.kept_within(app.instances),
            None => spec.instances,
        };
        let generation = app.newest.next();
        (app.newest, app.generation) = (generation, generation);
        app.specs.insert(generation, Arc::new(spec));
        self.resize(id, to);
    }

    pub(crate) fn scale(
        &mut self,
        id: AppId,
        instances: u32,
        change: ChangeId,
        _now: Moment,
    ) -> Result<(), Refusal> {
        let limits = self.state.limits;
        self.app_mut(id)?.spec().check_instances(instances, limits)?;
        self.app_mut(id)?.check_within(instances)?;
        let app = self.running_app(id)?;
        let from = std::mem::replace(&mut app.instances, instances);
        // The last word counts, also against reloads that were asked for earlier.
        app.reload.iter_mut().for_each(|reload| reload.resize = None);
        app.queued.iter_mut().for_each(|queued| queued.instances = None);
        if from != instances {
            self.out.tell(Notice::Scaled { app: id, from, to: instances });
        }
        self.await_goal(change, id, Goal::Serving);
        Ok(())
    }

    fn stop(&mut self, id: AppId, then: After, change: ChangeId, now: Moment) -> Result<(), Refusal> {
        self.app_mut(id)?;
        self.give_up_replacing(id, now);
        self.supersede(id);
        self.close(id, then, now);
        self.await_goal(change, id, Goal::Gone);
        Ok(())
    }

    fn shutdown(&mut self, change: ChangeId, now: Moment) {
        if self.state.ending.is_some() {
            return self.abandon(change);
        }
        self.state.ending = Some(Ending::Drain);
        self.await_end(change);
        self.state.apps.values_mut().for_each(|app| app.outlasts = app.is_wanted_up());
        for id in self.app_ids() {
            self.give_up_replacing(id, now);
            self.supersede(id);
            self.close(id, After::Keep, now);
        }
    }

    fn kill_all(&mut self, change: ChangeId, now: Moment) {
        self.state.ending = Some(Ending::Kill);
        self.await_end(change);
        self.state.apps.values_mut().for_each(|app| app.outlasts = app.is_wanted_up());
        for id in self.app_ids() {
            self.give_up_replacing(id, now);
            self.supersede(id);
            if let Some(app) = self.state.apps.get_mut(&id) {
                app.desired = Desired::Down { then: app.desired.after_or(After::Keep) };
            }
        }
        let everyone: Vec<_> = self.state.instances.keys().copied().collect();
        for id in everyone {
            self.with(id, now, Instance::kill_now);
        }
    }

    /// The app stops or restarts: nobody is replaced any more.
    fn give_up_replacing(&mut self, id: AppId, now: Moment) {
        self.abort_reload(id, &ReloadFailure::Superseded, now);
        self.drop_recycles(id, now);
    }

    /// The app stops: first nobody new gets in and those who wait are served, then the workers leave.
    fn close(&mut self, id: AppId, then: After, now: Moment) {
        let serving = self.state.instances.values().any(|it| it.place.app == id && it.is_serving());
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        app.queued = None;
        let then = app.desired.after_or(then);
        app.desired = match app.desired {
            Desired::Up if serving => {
                self.out.tell(Notice::Stopping { app: id });
                self.out.order(Action::CloseDoors { app: id });
                Desired::Closing { until: now + DOORS_TIMEOUT, then }
            }
            Desired::Up => {
                self.out.tell(Notice::Stopping { app: id });
                Desired::Down { then }
            }
            Desired::Closing { until, .. } => Desired::Closing { until, then },
            Desired::Down { .. } | Desired::Stopped => Desired::Down { then },
        };
    }

    pub(crate) fn app_mut(&mut self, id: AppId) -> Result<&mut App, Refusal> {
        let app = self.state.apps.get_mut(&id).ok_or(Refusal::NoSuchApp(id))?;
        match app.desired {
            Desired::Closing { then: After::Forget, .. } | Desired::Down { then: After::Forget } => {
                Err(Refusal::NoSuchApp(id))
            }
            Desired::Up
            | Desired::Closing { then: After::Keep | After::StartAgain, .. }
            | Desired::Down { then: After::Keep | After::StartAgain }
            | Desired::Stopped => Ok(app),
        }
    }

    pub(crate) fn running_app(&mut self, id: AppId) -> Result<&mut App, Refusal> {
        let app = self.app_mut(id)?;
        if app.is_up() { Ok(app) } else { Err(Refusal::Stopped(app.spec().name.clone())) }
    }
}

/// What listeners and slots are built on cannot change under running workers.
fn check_reloadable(old: &AppSpec, new: &AppSpec) -> Result<(), Refusal> {
    match (old, new) {
        _ if old.name != new.name => Err(Refusal::Fixed("name")),
        _ if old.distribution != new.distribution => Err(Refusal::Fixed("distribution")),
        _ => Ok(()),
    }
}
