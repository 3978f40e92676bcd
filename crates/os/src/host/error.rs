//! Why a process could not be started, in words for the user.
//!
//! Must never show values of environment variables.

use std::io;
use std::path::PathBuf;

/// A process was not started. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Check the name and the `PATH` of the app's environment, or give the full path.
    #[error(
        "cannot start {program}: no such program; check its name and the PATH it is given, or use a full path"
    )]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// The file exists, but what its first line names, or the loader it was linked for, does not.
    #[error("cannot start {}: the interpreter it asks for is missing; check its first line", path.display())]
    InterpreterMissing {
        /// The file that was found.
        path: PathBuf,
    },
    /// Make the file executable, or start its interpreter instead.
    #[error("cannot start {}: permission denied; it must be an executable file", path.display())]
    PermissionDenied {
        /// The file that was found.
        path: PathBuf,
    },
    /// Neither a binary for this machine nor a script with a `#!` line.
    #[error("cannot start {}: not a program for this machine; a script needs a #! line", path.display())]
    NotAProgram {
        /// The file that was found.
        path: PathBuf,
    },
    /// Create the working directory, or correct it.
    #[error("cannot start {program}: cannot enter the working directory {}: {source}", path.display())]
    BadCwd {
        /// As it was asked for.
        program: String,
        /// The working directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Only root starts programs as somebody else: run it as that user, or as root.
    #[error("cannot start {program} as user {uid}: {source}; only root starts programs as another user")]
    BadOwner {
        /// As it was asked for.
        program: String,
        /// The user's number.
        uid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Too many processes or descriptors, or too little memory. May succeed later; raise the limits if it
    /// does not.
    #[error(
        "cannot start {program}: a limit of the system is reached: {source}; see ulimit -u and ulimit -n"
    )]
    Limit {
        /// As it was asked for.
        program: String,
        /// `EAGAIN`, `ENOMEM`, `EMFILE` or `ENFILE`.
        source: io::Error,
    },
    /// The arguments and environment are wrong or too large.
    #[error("cannot start {program}: {what} contains a zero byte")]
    ZeroByte {
        /// As it was asked for.
        program: String,
        /// Which part, never its value.
        what: String,
    },
    /// Anything else.
    #[error("cannot start {program}: {step} failed: {source}")]
    Other {
        /// As it was asked for.
        program: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SpawnError {
    /// Sorts an error of a step that is about resources, not about what was asked for.
    pub(super) fn at_step(program: &str, step: &'static str, source: io::Error) -> Self {
        let program = program.to_owned();
        match source.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                Self::Limit { program, source }
            }
            _ => Self::Other { program, step, source },
        }
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }
}
