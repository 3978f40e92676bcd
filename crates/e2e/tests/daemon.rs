//! A herd that outlives its manager: the daemon is killed again and again, and nobody notices.

use oxherd_e2e::deaths::{replace, replace_amid_changes, start_web};
use oxherd_e2e::{Chance, Clients, Home, Load, Roll, eventually, http, turn};

#[test]
fn the_verbs_do_what_they_say() {
    let home = Home::new();
    assert_eq!(home.run(&["ping"]).status.code(), Some(1));
    start_web(&home, "2");
    assert_eq!(home.pids("web").len(), 2);
    home.ok(&["scale", "web", "+1"]);
    let before = home.pids("web");
    assert_eq!(before.len(), 3);
    home.ok(&["reload", "web"]);
    let after = home.pids("web");
    assert_eq!(after.len(), 3);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert_eq!(home.run(&["stop", "wbe"]).status.code(), Some(2));
    home.ok(&["stop", "web"]);
    assert_eq!(home.pids("web").len(), 0);
    home.ok(&["start", "web"]);
    assert_eq!(home.pids("web").len(), 3);
    home.ok(&["delete", "all"]);
    assert_eq!(home.herd()["apps"].as_array().map(Vec::len), Some(0));
    home.ok(&["kill"]);
    assert_eq!(home.run(&["ping"]).status.code(), Some(1));
}

/// Has a worker fail, so that there is a restart to be remembered.
fn crash_one(home: &Home) {
    let before = Roll::of(home, "web");
    let client = http::try_once(&home.address("web"), "GET", "/exit?code=1", "", b"");
    assert!(client.is_err(), "it ends instead of answering");
    eventually("another worker", || {
        let roll = Roll::of(home, "web");
        (roll.pids() != before.pids() && roll.seats.iter().all(|seat| seat.status == "online")).then_some(())
    });
}

#[test]
fn twenty_deaths_of_the_daemon_cost_no_request() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "3");
    crash_one(&home);
    let address = home.address("web");
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    assert_eq!(workers.seats.iter().map(|seat| seat.restarts).sum::<u64>(), 1, "{workers:?}");
    let load = Load::short(&address, "/", 8);
    let kept = Load::keep_alive(&address, "/", 2);
    for _ in 0..16 {
        load.wait_more(50 + chance.below(200));
        replace(&home);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    let kept = kept.stop();
    replace_amid_changes(&home, &load, &mut chance);
    load.wait_more(200);
    let tally = load.stop();
    println!("20 deaths: short {tally}; keep-alive in steady state: {kept}");
    let after = Roll::settled(&home, "web", 2);
    // Those of the slots that are left; a planned replacement is no restart.
    for (now, before) in after.seats.iter().zip(&workers.seats) {
        assert_eq!(now.restarts, before.restarts, "{after:?}");
        assert!(now.worker > before.worker && now.pid != before.pid, "{after:?}");
    }
    assert_eq!(kept.failed(), 0, "{kept}");
    assert_eq!(tally.failed(), 0, "{tally}");
}

#[test]
fn three_deaths_within_ten_seconds_cost_no_request_and_are_told() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "3");
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    let clients = Clients::start(&home.address("web"));
    const TOLD: &str = "going on from what is wanted and from what lives";
    for death in 1..=6 {
        clients.wait_more(10 + chance.below(100));
        assert_eq!(home.log().contains(TOLD), death > 3, "{}", home.log());
        replace(&home);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    clients.stop_unharmed("six deaths, three within ten seconds");
    // Such a daemon still does what it is told.
    let load = Load::short(&home.address("web"), "/", 4);
    home.ok(&["reload", "web"]);
    home.ok(&["scale", "web", "4"]);
    let after = Roll::settled(&home, "web", 4);
    assert!(after.pids().is_disjoint(&workers.pids()));
    let workers: Vec<u64> = after.seats.iter().map(|seat| seat.worker).collect();
    assert!(workers.iter().all(|worker| *worker > 3), "an id is used twice: {workers:?}");
    let tally = load.stop();
    println!("a reload and a scaling after them: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
}
