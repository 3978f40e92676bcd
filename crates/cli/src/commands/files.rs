//! Files of apps on the command line, and `-` for one on standard input.

use std::io::{self, Read};
use std::path::Path;

use oxherd::client::Client;
use oxherd_config::{Job, RawApp, Surroundings, is_config, jobs, load, read};

use crate::commands::daemon::{Ending, fail};
use crate::commands::update::renew_by;
use crate::exit::ExitStatus;
use crate::options::FileChoice;
use crate::persona;
use crate::view::progress::Verb;
use crate::voice::{complain, complain_of_file, doubt};

/// Stands for a file on standard input.
const STDIN: &str = "-";
/// The files that are looked for where none is named.
const USUAL: [&str; 8] = [
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json",
    "ecosystem.json5",
    "ecosystem.yaml",
    "ecosystem.yml",
    "ecosystem.toml",
];

/// Whether a word of the command line is a file of apps.
pub(super) fn is_file(word: &str) -> bool {
    // A regular expression for names may end like the name of a file.
    let is_pattern = word.len() > 1 && word.starts_with('/') && word.ends_with('/');
    word == STDIN || (!is_pattern && is_config(Path::new(word)))
}

/// The file of apps that is in this folder.
pub(super) fn usual() -> Option<&'static str> {
    USUAL.into_iter().find(|name| Path::new(name).is_file())
}

/// Where the command is called.
pub(super) fn surroundings() -> Ending<Surroundings> {
    let surroundings = Surroundings::of_caller().map_err(|error| refuse(&error.to_string()))?;
    // Whoever needs a home is told when there is none.
    let logs = persona::home().ok().map(|home| home.logs());
    let file_server = std::env::current_exe().ok();
    Ok(Surroundings { logs, file_server, as_pm2: persona::is_pm2(), ..surroundings })
}

/// The apps of a file, as they stand there.
fn apps(file: &str, surroundings: &Surroundings) -> Ending<Vec<RawApp>> {
    if file != STDIN {
        return load(Path::new(file), surroundings).map_err(|error| print_whole(&error));
    }
    let mut text = String::new();
    let read_in = io::stdin().lock().take(oxherd_config::FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read_in.map_err(|error| fail(&format!("cannot read standard input: {error}"), ExitStatus::Usage))?;
    read(Path::new(oxherd_config::STDIN), &text, surroundings).map_err(|error| print_whole(&error))
}

/// The names of the apps of a file.
pub(super) fn names(file: &str, choice: &FileChoice) -> Ending<Vec<String>> {
    let surroundings = Surroundings { env_name: choice.env.clone(), ..surroundings()? };
    let chosen = choose(apps(file, &surroundings)?, &choice.only)?;
    Ok(chosen.iter().map(|app| app.full_name(choice.env.as_deref())).collect())
}

/// What the apps of a file come to.
pub(super) fn prepare(file: &str, choice: &FileChoice) -> Ending<Vec<Job>> {
    let surroundings = Surroundings { env_name: choice.env.clone(), ..surroundings()? };
    let chosen = choose(apps(file, &surroundings)?, &choice.only)?;
    let surroundings = if file == STDIN { surroundings } else { surroundings.beside(Path::new(file)) };
    jobs(&chosen, &surroundings).map_err(|error| print_whole(&error))
}

/// Tells what is odd about jobs.
pub(super) fn tell_doubts(jobs: &[Job]) {
    jobs.iter().flat_map(|job| &job.doubts).for_each(|it| doubt(it));
}

/// Starts the apps that are not known, and restarts or reloads the others by what the file says now.
pub(super) async fn renew(client: &Client, verb: Verb, jobs: Vec<Job>) -> Ending<ExitStatus> {
    tell_doubts(&jobs);
    renew_by(client, verb, jobs.into_iter().map(|job| job.spec).collect()).await
}

fn choose(apps: Vec<RawApp>, only: &[String]) -> Ending<Vec<RawApp>> {
    let names: Vec<String> = apps.iter().map(RawApp::name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        return Err(refuse(&format!("the file has no app `{unknown}` (there are: {})", names.join(", "))));
    }
    Ok(apps.into_iter().filter(|app| only.is_empty() || only.contains(&app.name())).collect())
}

pub(super) fn refuse(what: &str) -> ExitStatus {
    complain(what);
    ExitStatus::Usage
}

/// Findings in a file take several lines.
fn print_whole(error: &dyn std::fmt::Display) -> ExitStatus {
    complain_of_file(error);
    ExitStatus::Usage
}
