//! The main job: an unmodified program, served by several processes on one port, supervised.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_e2e::{Event, Herd, Load, Mark, eventually, http, procs, turn, workers};
use rustix::process::Signal;

#[test]
fn an_express_app_answers_from_four_processes() {
    let herd = Herd::of("express.js").workers(4).start();
    let address = herd.address();
    let mut seen = BTreeMap::new();
    eventually("answers from four workers", || {
        let body = http::get(&address, "/").json();
        let text = |key: &str| body[key].as_str().expect("it is set").to_owned();
        seen.insert(body["pid"].as_u64(), (body["worker"].as_u64(), text("instance"), text("slot")));
        (seen.len() == 4).then_some(())
    });
    let values: BTreeSet<_> = seen.values().collect();
    let ids: BTreeSet<_> = values.iter().map(|(worker, ..)| worker.expect("it has an id")).collect();
    let slots: Vec<_> = values.iter().map(|(_, instance, slot)| (instance.as_str(), slot.as_str())).collect();
    assert_eq!(ids, BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(
        slots.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([("0", "0"), ("1", "1"), ("2", "2"), ("3", "3")])
    );
    // Workers know the ids that the log speaks of.
    for line in workers::of(&herd.lines()) {
        let (worker, _, slot) = &seen[&Some(u64::from(line.pid))];
        assert_eq!((*worker, slot), (Some(line.worker), &line.slot.to_string()));
    }
    herd.stop();
}

#[test]
fn bodies_reach_an_express_app() {
    let herd = Herd::of("express.js").workers(4).start();
    let address = herd.address();
    let pid_and_body = |content_type: &str, body: &str| {
        let answer = http::post(&address, "/echo", content_type, body);
        assert_eq!(answer.status, 201);
        let answer = answer.json();
        (answer["pid"].as_u64().expect("it tells"), answer["body"].to_string())
    };
    let mut pids = BTreeSet::new();
    for _ in 0..8 {
        let (pid, body) = pid_and_body("application/json", r#"{"name":"Ox","tags":["a","ü"]}"#);
        assert_eq!(body, r#"{"name":"Ox","tags":["a","ü"]}"#);
        pids.insert(pid);
        let (pid, body) = pid_and_body("application/x-www-form-urlencoded", "name=Ox&tags[]=a&tags[]=b+c");
        assert_eq!(body, r#"{"name":"Ox","tags":["a","b c"]}"#);
        pids.insert(pid);
    }
    assert_eq!(pids.len(), 4, "round-robin reaches every worker");
    herd.stop();
}

#[test]
fn a_single_file_runs_its_worker_branch() {
    let herd = Herd::of("single-file.js").workers(4).start();
    let address = herd.address();
    herd.pids_that_answer(&address, 4);
    let body = http::get(&address, "/").json();
    assert_eq!((body["isWorker"].as_bool(), body["isPrimary"].as_bool()), (Some(true), Some(false)));
    let lines = herd.stop();
    assert!(lines.iter().all(|line| !line.text.contains("the wrong half")));
    assert_eq!(workers::forked(&workers::of(&lines)).len(), 4);
}

#[test]
fn one_killed_worker_is_replaced_and_the_others_never_stop() {
    const CLIENTS: usize = 8;
    let _turn = turn::alone();
    let herd = Herd::of("express.js").workers(4).start();
    let address = herd.address();
    let before = herd.wait_count(4);
    let load = Load::short(&address, "/", CLIENTS);
    load.wait_more(200);
    let mark = herd.mark();
    let victim = before[1];
    procs::kill(victim, Signal::KILL);
    herd.wait_event(mark, Event::Ended);
    // While the slot is empty, the others serve.
    load.wait_more(50);
    herd.wait_event(mark, Event::Ready);
    let after = herd.wait_count(4);
    load.wait_more(400);
    let tally = load.stop();
    println!("kill -9 of one of four: {tally}");

    assert!(!after.contains(&victim) && before.iter().filter(|pid| after.contains(pid)).count() == 3);
    assert!(after.iter().all(|pid| tally.by_pid.contains_key(pid)), "all four answer again");
    // Only what was inside the killed worker may fail, and that was no more than there are clients.
    assert!(tally.failed() <= CLIENTS as u64, "{tally}");
    assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally}");
    let lines = herd.stop();
    let exits: Vec<_> = workers::of(&lines).into_iter().filter(|it| it.event == Event::Ended).collect();
    assert_eq!(exits[0].pid, victim);
    assert!(exits[0].what.starts_with("was ended by SIGKILL"), "{}", exits[0].what);
    assert!(exits[1..].iter().all(|it| it.what.ends_with("as expected")), "{exits:?}");
}

#[test]
fn two_primaries_leave_each_other_alone() {
    let one = Herd::of("app.js").workers(2).start();
    let other = Herd::of("app.js").workers(2).start();
    let (address, other_address) = (one.address(), other.address());
    let pids = one.pids_that_answer(&address, 2);
    assert!(other.pids_that_answer(&other_address, 2).iter().all(|pid| !pids.contains(pid)));
    let lines = other.stop();
    assert!(workers::of(&lines).iter().all(|line| !pids.contains(&line.pid)));
    assert_eq!(one.pids_that_answer(&address, 2), pids);
    let lines = one.stop();
    assert_eq!(workers::forked(&workers::of(&lines)).len(), 2, "nobody was respawned");
}

#[test]
fn each_step_has_a_line() {
    // On a slow machine a worker would else be ready by its age, before it listens.
    let herd = Herd::of("app.js").workers(2).args(["--min-uptime", "1m"]).start();
    herd.wait_serving();
    let lines = workers::of(&herd.since(Mark::START));
    for slot in 0..2 {
        let events: Vec<_> = lines.iter().filter(|it| it.slot == slot).map(|it| it.event).collect();
        assert_eq!(events, [Event::Forked, Event::Online, Event::Listening, Event::Ready]);
    }
    herd.stop();
}
