//! `oxherd runtime`: keeper and daemon in the foreground, for containers and for other supervisors.
//!
//! This process becomes the keeper: its number stays, and whoever started it finds it by that.

use oxherd_config::Job;
use oxherd_daemon::daemon::Manner;
use oxherd_daemon::home::Home;
use oxherd_daemon::keeper;

use crate::commands::daemon::{Ending, fail, status_of};
use crate::commands::files::{is_file, tell_doubts};
use crate::commands::start::{prepare_file, prepare_script, words};
use crate::exit::ExitStatus;
use crate::options::{RuntimeOptions, StartOptions, What, WhatOptions};
use crate::output;
use crate::persona;
use crate::voice::{complain, doubt};

const FOR_FILES: [&str; 5] = ["--only", "--env", "--raw", "--probes", "--no-daemon"];

/// Runs the apps until they end. Returns only when that cannot begin.
pub(super) fn run(options: &RuntimeOptions) -> ExitStatus {
    let mut daemon_args = Manner { raw: options.raw, ..output::manner() }.options();
    daemon_args
        .extend(options.probes.into_iter().flat_map(|address| ["--probes".to_owned(), address.to_string()]));
    status_of(become_keeper(&options.what, &options.given, &daemon_args))
}

/// `start --no-daemon`.
pub(super) fn in_place_of_start(options: &StartOptions) -> ExitStatus {
    if let Some(option) = options.keep.given() {
        complain(&format!(
            "not offered: {option} with --no-daemon, which prints what workers write; see docs/from-pm2.md"
        ));
        return ExitStatus::Failure;
    }
    status_of(become_keeper(&options.what, &options.given, &output::manner().options()))
}

fn become_keeper(what: &WhatOptions, given: &[String], daemon_args: &[String]) -> Ending<ExitStatus> {
    let mut jobs: Vec<Job> = Vec::new();
    for word in words(what)? {
        match word {
            Some(file) if is_file(file) => jobs.extend(prepare_file(what, file, given, &FOR_FILES)?),
            script => jobs.push(prepare_script(what, What::of(script, &what.args), "")?),
        }
    }
    tell_doubts(&jobs);
    let specs: Vec<_> = jobs.into_iter().map(|job| job.spec).collect();
    if specs.is_empty() {
        complain("the file has no apps: there is nothing to run");
        return Err(ExitStatus::Usage);
    }
    let home = free_home()?;
    let daemon_args: Vec<&str> = daemon_args.iter().map(String::as_str).collect();
    let error = keeper::become_foreground(home.folder(), &specs, &daemon_args);
    Err(fail(&format!("cannot become the keeper: {error}"), ExitStatus::Failure))
}

/// A home that nobody else serves.
fn free_home() -> Ending<Home> {
    let (home, doubts) = match persona::chosen_home() {
        Some(home) => (home.map_err(|error| fail(&error, ExitStatus::Failure))?, None),
        None => Home::for_foreground().map_err(|error| fail(&error, ExitStatus::Failure))?,
    };
    doubts.iter().for_each(|it| doubt(it));
    home.prepare().map_err(|error| fail(&error, ExitStatus::Failure))?;
    match home.lock().map_err(|error| fail(&error, ExitStatus::Failure))? {
        Some(_) => Ok(home),
        None => {
            complain(&format!(
                "a daemon has {} already: set {} to another folder, or end it with `{} kill`",
                home.folder().display(),
                persona::home_variable(),
                persona::program()
            ));
            Err(ExitStatus::Failure)
        }
    }
}
