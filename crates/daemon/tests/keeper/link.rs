//! What makes no sense is refused in words, and the keeper goes on.

use serde_json::json;

use crate::Test;
use crate::rig::{Rig, signal};

pub(crate) const TESTS: &[Test] = &[
    ("garbage_is_refused", garbage_is_refused),
    ("orders_come_before_what_was_said_later", orders_come_before_what_was_said_later),
];

/// Traffic gives many orders about a worker, then control says that it is to be forgotten, and the keeper hears it all
/// at once.
fn orders_come_before_what_was_said_later() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    daemon.spawn("p/a", "exec sleep 1000");
    signal(rig.keeper.pid, "STOP");
    for number in 0..200 {
        daemon.ask(&json!({ "put": format!("{number}/p/a"), "meta": "" }));
    }
    daemon.tell(&json!({ "forget": "p/a" }));
    signal(rig.keeper.pid, "CONT");
    assert!(daemon.hear().is_some());
    daemon.die("kill");
    let daemon = rig.daemon();
    assert_eq!((&daemon.found["children"], &daemon.found["entries"]), (&json!([]), &json!([])));
}

fn garbage_is_refused() {
    let rig = Rig::with(&["raw"]);
    let mut daemon = rig.daemon();
    let refusals = [
        ("", "not a message of protocol version 1"),
        ("{", "not a message of protocol version 1"),
        ("{\"dance\":{}}", "unknown variant `dance`"),
        ("\"next\"", "nothing to be taken over"),
        ("{\"hello\":{\"protocol\":99}}", "version 1 of the protocol, not 99"),
        ("{\"adopt\":{\"label\":\"x\",\"pid\":1,\"stdout\":false,\"stderr\":false}}", "only a new keeper"),
    ];
    for (said, expected) in refusals {
        let answer = daemon.ask(&json!(said));
        let answer = answer.as_str().unwrap();
        assert!(answer.starts_with("{\"refused\":") && answer.contains(expected), "{said}: {answer}");
    }
    let answer = daemon.ask(&json!("{\"hello\":{\"protocol\":1}}"));
    assert!(answer.as_str().unwrap().starts_with("{\"greeting\":{\"protocol\":1,"), "{answer}");
}
