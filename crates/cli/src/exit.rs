//! The exit codes of the command. `--help` and the README list them.

use std::process::ExitCode;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Stopped on request, or every worker ended and none is to be restarted.
    Success,
    /// Killed by a second signal, or an internal error.
    Failure,
    /// A wrong command line, or something that can never start.
    Usage,
    /// A slot has given up and nothing is left running.
    GaveUp,
    /// Ctrl-C ended the waiting for a change, not the change.
    Interrupted,
}

impl ExitStatus {
    /// What the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::GaveUp => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        status.code().into()
    }
}
