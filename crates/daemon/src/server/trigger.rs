//! Actions that programs have a name for, in PM2's words: they go over the channel, and what programs reply is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use oxherd::api::{ActionReply, ReachedApp, TriggerApp, Triggered};
use oxherd_core::{InstanceId, Slot};
use oxherd_engine::Survey;
use serde_json::json;
use tokio::time::timeout_at;

use super::change::{Incoming, detached, incoming, is_first};
use super::input;
use super::problem::{Answer, Failure, json};
use super::reach::{Aim, Selector, What, aims};
use super::state::State;

/// Nobody waits longer for a reply.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// `POST /v1/apps/{selector}/trigger`
pub(super) async fn trigger(
    Shared(state): Shared<Arc<State>>,
    selector: Selector,
    request: Request,
) -> Answer {
    let selector = input::path(selector)?;
    let Incoming { key, body } = incoming(request).await?;
    let asked: TriggerApp = input::parse(&body)?;
    let wait = Duration::from_millis(asked.wait_ms);
    if wait > WAIT_MAX {
        return Err(Failure::unprocessable(format!("wait_ms: {} at most", WAIT_MAX.as_millis())));
    }
    detached(async move {
        let turn = state.turn.lock().await;
        let survey = state.survey().await?;
        let aims = aims(&selector, asked.slot, &What::Message(Vec::new()), &survey)?;
        let is_first = is_first(&state, key.as_ref())?;
        let workers = aims.iter().flat_map(|aim| aim.workers.iter().copied());
        let mut awaited = state.replies.wait_for(&asked.action, workers);
        let mut apps = Vec::new();
        for aim in &aims {
            let message = What::Message(message(&asked, &aim.name));
            let mut count = 0;
            for worker in &aim.workers {
                count += u32::from(!is_first || message.give(&state, *worker).await?);
            }
            apps.push(ReachedApp { app: aim.app, name: aim.name.clone(), count });
        }
        // Others need not wait for what a program makes of it.
        drop(turn);
        let reached: u32 = apps.iter().map(|app| app.count).sum();
        let until = tokio::time::Instant::now() + wait;
        let (places, mut replies) = (places(&aims, &survey), Vec::new());
        while replies.len() < reached as usize {
            let Ok(Some(replied)) = timeout_at(until, awaited.next()).await else { break };
            let Some((aim, slot)) = places.get(&replied.worker) else { continue };
            replies.push(ActionReply {
                app: aim.app,
                name: aim.name.clone(),
                slot: *slot,
                value: replied.value,
            });
        }
        Ok(json(StatusCode::OK, &Triggered { apps, replies }))
    })
    .await
}

/// As PM2 writes it: the name alone, or with parameters.
fn message(asked: &TriggerApp, app: &str) -> Vec<u8> {
    let message = match &asked.params {
        None => json!(asked.action),
        Some(params) => json!({ "msg": asked.action, "opts": params, "name": app }),
    };
    message.to_string().into_bytes()
}

/// Where each worker belongs.
fn places<'a>(aims: &'a [Aim], survey: &Survey) -> BTreeMap<InstanceId, (&'a Aim, Slot)> {
    let everyone = survey.status.apps.iter().flat_map(|app| app.everyone());
    let slots: BTreeMap<InstanceId, Slot> = everyone.map(|it| (it.place.instance, it.place.slot)).collect();
    let of = |aim: &'a Aim| aim.workers.iter().map(move |worker| (*worker, aim));
    aims.iter().flat_map(of).filter_map(|(id, aim)| Some((id, (aim, *slots.get(&id)?)))).collect()
}
