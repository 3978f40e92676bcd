//! Real servers that know nothing of oxherd, each as N workers at one port: spread, a kill, reloads, scaling, the end.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use oxherd_e2e::places::Folder;
use oxherd_e2e::{DEADLINE, Event, Herd, Load, Program, Tally, eventually, ports, procs, turn};
use rustix::process::Signal;

const WORKERS: u32 = 2;
const CLIENTS: usize = 4;
const RELOADS: usize = 10;
/// Requests between two reloads.
const BETWEEN: u64 = 30;

/// Everything that a program is to go through.
fn works(name: &str, program: &Program) {
    let _turn = turn::alone();
    let herd = program.herd(WORKERS).start();
    assert_eq!(herd.wait_serving(), [program.shown()], "readiness tells the address");
    let pids = herd.pids_that_answer(program.address(), WORKERS as usize);
    let serving: Vec<u32> = herd.serving().into_values().collect();
    assert_eq!(BTreeSet::from_iter(pids), BTreeSet::from_iter(serving), "the workers answer");
    stands_a_kill(name, program, &herd);
    reloads_without_loss(name, program, &herd);
    scales_without_loss(name, program, &herd);
    herd.stop();
    if let oxherd_e2e::Address::Tcp(address) = program.address() {
        assert!(ports::is_free(address.port()), "the port is free again");
    }
}

/// One is killed under load: only what it had in hand may fail.
fn stands_a_kill(name: &str, program: &Program, herd: &Herd) {
    let load = Load::short(program.address(), "/", CLIENTS);
    load.wait_more(100);
    let victim = herd.serving()[&1];
    let mark = herd.mark();
    procs::kill(victim, Signal::KILL);
    let (ended, _) = herd.wait_event(mark, Event::Ended);
    assert_eq!(ended.pid, victim);
    let (successor, _) = herd.wait_event(mark, Event::Ready);
    assert_eq!(successor.slot, 1);
    load.wait_more(50);
    let pids = herd.pids_that_answer(program.address(), WORKERS as usize);
    let tally = load.stop();
    println!("{name}: kill -9 of one of {WORKERS}: {tally}");
    assert!(pids.contains(&successor.pid), "the replacement serves: {pids:?}");
    assert!(tally.failed() <= CLIENTS as u64, "only what was in hand may be lost: {tally}");
    assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{name}: {tally}");
}

fn reloads_without_loss(name: &str, program: &Program, herd: &Herd) {
    let load = Load::short(program.address(), "/", CLIENTS);
    let mut old = herd.wait_count(WORKERS as usize);
    let mut longest = std::time::Duration::ZERO;
    for _ in 0..RELOADS {
        load.wait_more(BETWEEN);
        longest = longest.max(herd.reload());
        for pid in &old {
            assert!(procs::wait_gone(*pid, DEADLINE), "{pid} is still there\n{}", herd.tail());
        }
        let new = herd.wait_count(WORKERS as usize);
        assert!(old.iter().all(|pid| !new.contains(pid)), "everybody is replaced");
        old = new;
    }
    eventually("answers of the last generation", || {
        let seen = herd.pids_that_answer(program.address(), WORKERS as usize);
        old.iter().all(|pid| seen.contains(pid)).then_some(())
    });
    unharmed(&format!("{name}: {RELOADS} reloads, the longest {longest:?}"), load);
}

fn scales_without_loss(name: &str, program: &Program, herd: &Herd) {
    let load = Load::short(program.address(), "/", CLIENTS);
    load.wait_more(BETWEEN);
    let mark = herd.mark();
    herd.signal(Signal::TTIN);
    herd.wait_event(mark, Event::Ready);
    let more = herd.pids_that_answer(program.address(), WORKERS as usize + 1);
    for count in [WORKERS, WORKERS - 1] {
        herd.signal(Signal::TTOU);
        herd.wait_count(count as usize);
    }
    eventually("the end of two workers", || {
        (more.iter().filter(|pid| procs::is_alive(**pid)).count() == WORKERS as usize - 1).then_some(())
    });
    load.wait_more(BETWEEN);
    unharmed(&format!("{name}: one more, two less"), load);
}

fn unharmed(row: &str, load: Load) -> Tally {
    let tally = load.stop();
    println!("{row}: {tally}");
    assert_eq!(tally.failed(), 0, "{row}: {tally}");
    tally
}

#[test]
fn python_http_server() {
    works("python3 -m http.server", &Program::python_http());
}

#[test]
fn gunicorn() {
    works("gunicorn", &Program::gunicorn());
}

#[test]
fn a_server_on_a_unix_socket() {
    let folder = Folder::new();
    works("a Unix socket", &Program::on_unix(&folder));
}

/// It removes the file before it binds, so that a client finds none for a moment: what counts is that it is there again.
#[test]
fn gunicorn_on_a_unix_socket() {
    let folder = Folder::new();
    let program = Program::gunicorn_on_unix(&folder);
    let herd = program.herd(WORKERS).start();
    assert_eq!(herd.wait_serving(), [program.shown()]);
    herd.pids_that_answer(program.address(), WORKERS as usize);
    let mark = herd.mark();
    procs::kill(herd.serving()[&1], Signal::KILL);
    herd.wait_event(mark, Event::Ready);
    herd.pids_that_answer(program.address(), WORKERS as usize);
    for _ in 0..2 {
        herd.reload();
        herd.pids_that_answer(program.address(), WORKERS as usize);
    }
    herd.stop();
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("it is a folder").collect();
    assert!(left.is_empty(), "a file is left: {left:?}");
}

#[test]
fn uvicorn() {
    works("uvicorn", &Program::uvicorn(Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn uvicorn_at_ipv6() {
    works("uvicorn at IPv6", &Program::uvicorn(Ipv6Addr::LOCALHOST.into()));
}

#[test]
fn go_static() {
    works("Go, static", &Program::go());
}

#[test]
fn ruby_webrick() {
    works("Ruby WEBrick", &Program::webrick());
}

#[test]
fn php() {
    works("php -S", &Program::php());
}

#[test]
fn axum() {
    works("axum", &Program::axum());
}

#[test]
fn node() {
    works("Node, universal", &Program::node());
}

#[test]
fn nginx() {
    works("nginx", &Program::nginx());
}

#[test]
fn caddy() {
    works("Caddy", &Program::caddy());
}
