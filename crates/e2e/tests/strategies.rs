//! Which worker gets a connection, under each strategy, with real Node workers.

use std::collections::BTreeMap;

use oxherd_e2e::client::{Connection, STEP};
use oxherd_e2e::http::Client;
use oxherd_e2e::{Address, Builder, Herd, Home, eventually, http, places, procs, turn};

/// On a busy machine a connection that lies for a few milliseconds goes to another worker, which is right and in
/// nobody's turn: here it stays.
fn herd(workers: u32, strategy: &str, more: &[&str]) -> Builder {
    Herd::of("loads.js").workers(workers).args(["--no-recall", "--strategy", strategy]).args(more)
}

/// The slot that answers on a connection of its own.
fn slot(address: &Address) -> u64 {
    http::get(address, "/").json()["slot"].as_u64().expect("it tells")
}

fn shares(address: &Address, requests: usize) -> BTreeMap<u64, usize> {
    let mut shares = BTreeMap::new();
    (0..requests).for_each(|_| *shares.entry(slot(address)).or_default() += 1);
    shares
}

/// Slot by slot, to within a round.
fn assert_shares(shares: &BTreeMap<u64, usize>, wanted: impl IntoIterator<Item = usize>) {
    for (slot, wanted) in (0..).zip(wanted) {
        let share = shares.get(&slot).copied().unwrap_or(0);
        assert!(share.abs_diff(wanted) <= 2, "slot {slot} got {share}, not {wanted}: {shares:?}");
    }
}

/// A connection that stays open after its answer, and who has it.
fn held(address: &Address) -> (u64, Client) {
    let mut client = Client::connect(address).expect("somebody listens");
    let slot = client.get("/").expect("an answer").json()["slot"].as_u64().expect("it tells");
    (slot, client)
}

/// A request that is in flight until its client goes; its head has come.
fn in_flight(address: &Address) -> Box<dyn Connection> {
    let mut connection = address.connect(STEP).expect("somebody listens");
    connection.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).expect("a head comes");
        head.extend(byte);
    }
    connection
}

#[test]
fn weights_are_exact() {
    let _turn = turn::alone();
    let herd = herd(2, "weighted", &["--weights", "3,1"]).start();
    let address = herd.address();
    // That all serve is said a moment before the last one is given connections. From then on, wherever in the round.
    herd.pids_that_answer(&address, 2);
    assert_eq!(shares(&address, 400), BTreeMap::from([(0, 300), (1, 100)]));
    herd.stop();
}

#[test]
fn weights_are_kept_through_a_reload() {
    let _turn = turn::alone();
    let args = ["--strategy", "weighted", "--weights", "1,2"];
    // What is taken back from a worker that is slow to pick it up is made up to later.
    let herd = Herd::of("loads.js").workers(3).args(args).start();
    let address = herd.address();
    herd.pids_that_answer(&address, 3);
    assert_shares(&shares(&address, 80), [20, 40, 20]);
    herd.reload();
    assert_shares(&shares(&address, 400), [100, 200, 100]);
    herd.stop();
}

#[test]
fn the_fewest_open_connections_decide() {
    let _turn = turn::alone();
    let herd = herd(3, "least-connections", &[]).env("TELLS", "connections").start();
    let address = herd.address();
    herd.pids_that_answer(&address, 3);
    let mut clients: Vec<(u64, Client)> = (0..9).map(|_| held(&address)).collect();
    let count = |clients: &[(u64, Client)], wanted: u64| clients.iter().filter(|it| it.0 == wanted).count();
    assert_eq!([0, 1, 2].map(|slot| count(&clients, slot)), [3, 3, 3]);
    // All of one worker go, and all new ones go there, until it has as many as the others.
    clients.retain(|(slot, _)| *slot != 1);
    eventually("the worker to tell that they are closed", || {
        let (slot, client) = held(&address);
        clients.push((slot, client));
        (slot == 1).then_some(())
    });
    let strayed = clients.len() - 7;
    let of_one: Vec<u64> = (0..2)
        .map(|_| {
            let (slot, client) = held(&address);
            clients.push((slot, client));
            slot
        })
        .collect();
    assert_eq!(of_one, [1, 1], "{strayed} went elsewhere before");
    drop(clients);
    herd.stop();
}

#[test]
fn a_worker_with_a_request_in_flight_is_spared() {
    let _turn = turn::alone();
    let herd = herd(2, "least-busy", &[]).env("TELLS", "inFlight,connections").start();
    let address = herd.address();
    herd.pids_that_answer(&address, 2);
    let waiting = in_flight(&address);
    let others = shares(&address, 10);
    assert_eq!(others.len(), 1, "{others:?}");
    let spared = u64::from(others.contains_key(&0));
    drop(waiting);
    eventually("the one that was spared is idle", || (slot(&address) == spared).then_some(()));
    herd.stop();
}

#[test]
fn nothing_in_flight_is_in_turn() {
    let _turn = turn::alone();
    for strategy in ["least-busy", "round-robin"] {
        let herd = herd(3, strategy, &[]).start();
        let address = herd.address();
        herd.pids_that_answer(&address, 3);
        let order: Vec<u64> = (0..9).map(|_| slot(&address)).collect();
        let first = order[..3].to_vec();
        assert_eq!(order, first.repeat(3), "{strategy}");
        herd.stop();
    }
}

#[test]
fn chance_leaves_nobody_out() {
    let _turn = turn::alone();
    let herd = herd(3, "random", &[]).start();
    let address = herd.address();
    let order: Vec<u64> = (0..150).map(|_| slot(&address)).collect();
    for wanted in 0..3 {
        let share = order.iter().filter(|slot| **slot == wanted).count();
        assert!((20..=80).contains(&share), "slot {wanted} got {share} of 150");
    }
    assert!(order.windows(2).any(|pair| pair[0] == pair[1]), "it is not in turn");
    herd.stop();
}

#[test]
fn a_daemon_has_strategies_too_and_so_has_its_successor() {
    let _turn = turn::alone();
    let home = Home::new();
    let script = places::fixture("loads.js");
    let script = script.to_str().expect("a plain path");
    let strategy = ["--strategy", "weighted", "--weights", "1,3"];
    home.ok(&[&["start", script, "--name", "web", "-i", "2"], &strategy[..]].concat());
    let address = home.address("web");
    assert_shares(&shares(&address, 40), [10, 30]);
    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, count)| *count > starts));
    // Whoever was slow to answer for what it owed the old one is made up to.
    assert_shares(&shares(&address, 400), [100, 300]);
    assert!(home.ok(&["describe", "web"]).contains("strategy       weighted 1,3\n"));
    let view = home.herd()["apps"][0].clone();
    assert_eq!((&view["strategy"], view["weights"].to_string()), (&"weighted".into(), "[1,3]".into()));
    // What cannot be had is refused before anything is started, also in a file.
    let file = home.write("eco.json", &format!(r#"[{{"script": {script:?}, "weights": [1, 2]}}]"#));
    let refused = home.run(&["start", &file]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("weights have no effect with strategy `least-busy`: choose `weighted`"), "{told}");
    assert_eq!(home.herd()["apps"].as_array().map(Vec::len), Some(1));
}

/// A worker of the library counts in memory that is read, not told: to the last request, whoever dies.
#[test]
fn what_a_worker_counts_outlives_it_and_the_daemon() {
    let home = Home::new();
    let program = std::env::var("CARGO_BIN_EXE_sdk_worker").expect("cargo sets it for tests");
    home.ok(&["start", &program, "--name", "web", "-i", "2", "--sockets", "channel"]);
    let address = home.address("web");
    let ask = |count: usize| (0..count).for_each(|_| drop(http::get(&address, "/")));
    let figures = || home.herd()["apps"][0].clone();
    ask(20);
    assert_eq!(figures()["requests"], 20);
    let kept = Client::connect(&address).and_then(|mut client| client.get("/").map(|_| client));
    let kept = kept.expect("an answer");
    let connections = |app: &serde_json::Value| {
        let slots = app["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().filter_map(|slot| slot["workers"][0]["connections"].as_u64()).sum::<u64>()
    };
    eventually("only the one that is kept", || (connections(&figures()) == 1).then_some(()));

    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, count)| *count > starts));
    assert_eq!(figures()["requests"], 21, "though no worker has said anything since");
    ask(4);
    assert_eq!(figures()["requests"], 25);
    let victim = home.pids("web")[0] as u32;
    procs::kill(victim, rustix::process::Signal::KILL);
    eventually("another worker", || {
        let pids = home.pids("web");
        (pids.len() == 2 && !pids.contains(&u64::from(victim))).then_some(())
    });
    assert_eq!(figures()["requests"], 25, "after its death, too");
    drop(kept);
}
