//! Steps of a plan, carried out in an order in which what one app gives up is there for another.
//!
//! Whoever holds ports of its own and goes by another configuration makes way first, with what is not wanted any more; then
//! all that is known is renewed; what is new comes last where others change, for it keeps nobody waiting.

use oxherd::api::Accepted;
use oxherd::client::{Client, ClientError};
use oxherd_config::{Deed, Running, Step};
use oxherd_engine::core::AppSpec;

use crate::commands::change::{Asked, Part, all_of, follow_part};
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
        Some(Running { spec: view.spec, instances: app.instances, up: app.up })
    });
    Ok(running.collect())
}

/// Does it, and follows each part to its end. What is refused is told, and does not hinder the others.
pub(super) async fn carry_out(client: &Client, steps: Vec<Step>) -> Ending<ExitStatus> {
    let (ending, mut renewed, mut fresh) = parts(steps);
    if !ending.is_empty() {
        let is_last = renewed.is_empty() && fresh.is_empty();
        match follow_part(client, Part::last_if(is_last), make_way(client, &ending)).await? {
            ExitStatus::Success => {}
            failed => return Ok(left_alone(failed, &ending)),
        }
    }
    if !renewed.iter().any(Step::starts_others) {
        renewed.append(&mut fresh);
    }
    let mut status = ExitStatus::Success;
    for (steps, part) in [(renewed, Part::last_if(fresh.is_empty())), (fresh, Part::Last)] {
        if steps.is_empty() {
            continue;
        }
        match ask_and_follow(client, steps, part).await? {
            ExitStatus::Interrupted => return Ok(ExitStatus::Interrupted),
            ended if status == ExitStatus::Success => status = ended,
            _ => {}
        }
    }
    Ok(status)
}

/// Who makes way first, what is changed then, and what is new. Who is alone need not make way for anybody.
fn parts(steps: Vec<Step>) -> (Vec<Step>, Vec<Step>, Vec<Step>) {
    let (mut ending, mut renewed, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let is_alone = steps.iter().filter(|step| step.starts_others()).count() < 2;
    for step in steps {
        match step.deed {
            Deed::Nothing => {}
            Deed::Delete => ending.push(step),
            Deed::Start => fresh.push(step),
            Deed::Restart(_) if step.makes_way && !is_alone => {
                ending.push(step.clone());
                renewed.push(step);
            }
            Deed::Restart(_)
            | Deed::StartAgain
            | Deed::StartBy
            | Deed::Reload
            | Deed::Adjust
            | Deed::Scale(_) => renewed.push(step),
        }
    }
    (ending, renewed, fresh)
}

async fn make_way(client: &Client, ending: &[Step]) -> Result<Asked, ClientError> {
    let mut all = Asked::new();
    for step in ending {
        all.extend(match step.deed {
            Deed::Delete => all_of(Verb::Delete, client.delete(&step.name).await?),
            _ => all_of(Verb::Stop, client.stop(&step.name).await?),
        });
    }
    Ok(all)
}

/// Nobody starts those again that have made way.
fn left_alone(status: ExitStatus, ending: &[Step]) -> ExitStatus {
    let stopped: Vec<&str> =
        ending.iter().filter(|step| step.deed != Deed::Delete).map(|step| step.name.as_str()).collect();
    if !stopped.is_empty() {
        complain(&format!(
            "{} made way and is stopped: the same command again starts it",
            stopped.join(", ")
        ));
    }
    status
}

async fn ask_and_follow(client: &Client, steps: Vec<Step>, part: Part) -> Ending<ExitStatus> {
    let mut refused = None;
    let ask = async {
        let (all, refusal) = ask_for(client, steps).await?;
        refused = refusal;
        Ok(all)
    };
    let status = follow_part(client, part, ask).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, deed: Deed, makes_way: bool) -> Step {
        let differences = match deed {
            Deed::Start | Deed::Nothing | Deed::Delete => Vec::new(),
            _ => oxherd_config::differences(&AppSpec::new("a", "x"), &AppSpec::new("a", "y")),
        };
        Step { name: name.into(), deed, differences, spec: None, makes_way }
    }

    fn names(steps: Vec<Step>) -> [String; 3] {
        let (ending, renewed, fresh) = parts(steps);
        [ending, renewed, fresh]
            .map(|part| part.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn who_holds_ports_ends_before_others_start_and_keeps_its_place() {
        let [alone, reload] = [Deed::Restart("alone"), Deed::Reload];
        let steps = vec![step("a", alone, true), step("b", alone, true), step("old", Deed::Delete, true)];
        assert_eq!(names(steps), ["a b old", "a b", ""]);
        assert_eq!(names(vec![step("a", alone, true), step("b", Deed::Adjust, false)]), ["", "a b", ""]);
        let steps = vec![step("a", alone, true), step("new", Deed::Start, false), step("web", reload, false)];
        assert_eq!(names(steps), ["a", "a web", "new"]);
        assert_eq!(names(vec![step("a", alone, false), step("b", Deed::Nothing, false)]), ["", "a", ""]);
    }
}
