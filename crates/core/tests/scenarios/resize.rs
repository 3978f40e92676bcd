//! Reloads that bring another number of slots along.

use crate::script::{Script, app, app_with};

fn reload_to(script: Script, instances: u32) -> Script {
    script.reload_with(|spec| spec.instances = instances)
}

#[test]
fn it_grows_first_and_what_it_adds_is_of_the_new_generation() {
    reload_to(app(1).up(), 3)
        .did(["spawn 2 s1 g2"])
        .told(["scaled 1 to 3"])
        .serves(2)
        .did(["admit 2", "spawn 3 s2 g2"])
        .serves(3)
        .did(["admit 3", "spawn 4 s0 g2"])
        .serves(4)
        .did(["admit 4", "withdraw 1"])
        .told(["all 3 serve [:80] after 0 ms"])
        .goes(1)
        .told(["g2 done in 0 ms", "change 2 done"]);
}

#[test]
fn it_shrinks_last_and_what_leaves_is_not_replaced() {
    reload_to(app(3).up(), 1)
        .did(["spawn 4 s0 g2"])
        .serves(4)
        .did(["admit 4", "withdraw 1"])
        .told([])
        .goes(1)
        .did(["disconnect 1 Object", "sweep 1", "withdraw 3", "withdraw 2"])
        .told(["g2 done in 0 ms", "scaled 3 to 1"])
        .goes(2)
        .told([])
        .goes(3)
        .told(["change 2 done"]);
}

#[test]
fn an_abort_takes_back_what_it_added() {
    let script = reload_to(app(1).up(), 3).serves(2).spawned(3).exits(3, 1);
    script
        .did(["spawn 2 s1 g2", "admit 2", "spawn 3 s2 g2", "sweep 3", "retire s2", "withdraw 2"])
        .told([
            "scaled 1 to 3",
            "g2 aborted with 0 replaced: s2 died with code 1",
            "scaled 3 to 1",
            "change 2 aborted",
            "all 1 serve [:80] after 0 ms",
        ])
        .goes(2)
        .did(["disconnect 2 Object", "sweep 2", "retire s1"])
        .ends(None);
}

#[test]
fn a_worker_of_an_added_slot_is_respawned_by_its_own_generation() {
    let mut script = reload_to(app(1).up(), 2).serves(2).at(5000);
    script.forget();
    script.exits(2, 1).did(["sweep 2", "spawn 4 s1 g2"]).told(["respawn s1 0/16 in 0 ms"]);
    let mut script = reload_to(app(1).up(), 3).serves(2).at(500);
    script.forget();
    script.exits(2, 1).at(600).did(["sweep 2", "retire s1"]).told([
        "respawn s1 1/16 in 100 ms",
        "g2 aborted with 0 replaced: s1 died with code 1",
        "scaled 3 to 1",
        "change 2 aborted",
        "all 1 serve [:80] after 500 ms",
    ]);
}

#[test]
fn an_abort_of_a_shrinking_reload_keeps_all() {
    let script = reload_to(app(3).up(), 1).spawned(4).exits(4, 1);
    script
        .did(["spawn 4 s0 g2", "sweep 4"])
        .told(["g2 aborted with 0 replaced: s0 died with code 1", "change 2 aborted"]);
}

#[test]
fn a_later_wish_for_a_number_counts() {
    let script = reload_to(app(1).up(), 3).scale(2).spawned(2).exits(2, 1);
    script.did(["spawn 2 s1 g2", "retire s2", "sweep 2", "spawn 3 s1 g1"]).serves(3).told([
        "scaled 1 to 3",
        "scaled 3 to 2",
        "g2 aborted with 0 replaced: s1 died with code 1",
        "change 2 aborted",
        "all 2 serve [:80] after 0 ms",
        "change 3 done",
    ]);
    let script = reload_to(app(2).up(), 1).scale(2).serves(3).goes(1);
    script.did(["spawn 3 s0 g2", "admit 3", "withdraw 1", "disconnect 1 Object", "sweep 1", "spawn 4 s1 g2"]);
    let script = reload_to(app(1).up().reload(), 3).scale(2).serves(3).serves(2).goes(1).serves(4).goes(3);
    script.serves(5).goes(2).told([
        "change 3 queued",
        "scaled 1 to 2",
        "all 2 serve [:80] after 0 ms",
        "change 4 done",
        "g2 done in 0 ms",
        "change 2 done",
    ]);
}

#[test]
fn a_slot_that_is_added_meanwhile_beyond_the_reload_is_filled_at_once() {
    reload_to(app(1).up(), 2).scale(3).did(["spawn 2 s1 g2", "spawn 3 s2 g1"]);
}

#[test]
fn a_queued_reload_brings_its_number_when_its_turn_comes() {
    let script = reload_to(app(1).up().reload(), 2).serves(2).goes(1);
    script.told(["change 3 queued", "g2 done in 0 ms", "change 2 done", "scaled 1 to 2"]).did([
        "spawn 2 s0 g2",
        "admit 2",
        "withdraw 1",
        "disconnect 1 Object",
        "sweep 1",
        "spawn 3 s1 g3",
    ]);
}

#[test]
fn a_plain_reload_keeps_the_number_that_was_scaled_to() {
    app(1).up().scale(2).serves(2).reload().serves(3).goes(1).serves(4).goes(2).told([
        "scaled 1 to 2",
        "all 2 serve [:80] after 0 ms",
        "change 2 done",
        "g2 done in 0 ms",
        "change 3 done",
    ]);
}

#[test]
fn a_worker_that_leaves_a_grown_slot_is_waited_for() {
    let mut script = app(2).up().scale(1);
    script.forget();
    reload_to(script, 2).did(["spawn 3 s0 g2"]).goes(2).serves(3).goes(1).did([
        "disconnect 2 Object",
        "sweep 2",
        "admit 3",
        "withdraw 1",
        "disconnect 1 Object",
        "sweep 1",
        "spawn 4 s1 g2",
    ]);
}

#[test]
fn a_stop_and_a_restart_take_back_what_was_added() {
    let script = reload_to(app(1).up(), 2).serves(2).stop();
    assert_eq!(script.status().apps[0].instances, 1);
    let script = script.doors_closed().goes(1).goes(2).spawned(3).exits(3, 137).told([
        "scaled 1 to 2",
        "all 2 serve [:80] after 0 ms",
        "g2 aborted with 0 replaced: superseded",
        "scaled 2 to 1",
        "change 2 aborted",
        "stopped",
        "change 3 done",
    ]);
    script.restart().told([]);
    let mut script = reload_to(app(1).up(), 2).serves(2).restart();
    script.forget();
    script
        .goes(2)
        .did(["disconnect 2 Object", "sweep 2", "retire s1"])
        .goes(1)
        .spawned(3)
        .exits(3, 137)
        .did(["disconnect 1 Object", "sweep 1", "kill 3", "sweep 3", "spawn 4 s0 g1"]);
}

#[test]
fn a_stop_ends_the_wait_for_slots_that_leave() {
    let mut script = reload_to(app(2).up(), 1).serves(3).goes(1);
    script.forget();
    script
        .stop()
        .told(["change 2 superseded"])
        .doors_closed()
        .goes(2)
        .goes(3)
        .told(["stopped", "change 3 done"]);
}

#[test]
fn the_new_policy_counts_for_the_new_generation_only() {
    let script = app_with(2, |spec| spec.max_restarts = 9).up();
    let script = script.reload_with(|spec| spec.max_restarts = 1).serves(3).goes(1).spawned(4).at(500);
    let script = script.exits(2, 1).told(["respawn s1 1/9 in 100 ms"]);
    script.exits(3, 1).told([
        "gave up s0: 1 exits within 1 min 0 s",
        "g2 aborted with 0 replaced: s0 died with code 1",
        "change 2 aborted",
    ]);
}
