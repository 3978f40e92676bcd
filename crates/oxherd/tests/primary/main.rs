//! Clusters of this very program: each scenario runs in a process of its own, which is the primary; its workers are
//! this program again, or threads of it.
//!
//! `scenario NAME` runs one; without it, all are run one after the other, and after each nobody may be left.
#![allow(clippy::unwrap_used)]

mod events;
mod processes;
mod running;
mod stage;
mod threads;

use std::process::{Command, ExitCode, Output};

use stage::Scenario;

/// Marks everybody who belongs to one scenario.
const MARK: &str = "CLUSTER_TEST";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let all = [events::SCENARIOS, processes::SCENARIOS, running::SCENARIOS, threads::SCENARIOS].concat();
    if let [first, name, ..] = args.as_slice()
        && first == "scenario"
    {
        let scenario = all.iter().find(|it| it.name == name).expect("a scenario of this name");
        return (scenario.play)();
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen: Vec<Scenario> = all
        .into_iter()
        .filter(|it| wanted.is_empty() || wanted.iter().any(|part| it.name.contains(part.as_str())))
        .collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|it| println!("{}: test", it.name));
        return ExitCode::SUCCESS;
    }
    let failed: Vec<&str> = chosen.iter().filter(|it| !run(it)).map(|it| it.name).collect();
    println!("\ntest result: {} passed; {} failed {failed:?}", chosen.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(scenario: &Scenario) -> bool {
    let mark = format!("{}-{}", std::process::id(), scenario.name);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["scenario", scenario.name])
        .env(MARK, &mark)
        .env_remove("NODE_CHANNEL_FD")
        .output()
        .unwrap();
    let left = left_behind(&mark);
    let why = judge(scenario, &output)
        .or_else(|| (!left.is_empty()).then(|| format!("these processes are left: {left:?}")));
    println!("test {} ... {}", scenario.name, if why.is_none() { "ok" } else { "FAILED" });
    if let Some(why) = &why {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{why}\n---- stdout\n{out}---- stderr\n{err}----");
    }
    why.is_none()
}

fn judge(scenario: &Scenario, output: &Output) -> Option<String> {
    if output.status.code() != Some(scenario.code) {
        return Some(format!("it ended with {}, not with code {}", output.status, scenario.code));
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    scenario.says.iter().find(|it| !said.contains(**it)).map(|it| format!("nobody said `{it}`"))
}

/// Processes with this mark in their environment that are not dead already.
fn left_behind(mark: &str) -> Vec<String> {
    let entry = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let has_mark = |path: &std::path::Path| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|it| it == entry.as_bytes())
    };
    processes
        .filter(|it| has_mark(&it.path()))
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect()
}
