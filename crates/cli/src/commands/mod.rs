//! One file per command, and what they share.

mod change;
mod changes;
mod daemon;
mod doctor;
mod lives;
mod logs;
mod looks;
mod run;
mod runtime;
mod start;

use std::io::Write;

use crate::cli::Command;
use crate::exit::ExitStatus;
use crate::view::form::Form;
use crate::view::progress::Verb;

/// Runs one command to its end.
pub(crate) fn execute(command: Command) -> ExitStatus {
    match command {
        Command::Run(options) => run::run(&options),
        Command::Runtime(options) => runtime::run(&options),
        Command::Start(options) => start::run(&options),
        Command::Stop(of) => changes::each(Verb::Stop, &of),
        Command::Restart(of) => changes::each(Verb::Restart, &of),
        Command::Reload(of) => changes::each(Verb::Reload, &of),
        Command::Delete(of) => changes::each(Verb::Delete, &of),
        Command::Scale(options) => changes::scale(&options),
        Command::List(options) => looks::list(&options),
        Command::Describe(of) => looks::describe(&of),
        Command::Logs(options) => logs::run(&options),
        Command::Ping => looks::ping(),
        Command::Doctor(options) => doctor::run(&options),
        Command::Resurrect => changes::resurrect(),
        Command::Upgrade(options) => lives::upgrade(&options),
        Command::Kill => lives::kill(),
    }
}

/// Prints a line on stdout.
fn tell(line: &str) {
    // A reader that has gone is no reason to fail.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Tells of a mistake or a doubt in one line on stderr, before anything is running.
pub(crate) fn complain(what: &str) {
    // Nobody is left to tell when stderr itself is closed.
    let text = format!("oxherd: {what}");
    drop(writeln!(std::io::stderr(), "{}", Form::of(&std::io::stderr()).fit(&text)));
}
