//! Workers of Node under a primary written with the library, in every release line.

use std::process::{Command, Stdio};

use oxherd_e2e::{DEADLINE, places, procs};
use serde_json::{Value, json};

/// What the primary tells, line by line.
#[allow(clippy::disallowed_methods, reason = "the test's own child")]
fn told(node: &str) -> Vec<Value> {
    let program = std::env::var_os("CARGO_BIN_EXE_sdk_primary").expect("cargo sets it for tests");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.arg(places::node(node)).arg(places::fixture("under-sdk.js"));
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let primary = command.spawn().expect("it starts");
    let pid = primary.id();
    let watch = std::thread::spawn(move || {
        if !procs::wait_gone(pid, 3 * DEADLINE) {
            procs::kill(pid, rustix::process::Signal::KILL);
        }
    });
    let output = primary.wait_with_output().expect("it is our child");
    watch.join().expect("it does not panic");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    assert!(output.status.success(), "node {node}: {}: {text}", output.status);
    text.lines().map(|line| serde_json::from_str(line).expect("it prints JSON")).collect()
}

fn left(worker: u64, code: Option<i32>, signal: Option<i32>, voluntary: bool) -> Value {
    json!({
        "left": worker, "code": code, "signal": signal, "disconnected": true,
        "exited_after_disconnect": voluntary, "is_dead": true,
    })
}

fn served(worker: u64, role: &str) -> Value {
    json!({"worker": worker, "role": role})
}

fn works_with(node: &str) {
    let echo = json!({"text": "é\u{2028}\u{1f600}", "n": [1, null, true]});
    let expected = [
        json!({"listening": 1, "slot": 0, "is_connected": true}),
        json!({"served": served(1, "one")}),
        json!({"from": 1, "message": {"echo": echo, "worker": 1}}),
        json!({"taken": "hello from worker 1"}),
        json!({"given": "listener", "is_open": true}),
        json!({"fork": 2, "slot": 1, "workers": 2}),
        left(1, Some(0), None, true),
        json!({"served": served(2, "two")}),
        left(2, None, Some(9), false),
        json!({"respawn": 3, "served": served(3, "two")}),
        left(3, Some(0), None, true),
        // The reload also fills the slot of the one that was asked to leave.
        json!({"reload": [2, 2], "is_dead": true, "served_by_generation": 2}),
        json!({"broadcast": 2, "answered": [0, 1]}),
        json!({"done": true}),
    ];
    assert_eq!(told(node), expected, "node {node}");
}

oxherd_e2e::for_each_node!(works_with);
