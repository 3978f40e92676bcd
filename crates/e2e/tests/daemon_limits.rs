//! Limits of open files: workers get the one that the daemon was started with, keeper and daemon all that is allowed.

use std::process::Command;

use oxherd_e2e::{Home, eventually};

/// The soft limit that the first command is called with.
const SOFT: &str = "128";

/// `oxherd` with a low soft limit, and a high hard one.
fn limited(home: &Home, args: &[&str]) -> Command {
    let plain = home.command(args);
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={SOFT}:4096")).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command
}

#[test]
fn a_herd_larger_than_the_soft_limit_outlives_its_daemon() {
    let home = Home::new();
    let script = home.path().with_file_name("many.sh");
    std::fs::write(&script, "#!/bin/sh\nulimit -Sn\nexec sleep 1000\n").expect("the folder is writable");
    let script = script.to_str().expect("a plain path");
    // Three descriptors for each: its pidfd and two pipes.
    let args = ["start", script, "--interpreter", "/bin/sh", "--name", "many", "-i", "60"];
    let output = limited(&home, &args).output().expect("prlimit is there");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), home.log());
    let before = home.pids("many");
    assert_eq!(before.len(), 60);
    let log = home.path().join("logs/many-out.log");
    let lines = eventually("a line of each worker", || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().count() == 60).then_some(text)
    });
    assert!(lines.lines().all(|line| line == SOFT), "{lines}");
    for _ in 0..2 {
        let (_, starts) = home.kill_daemon();
        eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
        assert_eq!(home.pids("many"), before, "no worker was touched");
    }
}
