//! The daemon dies in the middle of something: at a point that was seen, not guessed.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

use oxherd_e2e::deaths::{Seat, replace};
use oxherd_e2e::http::Response;
use oxherd_e2e::{Failure, Home, Load, Roll, eventually, http, places, turn};

/// A home with an app `web` whose workers come up only while a gate is open, and load on it.
struct Scene {
    home: Home,
    gate: PathBuf,
    load: Option<Load>,
}

impl Scene {
    /// `count` workers that serve under load.
    fn of(count: usize) -> Self {
        let mut scene = Self::closed();
        scene.open();
        let mut start = scene.start(count);
        end_well(&mut start);
        Roll::settled(&scene.home, "web", count);
        scene.load = Some(Load::short(&scene.home.address("web"), "/", 4));
        scene
    }

    /// Nothing runs.
    fn closed() -> Self {
        let home = Home::new();
        let gate = home.folder().path().join("gate");
        Self { home: home.with("GATE", &gate), gate, load: None }
    }

    fn start(&self, count: usize) -> Child {
        let script = places::fixture("gated.js");
        let count = count.to_string();
        self.begin(&["start", script.to_str().expect("a plain path"), "--name", "web", "-i", &count])
    }

    fn open(&self) {
        self.home.folder().write("gate", "");
    }

    fn close(&self) {
        std::fs::remove_file(&self.gate).expect("it was open");
    }

    /// Begins a command.
    fn begin(&self, args: &[&str]) -> Child {
        self.home.command(args).stdout(Stdio::null()).spawn().expect("it runs")
    }

    /// Waits until the app looks like that.
    fn see(&self, what: &str, look: impl Fn(&[Seat]) -> bool) -> Roll {
        eventually(what, || Some(Roll::of(&self.home, "web")).filter(|roll| look(&roll.seats)))
    }

    /// Requests that keep workers busy, each on a connection of its own.
    fn ask_slowly(&self, count: usize) -> Vec<JoinHandle<Result<Response, Failure>>> {
        let address = self.home.address("web");
        let ask = |address| move || http::try_once(&address, "GET", "/slow?ms=1500", "", b"");
        (0..count).map(|_| thread::spawn(ask(address.clone()))).collect()
    }

    /// How many connections workers have accepted.
    fn handed_over(&self) -> u64 {
        self.home.herd()["apps"][0]["handed_over"].as_u64().expect("it is counted")
    }

    /// The herd is as wanted; no request has failed.
    fn end(mut self, row: &str, count: usize) -> Roll {
        let roll = Roll::settled(&self.home, "web", count);
        assert!(roll.seats.iter().all(|seat| seat.restarts == 0), "{row}: {roll:?}");
        let address = self.home.address("web");
        let load = self.load.take().unwrap_or_else(|| Load::short(&address, "/", 4));
        load.wait_more(100);
        let tally = load.stop();
        println!("{row}: {tally}");
        assert_eq!(tally.failed(), 0, "{row}: {tally}");
        roll
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Load that goes on would keep a failed test from ending.
        drop(self.load.take().map(Load::stop));
    }
}

fn end_well(command: &mut Child) {
    let status = eventually("the end of the command", || command.try_wait().expect("it is our child"));
    assert!(status.success(), "{status}");
}

fn all_answered(requests: Vec<JoinHandle<Result<Response, Failure>>>) {
    for request in requests {
        let answer = request.join().expect("a client does not panic");
        assert_eq!(answer.map(|answer| answer.status), Ok(200));
    }
}

fn count(seats: &[Seat], status: &str) -> usize {
    seats.iter().filter(|seat| seat.status == status && seat.pid > 0).count()
}

#[test]
fn while_workers_are_spawned() {
    let _turn = turn::alone();
    let scene = Scene::closed();
    let mut start = scene.start(3);
    for _death in 0..2 {
        scene.see("workers that start", |seats| seats.len() == 3 && count(seats, "starting") == 3);
        replace(&scene.home);
    }
    scene.open();
    end_well(&mut start);
    scene.end("spawning", 3);
}

#[test]
fn while_a_successor_starts() {
    let _turn = turn::alone();
    let scene = Scene::of(3);
    let before = Roll::of(&scene.home, "web");
    scene.close();
    let mut reload = scene.begin(&["reload", "web"]);
    for _death in 0..2 {
        scene.see("a successor", |seats| count(seats, "online") == 3 && count(seats, "starting") == 1);
        replace(&scene.home);
    }
    scene.open();
    end_well(&mut reload);
    let after = scene.end("reload, while a successor starts", 3);
    assert!(after.pids().is_disjoint(&before.pids()));
}

#[test]
fn between_two_slots_of_a_reload() {
    let _turn = turn::alone();
    let scene = Scene::of(3);
    let before = Roll::of(&scene.home, "web").pids();
    let mut reload = scene.begin(&["reload", "web"]);
    for done in 1..=2 {
        scene.see("a slot that is done", |seats| {
            let new = seats.iter().filter(|seat| seat.status == "online" && !before.contains(&seat.pid));
            new.count() >= done
        });
        replace(&scene.home);
    }
    end_well(&mut reload);
    let after = scene.end("reload, between two slots", 3);
    assert!(after.pids().is_disjoint(&before));
}

#[test]
fn while_the_old_generation_drains() {
    let _turn = turn::alone();
    let scene = Scene::of(3);
    let before = Roll::of(&scene.home, "web");
    let slow = scene.ask_slowly(9);
    let mut reload = scene.begin(&["reload", "web"]);
    for _death in 0..2 {
        scene.see("a worker that drains", |seats| count(seats, "stopping") > 0);
        replace(&scene.home);
    }
    all_answered(slow);
    end_well(&mut reload);
    let after = scene.end("reload, while the old one drains", 3);
    assert!(after.pids().is_disjoint(&before.pids()));
}

#[test]
fn while_an_app_stops() {
    let _turn = turn::alone();
    let mut scene = Scene::of(3);
    // Nobody may ask an app that stops.
    let tally = scene.load.take().expect("there is load").stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    let handed = scene.handed_over();
    let slow = scene.ask_slowly(9);
    eventually("all requests in hand", || (scene.handed_over() >= handed + 9).then_some(()));
    let mut stop = scene.begin(&["stop", "web"]);
    for _death in 0..2 {
        scene.see("workers that drain", |seats| count(seats, "stopping") > 0);
        replace(&scene.home);
    }
    all_answered(slow);
    end_well(&mut stop);
    Roll::settled(&scene.home, "web", 0);
    let mut start = scene.begin(&["start", "web"]);
    end_well(&mut start);
    scene.end("stop, and start again", 3);
}

#[test]
fn while_an_app_grows() {
    let _turn = turn::alone();
    let scene = Scene::of(2);
    let before = Roll::of(&scene.home, "web");
    scene.close();
    let mut scale = scene.begin(&["scale", "web", "4"]);
    for _death in 0..2 {
        scene.see("more workers", |seats| count(seats, "online") == 2 && count(seats, "starting") == 2);
        replace(&scene.home);
    }
    scene.open();
    end_well(&mut scale);
    let after = scene.end("scale up", 4);
    assert!(before.pids().is_subset(&after.pids()), "those that were there are untouched");
}

#[test]
fn while_an_app_shrinks() {
    let _turn = turn::alone();
    let scene = Scene::of(4);
    let before = Roll::of(&scene.home, "web");
    let slow = scene.ask_slowly(12);
    let mut scale = scene.begin(&["scale", "web", "2"]);
    for _death in 0..2 {
        scene.see("workers that drain", |seats| count(seats, "stopping") > 0);
        replace(&scene.home);
    }
    all_answered(slow);
    end_well(&mut scale);
    let after = scene.end("scale down", 2);
    assert!(after.pids().is_subset(&before.pids()), "those that stay are untouched");
}
