//! `oxherd runtime`: keeper and daemon in the foreground, for containers and for other supervisors.
//!
//! This process becomes the keeper: its number stays, and whoever started it finds it by that.

use oxherd_daemon::home::Home;
use oxherd_daemon::keeper;

use crate::commands::complain;
use crate::commands::daemon::{Ending, fail, status_of};
use crate::commands::start::prepare;
use crate::exit::ExitStatus;
use crate::options::RuntimeOptions;

/// Runs the apps until they end. Returns only when that cannot begin.
pub(super) fn run(options: &RuntimeOptions) -> ExitStatus {
    status_of(become_keeper(options))
}

fn become_keeper(options: &RuntimeOptions) -> Ending<ExitStatus> {
    let jobs = prepare(&options.what, "")?;
    jobs.iter().flat_map(|job| &job.doubts).for_each(|doubt| complain(doubt));
    let specs: Vec<_> = jobs.into_iter().map(|job| job.spec).collect();
    if specs.is_empty() {
        complain("the file has no apps: there is nothing to run");
        return Err(ExitStatus::Usage);
    }
    let home = free_home()?;
    let daemon_args: &[&str] = if options.raw { &["--raw"] } else { &[] };
    let error = keeper::become_foreground(home.folder(), &specs, daemon_args);
    Err(fail(&format!("cannot become the keeper: {error}"), ExitStatus::Failure))
}

/// A home that nobody else serves.
fn free_home() -> Ending<Home> {
    let (home, doubt) = Home::for_foreground().map_err(|error| fail(&error, ExitStatus::Failure))?;
    doubt.iter().for_each(|doubt| complain(doubt));
    match home.lock().map_err(|error| fail(&error, ExitStatus::Failure))? {
        Some(_) => Ok(home),
        None => {
            complain(&format!(
                "a daemon has {} already: set OXHERD_HOME to another folder, or end it with `oxherd kill`",
                home.folder().display()
            ));
            Err(ExitStatus::Failure)
        }
    }
}
