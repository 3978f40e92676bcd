//! The keeper dies, alone or with its daemon.

use std::collections::BTreeSet;
use std::fs;

use oxherd_e2e::deaths::{await_start_after, replace, start_web};
use oxherd_e2e::{Chance, Clients, DEADLINE, Home, Load, Roll, eventually, http, procs, turn};
use rustix::process::Signal;

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Waits until another keeper has everything: it is the parent of every worker.
fn under_another(home: &Home, before: &Roll, old: u32) -> (u32, Roll) {
    let (roll, keeper) = eventually("a new keeper with new workers", || {
        let (_, keeper, _) = home.ping()?;
        let roll = Roll::of(home, "web");
        let all_new = keeper != old
            && roll.seats.len() == before.seats.len()
            && roll.pids().is_disjoint(&before.pids())
            && roll.pids().iter().all(|pid| parent_of(*pid) == Some(keeper));
        all_new.then_some((roll, keeper))
    });
    let written = fs::read_to_string(home.path().join("oxherd.pid")).expect("a pid file");
    assert_eq!(written.trim(), keeper.to_string());
    (keeper, roll)
}

#[test]
fn workers_and_daemon_outlive_their_keeper() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "3");
    let mut chance = Chance::seeded();
    let mut workers = Roll::settled(&home, "web", 3);
    let (daemon, first, _) = home.ping().expect("a daemon");
    let load = Load::short(&home.address("web"), "/", 6);
    let mut keepers = BTreeSet::from([first]);
    for _death in 0..3 {
        load.wait_more(30 + chance.below(150));
        let old = home.kill_keeper();
        let (keeper, _) = under_another(&home, &workers, old);
        workers = Roll::settled(&home, "web", 3);
        assert!(keepers.insert(keeper));
        assert_eq!(home.ping().map(|(pid, _, _)| pid), Some(daemon), "the daemon goes on");
    }
    assert!(workers.seats.iter().all(|seat| seat.restarts == 0), "{workers:?}");
    let log = home.log();
    assert_eq!(log.matches("The keeper has ended: a new one takes over").count(), 3, "{log}");
    let short = load.stop();
    println!("3 deaths of the keeper, each with a reload: {short}");
    assert_eq!(short.failed(), 0, "{short}");

    // The new keeper is as good as the first one.
    let clients = Clients::start(&home.address("web"));
    for _death in 0..2 {
        clients.wait_more(30 + chance.below(100));
        replace(&home);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    clients.wait_more(100);
    Roll::settled(&home, "web", 3).assert_untouched(&workers);
    clients.stop_unharmed("2 deaths of a daemon under a new keeper");
}

#[test]
fn a_daemon_may_die_right_after_its_keeper() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "3");
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    let load = Load::short(&home.address("web"), "/", 6);
    load.wait_more(30 + chance.below(100));
    let old = home.kill_keeper();
    let (_, starts) = eventually("a new keeper", || {
        let (daemon, keeper, starts) = home.ping()?;
        (keeper != old).then_some((daemon, starts))
    });
    // Its reload is under way.
    load.wait_more(chance.below(60));
    home.kill_daemon();
    await_start_after(&home, starts);
    under_another(&home, &workers, old);
    Roll::settled(&home, "web", 3);
    let short = load.stop();
    println!("a keeper's death, and its daemon's during the reload: {short}");
    assert_eq!(short.failed(), 0, "{short}");
}

/// Kills both so that neither can do anything about the other's death.
fn kill_both(home: &Home) {
    let (daemon, keeper, _) = home.ping().expect("a daemon");
    procs::kill(keeper, Signal::STOP);
    procs::kill(daemon, Signal::KILL);
    procs::kill(keeper, Signal::KILL);
    for pid in [daemon, keeper] {
        assert!(procs::wait_gone(pid, DEADLINE), "{pid} is still there");
    }
}

#[test]
fn what_both_deaths_leave_is_ended_by_the_next_keeper() {
    let home = Home::new();
    start_web(&home, "2");
    // One that neither has a channel nor obeys.
    let script = home.folder().write("deaf.sh", "trap '' TERM\nexec sleep 1000\n");
    home.ok(&[
        "start",
        script.to_str().expect("a plain path"),
        "--name",
        "deaf",
        "-i",
        "2",
        "--kill-timeout",
        "100ms",
    ]);
    let (web, deaf) = (Roll::of(&home, "web"), Roll::of(&home, "deaf"));
    kill_both(&home);
    // Node's cluster workers end when their primary is gone.
    eventually("the end of the Node workers", || {
        web.pids().iter().all(|pid| !procs::is_alive(*pid)).then_some(())
    });
    assert!(deaf.pids().iter().all(|pid| procs::is_alive(*pid)));
    assert_eq!(home.run(&["ping"]).status.code(), Some(1));

    home.ok(&["resurrect"]);
    let log = home.log();
    assert!(log.contains("was killed with its daemon; what is left of their workers is ended: "), "{log}");
    assert!(deaf.pids().iter().all(|pid| log.contains(&pid.to_string())), "{log}");
    assert!(deaf.pids().iter().all(|pid| !procs::is_alive(*pid)), "a stray lives on");
    Roll::settled(&home, "web", 2);
    Roll::settled(&home, "deaf", 2);
    let answer = http::get(&home.address("web"), "/");
    assert_eq!(answer.status, 200);

    home.ok(&["delete", "deaf"]);
    let web = Roll::settled(&home, "web", 2);
    kill_both(&home);
    eventually("the end of the Node workers", || {
        web.pids().iter().all(|pid| !procs::is_alive(*pid)).then_some(())
    });
    home.ok(&["resurrect"]);
    assert!(home.log().contains("was killed with its daemon; no worker of theirs is left"), "{}", home.log());
    Roll::settled(&home, "web", 2);
    home.ok(&["kill"]);
    // The command ends when nobody listens any more, which is a little earlier.
    eventually("that an orderly end leaves nothing to look for", || {
        (!home.path().join("primary").exists()).then_some(())
    });
}
