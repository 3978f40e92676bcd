//! One file per command, and what they share.

mod apply;
mod attach;
mod boot;
mod carry;
mod change;
mod changes;
mod check;
mod completion;
mod daemon;
mod doctor;
mod ecosystem;
mod export;
mod files;
mod lives;
mod logs;
mod looks;
mod monit;
mod reach;
mod report;
mod run;
mod runtime;
mod select;
mod serve;
mod start;
mod store;
mod tree;
mod trigger;
mod update;

use std::ffi::OsString;

use crate::cli::{self, Command};
use crate::exit::ExitStatus;
use crate::view::progress::Verb;

/// Runs one command to its end.
pub(crate) fn execute(command: Command) -> ExitStatus {
    match command {
        Command::Run(options) => run::run(&options),
        Command::Runtime(options) => runtime::run(&options),
        Command::Start(options) => start::run(&options),
        Command::Stop(of) => changes::each(Verb::Stop, &of),
        Command::Restart(options) => changes::renew(Verb::Restart, &options),
        Command::Reload(options) => changes::renew(Verb::Reload, &options),
        Command::Delete(of) => changes::each(Verb::Delete, &of),
        Command::StartOrRestart(options) => changes::renew_file(Verb::Restart, &options),
        Command::StartOrReload(options) => changes::renew_file(Verb::Reload, &options),
        Command::Check(options) => check::run(&options),
        Command::Apply(options) => apply::run(&options),
        Command::Scale(options) => changes::scale(&options),
        Command::Reset(of) => reach::reset(&of),
        Command::List(options) => looks::list(&options),
        Command::Jlist => looks::jlist(false),
        Command::Prettylist => looks::jlist(true),
        Command::Describe(of) => looks::describe(&of),
        Command::Env(of) => looks::env(&of),
        Command::Pid(of) => looks::pid(&of),
        Command::Id(of) => looks::id(&of),
        Command::Monit(options) => monit::run(&options),
        Command::Logs(options) => logs::run(&options),
        Command::Flush(of) => reach::flush(&of),
        Command::ReloadLogs => reach::reload_logs(),
        Command::SendSignal(options) => reach::signal(&options),
        Command::Send(options) => reach::send(&options),
        Command::Attach(options) => attach::run(&options),
        Command::Trigger(options) => trigger::run(&options),
        Command::Save(options) => reach::save(&options),
        Command::Resurrect => changes::resurrect(),
        Command::Cleardump => reach::clear(),
        other => execute_more(other),
    }
}

/// What is not about apps that run.
fn execute_more(command: Command) -> ExitStatus {
    match command {
        Command::Startup(options) => boot::startup(&options),
        Command::Unstartup(options) => boot::unstartup(&options),
        Command::Ecosystem(options) => ecosystem::run(&options),
        Command::Serve(options) => serve::run(&options),
        Command::ServeFiles(options) => serve::worker(&options),
        Command::Export(options) => export::run(&options),
        Command::Set(options) => store::set(&options),
        Command::Multiset(options) => store::multiset(&options),
        Command::Get(options) => store::get(&options),
        Command::Conf(options) => store::conf(&options),
        Command::Unset(options) => store::unset(&options),
        Command::Ping => looks::ping(),
        Command::Report => report::run(),
        Command::Doctor(options) => doctor::run(&options),
        Command::Upgrade(options) => lives::upgrade(&options),
        Command::Kill => lives::kill(),
        Command::Completion(options) => completion::run(&options),
        Command::Man(options) => completion::man(&options),
        Command::CompleteNames => looks::names(),
        Command::Tree => tree::run(),
        // All others have been carried out.
        _ => ExitStatus::Failure,
    }
}

/// Goes on as `logs`, with lines from now on.
fn follow_logs(app: Option<&str>) -> ExitStatus {
    let words = ["oxherd", "logs", "--lines", "0"].into_iter().chain(app);
    match cli::parse(words.map(OsString::from)) {
        Ok(cli) => execute(cli.command),
        Err(error) => cli::answer(&error),
    }
}
