//! `ls`, `describe`, `ping`: what is there. They change nothing and start no daemon.

use std::io::{self, Write};

use oxherd::api::Herd;
use oxherd::client::ClientError;

use crate::commands::complain;
use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::exit::ExitStatus;
use crate::options::{ListOptions, Selector};
use crate::view::form::Form;
use crate::view::{describe, list as table};

pub(super) fn list(options: &ListOptions) -> ExitStatus {
    status_of(show_list(options))
}

fn show_list(options: &ListOptions) -> Ending<ExitStatus> {
    let client = known()?;
    let herd = talk(async {
        match client.apps().await {
            Ok(herd) => Ok(Some(herd)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(failed_call(error)),
        }
    })?;
    match &herd {
        Some(herd) => herd.troubles.iter().for_each(|trouble| complain(trouble)),
        None => complain("no daemon is running: `oxherd start` starts one"),
    }
    let text = match (options.json, herd) {
        (true, herd) => {
            let herd = herd.unwrap_or(Herd {
                apps: Vec::new(),
                daemon_memory: 0,
                uptime_ms: 0,
                troubles: Vec::new(),
            });
            serde_json::to_string_pretty(&herd).unwrap_or_default() + "\n"
        }
        (false, Some(herd)) => table::herd(&herd, Form::of(&io::stdout())),
        // Programs that read a pipe find the headings; people were told already.
        (false, None) if Form::of(&io::stdout()) == Form::Plain => table::apps(&[], Form::Plain),
        (false, None) => String::new(),
    };
    print_whole(&text);
    Ok(ExitStatus::Success)
}

pub(super) fn describe(of: &Selector) -> ExitStatus {
    let run = |client: oxherd::client::Client| {
        talk(async move {
            let app = client.app(&of.app).await.map_err(failed_call)?;
            print_whole(&describe::app(&app, Form::of(&io::stdout())));
            Ok(ExitStatus::Success)
        })
    };
    status_of(known().and_then(run))
}

pub(super) fn ping() -> ExitStatus {
    let run = |client: oxherd::client::Client| {
        talk(async move {
            let pong = client.ping().await.map_err(failed_call)?;
            print_whole(&format!(
                "pong: oxherd {}, daemon {} (start {}), keeper {}, home {}\n",
                pong.version, pong.pid, pong.starts, pong.keeper_pid, pong.home
            ));
            Ok(ExitStatus::Success)
        })
    };
    status_of(known().and_then(run))
}

/// A reader that has gone is no reason to fail.
fn print_whole(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}
