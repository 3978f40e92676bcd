//! The way from a command to the daemon: where it is, whether it is started, and how a failed call ends the command.

use std::future::Future;

use oxherd::client::{Client, ClientError};
use oxherd_daemon::home::Home;
use oxherd_daemon::keeper;

use crate::commands::complain;
use crate::exit::ExitStatus;

/// A command that cannot go on, and was told why.
pub(super) type Ending<T> = Result<T, ExitStatus>;

/// The daemon of this user's home.
pub(super) fn known() -> Ending<Client> {
    let home = Home::find().map_err(|error| fail(&error, ExitStatus::Usage))?;
    Ok(Client::at(home.socket()))
}

/// The same, started if none runs.
pub(super) fn started() -> Ending<Client> {
    let home = Home::find().map_err(|error| fail(&error, ExitStatus::Usage))?;
    home.prepare().map_err(|error| fail(&error, ExitStatus::Failure))?;
    keeper::start(home.folder()).map_err(|error| fail(&error, ExitStatus::Failure))?;
    Ok(Client::at(home.socket()))
}

/// Runs the asynchronous part of a command, on this thread.
pub(super) fn talk<T>(work: impl Future<Output = Ending<T>>) -> Ending<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| fail(&error, ExitStatus::Failure))?.block_on(work)
}

/// A failed call ends the command: a refusal is the user's to mend, all else the daemon's.
pub(super) fn failed_call(error: ClientError) -> ExitStatus {
    let status = match &error {
        ClientError::Refused { status: 400 | 404 | 422, .. } => ExitStatus::Usage,
        _ => ExitStatus::Failure,
    };
    match &error {
        ClientError::NotRunning { .. } => fail(&format!("{error}: `oxherd start` starts one"), status),
        _ => fail(&error, status),
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
