//! The keeper dies, the daemon goes on and finds another.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::Test;
use crate::rig::{DEADLINE, Rig, eventually, exit_of, lives, signal};

pub(crate) const TESTS: &[Test] = &[
    ("a_new_keeper_is_as_good_as_the_old_one", a_new_keeper_is_as_good_as_the_old_one),
    ("a_worker_that_nobody_knows_is_ended", a_worker_that_nobody_knows_is_ended),
    ("without_a_keeper_nothing_hangs", without_a_keeper_nothing_hangs),
    ("keepers_may_die_again_and_again", keepers_may_die_again_and_again),
    ("a_keeper_that_is_let_down_ends", a_keeper_that_is_let_down_ends),
    ("a_daemon_may_die_while_it_hands_over", a_daemon_may_die_while_it_hands_over),
];

fn a_new_keeper_is_as_good_as_the_old_one() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let greeting = daemon.greeting().clone();
    let old_keeper = rig.keeper.pid;
    let worker = daemon.spawn("p/a", "echo hello; exec sleep 1000");
    daemon.spawn("p/b", "read line <&3; exit 6");
    let port = daemon.ask(&json!({ "listen": "listener/1" })).as_u64().unwrap() as u16;
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    daemon.ask(&json!({ "accept": "listener/1" }));
    signal(old_keeper, "KILL");
    exit_of(&mut rig.keeper);
    daemon.ask(&json!({ "wait_for_loss": 1 }));
    assert_eq!(daemon.ask(&json!({ "renew": 1 })), json!({ "ok": null }));

    // All is as before: workers are started, exits are known, wishes to stop come through.
    daemon.spawn("p/c", "exit 9");
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/c" })), json!({ "Code": 9 }));
    daemon.ask(&json!({ "put": "uses/p/a", "meta": "m" }));
    daemon.ask(&json!({ "image": 1 }));
    let pid = daemon.pid();
    daemon.die("kill");

    let mut daemon = rig.daemon();
    assert_ne!(daemon.pid(), pid);
    let new_keeper = daemon.greeting()["keeper_pid"].as_u64().unwrap() as u32;
    assert_ne!(new_keeper, old_keeper);
    let pid_file = std::fs::read_to_string(rig.folder().join("oxherd.pid")).unwrap();
    assert_eq!(pid_file.trim(), new_keeper.to_string());
    for same in ["primary", "home", "daemon_args", "nofile", "trust_image"] {
        assert_eq!(daemon.greeting()[same], greeting[same], "{same}");
    }
    assert_eq!(daemon.greeting()["untraced"], Value::Null);
    assert_eq!(daemon.greeting()["last_exit"], json!({ "Signal": { "signal": 9, "core_dumped": false } }));
    assert_eq!((&daemon.found["starts"], &daemon.found["image"]), (&json!(1), &json!(true)));
    let children = daemon.found["children"].as_array().unwrap();
    assert_eq!(children[0], json!({ "label": "p/a", "pid": worker, "parts": [false, false, true, false] }));
    assert_eq!(daemon.found["connections"], 1);
    client.write_all(b"z").unwrap();
    daemon.ask(&json!({ "serve": 1 }));
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"z");
    assert_eq!(daemon.ask(&json!({ "read": "p/a" })), "hello\n");
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/c" })), json!({ "Code": 9 }));
    daemon.ask(&json!({ "kill_tree": "p/a" }));
    let killed = json!({ "Signal": { "signal": 9, "core_dumped": false } });
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/a" })), killed);
    signal(new_keeper, "TERM");
    assert_eq!(daemon.ask(&json!({ "signals": 1 })), json!([15]));
    daemon.ask(&json!({ "farewell": 0 }));
    daemon.die("exit 0");
    eventually("the keeper has ended", || !lives(new_keeper));
}

/// The old keeper was killed after it had started one and before it could say so.
fn a_worker_that_nobody_knows_is_ended() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let primary = daemon.greeting()["primary"].as_str().unwrap().to_owned();
    let known = daemon.spawn(&format!("{primary}/a"), "exec sleep 1000");
    let start = |label: &str| {
        let mut order = std::process::Command::new("sleep");
        order.arg("1000").env(oxherd_os::host::LABEL_VARIABLE, label).spawn().unwrap()
    };
    let (unknown, other) = (start(&format!("{primary}/b")), start("other/b"));
    signal(rig.keeper.pid, "KILL");
    exit_of(&mut rig.keeper);
    daemon.ask(&json!({ "wait_for_loss": 1 }));
    assert_eq!(daemon.ask(&json!({ "renew": 1 })), json!({ "ok": null }));
    eventually("the unknown worker has ended", || !lives(unknown.id()));
    assert!(lives(known) && lives(other.id()));
}

fn without_a_keeper_nothing_hangs() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    daemon.spawn("p/b", "exit 4");
    signal(rig.keeper.pid, "KILL");
    exit_of(&mut rig.keeper);
    let failed = daemon.ask(&json!({ "spawn": "p/c", "script": "exit 0" }));
    assert_eq!(failed["lasting"], false, "{failed}");
    for wish in [json!({ "image": 1 }), json!({ "put": "x", "meta": "" }), json!({ "farewell": 0 })] {
        daemon.ask(&wish);
    }
    assert!(daemon.ask(&json!({ "upgrade": null }))["Err"].is_string());
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/b" })), json!({ "Code": 4 }));
    daemon.ask(&json!({ "kill_tree": "p/a" }));
    let killed = json!({ "Signal": { "signal": 9, "core_dumped": false } });
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/a" })), killed);
    assert!(!lives(worker));
}

fn keepers_may_die_again_and_again() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let mut keeper = rig.keeper.pid;
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    for round in 0..3 {
        signal(keeper, "KILL");
        if round == 0 {
            exit_of(&mut rig.keeper);
        }
        daemon.ask(&json!({ "wait_for_loss": 1 }));
        assert_eq!(daemon.ask(&json!({ "renew": 1 })), json!({ "ok": null }));
        daemon.die("kill");
        daemon = rig.daemon();
        assert_eq!(daemon.found["children"][0]["pid"], json!(worker));
        assert_eq!(daemon.found["starts"], json!(round + 1));
        keeper = daemon.greeting()["keeper_pid"].as_u64().unwrap() as u32;
    }
    let program = std::env::current_exe().unwrap();
    daemon.tell(&json!({ "upgrade": program.to_str().unwrap() }));
    let daemon = rig.daemon();
    assert_eq!(daemon.greeting()["keeper_pid"], json!(keeper));
    assert_eq!(daemon.found["children"][0]["pid"], json!(worker));
}

fn a_keeper_that_is_let_down_ends() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    signal(rig.keeper.pid, "KILL");
    exit_of(&mut rig.keeper);
    let let_down = daemon.ask(&json!({ "renew_half": "" })).as_u64().unwrap() as u32;
    // Else two keepers would each start a daemon when this one dies.
    eventually("the keeper has ended", || !lives(let_down));
    assert!(lives(daemon.pid()) && lives(worker));
    assert_eq!(daemon.ask(&json!({ "renew": 1 })), json!({ "ok": null }));
    daemon.die("kill");
    assert_eq!(rig.daemon().found["children"][0]["pid"], json!(worker));
}

fn a_daemon_may_die_while_it_hands_over() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    signal(rig.keeper.pid, "KILL");
    exit_of(&mut rig.keeper);
    daemon.tell(&json!({ "renew_half": "kill" }));
    assert_eq!(rig.daemon().found["starts"], json!(1));
}
