//! Signals that reach the keeper.

use serde_json::json;

use crate::Test;
use crate::fake::SILENT;
use crate::rig::{Rig, eventually, lives, signal};

pub(crate) const TESTS: &[Test] = &[
    ("signals_are_forwarded", signals_are_forwarded),
    ("wishes_to_stop_wait_for_the_next_daemon", wishes_to_stop_wait_for_the_next_daemon),
    ("who_insists_is_obeyed_without_a_daemon", who_insists_is_obeyed_without_a_daemon),
    ("who_insists_while_daemons_die_is_obeyed", who_insists_while_daemons_die_is_obeyed),
];

fn signals_are_forwarded() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    for (name, number) in [("HUP", 1), ("USR1", 10), ("USR2", 12), ("TTIN", 21), ("INT", 2), ("TERM", 15)] {
        signal(rig.keeper.pid, name);
        assert_eq!(daemon.ask(&json!({ "signals": 1 })), json!([number]));
    }
}

/// Brings a keeper to where it waits for long before it starts the next daemon.
fn tire(rig: &Rig) {
    for _death in 0..6 {
        rig.daemon().die("kill");
    }
}

fn wishes_to_stop_wait_for_the_next_daemon() {
    let rig = Rig::new();
    tire(&rig);
    signal(rig.keeper.pid, "HUP");
    signal(rig.keeper.pid, "TERM");
    let mut daemon = rig.daemon();
    assert_eq!(daemon.ask(&json!({ "signals": 1 })), json!([15]));
}

fn who_insists_is_obeyed_without_a_daemon() {
    let mut rig = Rig::new();
    tire(&rig);
    signal(rig.keeper.pid, "TERM");
    signal(rig.keeper.pid, "INT");
    assert_eq!(rig.end(), oxherd_os::ExitStatus::Code(1));
}

/// A daemon is there each time, and dies before it could take over.
fn who_insists_while_daemons_die_is_obeyed() {
    let mut rig = Rig::of(&["--longest-pause", "0"], &[]);
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    // The daemons after this one say nothing to their keeper.
    std::fs::write(rig.folder().join(SILENT), "").unwrap();
    daemon.die("kill");
    let silent = rig.daemon();
    for name in ["TERM", "INT"] {
        signal(rig.keeper.pid, name);
        eventually("the keeper has read it", || pending_signals(rig.keeper.pid) == 0);
    }
    assert!(lives(worker));
    signal(silent.pid(), "KILL");
    assert_eq!(rig.end(), oxherd_os::ExitStatus::Code(1));
    eventually("the worker has ended", || !lives(worker));
}

fn pending_signals(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}
