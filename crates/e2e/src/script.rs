//! Programs that run beside a herd, such as clients that are easier in Node. They end within a deadline.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::{DEADLINE, places, procs};

/// Runs a fixture with Node to its end and gives back what it wrote. It must succeed.
pub fn run(fixture: &str, args: &[&str]) -> String {
    run_with(fixture, args, &[])
}

/// Like [`run`], with variables in its environment.
pub fn run_with(fixture: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    run_on(places::DEFAULT_NODE, fixture, args, env)
}

/// Like [`run_with`], on a release line of Node.
pub fn run_on(node: &str, fixture: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(places::node(node));
    command.arg(places::fixture(fixture)).args(args).env("NODE_PATH", places::node_modules());
    command.envs(env.iter().copied());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("Node starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        drop(stdout.read_to_string(&mut text));
        text
    });
    if !procs::wait_gone(child.id(), DEADLINE) {
        procs::kill(child.id(), rustix::process::Signal::KILL);
    }
    let text = reader.join().expect("reading does not panic");
    procs::wait_gone(child.id(), DEADLINE);
    let status = child.try_wait().expect("it is our child").expect("it has ended");
    assert!(status.success(), "{fixture} {args:?}: {status}: {text}");
    text
}
