//! Reloads under load: successor first, no request with a connection of its own is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use oxherd_e2e::places::Folder;
use oxherd_e2e::{DEADLINE, Herd, Load, Mark, NODES, Tally, procs, turn, workers};
use rustix::process::Signal;

const WORKERS: u32 = 2;
const RELOADS: usize = 10;
/// Clients that keep their connections see these in addition.
const KEPT_RELOADS: usize = 2;
const REQUESTS_MIN: u64 = 2000;
const CLIENTS: usize = 4;

/// Ten reloads of one version under short connections; then a few under connections that are kept.
fn reloads_lose_nothing(node: &str) {
    assert!(NODES.contains(&node));
    let _turn = turn::alone();
    // Node 18 keeps idle connections open until their server is made to end.
    let herd = Herd::of("app.js").workers(WORKERS).node(node).args(["--drain-timeout", "1s"]).start();
    let address = herd.address();
    let load = Load::short(&address, "/", CLIENTS);
    let mut longest = Duration::ZERO;
    for _ in 0..RELOADS {
        load.wait_more(REQUESTS_MIN / RELOADS as u64 / 2);
        longest = longest.max(reload_replaces_everybody(&herd));
    }
    let left = REQUESTS_MIN.saturating_sub(load.count());
    load.wait_more(left + 50);
    let short = load.stop();
    println!("node {node}, {RELOADS} reloads, short connections: {short}; longest reload {longest:?}");

    let load = Load::keep_alive(&address, "/", CLIENTS);
    load.wait_more(200);
    for _ in 0..KEPT_RELOADS {
        reload_replaces_everybody(&herd);
    }
    let kept = load.stop();
    println!("node {node}, {KEPT_RELOADS} reloads, kept connections (not bounded yet): {kept}");

    let lines = herd.stop();
    let events = workers::of(&lines);
    assert_eq!(workers::forked(&events).len(), WORKERS as usize * (RELOADS + KEPT_RELOADS + 1));
    assert!(short.all() >= REQUESTS_MIN, "{short}");
    assert_eq!(short.failed(), 0, "node {node}: {short}");
    assert_eq!(short.by_pid.len(), WORKERS as usize * (RELOADS + 1), "every generation has served");
    assert!(kept.ok >= 200 && kept.wrong == 0, "{kept}");
}

/// The old processes end, and at no time fewer workers serve than there should be.
fn reload_replaces_everybody(herd: &Herd) -> Duration {
    let mark = herd.mark();
    let before: BTreeSet<u32> = herd.serving().into_values().collect();
    assert_eq!(before.len(), WORKERS as usize);
    let took = herd.reload();
    for pid in &before {
        assert!(procs::wait_gone(*pid, DEADLINE), "{pid} is still there\n{}", herd.tail());
    }
    let after: BTreeSet<u32> = herd.wait_count(WORKERS as usize).into_iter().collect();
    assert!(before.is_disjoint(&after));
    let capacities = workers::capacities(&workers::of(&herd.lines()));
    let since = workers::of(&herd.since(mark)).len();
    let lowest = capacities[capacities.len() - since..].iter().min();
    assert_eq!(lowest, Some(&(WORKERS as usize)), "a successor serves first\n{}", herd.tail());
    took
}

#[test]
fn node_18() {
    reloads_lose_nothing("18");
}

#[test]
fn node_20() {
    reloads_lose_nothing("20");
}

#[test]
fn node_22() {
    reloads_lose_nothing("22");
}

#[test]
fn node_24() {
    reloads_lose_nothing("24");
}

#[test]
fn node_26() {
    reloads_lose_nothing("26");
}

/// A herd of a file that the test rewrites, with clients at work.
fn of_changing_file(folder: &Folder, args: &[&str]) -> (Herd, Load) {
    let script = folder.copy("app.js", "server.js");
    let herd = Herd::of(script).workers(WORKERS).args(args).start();
    let load = Load::short(&herd.address(), "/", 2);
    load.wait_more(50);
    (herd, load)
}

/// A reload that must be aborted for the reason given, and after it one that must work.
fn aborts_then_works(herd: &Herd, load: &Load, folder: &Folder, broken: &str, why: &str) {
    let before = herd.wait_count(WORKERS as usize);
    folder.write("server.js", broken);
    let mark = herd.mark();
    herd.signal(Signal::HUP);
    let (line, _) = herd.wait_text(mark, "Reload is aborted");
    assert!(line.is_error && line.text.contains(why), "{}", line.text);
    assert!(line.text.contains("no slot was replaced"), "{}", line.text);
    load.wait_more(100);
    assert_eq!(herd.wait_count(WORKERS as usize), before, "the old ones go on");

    folder.copy("app.js", "server.js");
    herd.reload();
    let after = herd.wait_count(WORKERS as usize);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    load.wait_more(100);
}

fn ends_without_loss(herd: Herd, load: Load) -> Tally {
    let tally = load.stop();
    println!("{tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    herd.stop();
    tally
}

#[test]
fn a_successor_that_throws_aborts_the_reload() {
    let _turn = turn::alone();
    let folder = Folder::new();
    let (herd, load) = of_changing_file(&folder, &[]);
    let broken = "throw new Error('no database');\n";
    aborts_then_works(&herd, &load, &folder, broken, "the successor in slot 0 ended with code 1");
    assert!(herd.lines().iter().any(|line| line.is_of_worker() && line.text.contains("no database")));
    ends_without_loss(herd, load);
}

#[test]
fn a_successor_that_is_never_ready_aborts_the_reload() {
    let _turn = turn::alone();
    let folder = Folder::new();
    let (herd, load) = of_changing_file(&folder, &["--listen-timeout", "700ms"]);
    let broken = "setInterval(() => {}, 1000);\n";
    aborts_then_works(&herd, &load, &folder, broken, "the successor in slot 0 is not ready after 7");
    ends_without_loss(herd, load);
}

#[test]
fn with_wait_ready_listening_is_not_enough() {
    let folder = Folder::new();
    let app = |sends: &str| {
        format!(
            "const http = require('node:http');\n\
             const answer = (req, res) => res.end(JSON.stringify({{ pid: process.pid }}));\n\
             http.createServer(answer).listen(0, '127.0.0.1', () => {{ {sends} }});\n"
        )
    };
    let script = folder.write("server.js", &app("process.send('ready')"));
    let args = ["--wait-ready", "--listen-timeout", "700ms"];
    let herd = Herd::of(script).workers(WORKERS).args(args).start();
    let address = herd.address();
    let before = herd.pids_that_answer(&address, 2);

    folder.write("server.js", &app(""));
    let mark = herd.mark();
    herd.signal(Signal::HUP);
    let (line, _) = herd.wait_text(mark, "Reload is aborted");
    assert!(line.text.contains("is not ready after 7"), "{}", line.text);
    assert_eq!(herd.pids_that_answer(&address, 2), before);

    folder.write("server.js", &app("process.send({ type: 'ready' })"));
    herd.reload();
    assert!(herd.pids_that_answer(&address, 2).iter().all(|pid| !before.contains(pid)));
    herd.stop();
}

#[test]
fn a_first_start_that_is_late_is_only_warned_about() {
    let args = ["--wait-ready", "--listen-timeout", "200ms"];
    let herd = Herd::of("late-ready.js").workers(1).args(args).start();
    let (line, _) = herd.wait_text(Mark::START, "is not ready after 2");
    assert!(line.is_error);
    herd.wait_text(Mark::START, "is ready after");
    herd.wait_serving();
    herd.stop();
}

#[test]
fn scaling_by_signal() {
    let herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let mark = herd.mark();
    herd.signal(Signal::TTIN);
    herd.wait_text(mark, "Scaled from 2 to 3 slots");
    herd.pids_that_answer(&address, 3);
    let removed = herd.serving()[&2];
    herd.signal(Signal::TTOU);
    herd.wait_text(mark, "Scaled from 3 to 2 slots");
    assert!(procs::wait_gone(removed, DEADLINE));
    assert_eq!(herd.wait_count(2).len(), 2);
    herd.stop();
}
