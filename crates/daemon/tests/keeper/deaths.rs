//! What the next daemon finds when one has died, however it died.

use std::io::{Read, Write};
use std::net::TcpStream;

use oxherd_os::ExitStatus;
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{Daemon, Rig, eventually, lives};

pub(crate) const TESTS: &[Test] = &[
    ("all_is_found_after_any_death", all_is_found_after_any_death),
    ("exits_are_kept_until_they_are_forgotten", exits_are_kept_until_they_are_forgotten),
    ("trapped_calls_wait_for_the_next_daemon", trapped_calls_wait_for_the_next_daemon),
    ("last_words_are_heard", last_words_are_heard),
    ("connections_survive_two_deaths", connections_survive_two_deaths),
    ("three_deaths_cost_the_image", three_deaths_cost_the_image),
    ("a_farewell_ends_the_keeper_and_all_workers", a_farewell_ends_the_keeper_and_all_workers),
    ("a_daemon_that_cannot_start_at_all_ends_the_keeper", a_daemon_that_cannot_start_at_all_ends_the_keeper),
];

fn entry(daemon: &Daemon, name: &str) -> Value {
    let entries = daemon.found["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name).cloned().unwrap_or(Value::Null)
}

fn all_is_found_after_any_death() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    assert_eq!(
        (&daemon.found["starts"], daemon.greeting()["trust_image"].as_bool()),
        (&json!(0), Some(true))
    );
    assert_eq!(daemon.found["image"], false);
    let primary = daemon.greeting()["primary"].clone();
    let worker = daemon.spawn("p/a:0:1:0.1", "echo hello; exec sleep 1000");
    daemon.ask(&json!({ "image": 1 }));
    daemon.ask(&json!({ "put": "uses/p/a:0:1:0.1", "meta": "{\"n\":1}\n2" }));
    daemon.ask(&json!({ "listen": "listener/1" }));
    for (count, (how, last)) in [
        ("kill", json!({ "Signal": { "signal": 9, "core_dumped": false } })),
        ("exit 3", json!({ "Code": 3 })),
    ]
    .into_iter()
    .enumerate()
    {
        let pid = daemon.pid();
        daemon.die(how);
        daemon = rig.daemon();
        assert_ne!(daemon.pid(), pid);
        assert_eq!(daemon.greeting()["last_exit"], last);
        assert_eq!(daemon.found["starts"], json!(count + 1));
        assert_eq!(daemon.greeting()["primary"], primary);
        assert_eq!(daemon.found["image"], true);
        let parts = [true, true, true, false];
        assert_eq!(
            daemon.found["children"],
            json!([{ "label": "p/a:0:1:0.1", "pid": worker, "parts": parts }])
        );
        let uses = json!({ "name": "uses/p/a:0:1:0.1", "meta": "{\"n\":1}\n2", "fd": false });
        assert_eq!(entry(&daemon, "uses/p/a:0:1:0.1"), uses);
        assert_eq!(entry(&daemon, "listener/1")["fd"], true);
        assert_eq!(daemon.found["entries"].as_array().unwrap().len(), 2, "{}", daemon.found);
    }
    assert_eq!(daemon.ask(&json!({ "read": "p/a:0:1:0.1" })), "hello\n");
    daemon.ask(&json!({ "kill_tree": "p/a:0:1:0.1" }));
    let killed = json!({ "Signal": { "signal": 9, "core_dumped": false } });
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/a:0:1:0.1" })), killed);
    daemon.ask(&json!({ "forget": "p/a:0:1:0.1" }));
    daemon.die("panic");
    let daemon = rig.daemon();
    assert_eq!(daemon.greeting()["last_exit"], json!({ "Code": 101 }));
    assert_eq!(daemon.found["children"], json!([]));
    assert_eq!(entry(&daemon, "uses/p/a:0:1:0.1"), Value::Null);
}

fn exits_are_kept_until_they_are_forgotten() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    daemon.spawn("p/one", "exit 7");
    let two = daemon.spawn("p/two", "read line <&3; exit 8");
    assert_eq!(daemon.ask(&json!({ "spawn": "p/two", "script": "exit 1" }))["lasting"], true);
    for _time in 0..2 {
        assert_eq!(daemon.ask(&json!({ "exit_of": "p/one" })), json!({ "Code": 7 }));
    }
    daemon.die("kill");
    crate::rig::signal(two, "TERM");
    let mut daemon = rig.daemon();
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/one" })), json!({ "Code": 7 }));
    let terminated = json!({ "Signal": { "signal": 15, "core_dumped": false } });
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/two" })), terminated);
    daemon.ask(&json!({ "forget": "p/one" }));
    daemon.die("kill");
    let daemon = rig.daemon();
    let left: Vec<_> = daemon.found["children"].as_array().unwrap().iter().map(|it| &it["label"]).collect();
    assert_eq!(left, ["p/two"]);
}

fn trapped_calls_wait_for_the_next_daemon() {
    const LABEL: &str = "p/a:0:1:0.1";
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    let script = "exec python3 -uc \"
import os, socket
for port in (1, 2, 3):
    try:
        socket.socket().bind(('127.0.0.1', port))
    except OSError as error:
        os.write(1, b'%d\\n' % error.errno)\"";
    let spawned = daemon.ask(&json!({ "spawn": LABEL, "script": script, "lend": true }));
    assert_eq!(spawned["parts"], json!([true, true, false]));
    let fail = |daemon: &mut Daemon, call: &Value, errno: i32| {
        daemon.ask(&json!({ "fail": LABEL, "id": call["id"], "errno": errno }));
        assert_eq!(daemon.ask(&json!({ "read": LABEL })), format!("{errno}\n"));
    };
    let first = daemon.ask(&json!({ "trapped": LABEL }));
    fail(&mut daemon, &first, 98);
    let second = daemon.ask(&json!({ "trapped": LABEL }));
    daemon.die("kill");
    let mut daemon = rig.daemon();
    assert_eq!(entry(&daemon, &format!("traps/{LABEL}"))["fd"], true);
    let found = daemon.ask(&json!({ "pending": LABEL, "last": first["id"] }));
    assert_eq!(found, second);
    fail(&mut daemon, &found, 13);
    daemon.die("panic");
    let mut daemon = rig.daemon();
    let third = daemon.ask(&json!({ "trapped": LABEL }));
    fail(&mut daemon, &third, 99);
    assert_eq!(daemon.ask(&json!({ "exit_of": LABEL })), json!({ "Code": 0 }));
    daemon.ask(&json!({ "forget": LABEL }));
    daemon.die("kill");
    assert_eq!(rig.daemon().found["entries"], json!([]));
}

fn last_words_are_heard() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    daemon.ask(&json!({ "put": "x/first", "meta": "" }));
    // The keeper stands still while the daemon talks and dies.
    crate::rig::signal(rig.keeper.pid, "STOP");
    for number in 0..50 {
        daemon.ask(&json!({ "put": format!("member/{number}/1"), "meta": "m" }));
    }
    daemon.ask(&json!({ "remove": "x/first" }));
    daemon.ask(&json!({ "image": 1 }));
    daemon.tell(&json!({ "die": "kill" }));
    crate::rig::signal(rig.keeper.pid, "CONT");
    let daemon = rig.daemon();
    assert_eq!(daemon.found["entries"].as_array().unwrap().len(), 50);
    assert_eq!(daemon.found["image"], true);
}

fn connections_survive_two_deaths() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    assert_eq!(daemon.greeting()["untraced"], Value::Null);
    let port = daemon.ask(&json!({ "listen": "listener/1" })).as_u64().unwrap() as u16;
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(crate::rig::DEADLINE)).unwrap();
    daemon.ask(&json!({ "accept": "listener/1" }));
    for how in ["kill", "panic"] {
        daemon.die(how);
        daemon = rig.daemon();
        assert_eq!(daemon.found["connections"], 1, "after {how}");
    }
    client.write_all(b"x").unwrap();
    daemon.ask(&json!({ "serve": 1 }));
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
    daemon.die("kill");
    assert_eq!(rig.daemon().found["connections"], 0);
}

fn three_deaths_cost_the_image() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    for trusted in [true, true, false] {
        daemon.ask(&json!({ "image": 1 }));
        daemon.die("kill");
        daemon = rig.daemon();
        assert_eq!(daemon.greeting()["trust_image"], trusted);
        assert_eq!(daemon.found["image"], trusted);
    }
    assert_eq!(daemon.greeting()["deaths"], 3);
    // The next one is made to wait, and workers live.
    let before = std::time::Instant::now();
    daemon.die("kill");
    let daemon = rig.daemon();
    assert!(before.elapsed().as_millis() >= 240, "{:?}", before.elapsed());
    assert!(lives(worker));
    assert_eq!(daemon.greeting()["trust_image"], false);
}

fn a_farewell_ends_the_keeper_and_all_workers() {
    let mut rig = Rig::new();
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    daemon.ask(&json!({ "farewell": 7 }));
    daemon.die("exit 0");
    assert_eq!(rig.end(), ExitStatus::Code(7));
    eventually("the worker has ended", || !lives(worker));
}

fn a_daemon_that_cannot_start_at_all_ends_the_keeper() {
    let mut rig = Rig::with(&["refuse"]);
    assert_eq!(rig.end(), ExitStatus::Code(2));
}
