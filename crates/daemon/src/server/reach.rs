//! The requests that reach workers, files or the snapshot, and change nothing of what is to run. Each is made at most
//! once for a key, also when a daemon ends over it.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use oxherd::api::{Reached, ReachedApp, SendLine, SendMessage, SignalApp};
use oxherd_core::{AppId, AppStatus, InstanceId, Signal, Slot, Sockets};
use oxherd_engine::Survey;
use tokio::sync::oneshot;

use super::change::{Incoming, NoBody, detached, incoming, is_first};
use super::input;
use super::problem::{Answer, Failure, json};
use super::select::{Which, select};
use super::state::State;

pub(super) type Selector = Result<Path<String>, PathRejection>;

/// Workers of one app, to be reached.
pub(super) struct Aim {
    pub(super) app: AppId,
    pub(super) name: String,
    pub(super) workers: Vec<InstanceId>,
}

/// `POST /v1/apps/{selector}/signal`
pub(super) async fn signal(state: Shared<Arc<State>>, selector: Selector, request: Request) -> Answer {
    reach(state, selector, request, |body| {
        let SignalApp { signal, slot } = input::parse(body)?;
        let signal: Signal = signal.parse().map_err(Failure::unprocessable)?;
        Ok((What::Signal(signal), slot))
    })
    .await
}

/// `POST /v1/apps/{selector}/send`
pub(super) async fn send(state: Shared<Arc<State>>, selector: Selector, request: Request) -> Answer {
    reach(state, selector, request, |body| {
        let SendLine { line, slot } = input::parse(body)?;
        Ok((What::Line(line.into_bytes()), slot))
    })
    .await
}

/// `POST /v1/apps/{selector}/message`
pub(super) async fn message(state: Shared<Arc<State>>, selector: Selector, request: Request) -> Answer {
    reach(state, selector, request, |body| {
        let SendMessage { message, slot } = input::parse(body)?;
        Ok((What::Message(message.get().as_bytes().to_vec()), slot))
    })
    .await
}

/// What, and to which slot only.
type Ask = (What, Option<Slot>);

/// What goes to a worker.
pub(super) enum What {
    Signal(Signal),
    Line(Vec<u8>),
    Message(Vec<u8>),
}

impl What {
    /// Whether workers of such an app can be reached at all.
    fn suits(&self, sockets: Sockets) -> bool {
        match self {
            Self::Message(_) => sockets == Sockets::Channel,
            Self::Signal(_) | Self::Line(_) => true,
        }
    }

    /// Whether the worker was reached. One that has just ended was not.
    pub(super) async fn give(&self, state: &State, worker: InstanceId) -> Result<bool, Failure> {
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| drop(reply.send(result)));
        match self {
            Self::Message(bytes) => {
                return state.driver.message(worker, bytes.clone()).map(|()| true).map_err(Failure::conflict);
            }
            Self::Line(line) => state.driver.line(worker, line.clone(), reply),
            Self::Signal(signal) => state.driver.signal(worker, signal.0, reply),
        }
        match answer.await.map_err(|_| Failure::ending())? {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::conflict(format!("worker {}: {error}", worker.worker_id()))),
        }
    }
}

async fn reach(
    Shared(state): Shared<Arc<State>>,
    selector: Selector,
    request: Request,
    read: fn(&[u8]) -> Result<Ask, Failure>,
) -> Answer {
    let selector = input::path(selector)?;
    let Incoming { key, body } = incoming(request).await?;
    let (what, slot) = read(&body)?;
    detached(async move {
        let _turn = state.turn.lock().await;
        let survey = state.survey().await?;
        let aims = aims(&selector, slot, &what, &survey)?;
        let is_first = is_first(&state, key.as_ref())?;
        let mut apps = Vec::new();
        for aim in aims {
            let mut count = 0;
            for worker in &aim.workers {
                count += u32::from(!is_first || what.give(&state, *worker).await?);
            }
            apps.push(ReachedApp { app: aim.app, name: aim.name, count });
        }
        Ok(reached(apps))
    })
    .await
}

fn reached(apps: Vec<ReachedApp>) -> Response {
    json(StatusCode::OK, &Reached { apps })
}

pub(super) fn aims(
    selector: &str,
    slot: Option<Slot>,
    what: &What,
    survey: &Survey,
) -> Result<Vec<Aim>, Failure> {
    let selected = select(selector, survey)?;
    let chosen = survey.status.apps.iter().filter(|app| selected.contains(&app.app));
    chosen.map(|app| aim(app, slot, what, survey)).collect()
}

/// The workers of an app that have a process.
fn aim(app: &AppStatus, slot: Option<Slot>, what: &What, survey: &Survey) -> Result<Aim, Failure> {
    if let Some(slot) = slot.filter(|slot| app.slots.iter().all(|it| it.slot != *slot)) {
        return Err(Failure::not_found(format!("app `{}` has no slot {}", app.name, slot.0)));
    }
    let report = survey.report.apps.iter().find(|it| it.app == app.app);
    let has_process = |id: InstanceId| {
        report.is_some_and(|report| report.workers.iter().any(|worker| worker.worker == id.worker_id()))
    };
    let suits = survey.specs.get(&app.app).is_some_and(|spec| what.suits(spec.sockets));
    let meant = app.everyone().filter(|it| suits && slot.is_none_or(|slot| slot == it.place.slot));
    let workers = meant.map(|it| it.place.instance).filter(|id| has_process(*id)).collect();
    Ok(Aim { app: app.app, name: app.name.clone(), workers })
}

/// `POST /v1/apps/{selector}/reset`
pub(super) async fn reset(Shared(state): Shared<Arc<State>>, selector: Selector, request: Request) -> Answer {
    let selector = input::path(selector)?;
    let Incoming { body, .. } = incoming(request).await?;
    input::parse_optional::<NoBody>(&body)?;
    let survey = state.survey().await?;
    let selected = select(&selector, &survey)?;
    let chosen = survey.status.apps.iter().filter(|app| selected.contains(&app.app));
    let apps = chosen.map(|app| {
        let restarts: Vec<(Slot, u32)> = app.slots.iter().map(|slot| (slot.slot, slot.restarts)).collect();
        let count = state.driver.reset(app.app, &restarts);
        ReachedApp { app: app.app, name: app.name.clone(), count }
    });
    Ok(reached(apps.collect()))
}

/// `POST /v1/logs/flush`
pub(super) async fn flush_logs(Shared(state): Shared<Arc<State>>, uri: Uri) -> Answer {
    let which: Which = input::query(&uri)?;
    let survey = state.survey().await?;
    let selected = match which.app.as_deref() {
        None => survey.status.apps.iter().map(|app| app.app).collect(),
        Some(selector) => select(selector, &survey)?,
    };
    let mut flushed = Vec::new();
    for app in survey.status.apps.iter().filter(|app| selected.contains(&app.app)) {
        let (reply, answer) = oneshot::channel();
        state.logs.flush(app.app, &app.name, Box::new(move |result| drop(reply.send(result))));
        let count = answer.await.map_err(|_| Failure::ending())?.map_err(Failure::internal)?;
        flushed.push(ReachedApp { app: app.app, name: app.name.clone(), count });
    }
    Ok(reached(flushed))
}

/// `POST /v1/save`
pub(super) async fn save(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { body, .. } = incoming(request).await?;
    input::parse_optional::<NoBody>(&body)?;
    let saved = tokio::task::spawn_blocking(move || state.driver.save()).await;
    let snapshot = saved.map_err(|_| Failure::ending())?.map_err(Failure::conflict)?;
    Ok(json(StatusCode::OK, &snapshot))
}

/// `DELETE /v1/save`
pub(super) async fn delete_save(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { body, .. } = incoming(request).await?;
    input::parse_optional::<NoBody>(&body)?;
    let deleted = tokio::task::spawn_blocking(move || state.driver.delete_save()).await;
    let snapshot = deleted.map_err(|_| Failure::ending())?.map_err(Failure::conflict)?;
    Ok(json(StatusCode::OK, &snapshot))
}
