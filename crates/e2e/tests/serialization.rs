//! Herds whose channels are written as values: what works as with JSON, and what only works so.

use std::collections::BTreeMap;

use oxherd_e2e::deaths::replace;
use oxherd_e2e::http::Client;
use oxherd_e2e::{
    Address, Chance, Clients, Event, Herd, Home, Load, Mark, NODES, Roll, eventually, places, reports, turn,
};
use serde_json::Value;

const ADVANCED: [&str; 2] = ["--serialization", "advanced"];

/// A connection to each worker, by its id.
fn connect(address: &Address, count: usize) -> BTreeMap<u64, Client> {
    let mut workers = BTreeMap::new();
    eventually("a connection to each worker", || {
        let mut client = Client::connect(address).expect("it accepts");
        let answer = client.get("/").expect("it answers").json();
        workers.entry(answer["worker"].as_u64().expect("it tells")).or_insert(client);
        (workers.len() == count).then_some(())
    });
    workers
}

/// What a worker has got so far.
fn got(client: &mut Client) -> Vec<Value> {
    client.get("/").expect("it answers").json()["got"].as_array().cloned().unwrap_or_default()
}

fn all_that_a_worker_says(node: &str) {
    assert!(NODES.contains(&node));
    let _turn = turn::alone();
    let args =
        ["--wait-ready", "--listen-timeout", "20s", "--status-interval", "200ms", "--drain-timeout", "1s"];
    let herd = Herd::of("values.js").workers(2).node(node).args(ADVANCED).args(args).start();
    // The message, and not that it listens, makes it ready.
    let (_, mark) = herd.wait_text(Mark::START, " listens");
    herd.wait_event(mark, Event::Ready);
    let address = herd.address();
    let mut workers = connect(&address, 2);

    workers.get_mut(&1).expect("it is there").get("/values?to=2").expect("it answers");
    workers.get_mut(&2).expect("it is there").get("/values?to=all").expect("it answers");
    for (worker, sender) in [(1, 2), (2, 1)] {
        let client = workers.get_mut(&worker).expect("it is there");
        let heard = eventually("a message", || Some(got(client)).filter(|got| !got.is_empty()));
        assert_eq!(heard.len(), 1, "node {node}: {heard:?}");
        assert_eq!(heard[0]["from"].as_u64(), Some(sender));
        assert!(heard[0]["isSame"].as_bool() == Some(true), "node {node}: {}", heard[0]["shown"]);
    }

    let client = workers.get_mut(&1).expect("it is there");
    client.get("/error").expect("it answers");
    let (line, _) = herd.wait_text(Mark::START, "reports an error: TypeError: no database");
    assert!(line.is_error, "{}", line.text);
    client.get("/stats").expect("it answers");
    eventually(&format!("a report with the figures\n{}", herd.tail()), || {
        reports::of(&herd.lines())
            .into_iter()
            .find(|report| report.has("10 requests") && report.has("1 error"))
    });
    drop(workers);

    let load = Load::short(&address, "/", 4);
    for _ in 0..2 {
        load.wait_more(200);
        herd.reload();
    }
    load.wait_more(200);
    let tally = load.stop();
    println!("node {node}, 2 reloads: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    let lines = herd.stop();
    let told = lines.iter().filter(|line| line.text.contains(r#"got {"type":"shutdown"}"#)).count();
    assert_eq!(told, 6, "everybody is told to leave");
}

#[test]
fn node_18() {
    all_that_a_worker_says("18");
}

#[test]
fn node_20() {
    all_that_a_worker_says("20");
}

#[test]
fn node_22() {
    all_that_a_worker_says("22");
}

#[test]
fn node_24() {
    all_that_a_worker_says("24");
}

#[test]
fn node_26() {
    all_that_a_worker_says("26");
}

/// Node 18 waits for ever when what it reads at once ends within the length of a frame.
#[test]
fn no_frame_is_cut_where_node_18_cannot_bear_it() {
    let herd = Herd::of("values.js").workers(2).node("18").args(ADVANCED).start();
    let mut workers = connect(&herd.address(), 2);
    let mut deaf = workers.remove(&1).expect("it is there");
    let waking = std::thread::spawn(move || {
        deaf.get("/deaf?to=1500").expect("it answers when it wakes");
        deaf
    });
    herd.wait_text(Mark::START, "1 is deaf");
    workers.get_mut(&2).expect("it is there").get("/straddle?to=1").expect("it answers");
    let mut deaf = waking.join().expect("it wakes");
    eventually("three messages", || {
        (deaf.get("/").expect("it answers").json()["long"].as_u64() == Some(3)).then_some(())
    });
    herd.stop();
}

#[test]
fn every_distribution_works() {
    for distribution in ["kernel", "shared"] {
        let args = ["--distribution", distribution];
        let herd = Herd::of("values.js").workers(2).args(ADVANCED).args(args).start();
        assert_eq!(connect(&herd.address(), 2).len(), 2, "{distribution}");
        herd.stop();
    }
}

#[test]
fn deaths_of_the_daemon_cost_no_request() {
    let _turn = turn::alone();
    let home = Home::new();
    let script = places::fixture("app.js");
    let script = script.to_str().expect("a plain path");
    home.ok(&["start", script, "--name", "web", "-i", "3", "--serialization", "advanced"]);
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    let clients = Clients::start(&home.address("web"));
    // After the third within ten seconds the image is not trusted any more, which has the serialisation too.
    for _ in 0..8 {
        clients.wait_more(10 + chance.below(200));
        replace(&home);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    clients.stop_unharmed("eight deaths under workers that write values");
    let load = Load::short(&home.address("web"), "/", 4);
    home.ok(&["reload", "web"]);
    let after = Roll::settled(&home, "web", 3);
    assert!(after.pids().is_disjoint(&workers.pids()));
    let tally = load.stop();
    println!("a reload after them: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
}

#[test]
fn without_a_channel_there_is_nothing_to_write() {
    let home = Home::new();
    let script = places::fixture("app.js");
    let args = ["start", script.to_str().expect("a plain path"), "--sockets", "none"];
    let output = home.run(&[&args[..], &ADVANCED].concat());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("serialization `advanced` needs workers that have a channel"), "{said}");
}
