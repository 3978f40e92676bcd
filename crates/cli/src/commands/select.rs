//! What a selector of the command line means: apps, which the daemon resolves, or one worker of an app.
//!
//! As PM2 a number is one worker's; by its own name oxherd writes one worker as `APP:SLOT`, as its list does.

use oxherd::api::AppView;
use oxherd::client::Client;
use oxherd_engine::core::Slot;

use crate::commands::daemon::{Ending, failed_call};
use crate::exit::ExitStatus;
use crate::persona;
use crate::voice::complain;

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Whole apps.
    Apps(String),
    /// One worker of an app that has several.
    Worker { app: String, slot: Slot, siblings: u32 },
}

impl Of {
    /// The apps, and which of their slots.
    pub(super) fn parts(&self) -> (&str, Option<Slot>) {
        match self {
            Self::Apps(selector) => (selector, None),
            Self::Worker { app, slot, .. } => (app, Some(*slot)),
        }
    }
}

/// Finds out what is meant. What the daemon is to resolve is passed on as it is.
pub(super) async fn resolve(client: &Client, selector: &str) -> Ending<Of> {
    let whole = || Of::Apps(selector.to_owned());
    if !may_be_worker(selector) {
        return Ok(whole());
    }
    let apps = client.apps().await.map_err(failed_call)?.apps;
    if apps.iter().any(|app| app.name == selector || app.namespace == selector) {
        return Ok(whole());
    }
    let found = apps.iter().find_map(|app| worker(app, selector).map(|slot| (app, slot)));
    match found {
        Some((app, slot)) if app.slots.len() > 1 => {
            Ok(Of::Worker { app: app.name.clone(), slot, siblings: app.slots.len() as u32 })
        }
        Some((app, _)) => Ok(Of::Apps(app.name.clone())),
        None if persona::is_pm2() => {
            complain(&format!("Process or Namespace {selector} not found: `pm2 ls` lists the ids"));
            Err(ExitStatus::Usage)
        }
        None => Ok(whole()),
    }
}

fn may_be_worker(selector: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match selector.rsplit_once(':') {
        _ if is_number(selector) => persona::is_pm2(),
        Some((app, slot)) => !app.is_empty() && is_number(slot),
        None => false,
    }
}

/// The slot of the app that is meant.
fn worker(app: &AppView, selector: &str) -> Option<Slot> {
    let number = selector.parse().ok();
    let by_number = app.slots.iter().find(|it| number.is_some() && it.number == number);
    let by_place = || {
        let (name, slot) = selector.rsplit_once(':')?;
        let is_app = name == app.name || name.parse() == Ok(app.app.0);
        app.slots.iter().find(|it| is_app && slot.parse() == Ok(it.slot.0))
    };
    by_number.or_else(by_place).map(|it| it.slot)
}

/// Refuses what cannot be had for one worker of several.
pub(super) fn whole_apps(of: &Of, verb: &str) -> Ending<String> {
    match of {
        Of::Apps(selector) => Ok(selector.clone()),
        Of::Worker { app, slot, siblings } => {
            let way_out = match verb {
                "delete" | "stop" if slot.0 + 1 == *siblings => {
                    format!("`{0} scale {app} -1` takes it away", persona::program())
                }
                _ => format!("`{0} {verb} {app}` means all of them", persona::program()),
            };
            complain(&format!(
                "not offered: {verb} of one worker (slot {} of the {siblings} of {app}): {way_out}; see docs/from-pm2.md",
                slot.0
            ));
            Err(ExitStatus::Failure)
        }
    }
}
