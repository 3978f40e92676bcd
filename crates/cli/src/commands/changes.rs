//! `stop`, `restart`, `reload`, `delete`, `scale`, `resurrect`: one wish each, followed to its end.

use oxherd::api::Accepted;
use oxherd::client::Client;

use crate::commands::change::follow;
use crate::commands::complain;
use crate::commands::daemon::{Ending, failed_call, known, started, status_of, talk};
use crate::exit::ExitStatus;
use crate::options::{ScaleOptions, Selectors, Target};
use crate::view::progress::Verb;

pub(super) fn each(verb: Verb, of: &Selectors) -> ExitStatus {
    status_of(known().and_then(|client| talk(each_of(&client, verb, &of.apps))))
}

/// All are asked for before any is waited on: from then on the daemon needs nobody.
async fn each_of(client: &Client, verb: Verb, selectors: &[String]) -> Ending<ExitStatus> {
    let ask = async {
        let mut all = Accepted { changes: Vec::new() };
        for selector in selectors {
            let accepted = match verb {
                Verb::Start => client.start(selector).await,
                Verb::Stop => client.stop(selector).await,
                Verb::Restart => client.restart(selector).await,
                Verb::Reload | Verb::Scale => client.reload(selector, None).await,
                Verb::Delete => client.delete(selector).await,
            };
            all.changes.extend(accepted?.changes);
        }
        Ok(all)
    };
    follow(client, verb, ask).await
}

pub(super) fn scale(options: &ScaleOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(scale_to(&client, options))))
}

async fn scale_to(client: &Client, options: &ScaleOptions) -> Ending<ExitStatus> {
    let app = client.app(&options.app).await.map_err(failed_call)?;
    let instances = match options.instances {
        Target::Exactly(number) => Some(number),
        Target::More(more) => app.instances.checked_add(more),
        Target::Fewer(fewer) => app.instances.checked_sub(fewer),
    };
    let Some(instances) = instances.filter(|number| *number > 0) else {
        complain(&format!("{} has {} slots: at least 1 must be left", app.name, app.instances));
        return Err(ExitStatus::Usage);
    };
    follow(client, Verb::Scale, client.scale(&options.app, instances)).await
}

pub(super) fn resurrect() -> ExitStatus {
    let run = |client: Client| talk(async { follow(&client, Verb::Start, client.resurrect()).await });
    status_of(started().and_then(run))
}
