//! `oxherd report`: what somebody who helps wants to know. No variable of an environment is ever in it.

use std::io;

use oxherd::client::{Client, ClientError};
use oxherd_engine::probe::Findings;

use crate::commands::daemon::{Ending, home, status_of, talk};
use crate::exit::ExitStatus;
use crate::version::version;
use crate::view::form::Form;
use crate::view::{describe, doctor, list};
use crate::voice::print;

pub(super) fn run() -> ExitStatus {
    status_of(report())
}

fn report() -> Ending<ExitStatus> {
    let home = home()?;
    let client = Client::at(home.socket());
    let form = Form::of(&io::stdout());
    print(&format!("oxherd {}\nhome {}\nsystem {}\n\n", version(), home.folder().display(), system()));
    print(&talk(apps(&client, form))?);
    print(&doctor::report(&Findings::collect(), None, form));
    Ok(ExitStatus::Success)
}

async fn apps(client: &Client, form: Form) -> Ending<String> {
    let pong = match client.ping().await {
        Ok(pong) => pong,
        Err(ClientError::NotRunning { .. }) => return Ok("no daemon is running\n\n".into()),
        Err(error) => return Ok(format!("{error}\n\n")),
    };
    let mut text = format!(
        "daemon {} of version {}, start {}, upgraded {} times; keeper {}\n\n",
        pong.pid, pong.version, pong.starts, pong.upgrades, pong.keeper_pid
    );
    match client.apps().await {
        Ok(herd) => {
            herd.troubles.iter().for_each(|trouble| text += &format!("trouble: {trouble}\n"));
            text += &list::herd(&herd, form);
            text.push('\n');
            for app in &herd.apps {
                text += &describe::app(app, form);
                text.push('\n');
            }
        }
        Err(error) => text += &format!("{error}\n\n"),
    }
    Ok(text)
}

/// Kernel and machine.
fn system() -> String {
    let name = rustix::system::uname();
    let part = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine()))
}
