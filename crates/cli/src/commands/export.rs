//! `oxherd export kubernetes`: Deployments of apps that are in a file, or known to the daemon.

use oxherd_engine::core::AppSpec;

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::commands::files::{self, is_file, tell_doubts};
use crate::exit::ExitStatus;
use crate::options::{Export, ExportOptions, KubernetesOptions};
use crate::view::kubernetes::{Choices, deployments};
use crate::voice::print;

pub(super) fn run(options: &ExportOptions) -> ExitStatus {
    match &options.what {
        Export::Kubernetes(options) => status_of(kubernetes(options)),
    }
}

fn kubernetes(options: &KubernetesOptions) -> Ending<ExitStatus> {
    let mut specs = Vec::new();
    for word in &options.of {
        specs.extend(match is_file(word) {
            true => {
                let jobs = files::prepare(word, &options.choice)?;
                tell_doubts(&jobs);
                jobs.into_iter().map(|job| job.spec).collect()
            }
            false => of_daemon(word)?,
        });
    }
    let choices =
        Choices { image: options.image.clone(), port: options.port, probe_port: options.probe_port };
    print(&deployments(&specs, &choices));
    Ok(ExitStatus::Success)
}

fn of_daemon(selector: &str) -> Ending<Vec<AppSpec>> {
    let client = known()?;
    talk(async {
        let specs = client.specs(selector).await.map_err(failed_call)?;
        Ok(specs.apps.into_iter().map(|app| app.spec).collect())
    })
}
