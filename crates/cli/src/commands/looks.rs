//! `ls`, `jlist`, `describe`, `env`, `pid`, `id`, `ping`: what is there. They change nothing and start no daemon, but
//! for `pm2 ping`.

use std::collections::BTreeMap;
use std::io;

use oxherd::api::Herd;
use oxherd::client::{Client, ClientError};

use crate::commands::daemon::{Ending, ask, failed_call, known, started, status_of, talk};
use crate::commands::monit;
use crate::commands::select::resolve;
use crate::exit::ExitStatus;
use crate::options::{ListOptions, MaybeSelector, Selector};
use crate::persona;
use crate::view::form::Form;
use crate::view::{describe, jlist, list as table, pm2};
use crate::voice::{doubt, print};

pub(super) fn list(options: &ListOptions) -> ExitStatus {
    status_of(match options.watch {
        true => monit::watch(options),
        false => show_list(options),
    })
}

/// What is said where there is none to say it of.
const NOBODY: Herd = Herd { apps: Vec::new(), daemon_memory: 0, uptime_ms: 0, troubles: Vec::new() };

fn show_list(options: &ListOptions) -> Ending<ExitStatus> {
    let client = known()?;
    let herd = talk(herd_of(&client))?;
    match &herd {
        Some(herd) => herd.troubles.iter().for_each(|trouble| doubt(trouble)),
        None => doubt(&format!("no daemon is running: `{} start` starts one", persona::program())),
    }
    print(&listed(herd, options, Form::of(&io::stdout())));
    Ok(ExitStatus::Success)
}

/// All apps, if a daemon is there.
pub(super) async fn herd_of(client: &Client) -> Ending<Option<Herd>> {
    match client.apps().await {
        Ok(herd) => Ok(Some(herd)),
        Err(ClientError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(failed_call(error)),
    }
}

/// The list in the form that is asked for.
pub(super) fn listed(herd: Option<Herd>, options: &ListOptions, form: Form) -> String {
    let is_there = herd.is_some();
    let mut herd = herd.unwrap_or(NOBODY);
    if options.json {
        return serde_json::to_string_pretty(&herd).unwrap_or_default() + "\n";
    }
    if let Some(order) = options.sort {
        order.arrange(&mut herd);
    }
    match form {
        _ if persona::is_pm2() => pm2::herd(&herd, form, options.sort, options.mini_list),
        _ if options.mini_list => pm2::blocks(&herd, options.sort),
        _ if is_there => table::herd(&herd, form),
        // Programs that read a pipe find the headings; people were told already.
        Form::Plain => table::apps(&[], Form::Plain),
        Form::Terminal(_) => String::new(),
    }
}

/// `jlist`, and `prettylist`.
pub(super) fn jlist(pretty: bool) -> ExitStatus {
    ask(known(), async |client| {
        let herd = herd_of(&client).await?.unwrap_or(NOBODY);
        let specs = match herd.apps.is_empty() {
            true => BTreeMap::new(),
            false => specs_of(&client).await?,
        };
        let entries = jlist::entries(&herd, &specs, env!("CARGO_PKG_VERSION"));
        print(&match pretty {
            true => jlist::inspect(&entries, 0) + "\n",
            false => entries.to_string() + "\n",
        });
        Ok(ExitStatus::Success)
    })
}

async fn specs_of(client: &Client) -> Ending<BTreeMap<u32, oxherd_engine::core::AppSpec>> {
    match client.specs("all").await {
        Ok(specs) => Ok(specs.apps.into_iter().map(|it| (it.app.0, it.spec)).collect()),
        // The last app was deleted just now.
        Err(ClientError::Refused { status: 404, .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(failed_call(error)),
    }
}

/// The apps that are meant; of one worker only its slot is left.
async fn meant(client: &Client, selector: &str) -> Ending<Herd> {
    let of = resolve(client, selector).await?;
    let (apps, slot) = of.parts();
    let mut herd = client.some_apps(apps).await.map_err(failed_call)?;
    if let Some(slot) = slot {
        herd.apps.iter_mut().for_each(|app| app.slots.retain(|it| it.slot == slot));
    }
    Ok(herd)
}

pub(super) fn describe(of: &Selector) -> ExitStatus {
    ask(known(), async |client| {
        let herd = meant(&client, &of.app).await?;
        let form = Form::of(&io::stdout());
        if persona::is_pm2() {
            print(&pm2::details(&herd, form));
        } else {
            let apps: Vec<String> = herd.apps.iter().map(|app| describe::app(app, form)).collect();
            print(&apps.join("\n"));
        }
        Ok(ExitStatus::Success)
    })
}

/// `env`: of one worker, the first unless another is meant.
pub(super) fn env(of: &Selector) -> ExitStatus {
    ask(known(), async |client| {
        let target = resolve(&client, &of.app).await?;
        let (app, slot) = target.parts();
        let view = client.env(app, slot).await.map_err(failed_call)?;
        let separator = if persona::is_pm2() { ": " } else { "=" };
        let lines = view.env.iter().map(|(key, value)| format!("{key}{separator}{value}\n"));
        print(&lines.collect::<String>());
        Ok(ExitStatus::Success)
    })
}

/// `pid`: a line for each worker. As PM2 one that has none is 0.
pub(super) fn pid(of: &MaybeSelector) -> ExitStatus {
    ask(known(), async |client| {
        let herd = match &of.app {
            Some(app) => meant(&client, app).await?,
            None => herd_of(&client).await?.unwrap_or(NOBODY),
        };
        let pids = pm2::rows(&herd, None)
            .into_iter()
            .map(|(_, slot)| table::split(slot).0.and_then(|worker| worker.pid).unwrap_or(0));
        let shown = pids.filter(|pid| *pid > 0 || persona::is_pm2());
        print(&shown.map(|pid| format!("{pid}\n")).collect::<String>());
        Ok(ExitStatus::Success)
    })
}

/// `id`: as Node writes a list. As PM2 the numbers of workers, and an empty list for an app that is not there.
pub(super) fn id(of: &Selector) -> ExitStatus {
    ask(known(), async |client| {
        let herd = match client.some_apps(&of.app).await {
            Ok(herd) => herd,
            Err(ClientError::Refused { status: 404, .. }) if persona::is_pm2() => NOBODY,
            Err(error) => return Err(failed_call(error)),
        };
        let ids: Vec<String> = match persona::is_pm2() {
            true => pm2::rows(&herd, None)
                .iter()
                .filter_map(|(_, slot)| slot.number)
                .map(|it| it.to_string())
                .collect(),
            false => herd.apps.iter().map(|app| app.app.0.to_string()).collect(),
        };
        match ids.is_empty() {
            true => print("[]\n"),
            false => print(&format!("[ {} ]\n", ids.join(", "))),
        }
        Ok(ExitStatus::Success)
    })
}

pub(super) fn ping() -> ExitStatus {
    // As PM2 it is what brings a daemon up.
    let client = if persona::is_pm2() { started() } else { known() };
    ask(client, async |client| {
        let pong = client.ping().await.map_err(failed_call)?;
        print(&format!(
            "pong: oxherd {}, daemon {} (start {}), keeper {}, home {}\n",
            pong.version, pong.pid, pong.starts, pong.keeper_pid, pong.home
        ));
        Ok(ExitStatus::Success)
    })
}

/// Names for a shell's completions: those of apps, a line each. Without a daemon there are none.
pub(super) fn names() -> ExitStatus {
    ask(known(), async |client| {
        let herd = client.apps().await.unwrap_or(NOBODY);
        print(&herd.apps.iter().map(|app| format!("{}\n", app.name)).collect::<String>());
        Ok(ExitStatus::Success)
    })
}
