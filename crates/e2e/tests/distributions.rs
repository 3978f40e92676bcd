//! The same program under each distribution: it is spread, survives a kill, and reloads.

use oxherd_e2e::{Event, Herd, Load, procs, turn};
use rustix::process::Signal;

const WORKERS: u32 = 3;
const CLIENTS: usize = 6;
const RELOADS: usize = 5;
const REQUESTS: u64 = 900;

/// The smallest share of requests, in percent, that a worker must get.
fn spread(distribution: &str, least_percent: u64) {
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(WORKERS).args(["--distribution", distribution]).start();
    let address = herd.address();
    let load = Load::short(&address, "/", CLIENTS);
    load.wait_more(REQUESTS);
    let tally = load.stop();
    println!("{distribution}: spread {:?}: {tally}", tally.by_pid);
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(tally.by_pid.len() == WORKERS as usize, "{tally}");
    let least = tally.by_pid.values().min().copied().unwrap_or(0);
    assert!(least * 100 >= tally.ok * least_percent, "{:?}", tally.by_pid);
    herd.stop();
}

fn survives_a_kill(distribution: &str) {
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(WORKERS).args(["--distribution", distribution]).start();
    let address = herd.address();
    let load = Load::short(&address, "/", CLIENTS);
    load.wait_more(200);
    let victim = herd.serving()[&1];
    let mark = herd.mark();
    procs::kill(victim, Signal::KILL);
    herd.wait_event(mark, Event::Ended);
    load.wait_more(50);
    let (successor, _) = herd.wait_event(mark, Event::Ready);
    load.wait_more(300);
    let tally = load.stop();
    println!("{distribution}: kill -9 of one of {WORKERS}: {tally}");
    assert_eq!(successor.slot, 1);
    assert!(tally.by_pid.contains_key(&successor.pid), "the replacement serves: {tally}");
    assert!(tally.failed() <= CLIENTS as u64, "only what was inside may be lost: {tally}");
    assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally}");
    herd.stop();
}

fn reloads(distribution: &str) {
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(WORKERS).args(["--distribution", distribution]).start();
    let address = herd.address();
    let load = Load::short(&address, "/", CLIENTS);
    let mut old = herd.wait_count(WORKERS as usize);
    for _ in 0..RELOADS {
        load.wait_more(100);
        herd.reload();
        let new = herd.wait_count(WORKERS as usize);
        assert!(old.iter().all(|pid| !new.contains(pid)));
        old = new;
    }
    load.wait_more(200);
    let tally = load.stop();
    println!("{distribution}: {RELOADS} reloads: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(old.iter().all(|pid| tally.by_pid.contains_key(pid)), "the last generation serves: {tally}");
    herd.stop();
}

#[test]
fn handoff_spreads() {
    spread("handoff", 25);
}

#[test]
fn kernel_spreads() {
    spread("kernel", 20);
}

#[test]
fn shared_spreads() {
    spread("shared", 2);
}

#[test]
fn handoff_survives_a_kill() {
    survives_a_kill("handoff");
}

#[test]
fn kernel_survives_a_kill() {
    survives_a_kill("kernel");
}

#[test]
fn shared_survives_a_kill() {
    survives_a_kill("shared");
}

#[test]
fn handoff_reloads() {
    reloads("handoff");
}

#[test]
fn kernel_reloads() {
    reloads("kernel");
}

#[test]
fn shared_reloads() {
    reloads("shared");
}
