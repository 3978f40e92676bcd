//! `oxherd export kubernetes`: Deployments of apps that are in a file, or known to the daemon.

use std::path::Path;

use oxherd_engine::core::AppSpec;

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::commands::files::{self, is_file, refuse, tell_doubts};
use crate::exit::ExitStatus;
use crate::options::{Export, ExportOptions, KubernetesOptions};
use crate::view::flags::flags;
use crate::view::kubernetes::{Choices, FileInImage, Member, deployments, port};
use crate::voice::{doubt, print};

pub(super) fn run(options: &ExportOptions) -> ExitStatus {
    match &options.what {
        Export::Kubernetes(options) => status_of(kubernetes(options)),
    }
}

fn kubernetes(options: &KubernetesOptions) -> Ending<ExitStatus> {
    let mut members = Vec::new();
    for word in &options.of {
        members.extend(match is_file(word) {
            true => of_file(word, options)?,
            false => of_daemon(word)?,
        });
    }
    let choices =
        Choices { image: options.image.clone(), port: options.port, probe_port: options.probe_port };
    for Member { spec, file } in &members {
        if port(spec, &choices) == Some(choices.probe_port) {
            let (name, port) = (&spec.name, choices.probe_port);
            return Err(refuse(&format!(
                "{name} serves at port {port}, which is the probes': give these another with --probe-port"
            )));
        }
        match file {
            Some(file) if !file.is_alone && spec.name.contains(',') => {
                return Err(refuse(&format!(
                    "`{}` cannot be chosen from its file, where a comma separates names: give it another name",
                    spec.name
                )));
            }
            Some(_) => {}
            None => tell_left_out(spec),
        }
    }
    print(&deployments(&members, &choices));
    Ok(ExitStatus::Success)
}

fn of_file(word: &str, options: &KubernetesOptions) -> Ending<Vec<Member>> {
    let jobs = files::prepare(word, &options.choice)?;
    tell_doubts(&jobs);
    let is_alone = jobs.len() == 1 && options.choice.only.is_empty();
    Ok(jobs.into_iter().map(|job| member(job.spec, is_alone)).collect())
}

fn of_daemon(selector: &str) -> Ending<Vec<Member>> {
    let client = known()?;
    let (specs, herd) = talk(async {
        let specs = client.specs(selector).await.map_err(failed_call)?;
        Ok((specs.apps, client.apps().await.map_err(failed_call)?.apps))
    })?;
    let members = specs.into_iter().map(|mut view| {
        let app = herd.iter().find(|app| app.app == view.app);
        put_instances(&mut view.spec, app.map(|app| app.instances));
        member(view.spec, false)
    });
    Ok(members.collect())
}

/// As many as the app was scaled to, which its file says nothing of.
fn put_instances(spec: &mut AppSpec, now: Option<u32>) {
    let Some(now) = now.filter(|now| *now != spec.instances && spec.scaling.is_none()) else { return };
    match &spec.upkeep.about.file {
        Some(file) => doubt(&format!(
            "{}: was scaled from {} to {now}, and is run as its file says: change `instances` in {file}",
            spec.name, spec.instances
        )),
        None => spec.instances = now,
    }
}

/// The image has the file where it is from here: its folder of work stands for this one.
fn member(spec: AppSpec, is_alone: bool) -> Member {
    let about = &spec.upkeep.about;
    let here = std::env::current_dir().unwrap_or_default();
    let file = about.file.as_ref().map(|path| {
        let path = Path::new(path).strip_prefix(&here).unwrap_or(Path::new(path));
        FileInImage { path: path.to_string_lossy().into_owned(), env: about.env_name.clone(), is_alone }
    });
    Member { spec, file }
}

fn tell_left_out(spec: &AppSpec) {
    let left_out = flags(spec).left_out;
    if !left_out.is_empty() {
        doubt(&format!(
            "{}: left out, since no option of `oxherd runtime` says it: {}; write the app into a file that the image has",
            spec.name,
            left_out.join(", ")
        ));
    }
}
