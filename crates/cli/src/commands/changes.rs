//! `stop`, `restart`, `reload`, `delete`, `scale`, `resurrect`: wishes, followed to their end.

use oxherd::api::{Accepted, AppView};
use oxherd::client::{Client, ClientError};

use crate::commands::change::{Asked, all_of, follow, follow_each};
use crate::commands::daemon::{Ending, ask, failed_call, known, started, status_of, talk};
use crate::commands::files::{self, is_file};
use crate::commands::select::{Of, resolve, whole_apps};
use crate::commands::update;
use crate::exit::ExitStatus;
use crate::options::{FileChoice, FileOptions, RenewOptions, ScaleOptions, Selectors, Target};
use crate::view::progress::Verb;
use crate::view::words::count;
use crate::voice::complain;

/// What is said of one worker.
pub(super) fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Start | Verb::Resurrect => "start",
        Verb::Stop => "stop",
        Verb::Restart => "restart",
        Verb::Reload | Verb::Recycle => "reload",
        Verb::Delete => "delete",
        Verb::Adjust => "adjust",
        Verb::Scale => "scale",
    }
}

/// `stop` and `delete`.
pub(super) fn each(verb: Verb, of: &Selectors) -> ExitStatus {
    status_of(
        expand(&of.apps).and_then(|apps| known().and_then(|client| talk(each_of(&client, verb, &apps)))),
    )
}

/// Files stand for the apps in them.
fn expand(selectors: &[String]) -> Ending<Vec<String>> {
    let mut apps = Vec::new();
    for selector in selectors {
        match is_file(selector) {
            true => apps.extend(files::names(selector, &FileChoice::default())?),
            false => apps.push(selector.clone()),
        }
    }
    Ok(apps)
}

/// `restart` and `reload`.
pub(super) fn renew(verb: Verb, options: &RenewOptions) -> ExitStatus {
    status_of(renew_all(verb, options))
}

fn renew_all(verb: Verb, options: &RenewOptions) -> Ending<ExitStatus> {
    let (files, apps): (Vec<String>, Vec<String>) =
        options.of.apps.iter().cloned().partition(|selector| is_file(selector));
    if files.is_empty() && (options.file.env.is_some() || !options.file.only.is_empty()) {
        complain("--env NAME and --only go with a file; --update-env takes the variables of the caller");
        return Err(ExitStatus::Usage);
    }
    if !files.is_empty() && !options.of.args.is_empty() {
        complain("arguments after `--` go with an app that is known; a file has `args` for them");
        return Err(ExitStatus::Usage);
    }
    if let (false, Some(option)) = (files.is_empty(), options.changing_option()) {
        complain(&format!(
            "not offered: {option} with a file of apps: write it into the file; see docs/from-pm2.md"
        ));
        return Err(ExitStatus::Failure);
    }
    let mut status = ExitStatus::Success;
    for file in &files {
        let jobs = files::prepare(file, &options.file)?;
        let client = started()?;
        let ended = talk(files::renew(&client, verb, jobs))?;
        status = if status == ExitStatus::Success { ended } else { status };
    }
    if apps.is_empty() {
        return Ok(status);
    }
    let client = known()?;
    let ended = talk(async {
        match options.has_changes() {
            true => update::renew(&client, verb, &apps, options).await,
            false => each_of(&client, verb, &apps).await,
        }
    })?;
    Ok(if status == ExitStatus::Success { ended } else { status })
}

/// `startOrRestart` and `startOrReload`.
pub(super) fn renew_file(verb: Verb, options: &FileOptions) -> ExitStatus {
    let renew = || {
        let jobs = files::prepare(&options.file, &options.choice)?;
        let client = started()?;
        talk(files::renew(&client, verb, jobs))
    };
    status_of(renew())
}

/// All are asked for before any is waited on: from then on the daemon needs nobody. What is refused is told, and does
/// not hinder the others.
pub(super) async fn each_of(client: &Client, verb: Verb, selectors: &[String]) -> Ending<ExitStatus> {
    let mut targets = Vec::new();
    for selector in selectors {
        let of = resolve(client, selector).await?;
        if !matches!(verb, Verb::Restart | Verb::Reload) {
            whole_apps(&of, word(verb))?;
        }
        targets.push(of);
    }
    let mut refused = None;
    let ask = async {
        let mut all = Asked::new();
        for (left, of) in (0..targets.len()).rev().zip(&targets) {
            match ask_one(client, verb, of).await {
                Ok(asked) => all.extend(asked),
                Err(error @ ClientError::Refused { .. }) if left > 0 || !all.is_empty() => {
                    refused = Some(failed_call(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    };
    let status = follow_each(client, ask).await?;
    Ok(refused.filter(|_| status == ExitStatus::Success).unwrap_or(status))
}

async fn ask_one(client: &Client, verb: Verb, of: &Of) -> Result<Asked, ClientError> {
    let selector = match of {
        Of::Worker { app, slot, .. } => {
            return client.recycle(app, *slot).await.map(|accepted| all_of(Verb::Recycle, accepted));
        }
        Of::Apps(selector) => selector,
    };
    let accepted = match verb {
        Verb::Start | Verb::Resurrect => client.start(selector).await,
        Verb::Stop => client.stop(selector).await,
        Verb::Restart => client.restart(selector).await,
        Verb::Reload | Verb::Recycle | Verb::Adjust | Verb::Scale => client.reload(selector, None).await,
        Verb::Delete => client.delete(selector).await,
    };
    accepted.map(|accepted| all_of(verb, accepted))
}

pub(super) fn scale(options: &ScaleOptions) -> ExitStatus {
    status_of(scale_named(options))
}

fn scale_named(options: &ScaleOptions) -> Ending<ExitStatus> {
    let names = expand(std::slice::from_ref(&options.app))?;
    let client = known()?;
    talk(scale_to(&client, &names, options.instances))
}

async fn scale_to(client: &Client, names: &[String], target: Target) -> Ending<ExitStatus> {
    let mut apps = Vec::new();
    for name in names {
        let (name, _) = match resolve(client, name).await? {
            Of::Apps(name) => (name, None),
            // Of one worker it is the app that has a number of them.
            Of::Worker { app, slot, .. } => (app, Some(slot)),
        };
        let herd = client.some_apps(&name).await.map_err(failed_call)?;
        let many = herd.apps.len() > 1;
        apps.extend(herd.apps.into_iter().filter(|app| app.up || !many));
    }
    let targets: Vec<u32> = apps.iter().map(|app| slots_of(app, target)).collect::<Ending<_>>()?;
    let ask = async {
        let mut all = Accepted { changes: Vec::new() };
        for (app, instances) in apps.iter().zip(targets) {
            all.changes.extend(client.scale(&app.name, instances).await?.changes);
        }
        Ok(all)
    };
    follow(client, Verb::Scale, ask).await
}

/// How many slots the app is to have.
fn slots_of(app: &AppView, target: Target) -> Ending<u32> {
    let instances = match target {
        Target::Exactly(number) => Some(number),
        Target::More(more) => app.instances.checked_add(more),
        Target::Fewer(fewer) => app.instances.checked_sub(fewer),
    };
    instances.filter(|number| *number > 0).ok_or_else(|| {
        complain(&format!(
            "{} has {}: at least 1 must be left",
            app.name,
            count(app.instances, "slot", "slots")
        ));
        ExitStatus::Usage
    })
}

pub(super) fn resurrect() -> ExitStatus {
    ask(started(), async |client| follow(&client, Verb::Resurrect, client.resurrect()).await)
}
