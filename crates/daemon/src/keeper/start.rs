//! Starting a keeper for a home, from a client.
//!
//! Must never leave it unsaid why nothing came up.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oxherd_os::files;
use oxherd_os::host::LABEL_VARIABLE;
use thiserror::Error;

use super::daemon::own_program;
use super::entry::{READY, RUNS_ALREADY};

/// Where a keeper and its daemons write to, in the home.
pub(super) const LOG_FILE: &str = "daemon.log";

/// Why no daemon came up.
#[derive(Debug, Error)]
pub enum StartError {
    /// The keeper could not be started.
    #[error("cannot start the daemon: {0}")]
    Io(#[from] io::Error),
    /// The log file cannot be written to.
    #[error("cannot write to {}: {source}; check the permissions of {}", path.display(), home.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Its folder.
        home: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon itself, or its keeper, said why.
    #[error("the daemon cannot start: {why}; see {}", log.display())]
    Refused {
        /// In its own words.
        why: String,
        /// Where there may be more.
        log: PathBuf,
    },
}

/// Starts a keeper for `home`, a folder that exists, and waits until its daemon serves. That one runs already is
/// success too.
///
/// # Errors
/// It did not come up.
pub fn start(home: &Path) -> Result<(), StartError> {
    let log = home.join(LOG_FILE);
    let refused = |source| StartError::Log { path: log.clone(), home: home.to_owned(), source };
    let output = files::open_append(&log).map_err(refused)?;
    let errors = output.try_clone()?;
    let (mut reader, writer) = io::pipe()?;
    let mut args: Vec<OsString> = ["keeper", "--detach", "--home"].map(OsString::from).to_vec();
    args.push(home.into());
    let mut order = Command::new(own_program());
    order.args(args).stdin(OwnedFd::from(writer)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    // A worker may call a client: the keeper does not belong to that worker's tree.
    order.env_remove(LABEL_VARIABLE).current_dir(home);
    order.spawn()?;
    // It holds the writing end of the pipe.
    drop(order);
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    match said.as_str() {
        READY | RUNS_ALREADY => Ok(()),
        "" => Err(StartError::Refused { why: "its keeper has ended".into(), log }),
        why => Err(StartError::Refused { why: why.to_owned(), log }),
    }
}
