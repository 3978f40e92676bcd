//! `oxherd apply`: what runs becomes what a file says.

use std::io;

use oxherd::client::{Client, ClientError};
use oxherd_config::{Deed, Running, Step, plan};
use oxherd_engine::core::AppSpec;

use crate::commands::change::{Asked, all_of, follow_each};
use crate::commands::daemon::{Ending, failed_call, known, started, status_of, talk};
use crate::commands::files;
use crate::exit::ExitStatus;
use crate::options::ApplyOptions;
use crate::view::form::Form;
use crate::view::progress::Verb;
use crate::view::steps;
use crate::voice::print;

pub(super) fn run(options: &ApplyOptions) -> ExitStatus {
    status_of(apply(options))
}

fn apply(options: &ApplyOptions) -> Ending<ExitStatus> {
    let jobs = files::prepare(&options.file, &options.choice)?;
    files::tell_doubts(&jobs);
    let wanted: Vec<AppSpec> = jobs.into_iter().map(|job| job.spec).collect();
    let client = if options.dry_run { known()? } else { started()? };
    talk(async {
        let running = running(&client, options.dry_run).await?;
        let steps = plan(&running, &wanted, options.prune);
        print(&steps::told(&steps, Form::of(&io::stdout())));
        if options.dry_run || steps.iter().all(|step| step.deed == Deed::Nothing) {
            return Ok(ExitStatus::Success);
        }
        carry_out(&client, steps).await
    })
}

/// All apps as they are. For a dry run there may be no daemon.
async fn running(client: &Client, is_dry: bool) -> Ending<Vec<Running>> {
    let herd = match client.apps().await {
        Err(ClientError::NotRunning { .. }) if is_dry => return Ok(Vec::new()),
        herd => herd.map_err(failed_call)?,
    };
    if herd.apps.is_empty() {
        return Ok(Vec::new());
    }
    let specs = client.specs("all").await.map_err(failed_call)?.apps;
    let running = specs.into_iter().filter_map(|view| {
        let app = herd.apps.iter().find(|app| app.app == view.app)?;
        Some(Running { spec: view.spec, instances: app.instances, up: app.up })
    });
    Ok(running.collect())
}

/// What ends comes first, so that what starts finds its ports free.
async fn carry_out(client: &Client, steps: Vec<Step>) -> Ending<ExitStatus> {
    let ends = |step: &&Step| matches!(step.deed, Deed::Delete | Deed::Restart(_));
    if steps.iter().any(|step| ends(&step)) {
        let ask = async {
            let mut all = Asked::new();
            for step in steps.iter().filter(ends) {
                all.extend(all_of(Verb::Delete, client.delete(&step.name).await?));
            }
            Ok(all)
        };
        match follow_each(client, ask).await? {
            ExitStatus::Success => {}
            failed => return Ok(failed),
        }
    }
    if steps.iter().all(|step| matches!(step.deed, Deed::Delete | Deed::Nothing)) {
        return Ok(ExitStatus::Success);
    }
    let mut refused = None;
    let ask = async {
        let (all, refusal) = ask_for(client, steps).await?;
        refused = refusal;
        Ok(all)
    };
    let status = follow_each(client, ask).await?;
    Ok(refused.filter(|_| status == ExitStatus::Success).unwrap_or(status))
}

/// Asks for everything that is left. What is refused is told, and does not hinder the others.
async fn ask_for(client: &Client, steps: Vec<Step>) -> Result<(Asked, Option<ExitStatus>), ClientError> {
    let (mut all, mut fresh, mut refused) = (Asked::new(), Vec::new(), None);
    for Step { name, deed, spec, .. } in steps {
        let spec = spec.map(|spec| *spec);
        let (verb, accepted) = match deed {
            Deed::Start | Deed::Restart(_) => {
                fresh.extend(spec);
                continue;
            }
            Deed::Delete | Deed::Nothing => continue,
            Deed::StartAgain => (Verb::Start, client.start(&name).await),
            Deed::Reload => (Verb::Reload, client.reload(&name, spec).await),
            Deed::Scale(instances) => (Verb::Scale, client.scale(&name, instances).await),
        };
        match accepted {
            Ok(accepted) => all.extend(all_of(verb, accepted)),
            Err(error @ ClientError::Refused { .. }) => refused = Some(failed_call(error)),
            Err(error) => return Err(error),
        }
    }
    if !fresh.is_empty() {
        match client.start_all(fresh).await {
            Ok(accepted) => all.extend(all_of(Verb::Start, accepted)),
            Err(error @ ClientError::Refused { .. }) => refused = Some(failed_call(error)),
            Err(error) => return Err(error),
        }
    }
    Ok((all, refused.map(|_| ExitStatus::Failure)))
}
