//! The requests that change nothing: what is there, and what became of a change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use oxherd::api::{ChangeView, Pong};
use oxherd_core::ChangeId;
use serde::Deserialize;
use tokio::time::timeout;

use super::changes::Knowledge;
use super::input::{self, ALL};
use super::problem::{Answer, Failure, json};
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

pub(super) async fn apps(Shared(state): Shared<Arc<State>>) -> Answer {
    let survey = state.survey().await?;
    let troubles = state.driver.troubles();
    let herd = views::herd(&survey, &*state.logs, &mut lock(&state.samples), state.uptime(), troubles);
    Ok(json(StatusCode::OK, &herd))
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
    let selected = input::select(&selector, &survey.status)?;
    let mut samples = lock(&state.samples);
    let view = selected.first().and_then(|id| views::app(&survey, *id, &*state.logs, &mut samples));
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
