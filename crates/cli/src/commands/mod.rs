//! One file per command, and what they share.

mod run;

use std::io::Write;

use crate::cli::Command;
use crate::exit::ExitStatus;

/// Runs one command to its end.
pub(crate) fn execute(command: Command) -> ExitStatus {
    match command {
        Command::Run(options) => run::run(&options),
    }
}

/// Tells of a mistake or a doubt in one line on stderr, before anything is running.
pub(crate) fn complain(what: &str) {
    // Nobody is left to tell when stderr itself is closed.
    drop(writeln!(std::io::stderr(), "oxherd: {what}"));
}
