//! A client starts a keeper and hears what came of it.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use oxherd_daemon::keeper::{StartError, start};
use serde_json::json;

use crate::Test;
use crate::rig::{Daemon, Home, descendants, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("a_client_hears_when_the_daemon_serves", a_client_hears_when_the_daemon_serves),
    ("a_client_hears_why_the_daemon_cannot_serve", a_client_hears_why_the_daemon_cannot_serve),
    ("the_second_client_waits_for_the_first_ones_daemon", the_second_client_waits_for_the_first_ones_daemon),
];

fn start_beside(folder: PathBuf) -> JoinHandle<Result<(), StartError>> {
    thread::spawn(move || start(&folder))
}

fn session_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn keeper_of(daemon: &Daemon) -> u32 {
    daemon.greeting()["keeper_pid"].as_u64().unwrap() as u32
}

fn a_client_hears_when_the_daemon_serves() {
    let home = Home::new();
    let client = start_beside(home.folder().to_owned());
    let mut daemon = home.daemon();
    let keeper = keeper_of(&daemon);
    assert_eq!(session_of(keeper), keeper, "it has left the session");
    assert_eq!(fs::read_link(format!("/proc/{keeper}/fd/0")).unwrap(), PathBuf::from("/dev/null"));
    assert_eq!(fs::read_link(format!("/proc/{keeper}/cwd")).unwrap(), home.folder());
    assert!(!client.is_finished());
    daemon.ask(&json!({ "ready": 1 }));
    client.join().unwrap().unwrap();
    // The keeper has let go of the client.
    let pipes = fs::read_dir(format!("/proc/{keeper}/fd")).unwrap();
    let pipes = pipes.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(!pipes.into_iter().any(|path| path.to_string_lossy().starts_with("pipe:")));
    daemon.ask(&json!({ "farewell": 0 }));
    daemon.die("exit 0");
}

fn a_client_hears_why_the_daemon_cannot_serve() {
    let home = Home::new();
    let client = start_beside(home.folder().to_owned());
    let mut daemon = home.daemon();
    daemon.ask(&json!({ "refuse": "the disk is on fire" }));
    daemon.ask(&json!({ "farewell": 1 }));
    daemon.die("exit 1");
    let error = client.join().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("the daemon cannot start: the disk is on fire; see /"), "{error}");
    assert!(error.ends_with("/daemon.log"), "{error}");
    eventually("nobody is left", || descendants().is_empty());

    let client = start_beside(home.folder().to_owned());
    for _death in 0..3 {
        home.daemon().die("kill");
    }
    let error = client.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("the daemon ends again and again (signal 9)"), "{error}");
}

fn the_second_client_waits_for_the_first_ones_daemon() {
    let home = Home::new();
    let first = start_beside(home.folder().to_owned());
    let mut daemon = home.daemon();
    let second = start_beside(home.folder().to_owned());
    // It has been told that a daemon runs already when its keeper has ended.
    let keeper = keeper_of(&daemon);
    eventually("the second keeper has come and gone", || {
        let log = fs::read_to_string(home.folder().join("daemon.log")).unwrap();
        log.contains("runs already") && descendants() == [keeper]
    });
    assert!(!second.is_finished());
    let _socket = UnixListener::bind(home.folder().join("oxherd.sock")).unwrap();
    second.join().unwrap().unwrap();
    daemon.ask(&json!({ "ready": 1 }));
    first.join().unwrap().unwrap();
    // And one that comes later does not start anything.
    start(home.folder()).unwrap();
}
