//! The way from a command to the daemon: where it is, whether it is started, and how a failed call ends the command.

use std::future::Future;

use oxherd::client::{Client, ClientError};
use oxherd_daemon::home::Home;
use oxherd_daemon::keeper;

use crate::exit::ExitStatus;
use crate::persona;
use crate::voice::complain;

/// A command that cannot go on, and was told why.
pub(super) type Ending<T> = Result<T, ExitStatus>;

/// The daemon of this user's home.
pub(super) fn known() -> Ending<Client> {
    Ok(Client::at(home()?.socket()))
}

/// The home of this user's daemon.
pub(super) fn home() -> Ending<Home> {
    persona::home().map_err(|error| fail(&error, ExitStatus::Usage))
}

/// The home for what lasts.
pub(super) fn lasting_home() -> Ending<Home> {
    persona::lasting_home().map_err(|error| fail(&error, ExitStatus::Usage))
}

/// The same, started if none runs: never in a home that a herd in the foreground has made up, which may be joined.
pub(super) fn started() -> Ending<Client> {
    let home = home()?;
    if !persona::lasting_home().is_ok_and(|lasting| lasting == home) {
        return Ok(Client::at(home.socket()));
    }
    home.prepare().map_err(|error| fail(&error, ExitStatus::Failure))?;
    keeper::start(home.folder()).map_err(|error| fail(&error, ExitStatus::Failure))?;
    Ok(Client::at(home.socket()))
}

/// Runs the asynchronous part of a command, on this thread.
pub(super) fn talk<T>(work: impl Future<Output = Ending<T>>) -> Ending<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| fail(&error, ExitStatus::Failure))?.block_on(work)
}

/// What the work comes to; nothing when Ctrl-C ends it first. It is heard before the work begins.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        outcome = work => Some(outcome),
    }
}

/// A talk that goes on until Ctrl-C ends it, which is as good as any other end.
pub(super) fn talk_on(work: impl Future<Output = Ending<ExitStatus>>) -> Ending<ExitStatus> {
    talk(async { unless_interrupted(work).await.unwrap_or(Ok(ExitStatus::Success)) })
}

/// A command that is a talk with the daemon from beginning to end.
pub(super) fn ask(
    client: Ending<Client>,
    work: impl AsyncFnOnce(Client) -> Ending<ExitStatus>,
) -> ExitStatus {
    status_of(client.and_then(|client| talk(work(client))))
}

/// A failed call ends the command: a refusal is the user's to mend, all else the daemon's.
pub(super) fn failed_call(error: ClientError) -> ExitStatus {
    let status = match &error {
        ClientError::Refused { status: 400 | 404 | 422, .. } => ExitStatus::Usage,
        _ => ExitStatus::Failure,
    };
    match &error {
        ClientError::Refused { status: 404, .. } if persona::is_pm2() => {
            fail(&not_found_as_pm2(&error.to_string()), status)
        }
        ClientError::NotRunning { .. } => fail(&format!("{error}: `oxherd start` starts one"), status),
        _ => fail(&error, status),
    }
}

/// What tools look for.
fn not_found_as_pm2(error: &str) -> String {
    match error.split_once("there is no app `").and_then(|(_, rest)| rest.split_once('`')) {
        Some((name, rest)) => format!("Process or Namespace {name} not found{rest}"),
        None => error.to_owned(),
    }
}

pub(super) fn fail(error: &dyn std::fmt::Display, status: ExitStatus) -> ExitStatus {
    complain(&error.to_string());
    status
}

/// The exit code of a command that has come through, or has not.
pub(super) fn status_of(ending: Ending<ExitStatus>) -> ExitStatus {
    ending.unwrap_or_else(|status| status)
}
