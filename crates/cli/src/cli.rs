//! The command line as a whole. A mistake in it is told in one line.

mod mistakes;
pub(crate) mod offer;
mod order;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exit::ExitStatus;
use crate::options::{
    self, ApplyOptions, AttachOptions, CheckOptions, CompletionOptions, ConfOptions, DoctorOptions,
    EcosystemOptions, ExportOptions, FileOptions, FilesOptions, GetOptions, ListOptions, LogsOptions,
    ManOptions, MaybeSelector, MonitOptions, MultisetOptions, RenewOptions, RunOptions, RuntimeOptions,
    ScaleOptions, Selector, Selectors, SendOptions, ServeOptions, ServiceOptions, SetOptions, SignalOptions,
    StartOptions, StartupOptions, TriggerOptions, UnsetOptions, UpgradeOptions,
};
use crate::persona;
use crate::version::version;
use crate::voice;

/// Drives a herd of worker processes as one server.
#[derive(Debug, Parser)]
#[command(name = "oxherd", version = version(), arg_required_else_help = true, subcommand_required = true)]
#[command(term_width = 100, infer_subcommands = false)]
pub(crate) struct Cli {
    /// Say nothing but what is wrong, and what was asked for
    #[arg(short, long, global = true)]
    pub(crate) silent: bool,

    /// No colours
    #[arg(long, global = true)]
    pub(crate) no_color: bool,

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
    Restart(RenewOptions),
    /// Replace every worker without losing a connection: successor first
    #[command(after_help = options::RELOAD_HELP)]
    Reload(RenewOptions),
    /// Stop apps and forget them
    #[command(visible_alias = "del", after_help = options::DELETE_HELP)]
    Delete(Selectors),
    /// Start the apps of a file, and restart those that are known
    #[command(name = "startOrRestart", alias = "startorrestart", after_help = options::START_OR_RESTART_HELP)]
    StartOrRestart(FileOptions),
    /// Start the apps of a file, and reload those that are known
    #[command(name = "startOrReload", aliases = ["startorreload", "startOrGracefulReload", "startorgracefulreload"], after_help = options::START_OR_RELOAD_HELP)]
    StartOrReload(FileOptions),
    Check(CheckOptions),
    Apply(ApplyOptions),
    Scale(ScaleOptions),
    /// Count restarts of apps anew
    #[command(after_help = options::RESET_HELP)]
    Reset(Selectors),
    List(ListOptions),
    /// Print apps and their workers as PM2's JSON in one line
    #[command(after_help = options::JLIST_HELP)]
    Jlist,
    /// Print the same, for people
    #[command(after_help = options::PRETTYLIST_HELP)]
    Prettylist,
    /// Show all there is to know of an app
    #[command(visible_aliases = ["show", "info", "desc"], after_help = options::DESCRIBE_HELP)]
    Describe(Selector),
    /// Print the environment of a worker
    #[command(after_help = options::ENV_HELP)]
    Env(Selector),
    /// Print the pids of workers: of an app, or of all
    #[command(after_help = options::PID_HELP)]
    Pid(MaybeSelector),
    /// Print the ids of an app
    #[command(after_help = options::ID_HELP)]
    Id(Selector),
    #[command(visible_aliases = ["dashboard", "dash"], after_help = options::MONIT_HELP)]
    Monit(MonitOptions),
    Logs(LogsOptions),
    /// Empty the log files
    #[command(after_help = options::FLUSH_HELP)]
    Flush(MaybeSelector),
    /// Open the log files anew, after they were moved away
    #[command(name = "reloadLogs", alias = "reloadlogs", after_help = options::RELOAD_LOGS_HELP)]
    ReloadLogs,
    #[command(name = "sendSignal", alias = "sendsignal", after_help = options::SEND_SIGNAL_HELP)]
    SendSignal(SignalOptions),
    #[command(after_help = options::SEND_HELP)]
    Send(SendOptions),
    #[command(after_help = options::ATTACH_HELP)]
    Attach(AttachOptions),
    #[command(after_help = options::TRIGGER_HELP)]
    Trigger(TriggerOptions),
    /// Save which apps there are now, for `resurrect`
    #[command(visible_alias = "dump", after_help = options::SAVE_HELP)]
    Save(SaveOptions),
    /// Start what was running when the daemon was last there, after a boot or a kill
    #[command(after_help = options::RESURRECT_HELP)]
    Resurrect,
    /// Remove what was saved
    #[command(after_help = options::CLEARDUMP_HELP)]
    Cleardump,
    #[command(after_help = options::STARTUP_HELP)]
    Startup(StartupOptions),
    /// Have the system not start the daemon at boot any more
    #[command(after_help = options::UNSTARTUP_HELP)]
    Unstartup(ServiceOptions),
    #[command(visible_alias = "init", after_help = options::ECOSYSTEM_HELP)]
    Ecosystem(EcosystemOptions),
    #[command(visible_alias = "expose", after_help = options::SERVE_HELP)]
    Serve(ServeOptions),
    #[command(name = "serve-files", hide = true)]
    ServeFiles(FilesOptions),
    #[command(after_help = options::EXPORT_HELP)]
    Export(ExportOptions),
    #[command(after_help = options::SET_HELP)]
    Set(SetOptions),
    #[command(after_help = options::MULTISET_HELP)]
    Multiset(MultisetOptions),
    #[command(after_help = options::GET_HELP)]
    Get(GetOptions),
    #[command(visible_alias = "config", after_help = options::CONF_HELP)]
    Conf(ConfOptions),
    #[command(after_help = options::UNSET_HELP)]
    Unset(UnsetOptions),
    /// Ask the daemon whether it is there; exit code 1 when it is not
    #[command(after_help = options::PING_HELP)]
    Ping,
    /// Print versions, the state of this machine and of the apps, to be shown to somebody who helps
    #[command(after_help = options::REPORT_HELP)]
    Report,
    Doctor(DoctorOptions),
    #[command(visible_aliases = ["update", "updatePM2"])]
    Upgrade(UpgradeOptions),
    /// End all apps, the daemon and its keeper; clients are served to the end
    #[command(after_help = options::KILL_HELP)]
    Kill,
    /// Print completions for a shell
    #[command(after_help = options::COMPLETION_HELP)]
    Completion(CompletionOptions),
    #[command(hide = true)]
    Man(ManOptions),
    /// Names of apps and verbs, for completions.
    #[command(name = "complete-names", hide = true)]
    CompleteNames,
    /// All verbs with their options, for tests.
    #[command(name = "command-tree", hide = true)]
    Tree,
}

/// What `save` is told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SaveOptions {
    /// Save an empty list too
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Reads a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    match plain(&args) {
        Some(command) => Ok(Cli { silent: false, no_color: false, command }),
        None => parse_whole(order::verb_first(args)),
    }
}

/// What people and their scripts ask for again and again: the definition of all commands takes longer to build than
/// this one takes to answer.
fn plain(args: &[OsString]) -> Option<Command> {
    let [_program, verb] = args else { return None };
    match verb.to_str()? {
        "ls" | "list" | "l" | "ps" | "status" => Some(Command::List(ListOptions::default())),
        "jlist" => Some(Command::Jlist),
        _ => None,
    }
}

fn parse_whole(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let Some((_, matches)) = matches.subcommand() {
        match &mut cli.command {
            Command::Start(options) => options.given = given(matches),
            Command::Runtime(options) => options.given = given(matches),
            Command::Stop(of) | Command::Delete(of) | Command::Reset(of) => refuse_args(of, &mut command)?,
            Command::SendSignal(options) => refuse_args(&options.of, &mut command)?,
            _ => {}
        }
    }
    Ok(cli)
}

/// What stands after `--` is an app's: taken as selectors, it might hit apps that nobody meant.
fn refuse_args(of: &Selectors, command: &mut clap::Command) -> Result<(), clap::Error> {
    let Some(first) = of.args.first() else { return Ok(()) };
    let why = format!(
        "unexpected `{first}` after `--`: words after it are arguments of apps, which go with start, restart and reload; \
         name apps before it"
    );
    Err(command.error(ErrorKind::UnknownArgument, why))
}

/// What goes with every verb, or is no option.
const NOT_OF_A_VERB: [&str; 4] = ["silent", "no_color", "scripts", "args"];

/// The options of its verb that stand on the command line. Groups of options have names with capitals.
fn given(matches: &ArgMatches) -> Vec<String> {
    let is_option = |id: &str| !id.chars().any(char::is_uppercase) && !NOT_OF_A_VERB.contains(&id);
    let ids = matches.ids().map(clap::Id::as_str).filter(|id| is_option(id));
    let typed = ids.filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
    typed.map(|id| format!("--{}", id.replace('_', "-"))).collect()
}

/// Answers a command line that does not lead to a command: with help, the version, or what is wrong with it.
pub(crate) fn answer(error: &clap::Error) -> ExitStatus {
    match error.kind() {
        // Scripts compare it.
        ErrorKind::DisplayVersion if persona::is_pm2() => {
            voice::print(&format!("{}\n", env!("CARGO_PKG_VERSION")));
            ExitStatus::Success
        }
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone is no reason to fail.
            drop(error.print());
            ExitStatus::Success
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            drop(error.print());
            ExitStatus::Usage
        }
        _ => mistakes::tell(error),
    }
}
