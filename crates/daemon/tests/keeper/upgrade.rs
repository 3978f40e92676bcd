//! The keeper becomes another program, or stays what it is.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Test;
use crate::rig::{DEADLINE, Rig, lives};

pub(crate) const TESTS: &[Test] = &[
    ("an_upgrade_keeps_everything", an_upgrade_keeps_everything),
    ("many_upgrades_leave_nothing_behind", many_upgrades_leave_nothing_behind),
    ("what_cannot_go_on_is_refused", what_cannot_go_on_is_refused),
    ("a_program_that_is_gone_at_the_last_moment", a_program_that_is_gone_at_the_last_moment),
];

/// A copy of this program.
fn copy(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn an_upgrade_keeps_everything() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    let primary = daemon.greeting()["primary"].clone();
    let worker = daemon.spawn("p/a", "echo hello; exec sleep 1000");
    daemon.spawn("p/b", "exit 5");
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/b" })), json!({ "Code": 5 }));
    let gone = daemon.spawn("p/c", "exec sleep 1000");
    daemon.ask(&json!({ "forget": "p/c" }));
    daemon.ask(&json!({ "image": 1 }));
    daemon.ask(&json!({ "put": "uses/p/a", "meta": "one\ntwo" }));
    let port = daemon.ask(&json!({ "listen": "listener/1" })).as_u64().unwrap() as u16;
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    daemon.ask(&json!({ "accept": "listener/1" }));
    let next = copy(rig.folder(), "next");
    daemon.tell(&json!({ "upgrade": next.to_str().unwrap() }));

    let mut daemon = rig.daemon();
    assert_eq!(program_of(rig.keeper.pid), next);
    assert_eq!(program_of(daemon.pid()), next);
    let greeting = daemon.greeting();
    assert_eq!((&greeting["primary"], &greeting["last_exit"]), (&primary, &Value::Null));
    assert_eq!((&greeting["deaths"], &greeting["trust_image"]), (&json!(0), &json!(true)));
    assert_eq!(greeting["keeper_pid"], json!(rig.keeper.pid));
    assert_eq!((&daemon.found["starts"], &daemon.found["image"]), (&json!(1), &json!(true)));
    assert_eq!(daemon.found["connections"], 1);
    let parts = [true, true, true, false];
    let children = json!([
        { "label": "p/a", "pid": worker, "parts": parts },
        { "label": "p/b", "pid": daemon.found["children"][1]["pid"], "parts": parts },
    ]);
    assert_eq!(daemon.found["children"], children);
    assert_eq!(daemon.found["entries"][1], json!({ "name": "uses/p/a", "meta": "one\ntwo", "fd": false }));
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/b" })), json!({ "Code": 5 }));
    assert_eq!(daemon.ask(&json!({ "read": "p/a" })), "hello\n");
    client.write_all(b"y").unwrap();
    daemon.ask(&json!({ "serve": 1 }));
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"y");
    let killed = json!({ "Signal": { "signal": 9, "core_dumped": false } });
    daemon.ask(&json!({ "kill_tree": "p/a" }));
    assert_eq!(daemon.ask(&json!({ "exit_of": "p/a" })), killed);
    // Nobody asks about it, but its exit is taken by the one whose child it is.
    crate::rig::signal(gone, "KILL");
    crate::rig::eventually("the exit is taken", || !Path::new(&format!("/proc/{gone}")).exists());
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

fn many_upgrades_leave_nothing_behind() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    daemon.spawn("p/a", "exec sleep 1000");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", rig.keeper.pid)).unwrap().count();
    let mut counts = Vec::new();
    for upgrade in 1..=10 {
        daemon.tell(&json!({ "upgrade": null }));
        daemon = rig.daemon();
        assert_eq!(daemon.greeting()["upgrade_failure"], Value::Null);
        assert_eq!(daemon.greeting()["upgrades"], upgrade);
        counts.push(descriptors());
    }
    assert!(counts.iter().all(|count| count == &counts[0]), "{counts:?}");
}

fn what_cannot_go_on_is_refused() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    let folder = rig.folder().to_owned();
    let wrong = [
        (
            script(&folder, "newer", "echo '{\"version\":\"9.9\",\"protocol\":7,\"states\":[8,9]}'"),
            "only from [8, 9]",
        ),
        (script(&folder, "chatty", "echo hello"), "does not answer `keeper --check` as Oxherd does"),
        (script(&folder, "older", "exit 2"), "does not know `keeper --check`"),
        (folder.join("missing"), "no such program"),
        ("relative".into(), "give its full path"),
    ];
    for (program, why) in wrong {
        let answer = daemon.ask(&json!({ "upgrade": program.to_str().unwrap() }));
        let answer = answer["Err"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(answer.contains(why) && answer.contains(program.to_str().unwrap()), "{answer}");
    }
    assert!(lives(daemon.pid()));
    daemon.spawn("p/a", "exit 0");
}

fn a_program_that_is_gone_at_the_last_moment() {
    let rig = Rig::new();
    let mut daemon = rig.daemon();
    let worker = daemon.spawn("p/a", "exec sleep 1000");
    // It answers as it should, once.
    let check = r#"rm "$0"; echo '{"version":"9.9","protocol":1,"states":[1]}'"#;
    let program = script(rig.folder(), "fleeting", check);
    daemon.tell(&json!({ "upgrade": program.to_str().unwrap() }));
    let daemon = rig.daemon();
    let failure = daemon.greeting()["upgrade_failure"].as_str().unwrap();
    assert!(failure.contains("fleeting: No such file"), "{failure}");
    assert_eq!(daemon.greeting()["upgrades"], 0);
    assert_eq!(daemon.found["children"][0]["pid"], json!(worker));
    assert_eq!(daemon.greeting()["deaths"], 0);
}
