//! A herd that outlives its manager: the daemon is killed again and again, and nobody notices.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use oxherd_e2e::{Home, Load, eventually, places, turn};

/// Deaths further apart than this do not add up.
const CALM: Duration = Duration::from_millis(10_100);

fn start(home: &Home, workers: &str) {
    let script = places::fixture("app.js");
    home.ok(&["start", script.to_str().expect("a plain path"), "--name", "web", "-i", workers]);
}

/// A small generator (xorshift) for moments that differ from run to run only by its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn seed() -> u64 {
    let seed = std::env::var("OXHERD_E2E_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    println!("OXHERD_E2E_SEED={seed}");
    seed
}

/// Kills the daemon and waits until another one serves.
fn replace(home: &Home) {
    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
}

#[test]
fn the_verbs_do_what_they_say() {
    let home = Home::new();
    assert_eq!(home.run(&["ping"]).status.code(), Some(1));
    start(&home, "2");
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

#[test]
fn twenty_deaths_of_the_daemon_cost_no_request() {
    let _turn = turn::alone();
    let home = Home::new();
    start(&home, "3");
    let address = home.address("web");
    let mut chance = Chance(seed());
    let workers: BTreeSet<u64> = home.pids("web").into_iter().collect();
    let load = Load::short(&address, "/", 8);
    let kept = Load::keep_alive(&address, "/", 2);
    for _ in 0..16 {
        load.wait_more(50 + chance.below(200));
        replace(&home);
    }
    let kept = kept.stop();
    assert_eq!(home.pids("web").into_iter().collect::<BTreeSet<_>>(), workers, "no worker was touched");
    for verb in [&["reload", "web"][..], &["scale", "web", "4"], &["reload", "web"], &["scale", "web", "2"]] {
        // After three deaths within ten seconds changes that were under way are given up.
        let calm = Instant::now() + CALM;
        eventually("a calm time", || (Instant::now() > calm).then_some(()));
        let mut change = home.command(verb).stdout(Stdio::null()).spawn().expect("it runs");
        load.wait_more(chance.below(60));
        replace(&home);
        let status = eventually("the end of the command", || change.try_wait().expect("it is our child"));
        assert!(status.success(), "oxherd {verb:?}: {status}");
    }
    load.wait_more(200);
    let tally = load.stop();
    println!("20 deaths: short {tally}; keep-alive in steady state: {kept}");
    let herd = home.herd();
    let slots = herd["apps"][0]["slots"].as_array().expect("a list");
    assert!(slots.iter().all(|slot| slot["status"] == "online" && slot["restarts"] == 0), "{herd}");
    assert!(slots.iter().all(|slot| slot["workers"].as_array().map(Vec::len) == Some(1)), "{herd}");
    assert_eq!(kept.failed(), 0, "{kept}");
    assert_eq!(tally.failed(), 0, "{tally}");
}
