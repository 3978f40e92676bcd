//! Daemons die so often that the image is not trusted: the next one goes on from what is wanted, what lives, and
//! what was noted of it, and a person sees no difference.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oxherd_e2e::{Home, eventually, http, places, procs};
use rustix::process::Signal;
use serde_json::Value;

/// More deaths than are needed, in case some are too far apart on a busy machine.
const MOST_DEATHS: u32 = 20;
/// A primary takes a process for born when its start has returned, the kernel when it has begun.
const TOLERANCE: Duration = Duration::from_secs(2);

/// What must be the same afterwards, by app and slot, and how old the worker is.
type Roll = BTreeMap<(String, u64), (Value, Duration)>;

fn roll(home: &Home) -> Roll {
    let herd = home.herd();
    let mut roll = Roll::new();
    for app in herd["apps"].as_array().expect("a list") {
        for slot in app["slots"].as_array().expect("a list") {
            let workers = slot["workers"].as_array().expect("a list");
            let ids: Vec<&Value> =
                workers.iter().flat_map(|it| [&it["instance"], &it["worker"], &it["pid"]]).collect();
            let uptime = Duration::from_millis(workers[0]["uptime_ms"].as_u64().expect("a number"));
            let same = serde_json::json!([slot["status"], slot["restarts"], ids]);
            let name = app["name"].as_str().expect("a name").to_owned();
            roll.insert((name, slot["slot"].as_u64().expect("a number")), (same, uptime));
        }
    }
    roll
}

#[test]
fn workers_of_every_kind_go_on_when_no_image_is_trusted() {
    let home = Home::new();
    let start = |fixture: &str, name: &str, options: &[&str]| {
        let script = places::fixture(fixture);
        let script = script.to_str().expect("a plain path");
        home.ok(&[&["start", script, "--name", name, "-i", "2"], options].concat());
    };
    start("app.js", "listens", &[]);
    start("late-ready.js", "says", &["--wait-ready"]);
    start("quiet.js", "only-says", &["--wait-ready"]);
    start("quiet.js", "ages", &["--min-uptime", "300ms"]);
    start("quiet.js", "apart", &["--sockets", "none", "--min-uptime", "300ms"]);
    let pids: Vec<u64> = ["says", "apart"].into_iter().map(|app| home.pids(app)[1]).collect();
    pids.into_iter().for_each(|pid| procs::kill(u32::try_from(pid).expect("a pid"), Signal::KILL));
    let before = eventually("all online, two of them again", || {
        let herd = home.herd();
        let slots = herd["apps"].as_array()?.iter().flat_map(|it| it["slots"].as_array().cloned());
        let slots: Vec<Value> = slots.flatten().collect();
        let restarts: u64 = slots.iter().filter_map(|slot| slot["restarts"].as_u64()).sum();
        (restarts == 2 && slots.iter().all(|slot| slot["status"] == "online")).then(|| roll(&home))
    });
    let looked = Instant::now();
    assert_eq!(before.len(), 10);
    let mut deaths = 0;
    while !home.log().contains("Daemons have died too often") {
        assert!(deaths < MOST_DEATHS, "the image is trusted after {deaths} deaths");
        let (_, starts) = home.kill_daemon();
        eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
        deaths += 1;
    }
    let after = roll(&home);
    println!("after {deaths} deaths, {:?} later", looked.elapsed());
    for (slot, (same, uptime)) in &before {
        let (now, age) = &after[slot];
        assert_eq!(now, same, "{slot:?}\n{}", home.log());
        assert!(
            (*uptime..=*uptime + looked.elapsed() + TOLERANCE).contains(age),
            "{slot:?}: {uptime:?}, {age:?}"
        );
    }
    assert_eq!(after.len(), before.len());
    assert_eq!(http::get(&home.address("says"), "/").status, 200);
}
