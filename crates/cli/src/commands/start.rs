//! `oxherd start`: scripts, the apps of files, and apps that are known already.

use std::path::Path;

use oxherd::api::AppView;
use oxherd::client::{Client, ClientError};
use oxherd_config::Job;
use oxherd_config::values::{EnvChoice, Variable};
use oxherd_engine::core::{AppSpec, Status, file_stem};

use crate::commands::daemon::{Ending, failed_call, home, known, started, status_of, talk};
use crate::commands::files::{self, is_file, refuse, tell_doubts};
use crate::commands::select::resolve;
use crate::commands::{changes, follow_logs, runtime, update};
use crate::exit::ExitStatus;
use crate::options::{FileChoice, KeepOptions, StartOptions, What, WhatOptions};
use crate::persona;
use crate::view::progress::Verb;
use crate::voice::complain;

/// What a file or a known app can be started with; all else is for scripts.
const FOR_FILES: [&str; 5] = ["--only", "--env", "--update-env", "--force", "--attach"];
const FOR_KNOWN: [&str; 3] = ["--update-env", "--force", "--attach"];
/// Names that are tried for another app of a name.
const OTHERS_MAX: u32 = 1000;

pub(super) fn run(options: &StartOptions) -> ExitStatus {
    if options.no_daemon {
        return runtime::in_place_of_start(options);
    }
    status_of(start_all(options))
}

fn start_all(options: &StartOptions) -> Ending<ExitStatus> {
    let what = &options.what;
    let mut status = ExitStatus::Success;
    for word in words(what)? {
        let ended = match word {
            Some(file) if is_file(file) => start_file(options, file)?,
            Some(script) => start_named(options, script)?,
            None => start_script(options, What::of(None, &what.args), "")?,
        };
        status = if status == ExitStatus::Success { ended } else { status };
    }
    match status {
        ExitStatus::Success if options.attach => Ok(attach(options)),
        status => Ok(status),
    }
}

/// The words that say what to start; `None` is the program after `--`.
pub(super) fn words(what: &WhatOptions) -> Ending<Vec<Option<&str>>> {
    if !what.scripts.is_empty() {
        return Ok(what.scripts.iter().map(|word| Some(word.as_str())).collect());
    }
    match files::usual() {
        _ if !what.args.is_empty() => Ok(vec![None]),
        Some(file) => Ok(vec![Some(file)]),
        None => Err(refuse(
            "nothing to start: name a script or a file of apps; there is no ecosystem.config.js here",
        )),
    }
}

fn start_file(options: &StartOptions, file: &str) -> Ending<ExitStatus> {
    let jobs = prepare_file(&options.what, file, &options.given, &FOR_FILES)?;
    let client = started()?;
    talk(files::renew(&client, Verb::Reload, jobs))
}

/// The apps of a file, with what of the options goes with one.
pub(super) fn prepare_file(
    what: &WhatOptions,
    file: &str,
    given: &[String],
    allowed: &[&str],
) -> Ending<Vec<Job>> {
    refuse_given(given, allowed, "a file of apps", "write it into the file")?;
    let mut choice = FileChoice { only: what.only.clone(), env: None };
    for env in &what.env {
        match env {
            EnvChoice::Name(name) => choice.env = Some(name.clone()),
            EnvChoice::Variable(_) => {
                return Err(refuse("--env K=V goes with a script; a file has `env` for it"));
            }
        }
    }
    files::prepare(file, &choice)
}

/// An option that would have to be ignored is refused.
fn refuse_given(given: &[String], allowed: &[&str], what: &str, way_out: &str) -> Ending<()> {
    match given.iter().find(|option| !allowed.contains(&option.as_str())) {
        None => Ok(()),
        Some(option) => {
            complain(&format!("not offered: {option} with {what}: {way_out}; see docs/from-pm2.md"));
            Err(ExitStatus::Failure)
        }
    }
}

/// A script, unless there is no such file and an app is called so.
fn start_named(options: &StartOptions, script: &str) -> Ending<ExitStatus> {
    let hint = match known_app(script)? {
        Known::App(client) => return start_known(options, &client, script),
        Known::None { hint } => hint,
    };
    start_script(options, What::of(Some(script), &options.what.args), &hint)
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
    let is_number = script.bytes().all(|byte| byte.is_ascii_digit());
    let found = talk(async {
        Ok(match script {
            "all" => client.ping().await.map(drop),
            // Which worker a number means is looked at later.
            _ if is_number && persona::is_pm2() => client.ping().await.map(drop),
            _ => client.some_apps(script).await.map(drop),
        })
    })?;
    let is_name = !script.contains(['/', '.']);
    Ok(match found {
        Ok(()) => Known::App(client),
        Err(error) if is_name => Known::None { hint: format!("; {error}") },
        Err(_) => Known::None { hint: String::new() },
    })
}

/// As PM2 what runs is restarted; otherwise it is left alone, and what does not run is started.
fn start_known(options: &StartOptions, client: &Client, selector: &str) -> Ending<ExitStatus> {
    refuse_given(&options.given, &FOR_KNOWN, "an app that is known", "delete it, and start it anew")?;
    let selectors = [selector.to_owned()];
    talk(async {
        if options.update_env {
            let of = resolve(client, selector).await?;
            let specs = client.specs(of.parts().0).await.map_err(failed_call)?;
            let mut changed: Vec<AppSpec> = specs.apps.into_iter().map(|app| app.spec).collect();
            for spec in &mut changed {
                spec.env = update::overlaid(std::mem::take(&mut spec.env))?;
            }
            return update::renew_by(client, Verb::Restart, changed).await;
        }
        let verb = if persona::is_pm2() { Verb::Restart } else { Verb::Start };
        changes::each_of(client, verb, &selectors).await
    })
}

fn start_script(options: &StartOptions, what: What<'_>, hint: &str) -> Ending<ExitStatus> {
    let mut job = prepare_script(&options.what, what, hint)?;
    job.spec.autostart = !options.no_autostart;
    furnish(&mut job.spec, &options.keep, options.what.app.instances.is_some())?;
    let jobs = [job];
    tell_doubts(&jobs);
    let [Job { spec, .. }] = jobs;
    let client = started()?;
    talk(start_new(&client, spec, options.force))
}

/// What a script comes to.
pub(super) fn prepare_script(options: &WhatOptions, what: What<'_>, hint: &str) -> Ending<Job> {
    if !options.only.is_empty() {
        return Err(refuse("--only goes with a file of apps"));
    }
    let surroundings = files::surroundings()?;
    let variables: Vec<Variable> = options.env.iter().map(variable).collect::<Ending<_>>()?;
    let mut wish = options.app.wish(what, &variables);
    if surroundings.as_pm2 && options.app.instances.is_none() {
        wish.fork_as_pm2();
    }
    let job = wish.prepare(&surroundings);
    job.map_err(|error| refuse(&format!("{error}{hint}")))
}

fn variable(choice: &EnvChoice) -> Ending<Variable> {
    match choice {
        EnvChoice::Variable(variable) => Ok(variable.clone()),
        EnvChoice::Name(name) => Err(refuse(&format!("--env {name}: a script takes K=V, a file a name"))),
    }
}

/// What the daemon is to do for an app beside keeping it running.
fn furnish(spec: &mut AppSpec, keep: &KeepOptions, has_instances: bool) -> Ending<()> {
    let home = home()?;
    if persona::is_pm2() {
        // One file for each worker, unless there is only ever one.
        spec.upkeep.logs.per_slot = has_instances && !keep.merge_logs;
        let pid_file = home.folder().join("pids").join(format!("{}.pid", file_stem(&spec.name)));
        spec.upkeep.pid_file = Some(pid_file.to_string_lossy().into_owned());
    }
    update::put_upkeep(spec, keep, &home)
}

/// Starts a new app; one of its name that has come to nothing is started anew.
async fn start_new(client: &Client, mut spec: AppSpec, force: bool) -> Ending<ExitStatus> {
    let apps = match client.apps().await {
        Ok(herd) => herd.apps,
        Err(ClientError::NotRunning { .. }) => Vec::new(),
        Err(error) => return Err(failed_call(error)),
    };
    let Some(other) = apps.iter().find(|app| app.name == spec.name) else {
        return update::renew_by(client, Verb::Start, vec![spec]).await;
    };
    if force {
        let is_free = |name: &String| apps.iter().all(|app| app.name != *name);
        let names = (1..OTHERS_MAX).map(|number| format!("{}-{number}", spec.name));
        spec.name = names.into_iter().find(is_free).unwrap_or(spec.name);
        return update::renew_by(client, Verb::Start, vec![spec]).await;
    }
    if is_idle(other) && is_same_script(other, &spec) {
        return update::renew_by(client, Verb::Restart, vec![spec]).await;
    }
    if persona::is_pm2() {
        complain(&format!(
            "Script already launched: `{0}` runs; `pm2 reload {0}` replaces its workers, and -f starts another",
            spec.name
        ));
        return Err(ExitStatus::Failure);
    }
    // The daemon says what else can be done.
    client.start_all(vec![spec]).await.map(|_| ExitStatus::Success).map_err(failed_call)
}

fn is_idle(app: &AppView) -> bool {
    let ended = |status| matches!(status, Status::Stopped | Status::Errored);
    !app.up || app.slots.iter().all(|slot| ended(slot.status))
}

fn is_same_script(app: &AppView, spec: &AppSpec) -> bool {
    match app.about.script.as_str() {
        "" => app.command.iter().skip(1).eq(&spec.args),
        script => script == spec.upkeep.about.script,
    }
}

/// Goes on with what workers write.
fn attach(options: &StartOptions) -> ExitStatus {
    follow_logs(options.what.app.name.as_deref())
}
