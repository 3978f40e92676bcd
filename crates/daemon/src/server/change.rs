//! The requests that change something. Each is carried out whole, whether or not the client is still there, and
//! one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oxherd::api::{Accepted, AcceptedChange, RecycleApp, ScaleApp, Upgrade};
use oxherd_core::{AppSpec, ChangeId, Refusal};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::changes::{Pending, Record, Stage, Target};
use super::input;
use super::plan::{Ask, Step, Verb, id_of, plan};
use super::problem::{Answer, Failure, json};
use super::state::State;

/// More specs in one request are refused, as more apps in one file are.
const SPECS_MAX: usize = 1024;

type Wish = oneshot::Receiver<Result<ChangeId, Refusal>>;

/// What makes a repeated request known.
#[derive(Clone, Debug)]
pub(super) struct Key {
    key: String,
    digest: u64,
}

impl Key {
    fn record(&self, stage: Stage) -> Record {
        Record { key: self.key.clone(), digest: self.digest, stage }
    }
}

/// A request's head and body, as far as a change needs them.
pub(super) struct Incoming {
    pub(super) key: Option<Key>,
    pub(super) body: Bytes,
}

pub(super) async fn incoming(request: Request) -> Result<Incoming, Failure> {
    let (head, body) = request.into_parts();
    let key = input::key(&head.headers)?;
    let body = input::body(&head.headers, body).await?;
    let digest = || input::digest(&[head.method.as_str().as_bytes(), head.uri.path().as_bytes(), &body]);
    let key = key.map(|key| Key { key, digest: digest() });
    Ok(Incoming { key, body })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    spec: Option<Value>,
    specs: Option<Vec<Value>>,
}

impl StartBody {
    fn specs(self) -> Result<Vec<AppSpec>, Failure> {
        let written = match (self.spec, self.specs) {
            (Some(spec), None) => vec![spec],
            (None, Some(specs)) => specs,
            (None, None) | (Some(_), Some(_)) => {
                return Err(Failure::unprocessable("the body is `{\"spec\": …}` or `{\"specs\": [ … ]}`"));
            }
        };
        if written.len() > SPECS_MAX {
            let text =
                format!("{} specs are more than the {SPECS_MAX} that one request may have", written.len());
            return Err(Failure::unprocessable(text));
        }
        let specs: Vec<AppSpec> = written.into_iter().map(input::spec).collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        match specs.iter().find(|spec| !names.insert(spec.name.as_str())) {
            Some(twice) => Err(Failure::unprocessable(format!("two of the apps are named `{}`", twice.name))),
            None => Ok(specs),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewBody {
    #[serde(default)]
    spec: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustBody {
    spec: Value,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoBody {}

/// `POST /v1/apps`
pub(super) async fn start_new(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { key, body } = incoming(request).await?;
    let specs = input::parse::<StartBody>(&body)?.specs()?;
    carry_out(state, key, Ask::Start(specs)).await
}

/// `POST /v1/apps/{selector}/{verb}` and `DELETE /v1/apps/{selector}`; `read` makes the verb out of the body.
pub(super) async fn each(
    Shared(state): Shared<Arc<State>>,
    selector: Result<Path<String>, PathRejection>,
    request: Request,
    read: fn(&[u8]) -> Result<Verb, Failure>,
) -> Answer {
    let selector = input::path(selector)?;
    let Incoming { key, body } = incoming(request).await?;
    let verb = read(&body)?;
    carry_out(state, key, Ask::Each { selector, verb }).await
}

pub(super) fn read_start(body: &[u8]) -> Result<Verb, Failure> {
    input::parse_optional::<NoBody>(body).map(|_| Verb::Start)
}

pub(super) fn read_stop(body: &[u8]) -> Result<Verb, Failure> {
    input::parse_optional::<NoBody>(body).map(|_| Verb::Stop)
}

pub(super) fn read_restart(body: &[u8]) -> Result<Verb, Failure> {
    let RenewBody { spec } = input::parse_optional(body)?;
    let spec = spec.map(input::spec).transpose()?;
    Ok(Verb::Restart(spec.map(Box::new)))
}

pub(super) fn read_delete(body: &[u8]) -> Result<Verb, Failure> {
    input::parse_optional::<NoBody>(body).map(|_| Verb::Delete)
}

pub(super) fn read_reload(body: &[u8]) -> Result<Verb, Failure> {
    let RenewBody { spec } = input::parse_optional(body)?;
    let spec = spec.map(input::spec).transpose()?;
    Ok(Verb::Reload(spec.map(Box::new)))
}

pub(super) fn read_adjust(body: &[u8]) -> Result<Verb, Failure> {
    let AdjustBody { spec } = input::parse(body)?;
    Ok(Verb::Adjust(Box::new(input::spec(spec)?)))
}

pub(super) fn read_recycle(body: &[u8]) -> Result<Verb, Failure> {
    input::parse::<RecycleApp>(body).map(|recycle| Verb::Recycle(recycle.slot))
}

pub(super) fn read_scale(body: &[u8]) -> Result<Verb, Failure> {
    input::parse::<ScaleApp>(body).map(|scale| Verb::Scale(scale.instances))
}

/// `POST /v1/resurrect`
pub(super) async fn resurrect(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { key, body } = incoming(request).await?;
    input::parse_optional::<NoBody>(&body)?;
    let reader = state.clone();
    let saved = tokio::task::spawn_blocking(move || reader.driver.saved()).await;
    let saved = saved.map_err(|_| Failure::ending())?.map_err(Failure::conflict)?;
    carry_out(state, key, Ask::Resurrect(saved)).await
}

/// `POST /v1/kill`
pub(super) async fn kill(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { key, body } = incoming(request).await?;
    input::parse_optional::<NoBody>(&body)?;
    carry_out(state, key, Ask::Shutdown).await
}

/// `POST /v1/upgrade`
pub(super) async fn upgrade(Shared(state): Shared<Arc<State>>, request: Request) -> Answer {
    let Incoming { key, body } = incoming(request).await?;
    let Upgrade { program } = input::parse_optional(&body)?;
    detached(async move {
        let _turn = state.turn.lock().await;
        if let Some(changes) = earlier_answer(&state, key.as_ref())? {
            return Ok(accepted(changes));
        }
        // Answered already, because this daemon ends with it.
        remember(&state, key.as_ref(), Stage::Answered { changes: Vec::new() });
        let (reply, answer) = oneshot::channel();
        state.driver.upgrade(program, Box::new(move |result| drop(reply.send(result))));
        match answer.await {
            Ok(Err(error)) => {
                forget(&state, key.as_ref());
                Err(Failure::conflict(error))
            }
            Ok(Ok(())) | Err(_) => Ok(accepted(Vec::new())),
        }
    })
    .await
}

/// `POST /v1/logs/reopen`
pub(super) async fn reopen_logs(Shared(state): Shared<Arc<State>>) -> Answer {
    state.driver.reopen_logs();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn carry_out(state: Arc<State>, key: Option<Key>, ask: Ask) -> Answer {
    detached(async move { make(&state, key.as_ref(), &ask).await.map(accepted) }).await
}

/// Goes on when the client is gone.
pub(super) async fn detached(work: impl Future<Output = Answer> + Send + 'static) -> Answer {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(Failure::internal(format!("the request failed: {error}"))))
}

/// Whether a request that makes no change is made for the first time. It is remembered before it is made: rather not
/// at all than twice.
pub(super) fn is_first(state: &State, key: Option<&Key>) -> Result<bool, Failure> {
    let is_first = earlier_answer(state, key)?.is_none();
    if is_first {
        remember(state, key, Stage::Answered { changes: Vec::new() });
    }
    Ok(is_first)
}

fn accepted(changes: Vec<AcceptedChange>) -> Response {
    json(StatusCode::ACCEPTED, &Accepted { changes })
}

/// Makes all wishes that `ask` comes down to, and remembers each step for the daemon that may come in between.
async fn make(state: &State, key: Option<&Key>, ask: &Ask) -> Result<Vec<AcceptedChange>, Failure> {
    let _turn = state.turn.lock().await;
    if let Some(changes) = earlier_answer(state, key)? {
        return Ok(changes);
    }
    let cut = made_before(state, key);
    let survey = state.survey().await?;
    let mut steps = plan(ask, &survey, cut.is_some())?;
    let mut changes = cut.unwrap_or_default();
    steps.retain(|step| !changes.iter().any(|made| step.target.app == Some(made.app)));
    let targets = steps.iter().map(|step| step.target.clone()).collect();
    remember(state, key, Stage::Begun { after: survey.last_change, targets });
    let mut pending = Vec::new();
    match make_steps(state, steps).await {
        Ok(taken) => {
            pending.extend(
                taken.iter().map(|(target, change)| (*change, Pending { app: target.app, aim: target.aim })),
            );
            changes.extend(taken.into_iter().filter_map(view));
        }
        Err(failure) if failure.is_open() => return Err(failure),
        Err(failure) if changes.is_empty() => {
            forget(state, key);
            return Err(failure);
        }
        // A part was taken in by the daemon before this one: that part is the answer.
        Err(_) => (),
    }
    let record = key.map(|key| key.record(Stage::Answered { changes: changes.clone() }));
    state.amend(|table| {
        pending.into_iter().for_each(|(change, pending)| table.accept(change, pending));
        record.into_iter().for_each(|record| table.put_record(record));
    });
    Ok(changes)
}

/// All wishes are made before the first answer is waited for. Where several apps were meant, those that refuse are
/// left out, unless all do.
async fn make_steps(state: &State, steps: Vec<Step>) -> Result<Vec<(Target, ChangeId)>, Failure> {
    let wishes: Vec<(Step, Wish)> = steps
        .into_iter()
        .map(|step| {
            let wish = state.wish(step.request.clone());
            (step, wish)
        })
        .collect();
    let (mut taken, mut refusal) = (Vec::new(), None);
    for (step, wish) in wishes {
        match wish.await.map_err(|_| Failure::ending())? {
            Ok(change) => taken.push((step.target, change)),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    if let Some(refusal) = refusal.filter(|_| taken.is_empty()) {
        return Err(refusal.into());
    }
    if taken.iter().any(|(target, _)| target.app.is_none() && !target.name.is_empty()) {
        let survey = state.survey().await?;
        for (target, _) in &mut taken {
            target.app = target.app.or_else(|| id_of(&target.name, &survey.status));
        }
    }
    Ok(taken)
}

/// A change as the client sees it; that of the whole daemon has no app and is not shown.
fn view((target, change): (Target, ChangeId)) -> Option<AcceptedChange> {
    Some(AcceptedChange { change, app: target.app?, name: target.name })
}

/// What was answered to the same request before.
fn earlier_answer(state: &State, key: Option<&Key>) -> Result<Option<Vec<AcceptedChange>>, Failure> {
    let Some(key) = key else { return Ok(None) };
    let Some(record) = state.look(|table| table.record(&key.key).cloned()) else { return Ok(None) };
    if record.digest != key.digest {
        return Err(Failure::conflict("this Idempotency-Key belongs to another request: draw a new one"));
    }
    match record.stage {
        Stage::Answered { changes } => Ok(Some(changes)),
        Stage::Begun { .. } | Stage::Cut { .. } => Ok(None),
    }
}

/// What a daemon before this one took in of the same request before it ended.
fn made_before(state: &State, key: Option<&Key>) -> Option<Vec<AcceptedChange>> {
    let record = state.look(|table| table.record(&key?.key).cloned())?;
    match record.stage {
        Stage::Cut { made } => Some(made),
        Stage::Begun { .. } => Some(Vec::new()),
        Stage::Answered { .. } => None,
    }
}

fn remember(state: &State, key: Option<&Key>, stage: Stage) {
    if let Some(key) = key {
        state.amend(|table| table.put_record(key.record(stage)));
    }
}

fn forget(state: &State, key: Option<&Key>) {
    if let Some(key) = key {
        state.amend(|table| table.drop_record(&key.key));
    }
}
