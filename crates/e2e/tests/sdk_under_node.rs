//! Workers written with the library under Node's own cluster primary, and beside its workers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use oxherd_e2e::places::Folder;
use oxherd_e2e::{DEADLINE, places, procs, script};
use rustix::process::Signal;
use serde_json::{Value, json};

fn worker() -> String {
    let path = std::env::var("CARGO_BIN_EXE_sdk_worker");
    path.expect("cargo sets it for tests")
}

/// The lines that the primary prints; those of its workers, which are no JSON objects, left out.
fn told(node: &str, mode: &str, env: &[(&str, &str)]) -> Vec<Value> {
    let text = script::run_on(node, "sdk-primary.js", &[&worker(), mode], env);
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).expect("it prints JSON")).collect()
}

fn listening(worker: u64) -> Value {
    json!({"listening": worker, "address": "127.0.0.1", "same": true})
}

fn left(worker: u64) -> Value {
    json!({"left": worker, "code": 0, "signal": null, "voluntary": true})
}

/// Serving, messages and attachments both ways, leaving either way.
fn works_under(node: &str, policy: &str, serialization: &str) {
    let env = [("NODE_CLUSTER_SCHED_POLICY", policy), ("SERIALIZATION", serialization)];
    let hello = "hello from the worker";
    let expected = [
        listening(1),
        listening(2),
        json!({"served": [1, 2]}),
        json!({"echo": {"type": "x", "text": "é\u{2028}\u{1f600}", "n": [1, null, true]}}),
        json!({"socket": hello, "with": "stream"}),
        json!({"server": hello, "with": "listener"}),
        json!({"udp": hello, "with": "udp"}),
        json!({"gift": hello, "thanks": "thank you"}),
        left(1),
        json!({"served": [2]}),
        left(2),
        json!({"done": true}),
    ];
    let told = told(node, "", &env);
    assert_eq!(told, expected, "node {node}, {policy}, {serialization}");
}

/// A worker of Node beside one of ours: both serve, either leaves.
fn works_beside_a_worker_of_node(node: &str) {
    let told = told(node, "sibling", &[]);
    assert_eq!(told[2], json!({"served": [1, 2]}), "node {node}: {told:?}");
    assert_eq!(told.last(), Some(&json!({"done": true})), "node {node}: {told:?}");
}

/// Unix and UDP sockets.
fn has_other_sockets(node: &str, policy: &str) {
    let folder = Folder::new();
    let path = folder.path().join("app.sock");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let port = udp.local_addr().expect("it is bound").port().to_string();
    drop(udp);
    let path = path.to_str().expect("temporary folders have plain names");
    let env = [("NODE_CLUSTER_SCHED_POLICY", policy), ("UNIX_PATH", path), ("UDP_PORT", &port)];
    let told = told(node, "others", &env);
    let expected = [json!({"unix": true}), json!({"udp": true}), left(1), left(2), json!({"done": true})];
    let told: Vec<&Value> = told.iter().filter(|line| line.get("listening").is_none()).skip(1).collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>(), "node {node}, {policy}");
}

/// A worker that never asks to be told leaves all the same.
fn leaves_unattended(node: &str) {
    let told = told(node, "lazy", &[("LAZY", "1")]);
    assert_eq!(told[3..], [left(1), left(2), json!({"done": true})], "node {node}: {told:?}");
}

/// A primary that is killed takes its workers with it, by their own decision.
fn ends_with_its_primary(node: &str, env: &[(&str, &str)]) {
    let mut primary = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(places::node(node))
        .arg(places::fixture("sdk-primary.js"))
        .args([&worker(), "hold"])
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node starts");
    let mut lines = BufReader::new(primary.stdout.take().expect("it is piped")).lines();
    let pids = held(&mut lines);
    assert_eq!(pids.len(), 2);
    procs::kill(primary.id(), Signal::KILL);
    for pid in pids {
        assert!(procs::wait_gone(pid, DEADLINE), "node {node}: worker {pid} outlives its primary");
    }
    reap(primary);
}

/// The pids of the workers, once both listen.
fn held(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Vec<u32> {
    let mut told = lines.map_while(Result::ok);
    let pids = told.find_map(|line| serde_json::from_str::<Value>(&line).ok()?.get("hold").cloned());
    serde_json::from_value(pids.expect("it says so")).expect("pids are numbers")
}

#[allow(clippy::disallowed_methods, reason = "the test's own child")]
fn reap(mut child: Child) {
    child.wait().expect("it is our child");
}

fn works_with(node: &str) {
    works_under(node, "rr", "json");
    works_under(node, "none", "json");
    works_under(node, "rr", "advanced");
    works_beside_a_worker_of_node(node);
    has_other_sockets(node, "rr");
    has_other_sockets(node, "none");
    leaves_unattended(node);
    ends_with_its_primary(node, &[]);
    ends_with_its_primary(node, &[("LAZY", "1")]);
}

oxherd_e2e::for_each_node!(works_with);
