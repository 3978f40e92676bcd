//! One slot's worker is replaced, successor first.

use oxherd_core::{Event, RecycleReason, Request, Slot};

use crate::script::{APP, Script, app, app_with, id, ms};

const LIMIT: u64 = 100;

fn limited(instances: u32) -> Script {
    app_with(instances, |spec| spec.max_memory_restart = Some(LIMIT)).up()
}

#[test]
fn the_successor_is_ready_before_the_old_one_goes() {
    app(2)
        .up()
        .recycle(1)
        .did(["spawn 3 s1 g1"])
        .serves(3)
        .did(["admit 3", "withdraw 2"])
        .withdrawn(2)
        .did(["disconnect 2 Object"])
        .exits(2, 0)
        .did(["sweep 2"])
        .told(["2 to be replaced: Asked", "s1 replaced in 0 ms", "change 2 done"]);
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_where_it_is() {
    let script = app(1).up().recycle(0).spawned(2).exits(2, 1);
    let script = script.did(["spawn 2 s0 g1", "sweep 2"]).told([
        "1 to be replaced: Asked",
        "s0 not replaced: s0 died with code 1",
        "change 2 aborted",
    ]);
    assert_eq!(script.restarts(0), 0);
    let late = script.recycle(0).spawned(3).later(30_000);
    let late = late.did(["spawn 3 s0 g1", "SIGTERM 3"]).told([
        "1 to be replaced: Asked",
        "3 not ready after 30 s",
        "s0 not replaced: s0 not ready after 30 s",
        "change 3 aborted",
    ]);
    assert_eq!(late.status().apps[0].slots[0].instances[0].place.instance, id(1));
}

#[test]
fn the_next_slot_waits_until_the_first_is_through() {
    app(3)
        .up()
        .recycle(2)
        .recycle(0)
        .recycle(0)
        .did(["spawn 4 s2 g1"])
        .serves(4)
        .did(["admit 4", "withdraw 3"])
        .goes(3)
        .did(["disconnect 3 Object", "sweep 3", "spawn 5 s0 g1"])
        .serves(5)
        .goes(1)
        .told([
            "3 to be replaced: Asked",
            "s2 replaced in 0 ms",
            "change 2 done",
            "1 to be replaced: Asked",
            "s0 replaced in 0 ms",
            "change 3 done",
            "change 4 done",
        ]);
}

#[test]
fn a_reload_takes_its_place() {
    app(1)
        .up()
        .recycle(0)
        .spawned(2)
        .reload()
        .did(["spawn 2 s0 g1", "SIGTERM 2", "spawn 3 s0 g2"])
        .exits(2, 0)
        .serves(3)
        .goes(1)
        .told(["1 to be replaced: Asked", "change 2 done", "g2 done in 0 ms", "change 3 done"]);
}

#[test]
fn after_a_reload_that_fails_it_goes_on() {
    app(1)
        .up()
        .reload()
        .recycle(0)
        .spawned(2)
        .exits(2, 1)
        .did(["spawn 2 s0 g2", "sweep 2", "spawn 3 s0 g1"])
        .serves(3)
        .goes(1)
        .told([
            "g2 aborted with 0 replaced: s0 died with code 1",
            "change 2 aborted",
            "1 to be replaced: Asked",
            "s0 replaced in 0 ms",
            "change 3 done",
        ]);
}

#[test]
fn an_old_one_that_dies_meanwhile_is_no_loss() {
    let script = app(1).up().later(5000).recycle(0).spawned(2).exits(1, 1);
    script.did(["spawn 2 s0 g1", "sweep 1"]).listening(2).did(["admit 2"]).told([
        "1 to be replaced: Asked",
        "respawn s0 0/16 in 0 ms",
        "s0 replaced in 0 ms",
        "change 2 done",
        "all 1 serve [:80] after 0 ms",
    ]);
}

#[test]
fn stopping_and_scaling_down_end_it() {
    let stopped = app(1).up().recycle(0).spawned(2).stop().did(["spawn 2 s0 g1", "SIGTERM 2", "close doors"]);
    stopped.told(["1 to be replaced: Asked", "change 2 superseded"]);
    let scaled = app(2).up().recycle(1).spawned(3).scale(1);
    scaled.did(["spawn 3 s1 g1", "withdraw 2", "SIGTERM 3"]).told([
        "2 to be replaced: Asked",
        "scaled 2 to 1",
        "change 2 superseded",
    ]);
}

#[test]
fn a_slot_without_a_worker_is_filled() {
    let errored = app_with(1, |spec| spec.max_restarts = 1).start().spawned(1).exits(1, 1);
    let mut script = errored;
    script.forget();
    script.recycle(0).did(["spawn 2 s0 g1"]).told(["change 2 done"]);
    let mut waiting = app_with(1, |spec| spec.restart_delay = Some(ms(9000))).up().exits(1, 1);
    waiting.forget();
    waiting.recycle(0).did(["spawn 2 s0 g1"]);
}

#[test]
fn what_cannot_be_is_refused() {
    app(1).up().recycle(1).refused("app `web` has no slot 1: `scale web` makes more");
    let stopped = app(1).up().stop().doors_closed().goes(1);
    stopped.recycle(0).refused("app `web` is stopped: `restart web` starts it");
}

#[test]
fn too_much_memory_is_replaced_once() {
    limited(2)
        .holds(1, LIMIT)
        .did([])
        .holds(1, LIMIT + 1)
        .holds(1, LIMIT + 1)
        .holds(2, LIMIT + 1)
        .did(["spawn 3 s0 g1"])
        .serves(3)
        .holds(1, LIMIT + 1)
        .goes(1)
        .did(["admit 3", "withdraw 1", "disconnect 1 Object", "sweep 1", "spawn 4 s1 g1"]);
}

#[test]
fn a_successor_that_needs_as_much_is_given_time() {
    let script = limited(1).holds(1, LIMIT + 1).serves(2).goes(1);
    let script = script.did(["spawn 2 s0 g1", "admit 2", "withdraw 1", "disconnect 1 Object", "sweep 1"]);
    let script = script.later(9_999).holds(2, LIMIT + 1).did([]);
    script.later(1).holds(2, LIMIT + 1).did(["spawn 3 s0 g1"]);
}

#[test]
fn after_a_failure_a_rule_waits() {
    let script = limited(1).holds(1, LIMIT + 1).spawned(2).exits(2, 1);
    let script = script.holds(1, LIMIT + 1).did(["spawn 2 s0 g1", "sweep 2"]);
    script.later(60_000).holds(1, LIMIT + 1).did(["spawn 3 s0 g1"]);
}

#[test]
fn who_is_hung_is_replaced_and_killed_if_it_does_not_go() {
    app(1)
        .up()
        .event(Event::Hung { instance: id(1) })
        .serves(2)
        .did(["spawn 2 s0 g1", "admit 2", "withdraw 1"])
        .later(10_000)
        .did(["SIGTERM 1"])
        .later(5000)
        .did(["kill 1"]);
}

#[test]
fn requests_and_age_are_bounded_about() {
    let served = |requests| Event::Measured { instance: id(1), memory: None, requests: Some(requests) };
    let script = app_with(1, |spec| spec.max_requests = Some(1000)).up();
    script.event(served(899)).did([]).event(served(1100)).did(["spawn 2 s0 g1"]);
    let old = app_with(2, |spec| spec.max_lifetime = Some(ms(100_000))).up();
    let old = old.later(89_999).did([]).later(20_002).did(["spawn 3 s1 g1"]);
    // The other one is due as well, and waits for its turn.
    old.serves(3).goes(2).did(["admit 3", "withdraw 2", "disconnect 2 Object", "sweep 2", "spawn 4 s0 g1"]);
}

#[test]
fn a_takeover_goes_on_with_it() {
    let script = app(1).up().recycle(0).spawned(2);
    let image = script.fleet.image();
    let written = serde_json::to_string(&image).unwrap();
    let read: oxherd_core::Image = serde_json::from_str(&written).unwrap();
    assert_eq!(read, image);
    let request = Request::Recycle { app: APP, slot: Slot(0), why: RecycleReason::Memory };
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"request":"recycle","app":0,"slot":0,"why":"memory"}"#
    );
}
