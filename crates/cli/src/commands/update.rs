//! Apps that are known already, with another configuration: the caller's variables, or another batch.

use oxherd::client::Client;
use oxherd_config::{Surroundings, environment, renewal};
use oxherd_daemon::home::Home;
use oxherd_engine::core::AppSpec;

use crate::commands::carry::{carry_out, running};
use crate::commands::changes::word;
use crate::commands::daemon::{Ending, fail, failed_call, home};
use crate::commands::files::surroundings;
use crate::commands::select::{resolve, whole_apps};
use crate::exit::ExitStatus;
use crate::options::{KeepOptions, Places, RenewOptions};
use crate::view::progress::Verb;
use crate::voice::complain;

/// Restarts or reloads the apps with what the options change.
pub(super) async fn renew(
    client: &Client,
    verb: Verb,
    selectors: &[String],
    options: &RenewOptions,
) -> Ending<ExitStatus> {
    let mut specs = Vec::new();
    for selector in selectors {
        let selector = whole_apps(&resolve(client, selector).await?, word(verb))?;
        specs.extend(client.specs(&selector).await.map_err(failed_call)?.apps);
    }
    let mut changed = Vec::new();
    for mut view in specs {
        if options.update_env {
            view.spec.env = overlaid(view.spec.env)?;
        }
        if let Some(parallel) = options.parallel {
            view.spec.parallel = parallel;
        }
        if !options.of.args.is_empty() {
            put_args(&mut view.spec, &options.of.args)?;
        }
        if options.changing_option().is_some() {
            put_changes(&mut view.spec, options)?;
        }
        changed.push(view.spec);
    }
    renew_by(client, verb, changed).await
}

/// What the options change of what an app is, and of what the daemon does for it.
fn put_changes(spec: &mut AppSpec, options: &RenewOptions) -> Ending<()> {
    let caller = surroundings()?;
    options.change.put(spec, caller.cpus).map_err(|why| fail(&why, ExitStatus::Usage))?;
    put_upkeep(spec, &options.keep, &home()?)
}

/// What the options change of what the daemon does for an app. Paths are relative to the current folder.
pub(super) fn put_upkeep(spec: &mut AppSpec, keep: &KeepOptions, home: &Home) -> Ending<()> {
    let folder = std::env::current_dir()
        .map_err(|error| fail(&format!("cannot find the current folder: {error}"), ExitStatus::Usage))?;
    let AppSpec { name, cwd, upkeep, .. } = spec;
    keep.put(upkeep, name, Places { folder: &folder, cwd, logs: &home.logs() });
    Ok(())
}

/// Other arguments for the script; what comes before them stays.
fn put_args(spec: &mut AppSpec, args: &[String]) -> Ending<()> {
    let about = &mut spec.upkeep.about;
    let runs_by_itself = matches!(about.interpreter.as_str(), "" | "none");
    let is_line = runs_by_itself && about.args.first().is_some_and(|word| word == "-c");
    if is_line || about.script.is_empty() || !spec.args.ends_with(&about.args) {
        complain(&format!(
            "the arguments of {} are a part of its command: delete it, and start it anew with others",
            spec.name
        ));
        return Err(ExitStatus::Usage);
    }
    spec.args.truncate(spec.args.len() - about.args.len());
    spec.args.extend_from_slice(args);
    about.args = args.to_vec();
    Ok(())
}

/// The caller's variables over those of an app.
pub(super) fn overlaid(env: Vec<(String, String)>) -> Ending<Vec<(String, String)>> {
    let caller = Surroundings::of_caller().map_err(|error| fail(&error, ExitStatus::Usage))?;
    let (caller, _) = environment::compose(caller.environment, &[]);
    let mut env = env;
    for (key, value) in caller.into_iter().filter(|(key, _)| key != "PWD" && key != "OLDPWD") {
        environment::put(&mut env, key, value);
    }
    Ok(env)
}

/// Has the apps of these names run by these configurations, each worker another one; those that are not known are
/// started.
pub(super) async fn renew_by(client: &Client, verb: Verb, specs: Vec<AppSpec>) -> Ending<ExitStatus> {
    let running = running(client, false).await?;
    carry_out(client, renewal(&running, &specs, verb == Verb::Restart)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(interpreter: &str, args: &[&str], own: &[&str]) -> AppSpec {
        let mut spec = AppSpec::new("web", "/usr/bin/node");
        spec.args = args.iter().map(|word| (*word).to_owned()).collect();
        let about = &mut spec.upkeep.about;
        (about.script, about.interpreter) = ("/a.js".into(), interpreter.into());
        about.args = own.iter().map(|word| (*word).to_owned()).collect();
        spec
    }

    #[test]
    fn new_arguments_take_the_place_of_the_old() {
        let new = ["--newarg".to_owned()];
        let mut web = spec("node", &["--inspect", "/a.js", "1", "2"], &["1", "2"]);
        assert_eq!(put_args(&mut web, &new), Ok(()));
        assert_eq!(
            (web.args.join(" ").as_str(), &web.upkeep.about.args[..]),
            ("--inspect /a.js --newarg", &new[..])
        );
        let mut line = spec("none", &["-c", "echo hi"], &["-c", "echo hi"]);
        assert_eq!(put_args(&mut line, &new), Err(ExitStatus::Usage));
    }
}
