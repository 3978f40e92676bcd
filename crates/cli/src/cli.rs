//! The command line as a whole. A mistake in it is told in one line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::commands::complain;
use crate::exit::ExitStatus;
use crate::options::{
    self, DoctorOptions, ListOptions, LogsOptions, RunOptions, RuntimeOptions, ScaleOptions, Selector,
    Selectors, StartOptions, UpgradeOptions,
};
use crate::version::version;

/// Drives a herd of worker processes as one server.
#[derive(Debug, Parser)]
#[command(name = "oxherd", version = version(), arg_required_else_help = true, subcommand_required = true)]
#[command(term_width = 100, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunOptions>),
    #[command(after_help = options::RUNTIME_HELP)]
    Runtime(Box<RuntimeOptions>),
    Start(Box<StartOptions>),
    /// Stop apps: clients are served to the end, configurations are kept
    #[command(after_help = options::STOP_HELP)]
    Stop(Selectors),
    /// Stop apps, then start them again
    #[command(after_help = options::RESTART_HELP)]
    Restart(Selectors),
    /// Replace every worker without losing a connection: successor first
    #[command(after_help = options::RELOAD_HELP)]
    Reload(Selectors),
    /// Stop apps and forget them
    #[command(visible_alias = "del", after_help = options::DELETE_HELP)]
    Delete(Selectors),
    Scale(ScaleOptions),
    List(ListOptions),
    /// Show all there is to know of an app
    #[command(visible_aliases = ["show", "info"], after_help = options::DESCRIBE_HELP)]
    Describe(Selector),
    Logs(LogsOptions),
    /// Ask the daemon whether it is there; exit code 1 when it is not
    #[command(after_help = options::PING_HELP)]
    Ping,
    Doctor(DoctorOptions),
    /// Start what was running when the daemon was last there, after a boot or a kill
    #[command(after_help = options::RESURRECT_HELP)]
    Resurrect,
    Upgrade(UpgradeOptions),
    /// End all apps, the daemon and its keeper; clients are served to the end
    #[command(after_help = options::KILL_HELP)]
    Kill,
}

/// Reads a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    match plain(&args) {
        Some(command) => Ok(Cli { command }),
        None => Cli::try_parse_from(args),
    }
}

/// What people and their scripts ask for again and again: the definition of all commands takes longer to build than
/// this one takes to answer.
fn plain(args: &[OsString]) -> Option<Command> {
    match args {
        [_program, verb] if verb == "ls" || verb == "list" => {
            Some(Command::List(ListOptions { json: false }))
        }
        _ => None,
    }
}

/// Answers a command line that does not lead to a command: with help, the version, or what is wrong with it.
pub(crate) fn answer(error: &clap::Error) -> ExitStatus {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone is no reason to fail.
            drop(error.print());
            ExitStatus::Success
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            drop(error.print());
            ExitStatus::Usage
        }
        _ => {
            complain(&in_one_line(error));
            ExitStatus::Usage
        }
    }
}

/// The explanation and the tips of a usage error, without the usage text.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.lines().map(str::trim).take_while(|line| {
        let is_general = line.starts_with("Usage:") || line.starts_with("For more information");
        !is_general
    });
    let mut line = String::new();
    for part in told.filter(|part| !part.is_empty()) {
        match line.chars().last() {
            None => {}
            Some(':') => line.push(' '),
            Some(_) => line.push_str("; "),
        }
        line.push_str(part.trim_start_matches("error: "));
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(args: &[&str]) -> String {
        let line = ["oxherd"].iter().chain(args).map(OsString::from);
        in_one_line(&parse(line).expect_err("the line is wrong"))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        command.build();
        insta::assert_snapshot!("help", command.render_help());
        let run = command.find_subcommand_mut("run").expect("there is a `run`");
        insta::assert_snapshot!("help_run", run.render_help());
    }

    #[test]
    fn mistakes_are_one_line_that_names_the_thing() {
        let lines = [
            refused(&["run", "-i", "0", "a.js"]),
            refused(&["run", "-i", "x", "a.js"]),
            refused(&["run", "--strategy", "sticki", "a.js"]),
            refused(&["run", "--strategy", "best", "a.js"]),
            refused(&["run", "--weights", "3,x", "a.js"]),
            refused(&["run", "--weights", "", "a.js"]),
            refused(&["run", "--distribution", "magic", "a.js"]),
            refused(&["run", "--restart", "sometimes", "a.js"]),
            refused(&["run", "--drain-timeout", "30", "a.js"]),
            refused(&["run", "--stop-signal", "SIGFOO", "a.js"]),
            refused(&["run", "--max-restarts", "0", "a.js"]),
            refused(&["run", "--env", "FOO", "a.js"]),
            refused(&["run", "--env", "OXHERD_SLOT=1", "a.js"]),
            refused(&["run", "--node-args", "'--title=a b", "a.js"]),
            refused(&["run", "--instance", "2", "a.js"]),
            refused(&["run", "a.js", "--port", "3000"]),
            refused(&["run"]),
            refused(&["rnu", "a.js"]),
        ];
        assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:#?}");
        insta::assert_snapshot!("mistakes", lines.join("\n"));
    }

    #[test]
    fn the_short_way_leads_where_the_long_one_does() {
        for verb in ["ls", "list"] {
            let args = ["oxherd", verb].map(OsString::from);
            let long = Cli::try_parse_from(&args).unwrap().command;
            assert_eq!(format!("{:?}", plain(&args).unwrap()), format!("{long:?}"));
        }
        assert!(plain(&["oxherd", "ls", "--json"].map(OsString::from)).is_none());
    }

    #[test]
    fn nothing_to_do_is_a_mistake_and_help_is_none() {
        let kind =
            |args: &[&str]| parse(args.iter().map(OsString::from)).map(drop).map_err(|error| error.kind());
        let missing = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        assert_eq!(kind(&["oxherd"]), Err(missing));
        assert_eq!(kind(&["oxherd", "help", "run"]), Err(ErrorKind::DisplayHelp));
        assert_eq!(kind(&["oxherd", "--version"]), Err(ErrorKind::DisplayVersion));
        assert_eq!(kind(&["oxherd", "run", "a.js", "-i", "-1", "--", "--port", "3000"]), Ok(()));
    }
}
