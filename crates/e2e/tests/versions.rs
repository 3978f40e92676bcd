//! What every release line of Node must do, beyond reloads under load: addresses, messages, leaving, each
//! distribution.

use std::collections::BTreeSet;

use oxherd_e2e::{Address, Event, Herd, Mark, eventually, http, script};

fn works_with(node: &str) {
    listens(node);
    talks(node);
    leaves(node);
    errs_as_its_own_primary(node);
    for distribution in ["handoff", "kernel", "shared"] {
        serves_through_a_reload(node, distribution);
    }
}

/// Several listens, port 0 among them: the same ports in each worker.
fn listens(node: &str) {
    let herd = Herd::of("https.mjs").workers(2).node(node).start();
    let ports = eventually("two ports of two workers", || {
        let told = herd.lines().into_iter().filter(|line| line.is_of_worker()).map(|line| line.text);
        let told: Vec<String> = told.collect();
        (told.len() == 4).then(|| told.into_iter().collect::<BTreeSet<_>>())
    });
    assert_eq!(ports.len(), 2, "node {node}: {ports:?}");
    let https = ports.iter().find_map(|line| line.strip_prefix("https ")).expect("it tells");
    let answers = script::run("tls-client.js", &["https", https, "4"]);
    assert_eq!(answers.matches("\"resumed\":true").count(), 3, "node {node}: {answers}");
    herd.stop();
}

/// Messages between workers, and the last one.
fn talks(node: &str) {
    let herd = Herd::of("talk.js").workers(2).node(node).start();
    let address = herd.address();
    let message = r#"{"targetWorker":"all","type":"hello"}"#;
    let sender = http::post(&address, "/", "application/json", message).json()["worker"].as_u64();
    let (sender, other) = if sender == Some(1) { (1, 2) } else { (2, 1) };
    let heard = format!(r#"{other} got {{"targetWorker":"all","type":"hello","fromWorker":{sender}}}"#);
    herd.wait_text(Mark::START, &heard);
    let lines = herd.stop();
    assert_eq!(lines.iter().filter(|line| line.text.ends_with(r#"got {"type":"shutdown"}"#)).count(), 2);
}

/// `worker.disconnect()` is a wish to leave, which is granted, and the slot is filled again.
fn leaves(node: &str) {
    let herd = Herd::of("leaving.js").workers(2).node(node).start();
    let address = herd.address();
    let mark = herd.mark();
    let pid = http::get(&address, "/worker-disconnect").json()["pid"].as_u64().expect("it tells");
    herd.wait_text(mark, &format!("{pid} exits with 0, wanted: true"));
    let (_, mark) = herd.wait_event(mark, Event::Ended);
    herd.wait_event(mark, Event::Ready);
    herd.pids_that_answer(&address, 2);
    herd.stop();
}

/// A socket where none can be: the same error as under Node's own primary of this version.
fn errs_as_its_own_primary(node: &str) {
    let place = "/no/such/folder/app.sock";
    let herd = Herd::of("errors.js").workers(1).node(node).script_args([place]).start();
    herd.wait_text(Mark::START, "done");
    let lines = herd.stop();
    let ours: Vec<String> =
        lines.into_iter().filter(|line| line.is_of_worker()).map(|line| line.text).collect();
    let theirs = script::run_on(node, "errors.js", &[place], &[("LEAVE", "1")]);
    assert_eq!(ours, theirs.lines().collect::<Vec<_>>(), "node {node}");
}

fn serves_through_a_reload(node: &str, distribution: &str) {
    let args = ["--distribution", distribution];
    let herd = Herd::of("app.js").workers(2).node(node).args(args).start();
    let address: Address = herd.address();
    let before = herd.pids_that_answer(&address, 2);
    herd.reload();
    assert!(herd.pids_that_answer(&address, 2).iter().all(|pid| !before.contains(pid)));
    herd.stop();
}

oxherd_e2e::for_each_node!(works_with);
