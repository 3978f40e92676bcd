//! `oxherd trigger`: an action that a program has a name for, over the channel, in PM2's words. What the program makes of
//! it, it tells in its own way.

use oxherd::client::Client;
use serde_json::json;

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::commands::reach::place;
use crate::exit::ExitStatus;
use crate::options::TriggerOptions;
use crate::view::words::count;
use crate::voice::{complain, tell};

pub(super) fn run(options: &TriggerOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(send(&client, options))))
}

async fn send(client: &Client, options: &TriggerOptions) -> Ending<ExitStatus> {
    let (app, slot) = place(client, &options.app).await?;
    let message = message(&options.action, options.params.as_deref());
    let reached = client.message(&app, &message, slot).await.map_err(failed_call)?;
    let workers: u32 = reached.apps.iter().map(|app| app.count).sum();
    if workers == 0 {
        complain(&format!("{app}: the action has reached nobody: no worker runs that has a channel"));
        return Err(ExitStatus::Failure);
    }
    for it in reached.apps.iter().filter(|it| it.count > 0) {
        tell(&format!(
            "{}: action {} has reached {}",
            it.name,
            options.action,
            count(it.count, "worker", "workers")
        ));
    }
    Ok(ExitStatus::Success)
}

/// As PM2 writes it: the name alone, or with parameters.
fn message(action: &str, params: Option<&str>) -> String {
    match params {
        None => json!(action).to_string(),
        Some(params) => json!({ "msg": action, "opts": params }).to_string(),
    }
}
