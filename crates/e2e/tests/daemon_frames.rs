//! The daemon dies while half a message is written to a worker, or read from one: no worker notices.

use std::collections::BTreeMap;
use std::fs;
use std::thread::{self, JoinHandle};

use oxherd_e2e::deaths::await_start_after;
use oxherd_e2e::http::Client;
use oxherd_e2e::{Address, Chance, Home, Load, Roll, eventually, places, procs, turn};
use rustix::process::Signal;
use serde_json::Value;

const WORKERS: usize = 3;
/// Messages of 1 MiB: more than the largest channel holds.
const FLOOD: usize = 24;

/// A herd whose workers talk, with a connection to each.
struct Scene {
    home: Home,
    address: Address,
    workers: BTreeMap<u64, Client>,
    roll: Roll,
}

impl Scene {
    fn new(serialization: &str) -> Self {
        let home = Home::new();
        let gate = home.folder().path().join("gate");
        let home = home.with("GATE", gate);
        let script = places::fixture("frames.js");
        let count = WORKERS.to_string();
        home.ok(&[
            "start",
            script.to_str().expect("a plain path"),
            "--name",
            "web",
            "-i",
            &count,
            "--serialization",
            serialization,
        ]);
        let (address, roll) = (home.address("web"), Roll::settled(&home, "web", WORKERS));
        let mut workers = BTreeMap::new();
        eventually("a connection to each worker", || {
            let mut client = Client::connect(&address).expect("it accepts");
            let id = worker_of(&client.get("/").expect("it answers").json());
            workers.entry(id).or_insert(client);
            (workers.len() == WORKERS).then_some(())
        });
        Self { home, address, workers, roll }
    }

    fn get(&mut self, worker: u64, path: &str) -> Value {
        let client = self.workers.get_mut(&worker).expect("there is such a worker");
        let answer = client.get(path).expect("a connection outlives the daemon").json();
        assert_eq!(worker_of(&answer), worker);
        answer
    }

    /// A worker is deaf from when this returns until the gate is away. Its connection comes back with the thread.
    fn deafen(&mut self, worker: u64) -> JoinHandle<Client> {
        let folder = self.home.folder();
        folder.write("gate", "");
        let mut client = self.workers.remove(&worker).expect("there is such a worker");
        let deaf = thread::spawn(move || {
            client.get("/deaf").expect("it answers when it wakes");
            client
        });
        let reached = folder.path().join("gate-reached");
        eventually("a deaf worker", || fs::remove_file(&reached).ok());
        deaf
    }

    /// Returns whether it was deaf.
    fn wake(&self) -> bool {
        fs::remove_file(self.home.folder().path().join("gate")).is_ok()
    }

    /// Messages go from a worker to itself and back, by way of the daemon.
    fn assert_hears(&mut self, worker: u64, n: u64) {
        eventually("an echo", || {
            // One may be lost with the daemon.
            self.get(worker, &format!("/echo?n={n}"));
            (self.get(worker, "/")["echo"].as_u64() == Some(n)).then_some(())
        });
    }

    /// Nobody has died or was replaced, everybody speaks and hears, and no request has failed.
    fn assert_unharmed(&mut self, load: Load, round: u64) {
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        ids.into_iter().for_each(|worker| self.assert_hears(worker, round));
        load.wait_more(20);
        let tally = load.stop();
        println!("round {round}: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        Roll::settled(&self.home, "web", WORKERS).assert_same_workers(&self.roll);
    }
}

fn worker_of(answer: &Value) -> u64 {
    answer["worker"].as_u64().expect("it tells")
}

/// How much of a long message the daemon has sent and how long it is, while one is not sent whole.
fn half_sent(daemon: u32) -> Option<(u64, u64)> {
    let folder = fs::read_dir(format!("/proc/{daemon}/fd")).ok()?;
    folder.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        let is_spool = fs::read_link(&path).ok()?.to_str()?.contains("oxherd spool");
        let size = fs::metadata(&path).ok().filter(|_| is_spool)?.len();
        let info = format!("/proc/{daemon}/fdinfo/{}", entry.file_name().to_str()?);
        let info = fs::read_to_string(info).ok()?;
        let sent = info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()?;
        (sent < size).then_some((sent, size))
    })
}

#[test]
fn half_a_message_to_a_worker_is_sent_to_its_end() {
    sends_to_the_end("json");
}

#[test]
fn half_a_value_to_a_worker_is_sent_to_its_end() {
    sends_to_the_end("advanced");
}

fn sends_to_the_end(serialization: &str) {
    let _turn = turn::alone();
    let mut scene = Scene::new(serialization);
    let mut chance = Chance::seeded();
    let mut halves = 0;
    for round in 0..6 {
        let ids: Vec<u64> = scene.workers.keys().copied().collect();
        let at = chance.below(ids.len() as u64) as usize;
        let (deaf, chatty) = (ids[at], ids[(at + 1) % ids.len()]);
        let before = scene.get(deaf, "/")["heard"].as_u64().expect("it counts");
        let waking = scene.deafen(deaf);
        scene.get(chatty, &format!("/flood?count={FLOOD}&to={deaf}"));
        let load = Load::short(&scene.address, "/", 4);
        let (daemon, _, starts) = eventually("a daemon", || scene.home.ping());
        let mut last = None;
        eventually("a message that cannot be sent on", || {
            let seen = half_sent(daemon);
            let is_stuck = seen.is_some() && seen == last;
            last = seen;
            is_stuck.then_some(())
        });
        if round % 2 == 1 {
            // Then it dies in the middle of one after the other.
            scene.wake();
        }
        let seen = half_sent(daemon);
        procs::kill(daemon, Signal::KILL);
        println!("round {round}: the daemon dies at {seen:?}");
        halves += usize::from(seen.is_some_and(|(sent, _)| sent > 0));
        await_start_after(&scene.home, starts);
        scene.wake();
        scene.workers.insert(deaf, waking.join().expect("it woke"));
        scene.assert_unharmed(load, round);
        let heard = scene.get(deaf, "/")["heard"].as_u64().expect("it counts") - before;
        assert!((1..=FLOOD as u64).contains(&heard), "{heard} messages were heard");
    }
    assert!(halves > 0, "no message was cut: the test shows nothing");
}

#[test]
fn half_a_message_from_a_worker_is_skipped() {
    skips_the_rest("json");
}

#[test]
fn half_a_value_from_a_worker_is_skipped() {
    skips_the_rest("advanced");
}

fn skips_the_rest(serialization: &str) {
    let _turn = turn::alone();
    let mut scene = Scene::new(serialization);
    let mut chance = Chance::seeded();
    let worker = *scene.workers.keys().next().expect("there are workers");
    scene.get(worker, "/shout");
    for round in 0..6 {
        let load = Load::short(&scene.address, "/", 4);
        load.wait_more(5 + chance.below(50));
        let (_, starts) = scene.home.kill_daemon();
        await_start_after(&scene.home, starts);
        scene.assert_unharmed(load, round);
    }
    scene.get(worker, "/hush");
}
