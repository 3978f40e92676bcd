//! Signals that reach the keeper.

use serde_json::json;

use crate::Test;
use crate::rig::{Rig, signal};

pub(crate) const TESTS: &[Test] = &[
    ("signals_are_forwarded", signals_are_forwarded),
    ("wishes_to_stop_wait_for_the_next_daemon", wishes_to_stop_wait_for_the_next_daemon),
    ("who_insists_is_obeyed_without_a_daemon", who_insists_is_obeyed_without_a_daemon),
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
