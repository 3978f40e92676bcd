//! The requests that change nothing: what is there, and what became of a change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use oxherd::api::{ChangeView, EnvView, Pong, SpecView, Specs};
use oxherd_core::{AppId, AppSpec, ChangeId, Slot};
use oxherd_engine::Survey;
use oxherd_os::proc;
use serde::Deserialize;
use tokio::time::timeout;

use super::changes::Knowledge;
use super::input;
use super::problem::{Answer, Failure, json};
use super::select::{ALL, Which, select, select_one};
use super::state::{State, lock};
use super::views;

/// The document that describes the API.
const OPENAPI: &str = include_str!("../../../../docs/openapi.json");
/// The longest wait for a change, in seconds.
const WAIT_SECS: u64 = 600;

pub(super) async fn ping(Shared(state): Shared<Arc<State>>) -> Response {
    let about = &state.about;
    let pong = Pong {
        version: about.version.clone(),
        pid: std::process::id(),
        keeper_pid: about.keeper_pid.load(Ordering::Relaxed),
        starts: about.starts,
        upgrades: about.upgrades,
        upgrade_failure: about.upgrade_failure.clone(),
        uptime_ms: state.uptime().as_millis() as u64,
        home: about.home.display().to_string(),
    };
    json(StatusCode::OK, &pong)
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn apps(Shared(state): Shared<Arc<State>>, uri: Uri) -> Answer {
    let which: Which = input::query(&uri)?;
    let survey = state.survey().await?;
    let selected = which.app.map(|selector| select(&selector, &survey)).transpose()?;
    let mut herd = views::herd(&survey, &state.sights(), &mut lock(&state.samples), state.uptime());
    if let Some(selected) = selected {
        herd.apps.retain(|app| selected.contains(&app.app));
    }
    Ok(json(StatusCode::OK, &herd))
}

/// `GET /v1/apps/{selector}/spec`
pub(super) async fn specs(
    Shared(state): Shared<Arc<State>>,
    selector: Result<Path<String>, PathRejection>,
) -> Answer {
    let selector = input::path(selector)?;
    let survey = state.survey().await?;
    let selected = select(&selector, &survey)?;
    let view = |app| Some(SpecView { app, spec: AppSpec::clone(survey.specs.get(&app)?) });
    Ok(json(StatusCode::OK, &Specs { apps: selected.into_iter().filter_map(view).collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichSlot {
    slot: Option<Slot>,
}

/// `GET /v1/apps/{selector}/env`
pub(super) async fn env(
    Shared(state): Shared<Arc<State>>,
    selector: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Answer {
    let selector = input::path(selector)?;
    let WhichSlot { slot } = input::query(&uri)?;
    let survey = state.survey().await?;
    let view = env_view(select_one(&selector, &survey)?, slot, &survey);
    view.map(|view| json(StatusCode::OK, &view))
}

fn env_view(app: AppId, slot: Option<Slot>, survey: &Survey) -> Result<EnvView, Failure> {
    let status = survey.status.apps.iter().find(|it| it.app == app);
    let (Some(status), Some(spec)) = (status, survey.specs.get(&app)) else {
        return Err(Failure::not_found(format!("app {} is being deleted", app.0)));
    };
    let slots = status.slots.iter().map(|it| it.slot).chain(status.standbys.iter().map(|it| it.place.slot));
    let slot = match slot {
        Some(slot) if !slots.clone().any(|it| it == slot) => {
            return Err(Failure::not_found(format!("app `{}` has no slot {}", status.name, slot.0)));
        }
        Some(slot) => slot,
        None => slots.min().unwrap_or(Slot(0)),
    };
    let report = survey.report.apps.iter().find(|it| it.app == app);
    let workers = report.iter().flat_map(|report| &report.workers).filter(|worker| worker.slot == slot);
    let mut read = workers.filter_map(|worker| Some((worker.pid, own_environment(worker.pid)?)));
    let (pid, env) = match read.next() {
        Some((pid, env)) => (Some(pid), env),
        None => (None, spec.env.clone()),
    };
    Ok(EnvView { app, name: status.name.clone(), slot, pid, env })
}

/// The environment that the process was given; nothing where it has written something else in its place, as a process
/// does that gives itself a title.
fn own_environment(pid: u32) -> Option<Vec<(String, String)>> {
    let env = proc::environment(pid).ok()?;
    env.iter().any(|(name, _)| name == "OXHERD_SLOT").then_some(env)
}

pub(super) async fn app(
    Shared(state): Shared<Arc<State>>,
    selector: Result<Path<String>, PathRejection>,
) -> Answer {
    let selector = input::path(selector)?;
    if selector == ALL {
        return Err(Failure::not_found("`all` is not one app: GET /v1/apps shows every app"));
    }
    let survey = state.survey().await?;
    let selected = select_one(&selector, &survey)?;
    let mut samples = lock(&state.samples);
    let view = views::app(&survey, selected, &state.sights(), &mut samples);
    let view = view.ok_or_else(|| Failure::not_found(format!("app `{selector}` is being deleted")))?;
    Ok(json(StatusCode::OK, &view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait: Option<u64>,
}

pub(super) async fn change(
    Shared(state): Shared<Arc<State>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Answer {
    let id = input::path(id)?;
    let no_number = |_| Failure::bad_request(format!("a change is a number, not `{id}`"));
    let change = ChangeId(id.parse().map_err(no_number)?);
    let wait = input::query::<Wait>(&uri)?.wait.unwrap_or(0);
    if wait > WAIT_SECS {
        return Err(Failure::bad_request(format!("wait={wait} is too long: at most {WAIT_SECS} seconds")));
    }
    // Before the first look, so that no end falls in between.
    let mut ends = state.ends();
    check_known(&state, change).await?;
    let mut closing = state.closing.clone();
    let through = async {
        while !matches!(state.knowledge(change), Knowledge::Finished(_)) && ends.changed().await.is_ok() {}
    };
    tokio::select! {
        // Late is not wrong: the answer says what is known then.
        _ = timeout(Duration::from_secs(wait), through) => (),
        () = closing.wanted() => (),
    }
    match state.knowledge(change) {
        Knowledge::Finished(outcome) => {
            Ok(json(StatusCode::OK, &ChangeView { change, outcome: Some(outcome) }))
        }
        Knowledge::Pending | Knowledge::Unknown => {
            Ok(json(StatusCode::OK, &ChangeView { change, outcome: None }))
        }
    }
}

/// The table knows what was asked for through it; the primary knows of everything that is under way.
async fn check_known(state: &State, change: ChangeId) -> Result<(), Failure> {
    if state.knowledge(change) != Knowledge::Unknown {
        return Ok(());
    }
    let (survey, ()) = state.survey_with(vec![change], || ()).await?;
    if survey.pending.contains(&change) || state.knowledge(change) != Knowledge::Unknown {
        return Ok(());
    }
    let text = format!("change {} is not known: it never was, or it ended long ago", change.0);
    Err(Failure::not_found(text))
}
