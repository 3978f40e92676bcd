//! The test runs that need more than `cargo test`: end to end, as another user, and wide seeds.
//!
//! Tests learn where things are from the environment at run time, never from paths baked in at compile
//! time, so that the same test program runs in the work tree and from a `Stage`:
//! `OXHERD_BIN` (the program), `OXHERD_BIN_OTHER` (another build of it, for upgrades), `OXHERD_EXAMPLES` (the folder
//! of the example programs), `OXHERD_TOOLS` (the tools folder), `CARGO_MANIFEST_DIR` (the package's folder with its
//! fixtures) and `CARGO_BIN_EXE_<name>` (helper programs of the package).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ci::Session;
use crate::run::{bounded, capture, cargo, run_counted};
use crate::stage::{NOBODY, Stage};
use crate::workspace::Workspace;
use crate::{Outcome, tools};

pub(crate) const E2E: &str = "oxherd-e2e";
const OS: &str = "oxherd-os";
const CLI: &str = "oxherd-cli";
const EXAMPLES: &str = "oxherd-examples";
const SOAK_SEEDS: &str = "200000";

/// A program that cargo built.
struct Built {
    name: String,
    path: PathBuf,
    is_test: bool,
}

/// End-to-end tests as whoever runs this.
pub(crate) fn e2e(session: &mut Session) -> Outcome {
    let tools = tools::install_all(&session.workspace)?;
    let mut command = cargo();
    command.args(["test", "--package", E2E, "--no-fail-fast", "--"]).args(&session.extra);
    let (bin, other) = oxherd_bins(session)?;
    command.env("OXHERD_BIN", bin).env("OXHERD_BIN_OTHER", other).env("OXHERD_TOOLS", tools);
    build_examples()?;
    run_counted(&mut command, &mut session.tally)
}

/// End-to-end tests as nobody, from a stage.
pub(crate) fn e2e_unprivileged(session: &mut Session) -> Outcome {
    if !can_become_nobody()? {
        return Ok(());
    }
    let tools = tools::install_all(&session.workspace)?;
    let stage = Stage::new()?;
    let (bin, other) = oxherd_bins(session)?;
    let bin = stage.add(&bin, "bin/oxherd")?;
    let other = stage.add(&other, "bin/oxherd-other")?;
    let tools = stage.add(&tools, "tools")?;
    for example in build_examples()? {
        stage.add(&example.path, Path::new("examples").join(&example.name))?;
    }
    let examples = stage.path("examples");
    let env = [
        ("OXHERD_BIN", bin),
        ("OXHERD_BIN_OTHER", other),
        ("OXHERD_EXAMPLES", examples),
        ("OXHERD_TOOLS", tools),
    ];
    run_staged(session, &stage, E2E, &env)
}

/// The os crate's tests as nobody, from a stage.
pub(crate) fn os_unprivileged(session: &mut Session) -> Outcome {
    if !can_become_nobody()? {
        return Ok(());
    }
    let stage = Stage::new()?;
    run_staged(session, &stage, OS, &[])
}

/// Many more seeds than CI tries, optimised but with the invariants' assertions on.
pub(crate) fn soak(session: &mut Session) -> Outcome {
    let seeds = session.extra.first().map_or(SOAK_SEEDS, String::as_str);
    if seeds.parse::<u64>().is_err() {
        return Err(format!("'{seeds}' is not a number of seeds"));
    }
    let mut command = cargo();
    command.args(["test", "--package", "oxherd-sim", "--package", "oxherd-wire", "--no-fail-fast"]);
    command.arg("--target-dir").arg(session.workspace.target.join("soak"));
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    command.env("OXHERD_SIM_SEEDS", seeds).env("OXHERD_WIRE_SEEDS", seeds);
    run_counted(&mut command, &mut session.tally)
}

/// Runs the tests of `package` from `stage` as nobody; a failing program does not keep the next from
/// running.
fn run_staged(session: &mut Session, stage: &Stage, package: &str, env: &[(&str, PathBuf)]) -> Outcome {
    let built = build_tests(package)?;
    let package_dir = stage_sources(session, stage, package)?;
    let mut failed = Vec::new();
    let mut env: Vec<(String, PathBuf)> =
        env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for helper in built.iter().filter(|built| !built.is_test) {
        let place = stage.add(&helper.path, Path::new("bin").join(&helper.name))?;
        env.push((format!("CARGO_BIN_EXE_{}", helper.name), place));
    }
    for test in built.iter().filter(|built| built.is_test) {
        let file_name = test.path.file_name().ok_or("a test program without a name")?;
        let program = stage.add(&test.path, Path::new("tests").join(file_name))?;
        let mut command = as_nobody(stage, &program);
        command.args(&session.extra).current_dir(&package_dir).env("CARGO_MANIFEST_DIR", &package_dir);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        if run_counted(&mut command, &mut session.tally).is_err() {
            failed.push(test.name.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("tests failed unprivileged: {}", failed.join(", "))) }
}

/// Copies the package's folder and the examples, and gives back where the package is now.
fn stage_sources(session: &Session, stage: &Stage, package: &str) -> Outcome<PathBuf> {
    let workspace = &session.workspace;
    let package_dir = workspace.package_dir(package)?;
    let repo = Path::new("repo");
    for file in workspace.files()? {
        if file.starts_with(package_dir) || file.starts_with("examples") {
            stage.add(&workspace.root.join(&file), repo.join(&file))?;
        }
    }
    Ok(stage.path(repo.join(package_dir)))
}

/// `program` as nobody, with a small environment in which nothing points at the work tree.
fn as_nobody(stage: &Stage, program: &Path) -> Command {
    let id = NOBODY.to_string();
    let mut command = bounded("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program).env_clear();
    let kept = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        matches!(&*name, "PATH" | "LANG" | "CI" | "RUST_BACKTRACE" | "RUST_TEST_THREADS")
            || name.starts_with("OXHERD_")
    });
    command.envs(kept);
    command.env("HOME", stage.home()).env("TMPDIR", stage.tmp()).env("USER", "nobody");
    command.env("INSTA_WORKSPACE_ROOT", stage.path("repo"));
    command
}

/// False, with a line that says so, when we are not root; an error when root lacks `setpriv`.
fn can_become_nobody() -> Outcome<bool> {
    if capture(Command::new("id").arg("-u"))?.trim() != "0" {
        println!("skipped: only root can become nobody");
        return Ok(false);
    }
    let found = Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    found.map(|_| true).map_err(|error| format!("cannot run setpriv (Debian's util-linux has it): {error}"))
}

/// The program under test and another build of it: those that `OXHERD_BIN` and `OXHERD_BIN_OTHER` name, or fresh ones.
fn oxherd_bins(session: &mut Session) -> Outcome<(PathBuf, PathBuf)> {
    if let Some(bins) = &session.bins {
        return Ok(bins.clone());
    }
    let other = match named("OXHERD_BIN_OTHER")? {
        Some(path) => path,
        None => other_build(&session.workspace)?,
    };
    // This one comes second: cargo leaves the last build at the program's usual place.
    let bin = match named("OXHERD_BIN")? {
        Some(path) => path,
        None => build_oxherd(None)?,
    };
    Ok(session.bins.insert((bin, other)).clone())
}

fn named(variable: &str) -> Outcome<Option<PathBuf>> {
    let path = std::env::var_os(variable).map(std::path::absolute).transpose();
    path.map_err(|error| format!("{variable}: {error}"))
}

/// A build that says another version, in a place of its own. Only the command itself is compiled for it.
fn other_build(workspace: &Workspace) -> Outcome<PathBuf> {
    let built = build_oxherd(Some("other"))?;
    let folder = workspace.target.join("other");
    let (path, partial) = (folder.join("oxherd"), folder.join("oxherd.partial"));
    let place = fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(&built, &partial))
        .and_then(|_| fs::rename(&partial, &path));
    place.map_err(|error| format!("cannot copy {} to {}: {error}", built.display(), path.display()))?;
    Ok(path)
}

fn build_oxherd(build: Option<&str>) -> Outcome<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", CLI, "--bin", "oxherd", "--message-format=json-render-diagnostics"]);
    command.envs(build.map(|build| ("OXHERD_BUILD", build)));
    let built = programs_in(&capture(&mut command)?);
    let program = built.into_iter().find(|built| built.name == "oxherd");
    program.map(|built| built.path).ok_or_else(|| "cargo built no oxherd".to_owned())
}

/// The example programs, built where the tests look for them.
fn build_examples() -> Outcome<Vec<Built>> {
    let mut command = cargo();
    command.args(["build", "--package", EXAMPLES, "--examples", "--message-format=json-render-diagnostics"]);
    let built = programs_in(&capture(&mut command)?);
    if built.is_empty() { Err("cargo built no examples".to_owned()) } else { Ok(built) }
}

fn build_tests(package: &str) -> Outcome<Vec<Built>> {
    let mut command = cargo();
    command.args(["test", "--package", package, "--no-run", "--message-format=json-render-diagnostics"]);
    let built = programs_in(&capture(&mut command)?);
    if built.iter().any(|built| built.is_test) { Ok(built) } else { Err(format!("{package} has no tests")) }
}

/// The executables among cargo's messages, one JSON object a line.
fn programs_in(messages: &str) -> Vec<Built> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed
        .filter_map(|message| {
            Some(Built {
                path: PathBuf::from(message["executable"].as_str()?),
                name: message["target"]["name"].as_str()?.to_owned(),
                is_test: message["profile"]["test"].as_bool()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"dep"},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"spawn"},"profile":{"test":true},"executable":"/t/spawn-1"}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let built = programs_in(messages);
        assert_eq!(built.len(), 1);
        assert_eq!((built[0].name.as_str(), built[0].is_test), ("spawn", true));
    }
}
