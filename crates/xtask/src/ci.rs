//! The steps of CI, in order, and the report about them.
//!
//! A step says what it did by returning; it never ends the program itself, so that the summary line
//! is always the last one.

use std::path::PathBuf;
use std::time::Instant;

use crate::run::{Tally, capture, cargo, run, run_counted};
use crate::workspace::Workspace;
use crate::{Outcome, suites, tidy, tools};

const SDK: &str = "oxherd";
/// What the default features of the library must never bring.
const HEAVY: [&str; 5] = ["oxherd-core", "oxherd-engine", "oxherd-config", "hyper", "axum"];

/// What the steps of one invocation share.
pub(crate) struct Session {
    pub(crate) workspace: Workspace,
    pub(crate) tally: Tally,
    /// Arguments after the command's name, meant for the test programs.
    pub(crate) extra: Vec<String>,
    /// The program under test and another build of it, once they are built.
    pub(crate) bins: Option<(PathBuf, PathBuf)>,
}

impl Session {
    pub(crate) fn new(extra: Vec<String>) -> Outcome<Self> {
        Ok(Self { workspace: Workspace::load()?, tally: Tally::default(), extra, bins: None })
    }
}

/// One step of CI, also a command.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Session) -> Outcome,
}

pub(crate) const STEPS: [Step; 9] = [
    Step { name: "fmt", about: "formatting", run: fmt },
    Step { name: "clippy", about: "lints, all targets, warnings are errors", run: clippy },
    Step { name: "tidy", about: "the project's own rules over its sources", run: tidy_step },
    Step { name: "docs", about: "API documentation, warnings are errors", run: docs },
    Step {
        name: "tools",
        about: "install what the tests need from npm, PyPI and Debian; with --bench, the bench",
        run: tools_step,
    },
    Step { name: "test", about: "unit, table, simulation and os tests", run: test },
    Step { name: "os-unprivileged", about: "os tests as nobody (root only)", run: suites::os_unprivileged },
    Step { name: "e2e", about: "end-to-end tests as the current user", run: suites::e2e },
    Step {
        name: "e2e-unprivileged",
        about: "end-to-end tests as nobody (root only)",
        run: suites::e2e_unprivileged,
    },
];

/// Runs all steps; the last line printed is the summary whatever happens.
pub(crate) fn run_all(session: &mut Session) -> Outcome {
    let started = Instant::now();
    let outcome = STEPS.iter().try_for_each(|step| run_step(step, session));
    let mut tally = session.tally;
    match &outcome {
        Ok(()) => println!("\nci: all steps passed in {}", seconds(started)),
        Err(message) => {
            println!("\nci: failed after {}: {message}", seconds(started));
            // A failed check that is no test still counts: "0 failed" would be a lie.
            tally.failed = tally.failed.max(1);
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    outcome
}

fn run_step(step: &Step, session: &mut Session) -> Outcome {
    println!("\n== {}: {}", step.name, step.about);
    let started = Instant::now();
    let outcome = (step.run)(session).map_err(|message| format!("step {}: {message}", step.name));
    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!("== {}: {word} in {}", step.name, seconds(started));
    outcome
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn fmt(_session: &mut Session) -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(_session: &mut Session) -> Outcome {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    // A worker alone, as most programs have it.
    run(cargo().args(["clippy", "--package", SDK, "--", "-D", "warnings"]))?;
    check_lightness(&capture(cargo().args(["tree", "--package", SDK, "-e", "normal", "--prefix", "none"]))?)
}

/// Whoever only wants to be a worker must not have to compile a primary.
fn check_lightness(tree: &str) -> Outcome {
    let heavy = tree.lines().find(|line| HEAVY.iter().any(|name| line.starts_with(&format!("{name} "))));
    match heavy {
        None => Ok(()),
        Some(line) => Err(format!("the default features of {SDK} bring {line}")),
    }
}

fn docs(_session: &mut Session) -> Outcome {
    run(cargo()
        .args(["doc", "--workspace", "--all-features", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn tidy_step(session: &mut Session) -> Outcome {
    let problems = tidy::check(&session.workspace)?;
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err("tidy found 1 problem".to_owned()),
        count => Err(format!("tidy found {count} problems")),
    }
}

fn tools_step(session: &mut Session) -> Outcome {
    // The extra arguments of `ci` are for the test programs.
    if session.extra == ["--bench"] {
        return tools::install_for_bench(&session.workspace);
    }
    tools::install_all(&session.workspace).map(drop)
}

fn test(session: &mut Session) -> Outcome {
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--exclude", suites::E2E, "--no-fail-fast", "--"]);
    command.args(&session.extra).env("OXHERD_TOOLS", session.workspace.tools_dir());
    run_counted(&mut command, &mut session.tally)
}
