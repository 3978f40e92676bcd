//! `oxherd start`: a script, the apps of a file, or an app that is known already.

use std::path::Path;

use oxherd::client::Client;
use oxherd_config::values::{EnvChoice, Variable};
use oxherd_config::{Job, RawApp, Surroundings, is_config, jobs, load};

use crate::commands::change::follow;
use crate::commands::complain;
use crate::commands::daemon::{Ending, known, started, status_of, talk};
use crate::exit::ExitStatus;
use crate::options::StartOptions;
use crate::view::progress::Verb;

pub(super) fn run(options: &StartOptions) -> ExitStatus {
    status_of(start(options))
}

fn start(options: &StartOptions) -> Ending<ExitStatus> {
    if let Some(name) = known_app(options) {
        let client = known()?;
        return talk(async { follow(&client, Verb::Start, client.start(&name)).await });
    }
    let jobs = prepare(options)?;
    jobs.iter().flat_map(|job| &job.doubts).for_each(|doubt| complain(doubt));
    let client = started()?;
    talk(start_all(&client, jobs))
}

async fn start_all(client: &Client, jobs: Vec<Job>) -> Ending<ExitStatus> {
    let specs = jobs.into_iter().map(|job| job.spec).collect();
    follow(client, Verb::Start, client.start_all(specs)).await
}

/// The name or id of an app that the daemon knows, if that is what was meant: no file has that name.
fn known_app(options: &StartOptions) -> Option<String> {
    let script = &options.app.script;
    if Path::new(script).exists() {
        return None;
    }
    let client = known().ok()?;
    let found = talk(async { client.app(script).await.map_err(|_| ExitStatus::Failure) });
    found.is_ok().then(|| script.clone())
}

/// What the options come to: a script, or the apps of a file.
pub(super) fn prepare(options: &StartOptions) -> Ending<Vec<Job>> {
    let surroundings = Surroundings::of_caller().map_err(|error| refuse(&error.to_string()))?;
    let path = Path::new(&options.app.script);
    if !is_config(path) {
        let variables: Vec<Variable> = options.env.iter().map(variable).collect::<Ending<_>>()?;
        let job = options.app.wish(&variables).prepare(&surroundings);
        return Ok(vec![job.map_err(|error| refuse(&error.to_string()))?]);
    }
    let apps = load(path).map_err(|error| print_whole(&error))?;
    let chosen = choose(apps, &options.only)?;
    let mut surroundings = surroundings.beside(path);
    for choice in &options.env {
        match choice {
            EnvChoice::Name(name) => surroundings.env_name = Some(name.clone()),
            EnvChoice::Variable(_) => {
                return Err(refuse("--env K=V goes with a script; a file has `env` for it"));
            }
        }
    }
    jobs(&chosen, &surroundings).map_err(|error| print_whole(&error))
}

fn variable(choice: &EnvChoice) -> Ending<Variable> {
    match choice {
        EnvChoice::Variable(variable) => Ok(variable.clone()),
        EnvChoice::Name(name) => Err(refuse(&format!("--env {name}: a script takes K=V, a file a name"))),
    }
}

fn choose(apps: Vec<RawApp>, only: &[String]) -> Ending<Vec<RawApp>> {
    let names: Vec<String> = apps.iter().map(RawApp::name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        return Err(refuse(&format!("the file has no app `{unknown}` (there are: {})", names.join(", "))));
    }
    Ok(apps.into_iter().filter(|app| only.is_empty() || only.contains(&app.name())).collect())
}

fn refuse(what: &str) -> ExitStatus {
    complain(what);
    ExitStatus::Usage
}

/// Findings in a file take several lines.
fn print_whole(error: &dyn std::fmt::Display) -> ExitStatus {
    eprintln!("{error}");
    ExitStatus::Usage
}
