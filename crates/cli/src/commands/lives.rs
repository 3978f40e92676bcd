//! `upgrade` and `kill`: what becomes of the daemon itself.

use std::time::{Duration, Instant};

use oxherd::api::Pong;
use oxherd::client::{Client, ClientError};
use oxherd_daemon::home::Home;

use crate::commands::daemon::{Ending, failed_call, home, known, status_of, talk};
use crate::exit::ExitStatus;
use crate::options::UpgradeOptions;
use crate::voice::{complain, tell};

/// How long a new daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Apps drain within their own limits, which may be long.
const LONGEST_END: Duration = Duration::from_secs(600);

pub(super) fn upgrade(options: &UpgradeOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(upgrade_to(&client, options.program.as_deref()))))
}

async fn upgrade_to(client: &Client, program: Option<&str>) -> Ending<ExitStatus> {
    let before = client.ping().await.map_err(failed_call)?;
    match client.upgrade(program).await {
        // The daemon is ended right after it has said so.
        Ok(_) | Err(ClientError::Vanished { .. } | ClientError::Broken { .. }) => {}
        Err(error) => return Err(failed_call(error)),
    }
    let Some(after) = successor(client, &before).await else {
        complain("no new daemon answers: see daemon.log in the home folder");
        return Err(ExitStatus::Failure);
    };
    if let Some(why) = &after.upgrade_failure {
        complain(&format!("the upgrade has failed, and the old program goes on: {why}"));
        return Err(ExitStatus::Failure);
    }
    if after.upgrades == before.upgrades {
        complain(
            "the daemon was replaced by another of the same program before it could be upgraded: try again",
        );
        return Err(ExitStatus::Failure);
    }
    tell(&format!(
        "upgraded: oxherd {} (daemon {}) to {} (daemon {}), keeper {}",
        before.version, before.pid, after.version, after.pid, after.keeper_pid
    ));
    Ok(ExitStatus::Success)
}

async fn successor(client: &Client, before: &Pong) -> Option<Pong> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match client.ping().await {
            Ok(pong) if pong.starts > before.starts => return Some(pong),
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}

pub(super) fn kill() -> ExitStatus {
    status_of(home().and_then(|home| talk(end(&home, &Client::at(home.socket())))))
}

async fn end(home: &Home, client: &Client) -> Ending<ExitStatus> {
    match client.kill().await {
        Ok(()) => {}
        Err(ClientError::NotRunning { .. }) => {
            tell("no daemon is running");
            return Ok(ExitStatus::Success);
        }
        Err(error) => return Err(failed_call(error)),
    }
    if client.wait_end(LONGEST_END).await && is_left(home, client).await {
        tell("the daemon has ended, and all apps with it");
        Ok(ExitStatus::Success)
    } else {
        complain("the daemon is still there: its apps take long to finish");
        Err(ExitStatus::Failure)
    }
}

/// Waits until nobody has the home any more: what was still to be written is written then.
async fn is_left(home: &Home, client: &Client) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match home.lock() {
            // Somebody else may have started another one meanwhile.
            Ok(None) if client.ping().await.is_err() => tokio::time::sleep(PAUSE).await,
            // A home that cannot be locked is nobody's.
            Ok(_) | Err(_) => return true,
        }
    }
    false
}
