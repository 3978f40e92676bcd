//! Steps of a plan, carried out: what is not wanted ends first, then all else is asked for in one go.
//!
//! The daemon carries each step through by itself, so that nobody stays stopped when the command dies in between.

use oxherd::api::{Accepted, AppView, SlotView};
use oxherd::client::{Client, ClientError};
use oxherd_config::{Deed, GivenUp, Running, Step};
use oxherd_engine::core::{AppSpec, Limits, Status};

use crate::commands::change::{Asked, Part, all_of, follow_each, follow_part};
use crate::commands::daemon::{Ending, failed_call};
use crate::exit::ExitStatus;
use crate::view::progress::Verb;
use crate::voice::complain;

/// All apps as they are. Without a daemon there are none, if `is_dry`.
pub(super) async fn running(client: &Client, is_dry: bool) -> Ending<Vec<Running>> {
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
        let given_up = given_up(app);
        Some(Running { spec: view.spec, instances: app.instances, up: app.up, given_up })
    });
    Ok(running.collect())
}

fn given_up(app: &AppView) -> GivenUp {
    let is_empty = |slot: &SlotView| matches!(slot.status, Status::Errored | Status::Stopped);
    match app.slots.iter().any(|slot| slot.status == Status::Errored) {
        false => GivenUp::None,
        true if app.slots.iter().all(is_empty) => GivenUp::All,
        true => GivenUp::Some,
    }
}

/// Does it, and follows it to its end. What the daemon refuses is told, and does not hinder the others.
pub(super) async fn carry_out(client: &Client, steps: Vec<Step>) -> Ending<ExitStatus> {
    check(&steps)?;
    let (ending, going_on): (Vec<Step>, Vec<Step>) = steps
        .into_iter()
        .filter(|step| step.deed != Deed::Nothing)
        .partition(|step| step.deed == Deed::Delete);
    if !ending.is_empty() {
        let part = Part::last_if(going_on.is_empty());
        let status = follow_part(client, part, delete(client, &ending)).await?;
        if status != ExitStatus::Success {
            return Ok(status);
        }
    }
    if going_on.is_empty() {
        return Ok(ExitStatus::Success);
    }
    ask_and_follow(client, going_on).await
}

/// What the daemon would refuse is found before anything ends.
fn check(steps: &[Step]) -> Ending<()> {
    for Step { name, spec, .. } in steps {
        if let Some(Err(error)) = spec.as_ref().map(|spec| spec.check(Limits::default())) {
            complain(&format!("{name}: {error}; nothing has changed"));
            return Err(ExitStatus::Failure);
        }
    }
    Ok(())
}

async fn delete(client: &Client, ending: &[Step]) -> Result<Asked, ClientError> {
    let mut all = Asked::new();
    for step in ending {
        all.extend(all_of(Verb::Delete, client.delete(&step.name).await?));
    }
    Ok(all)
}

async fn ask_and_follow(client: &Client, steps: Vec<Step>) -> Ending<ExitStatus> {
    let mut refused = None;
    let ask = async {
        let (all, refusal) = ask_for(client, steps).await?;
        refused = refusal;
        Ok(all)
    };
    let status = follow_each(client, ask).await?;
    Ok(refused.filter(|_| status == ExitStatus::Success).unwrap_or(status))
}

async fn ask_for(client: &Client, steps: Vec<Step>) -> Result<(Asked, Option<ExitStatus>), ClientError> {
    let (mut all, mut fresh, mut refused) = (Asked::new(), Vec::<AppSpec>::new(), None);
    let mut take = |verb, answer: Result<Accepted, ClientError>| {
        match answer {
            Ok(accepted) => all.extend(all_of(verb, accepted)),
            Err(error @ ClientError::Refused { .. }) => refused = Some(failed_call(error)),
            Err(error) => return Err(error),
        }
        Ok(())
    };
    for Step { name, deed, spec, .. } in steps {
        match (deed, spec.map(|spec| *spec)) {
            (Deed::Start, spec) => fresh.extend(spec),
            (Deed::Delete | Deed::Nothing, _) => {}
            (Deed::StartAgain, _) => take(Verb::Start, client.start(&name).await)?,
            (Deed::Scale(instances), _) => take(Verb::Scale, client.scale(&name, instances).await)?,
            (Deed::Reload, spec) => take(Verb::Reload, client.reload(&name, spec).await)?,
            (Deed::Restart(_), None) => take(Verb::Restart, client.restart(&name).await)?,
            (Deed::Restart(_), Some(spec)) => take(Verb::Restart, client.restart_by(&name, spec).await)?,
            (Deed::StartBy, Some(spec)) => take(Verb::Start, client.restart_by(&name, spec).await)?,
            (Deed::Adjust, Some(spec)) => take(Verb::Adjust, client.adjust(&name, spec).await)?,
            // Both bring a configuration.
            (Deed::StartBy | Deed::Adjust, None) => {}
        }
    }
    if !fresh.is_empty() {
        take(Verb::Start, client.start_all(fresh).await)?;
    }
    Ok((all, refused))
}
