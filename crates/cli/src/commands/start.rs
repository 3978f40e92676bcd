//! `oxherd start`: a script, the apps of a file, or an app that is known already.

use std::io::{self, Write};
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
    let script = options.app.script();
    let hint = match known_app(script)? {
        Known::App(client) => {
            let ask = client.start(script);
            return talk(async { follow(&client, Verb::Start, ask).await });
        }
        Known::None { hint } => hint,
    };
    let jobs = prepare(options, &hint)?;
    jobs.iter().flat_map(|job| &job.doubts).for_each(|doubt| complain(doubt));
    let client = started()?;
    talk(start_all(&client, jobs))
}

async fn start_all(client: &Client, jobs: Vec<Job>) -> Ending<ExitStatus> {
    let specs = jobs.into_iter().map(|job| job.spec).collect();
    follow(client, Verb::Start, client.start_all(specs)).await
}

/// Whether the daemon knows what is to be started.
enum Known {
    /// It does; it is asked through this client.
    App(Client),
    /// It does not; this is what else there is to say if it turns out that there is no such file either.
    None { hint: String },
}

/// Looks for an app of that name or id, unless there is a file of that name.
fn known_app(script: &str) -> Ending<Known> {
    if Path::new(script).exists() {
        return Ok(Known::None { hint: String::new() });
    }
    let client = known()?;
    let found = talk(async {
        Ok(match script {
            "all" => client.ping().await.map(drop),
            _ => client.app(script).await.map(drop),
        })
    })?;
    let is_name = !script.contains(['/', '.']);
    Ok(match found {
        Ok(()) => Known::App(client),
        Err(error) if is_name => Known::None { hint: format!("; {error}") },
        Err(_) => Known::None { hint: String::new() },
    })
}

/// What the options come to: a script, or the apps of a file. `hint` is added where there is no such script.
pub(super) fn prepare(options: &StartOptions, hint: &str) -> Ending<Vec<Job>> {
    let surroundings = Surroundings::of_caller().map_err(|error| refuse(&error.to_string()))?;
    let path = Path::new(options.app.script());
    if !is_config(path) {
        let variables: Vec<Variable> = options.env.iter().map(variable).collect::<Ending<_>>()?;
        let job = options.app.wish(&variables).prepare(&surroundings);
        return Ok(vec![job.map_err(|error| refuse(&format!("{error}{hint}")))?]);
    }
    let apps = load(path, &surroundings).map_err(|error| print_whole(&error))?;
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
    // Nobody is left to tell when stderr itself is closed.
    drop(writeln!(io::stderr(), "{error}"));
    ExitStatus::Usage
}
