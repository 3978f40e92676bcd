//! The keeper with daemons that do what a test tells them: they die, panic, say farewell, and come back.
//!
//! This program is all three: `keeper …` is the keeper, which starts `daemon …`, and without either it runs the
//! tests, one after the other.
#![allow(clippy::unwrap_used)]

mod deaths;
mod disk;
mod fake;
mod footprint;
mod link;
mod renewal;
mod rig;
mod signals;
mod starting;
mod upgrade;

use std::ffi::OsString;
use std::panic::catch_unwind;
use std::process::exit;

type Test = (&'static str, fn());

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("keeper") => exit(oxherd_daemon::keeper::main(args.into_iter().skip(1), "0.0.0").into()),
        Some("daemon") => fake::main(&args),
        _ => run(&args),
    }
}

fn run(args: &[OsString]) {
    let wanted: Vec<&str> =
        args.iter().filter_map(|arg| arg.to_str()).filter(|arg| !arg.starts_with('-')).collect();
    let all = [
        deaths::TESTS,
        disk::TESTS,
        footprint::TESTS,
        link::TESTS,
        renewal::TESTS,
        signals::TESTS,
        starting::TESTS,
        upgrade::TESTS,
    ]
    .concat();
    let tests: Vec<Test> = all
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| name.contains(it)))
        .collect();
    if args.iter().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let mut failed = Vec::new();
    for (name, test) in tests.iter() {
        let outcome = catch_unwind(test);
        rig::end_everybody();
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed.extend(outcome.is_err().then_some(*name));
    }
    println!("\ntest result: {} passed; {} failed {failed:?}", tests.len() - failed.len(), failed.len());
    exit(i32::from(!failed.is_empty()));
}
