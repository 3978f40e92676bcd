//! The exit codes of the command. `--help` and the README list them.

use std::process::ExitCode;

use oxherd::console::Ending;
use oxherd_engine::core::{Exit, Outcome};

use crate::persona;

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

/// What a program that ran apps for somebody else ends with, where that is theirs to say: their code, 128 and the
/// signal's number as in a shell. One that gave up has not succeeded, whatever its workers said.
pub(crate) fn of_apps(outcome: Outcome, verdict: Option<Exit>) -> Option<u8> {
    let code = match verdict? {
        Exit::Code(code) => code as u8,
        Exit::Signal(signal) => 128_u8.wrapping_add(signal.0 as u8),
        Exit::Unknown => return None,
    };
    match outcome {
        Outcome::AllEnded => Some(code),
        Outcome::GaveUp => Some(code).filter(|code| *code != 0),
        Outcome::Stopped | Outcome::Killed => None,
    }
}

impl From<Ending> for ExitStatus {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Success => Self::Success,
            Ending::Failure => Self::Failure,
            Ending::Usage => Self::Usage,
            Ending::GaveUp => Self::GaveUp,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    /// As PM2 every mistake is a failure.
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Usage if persona::is_pm2() => ExitStatus::Failure.code().into(),
            status => status.code().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::Signal;

    use super::*;

    #[test]
    fn run_ends_with_the_library_s_codes() {
        for ending in [Ending::Success, Ending::Failure, Ending::Usage, Ending::GaveUp] {
            assert_eq!(ExitStatus::from(ending).code(), ending.code());
        }
    }

    #[test]
    fn apps_have_their_say_unless_they_were_told_to_end() {
        let (code, signal) = (|code| Some(Exit::Code(code)), Some(Exit::Signal(Signal::KILL)));
        assert_eq!(of_apps(Outcome::AllEnded, code(0)), Some(0));
        assert_eq!(of_apps(Outcome::AllEnded, code(7)), Some(7));
        assert_eq!(of_apps(Outcome::AllEnded, signal), Some(137));
        assert_eq!(of_apps(Outcome::AllEnded, Some(Exit::Unknown)), None);
        assert_eq!(of_apps(Outcome::GaveUp, code(7)), Some(7));
        assert_eq!(of_apps(Outcome::GaveUp, code(0)), None);
        assert_eq!(of_apps(Outcome::GaveUp, None), None);
        assert_eq!(of_apps(Outcome::Stopped, code(7)), None);
        assert_eq!(of_apps(Outcome::Killed, signal), None);
    }
}
