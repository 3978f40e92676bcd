//! What a request for changes comes down to: one wish for each app that it names. Calculations only.

use oxherd_core::{
    AppId, AppSpec, AppStatus, Desired, FleetStatus, Generation, Limits, RecycleReason, Refusal, Request,
    Slot, Status,
};
use oxherd_engine::Survey;

use super::changes::{Aim, Target};
use super::problem::Failure;
use super::select::select;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Run new apps, all of them or none.
    Start(Vec<AppSpec>),
    /// Do this with all apps that the selector names.
    Each { selector: String, verb: Verb },
    /// Run what was saved.
    Resurrect(Desired),
    /// Drain all apps and end.
    Shutdown,
}

/// What is to be done with an app.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    /// Fill what is not filled.
    Start,
    Stop,
    Restart(Option<Box<AppSpec>>),
    Reload(Option<Box<AppSpec>>),
    Adjust(Box<AppSpec>),
    Scale(u32),
    Recycle(Slot),
    Delete,
}

/// One wish and what it is about.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) target: Target,
    pub(super) request: Request,
}

/// The wishes that make up `ask`. When it is asked `again`, after a daemon that may have carried it out, what is as
/// wished already is no reason to refuse.
pub(super) fn plan(ask: &Ask, survey: &Survey, again: bool) -> Result<Vec<Step>, Failure> {
    let status = &survey.status;
    match ask {
        Ask::Start(specs) => specs.iter().map(|spec| plan_start(spec, survey, again)).collect(),
        Ask::Each { selector, verb } => plan_each(selector, verb, survey, again),
        Ask::Resurrect(desired) => Ok(plan_resurrect(desired, status)),
        Ask::Shutdown => {
            let target = Target { app: None, name: String::new(), aim: Aim::Ended };
            Ok(vec![Step { target, request: Request::Shutdown }])
        }
    }
}

/// What the core would refuse is found here, before any other app is started.
fn plan_start(spec: &AppSpec, survey: &Survey, again: bool) -> Result<Step, Failure> {
    let is_same = |app: &AppStatus| survey.specs.get(&app.app).is_some_and(|running| **running == *spec);
    match survey.status.apps.iter().find(|app| app.name == spec.name) {
        Some(app) if again && is_same(app) => Ok(step(app, Aim::Serving, await_serving(app))),
        Some(_) => Err(Refusal::NameTaken(spec.name.clone()).into()),
        None => {
            spec.check(Limits::default()).map_err(Refusal::from)?;
            Ok(if spec.autostart { start(spec.clone()) } else { register(spec.clone()) })
        }
    }
}

fn plan_each(selector: &str, verb: &Verb, survey: &Survey, again: bool) -> Result<Vec<Step>, Failure> {
    let selected = match select(selector, survey) {
        Err(_) if again && matches!(verb, Verb::Delete) => Vec::new(),
        selected => selected?,
    };
    let chosen = |app: &&AppStatus| selected.contains(&app.app);
    let mut apps: Vec<&AppStatus> = survey.status.apps.iter().filter(chosen).collect();
    // A stopped app has nothing to reload or scale; it is refused only when it was meant alone.
    if matches!(verb, Verb::Reload(_) | Verb::Scale(_) | Verb::Recycle(_)) && apps.iter().any(|app| app.up) {
        apps.retain(|app| app.up);
    }
    Ok(apps.into_iter().map(|app| verb_step(app, verb)).collect())
}

/// What is there already is left alone; what was stopped when it was saved is only known again.
fn plan_resurrect(desired: &Desired, status: &FleetStatus) -> Vec<Step> {
    let is_there = |name: &str| status.apps.iter().any(|app| app.name == name);
    let wanted = desired.apps.iter().filter(|app| !is_there(&app.spec.name));
    wanted
        .map(|app| {
            let mut spec = app.spec.clone();
            spec.instances = app.instances;
            if app.up { start(spec) } else { register(spec) }
        })
        .collect()
}

fn start(spec: AppSpec) -> Step {
    let target = Target { app: None, name: spec.name.clone(), aim: Aim::Serving };
    Step { target, request: Request::Start { spec: Box::new(spec) } }
}

fn register(spec: AppSpec) -> Step {
    let target = Target { app: None, name: spec.name.clone(), aim: Aim::Stopped };
    Step { target, request: Request::Register { spec: Box::new(spec) } }
}

fn verb_step(status: &AppStatus, verb: &Verb) -> Step {
    let app = status.app;
    match verb {
        Verb::Start => start_again(status),
        Verb::Stop => step(status, Aim::Stopped, Request::Stop { app }),
        Verb::Restart(spec) => step(status, Aim::Serving, Request::Restart { app, spec: spec.clone() }),
        Verb::Reload(spec) => reload(status, spec.clone()),
        Verb::Adjust(spec) => {
            let aim = if status.up { Aim::Serving } else { Aim::Stopped };
            step(status, aim, Request::Adjust { app, spec: spec.clone() })
        }
        Verb::Scale(instances) => step(status, Aim::Serving, Request::Scale { app, instances: *instances }),
        Verb::Recycle(slot) => {
            step(status, Aim::Serving, Request::Recycle { app, slot: *slot, why: RecycleReason::Asked })
        }
        Verb::Delete => step(status, Aim::Gone, Request::Delete { app }),
    }
}

/// A stopped app starts; one that runs is only waited for, and slots that have given up are filled again without
/// loss where others serve.
fn start_again(status: &AppStatus) -> Step {
    let is_empty = |word| matches!(word, Status::Stopped | Status::Errored);
    let empty = status.slots.iter().filter(|slot| is_empty(slot.status)).count();
    match empty {
        _ if !status.up => step(status, Aim::Serving, Request::Restart { app: status.app, spec: None }),
        0 => step(status, Aim::Serving, await_serving(status)),
        _ if empty == status.slots.len() => {
            step(status, Aim::Serving, Request::Restart { app: status.app, spec: None })
        }
        _ => reload(status, None),
    }
}

/// As many as there are: it changes nothing, and is through when all serve.
fn await_serving(status: &AppStatus) -> Request {
    Request::Scale { app: status.app, instances: status.instances }
}

fn reload(status: &AppStatus, spec: Option<Box<AppSpec>>) -> Step {
    let Generation(now) = status.generation;
    let running = status.reload.as_ref().map_or(now, |reload| reload.generation.0);
    step(status, Aim::Beyond(Generation(running)), Request::Reload { app: status.app, spec })
}

fn step(status: &AppStatus, aim: Aim, request: Request) -> Step {
    Step { target: Target { app: Some(status.app), name: status.name.clone(), aim }, request }
}

/// The id of the app with this name.
pub(super) fn id_of(name: &str, status: &FleetStatus) -> Option<AppId> {
    status.apps.iter().find(|app| app.name == name).map(|app| app.app)
}
