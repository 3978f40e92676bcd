//! `stop`, `restart`, `reload`, `delete`, `scale`, `resurrect`: one wish each, followed to its end.

use oxherd::api::{Accepted, AppView};
use oxherd::client::{Client, ClientError};

use crate::commands::change::follow;
use crate::commands::complain;
use crate::commands::daemon::{Ending, failed_call, known, started, status_of, talk};
use crate::exit::ExitStatus;
use crate::options::{ScaleOptions, Selectors, Target};
use crate::view::progress::Verb;
use crate::view::words::count;

pub(super) fn each(verb: Verb, of: &Selectors) -> ExitStatus {
    status_of(known().and_then(|client| talk(each_of(&client, verb, &of.apps))))
}

/// All are asked for before any is waited on: from then on the daemon needs nobody. What is refused is told, and does
/// not hinder the others.
async fn each_of(client: &Client, verb: Verb, selectors: &[String]) -> Ending<ExitStatus> {
    let mut refused = None;
    let ask = async {
        let mut all = Accepted { changes: Vec::new() };
        for (left, selector) in (0..selectors.len()).rev().zip(selectors) {
            let accepted = match verb {
                Verb::Start | Verb::Resurrect => client.start(selector).await,
                Verb::Stop => client.stop(selector).await,
                Verb::Restart => client.restart(selector).await,
                Verb::Reload | Verb::Scale => client.reload(selector, None).await,
                Verb::Delete => client.delete(selector).await,
            };
            match accepted {
                Ok(accepted) => all.changes.extend(accepted.changes),
                Err(error @ ClientError::Refused { .. }) if left > 0 || !all.changes.is_empty() => {
                    refused = Some(failed_call(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    };
    let status = follow(client, verb, ask).await?;
    Ok(refused.filter(|_| status == ExitStatus::Success).unwrap_or(status))
}

pub(super) fn scale(options: &ScaleOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(scale_to(&client, options))))
}

async fn scale_to(client: &Client, options: &ScaleOptions) -> Ending<ExitStatus> {
    let apps = match options.app.as_str() {
        "all" => client.apps().await.map_err(failed_call)?.apps.into_iter().filter(|app| app.up).collect(),
        one => vec![client.app(one).await.map_err(failed_call)?],
    };
    let targets: Vec<u32> = apps.iter().map(|app| slots_of(app, options.instances)).collect::<Ending<_>>()?;
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
    let run = |client: Client| talk(async { follow(&client, Verb::Resurrect, client.resurrect()).await });
    status_of(started().and_then(run))
}
