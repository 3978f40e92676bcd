//! `oxherd trigger`: an action that a program has a name for, over the channel, in PM2's words; and what the program replies.

use std::collections::BTreeMap;

use oxherd::api::{AppView, TriggerApp, Triggered};
use oxherd::client::Client;
use oxherd_engine::core::{AppId, Slot};

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::commands::reach::place;
use crate::exit::ExitStatus;
use crate::options::TriggerOptions;
use crate::persona;
use crate::view::words::count;
use crate::voice::{complain, doubt, print, tell};

pub(super) fn run(options: &TriggerOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(trigger(&client, options))))
}

async fn trigger(client: &Client, options: &TriggerOptions) -> Ending<ExitStatus> {
    let (app, slot) = place(client, &options.app).await?;
    let TriggerOptions { action, params, wait, .. } = options;
    let asked =
        TriggerApp { action: action.clone(), params: params.clone(), slot, wait_ms: wait.as_millis() };
    let mut triggered = client.trigger(&app, &asked).await.map_err(failed_call)?;
    triggered.replies.sort_by_key(|reply| (reply.app, reply.slot));
    let reached: u32 = triggered.apps.iter().map(|app| app.count).sum();
    if reached == 0 {
        complain(&format!("{app}: the action has reached nobody: no worker runs that has a channel"));
        return Err(ExitStatus::Failure);
    }
    if persona::is_pm2() {
        print(&format!("{reached} processes have received command {action}\n"));
        let apps = client.apps().await.map_err(failed_call)?.apps;
        print(&replies_as_pm2(&triggered, &apps));
    } else {
        for it in triggered.apps.iter().filter(|it| it.count > 0) {
            let workers = count(it.count, "worker", "workers");
            tell(&format!("{}: action {action} has reached {workers}", it.name));
        }
        for reply in &triggered.replies {
            tell(&format!("{}:{} replies {}", reply.name, reply.slot.0, reply.value));
        }
    }
    let silent = (reached as usize).saturating_sub(triggered.replies.len());
    if silent > 0 && !wait.is_zero() {
        let workers = count(silent as u64, "worker has", "workers have");
        doubt(&format!("{workers} not replied to {action} within {wait}"));
    }
    Ok(ExitStatus::Success)
}

/// `[name:number:namespace]=value`
fn replies_as_pm2(triggered: &Triggered, apps: &[AppView]) -> String {
    let slots = apps.iter().flat_map(|app| app.slots.iter().map(move |slot| (app, slot)));
    let known: BTreeMap<(AppId, Slot), (u32, &str)> = slots
        .map(|(app, slot)| {
            ((app.app, slot.slot), (slot.number.unwrap_or(slot.slot.0), app.namespace.as_str()))
        })
        .collect();
    let line = |reply: &oxherd::api::ActionReply| {
        let (number, namespace) =
            known.get(&(reply.app, reply.slot)).copied().unwrap_or((reply.slot.0, "default"));
        format!("[{}:{number}:{namespace}]={}\n", reply.name, reply.value)
    };
    triggered.replies.iter().map(line).collect()
}
