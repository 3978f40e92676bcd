//! Starting a keeper for a home, from a client.
//!
//! Must never leave it unsaid why nothing came up.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oxherd_core::AppSpec;
use oxherd_os::host::LABEL_VARIABLE;
use oxherd_os::memfd::memfd;
use oxherd_os::reexec;
use thiserror::Error;

use super::daemon::own_program;
use super::entry::{READY, RUNS_ALREADY};
use super::service::VARIABLES;
use crate::home::{Home, HomeError};

/// How long a daemon of somebody else may take to serve, or to be gone.
const OTHERS_TIME: Duration = Duration::from_secs(15);
/// Between two looks at that.
const PAUSE: Duration = Duration::from_millis(10);

/// Why no daemon came up.
#[derive(Debug, Error)]
pub enum StartError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keeper could not be started.
    #[error("cannot start the daemon: {0}")]
    Io(#[from] io::Error),
    /// The daemon itself, or its keeper, said why.
    #[error("the daemon cannot start: {why}; see {}", log.display())]
    Refused {
        /// In its own words.
        why: String,
        /// Where there may be more.
        log: PathBuf,
    },
    /// Somebody has the home, and does not serve.
    #[error("a daemon has {} and does not answer; see {}", home.display(), log.display())]
    Silent {
        /// The home.
        home: PathBuf,
        /// Where there may be more.
        log: PathBuf,
    },
}

/// Starts a keeper for the home in this folder, and waits until its daemon serves. That one serves already is
/// success too.
///
/// # Errors
/// It did not come up.
pub fn start(home: &Path) -> Result<(), StartError> {
    let home = Home::at(home)?;
    let give_up_at = Instant::now() + OTHERS_TIME;
    while !serves(&home) {
        home.prepare()?;
        let said = start_keeper(&home)?;
        let log = home.daemon_log();
        match said.as_str() {
            READY => return Ok(()),
            RUNS_ALREADY => await_other(&home, give_up_at)?,
            "" => return Err(StartError::Refused { why: "its keeper has ended".into(), log }),
            why => return Err(StartError::Refused { why: why.to_owned(), log }),
        }
    }
    Ok(())
}

/// Starts it, and returns what it says.
fn start_keeper(home: &Home) -> Result<String, StartError> {
    let output = home.open_daemon_log()?;
    let errors = output.try_clone()?;
    let (mut reader, writer) = io::pipe()?;
    let mut args: Vec<OsString> = ["keeper", "--detach", "--home"].map(OsString::from).to_vec();
    args.push(home.folder().into());
    let mut order = Command::new(own_program());
    order.args(args).stdin(Stdio::from(writer)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    // A worker may call a client: the keeper does not belong to that worker's tree.
    order.env_remove(LABEL_VARIABLE).current_dir(home.folder());
    // Nor to the service that the client may be a part of.
    for variable in VARIABLES {
        order.env_remove(variable);
    }
    order.spawn()?;
    // It holds the writing end of the pipe.
    drop(order);
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    Ok(said)
}

/// Becomes the keeper of the home in this folder, in the foreground: it runs these apps, and ends with them. Its
/// daemons are started with `daemon_args`. Returns only when that fails.
pub fn become_foreground(home: &Path, specs: &[AppSpec], daemon_args: &[&str]) -> io::Error {
    let written =
        serde_json::to_vec(specs).map_err(io::Error::other).and_then(|bytes| memfd("specs", &bytes));
    let specs = match written {
        Ok(specs) => specs,
        Err(error) => return error,
    };
    let number = specs.as_raw_fd().to_string();
    let mut args: Vec<OsString> =
        ["keeper", "--foreground", "--specs", &number, "--home"].map(OsString::from).to_vec();
    args.push(home.into());
    args.push("--".into());
    args.extend(daemon_args.iter().map(OsString::from));
    reexec::exec(&own_program(), &args, &[specs.as_fd()])
}

/// Somebody has the home: one that another client has just started will serve, one that was told to end will be gone.
fn await_other(home: &Home, give_up_at: Instant) -> Result<(), StartError> {
    while !serves(home) && home.lock()?.is_none() {
        if Instant::now() >= give_up_at {
            return Err(StartError::Silent { home: home.folder().to_owned(), log: home.daemon_log() });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn serves(home: &Home) -> bool {
    UnixStream::connect(home.socket()).is_ok()
}
