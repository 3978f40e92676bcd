//! Replacing workers without loss.

use oxherd_core::{Distribution, Sockets, Strategy};

use crate::script::{app, app_with, ms};

#[test]
fn the_successor_comes_first_and_one_slot_goes_after_the_other() {
    app(2)
        .up()
        .at(100)
        .reload()
        .did(["spawn 3 s0 g2"])
        .serves(3)
        .did(["admit 3", "withdraw 1"])
        .withdrawn(1)
        .did(["disconnect 1 Object"])
        .exits(1, 0)
        .did(["sweep 1", "spawn 4 s1 g2"])
        .serves(4)
        .did(["admit 4", "withdraw 2"])
        .told([])
        .at(350)
        .goes(2)
        .did(["disconnect 2 Object", "sweep 2"])
        .told(["g2 done in 250 ms", "change 2 done"]);
}

#[test]
fn a_batch_of_two_replaces_two_at_a_time() {
    app_with(3, |spec| spec.parallel = 2)
        .up()
        .reload()
        .did(["spawn 4 s0 g2 parks", "spawn 5 s1 g2 parks"])
        .parks(5)
        .did([])
        .parks(4)
        .did(["unpark 4 s0", "unpark 5 s1"])
        .listening(5)
        .did(["admit 5", "withdraw 2"])
        .goes(2)
        .did(["disconnect 2 Object", "sweep 2"])
        .listening(4)
        .goes(1)
        .did(["admit 4", "withdraw 1", "disconnect 1 Object", "sweep 1", "spawn 6 s2 g2"])
        .serves(6)
        .goes(3)
        .told(["5 parked", "4 parked", "g2 done in 0 ms", "change 2 done"]);
}

#[test]
fn without_anything_to_hold_a_batch_rolls_on() {
    app_with(3, |spec| {
        spec.parallel = 2;
        (spec.sockets, spec.distribution) = (Sockets::ListenFds, Distribution::Kernel);
        spec.listen = vec!["web=0.0.0.0:80".parse().unwrap()];
    })
    .up()
    .reload()
    .did(["spawn 4 s0 g2", "spawn 5 s1 g2"])
    .serves(5)
    .did(["admit 5", "withdraw 2"])
    .goes(2)
    .did(["SIGTERM 2", "sweep 2", "spawn 6 s2 g2"]);
}

#[test]
fn one_that_is_ready_without_listening_is_not_waited_for() {
    app_with(2, |spec| (spec.parallel, spec.wait_ready) = (2, true))
        .start()
        .serves(1)
        .ready(1)
        .serves(2)
        .ready(2)
        .reload()
        .parks(3)
        .spawned(4)
        .ready(4)
        .did([
            "spawn 1 s0 g1",
            "spawn 2 s1 g1",
            "admit 1",
            "admit 2",
            "spawn 3 s0 g2 parks",
            "spawn 4 s1 g2 parks",
            "admit 4",
            "unpark 3 s0",
            "unpark 4 s1",
            "withdraw 2",
        ])
        .parked(4)
        .did(["unpark 4 s1"]);
}

#[test]
fn one_of_a_batch_that_never_parks_aborts_and_the_parked_ones_go() {
    app_with(2, |spec| (spec.parallel, spec.wait_ready) = (2, true))
        .start()
        .serves(1)
        .ready(1)
        .serves(2)
        .ready(2)
        .reload()
        .parks(3)
        .spawned(4)
        .later(29_999)
        .did([
            "spawn 1 s0 g1",
            "spawn 2 s1 g1",
            "admit 1",
            "admit 2",
            "spawn 3 s0 g2 parks",
            "spawn 4 s1 g2 parks",
        ])
        .later(1)
        .did(["SIGTERM 3", "SIGTERM 4"]);
}

#[test]
fn one_of_a_batch_that_dies_while_it_is_held_aborts() {
    app_with(2, |spec| spec.parallel = 2)
        .up()
        .reload()
        .parks(3)
        .exits(3, 1)
        .did(["spawn 3 s0 g2 parks", "spawn 4 s1 g2 parks", "sweep 3"])
        .spawned(4)
        .did(["kill 4"])
        .told(["3 parked", "g2 aborted with 0 replaced: s0 died with code 1", "change 2 aborted"]);
}

#[test]
fn one_that_was_let_go_and_does_not_listen_aborts() {
    app_with(2, |spec| spec.parallel = 2)
        .up()
        .reload()
        .at(5000)
        .parks(3)
        .parks(4)
        .at(34_999)
        .told(["3 parked", "4 parked"])
        .at(35_000)
        .did([
            "spawn 3 s0 g2 parks",
            "spawn 4 s1 g2 parks",
            "unpark 3 s0",
            "unpark 4 s1",
            "SIGTERM 3",
            "SIGTERM 4",
        ]);
}

#[test]
fn the_slot_of_a_worker_that_died_does_not_wait_for_the_batch() {
    app_with(2, |spec| spec.parallel = 2)
        .up()
        .at(5000)
        .reload()
        .parks(3)
        .exits(1, 1)
        .did(["spawn 3 s0 g2 parks", "spawn 4 s1 g2 parks", "sweep 1", "unpark 3 s0"])
        .listening(3)
        .parks(4)
        .did(["admit 3", "unpark 4 s1"]);
}

#[test]
fn slots_that_a_reload_adds_are_let_go_with_the_others() {
    app(1)
        .up()
        .reload_with(|spec| (spec.instances, spec.parallel) = (2, 2))
        .parks(2)
        .did(["spawn 2 s1 g2 parks", "spawn 3 s0 g2 parks"])
        .parks(3)
        .did(["unpark 3 s0", "unpark 2 s1"]);
}

#[test]
fn a_successor_that_dies_aborts_and_the_old_ones_serve_on() {
    app(2)
        .up()
        .reload()
        .spawned(3)
        .at(40)
        .exits(3, 1)
        .did(["spawn 3 s0 g2", "sweep 3"])
        .told(["g2 aborted with 0 replaced: s0 died with code 1", "change 2 aborted"])
        .at(100_000)
        .did([]);
}

#[test]
fn a_successor_that_is_not_ready_in_time_aborts() {
    app(1).up().reload().spawned(2).at(29_999).told([]).at(30_000).did(["spawn 2 s0 g2", "SIGTERM 2"]).told(
        ["2 not ready after 30 s", "g2 aborted with 0 replaced: s0 not ready after 30 s", "change 2 aborted"],
    );
}

#[test]
fn a_successor_that_cannot_be_spawned_aborts() {
    app(1)
        .up()
        .reload()
        .cannot_spawn(2, true)
        .told(["g2 aborted with 0 replaced: s0 cannot run node", "change 2 aborted"]);
}

#[test]
fn a_successor_that_dies_right_after_taking_over_aborts_too() {
    app(2)
        .up()
        .reload()
        .serves(3)
        .goes(1)
        .at(200)
        .exits(3, 1)
        .told([
            "respawn s0 1/16 in 100 ms",
            "g2 aborted with 0 replaced: s0 died with code 1",
            "change 2 aborted",
        ])
        .at(300)
        .did([
            "spawn 3 s0 g2",
            "admit 3",
            "withdraw 1",
            "disconnect 1 Object",
            "sweep 1",
            "spawn 4 s1 g2",
            "sweep 3",
            "spawn 5 s0 g1",
        ]);
}

#[test]
fn after_an_aborted_reload_respawns_use_the_last_good_generation() {
    let script = app(2).up().reload().serves(3).goes(1).at(5000).exits(4, 1);
    let script = script.told(["g2 aborted with 1 replaced: s1 died with code 1", "change 2 aborted"]);
    let mut script = script.at(9000);
    script.forget();
    script
        .exits(3, 1)
        .did(["sweep 3", "spawn 5 s0 g1"])
        .reload()
        .told(["respawn s0 0/16 in 0 ms"])
        .did(["spawn 6 s0 g3"]);
}

#[test]
fn who_refills_a_replaced_slot_is_on_trial_until_it_is_ready() {
    let mut script = app(2).up().reload().serves(3).goes(1).at(5000).exits(3, 1).spawned(5);
    script.forget();
    script
        .at(5500)
        .exits(4, 1)
        .did(["sweep 4", "SIGTERM 5", "spawn 6 s0 g1"])
        .told(["g2 aborted with 0 replaced: s1 died with code 1", "change 2 aborted"]);
}

#[test]
fn a_reload_waits_for_the_one_that_runs_and_only_the_last_is_kept() {
    app(1)
        .up()
        .reload()
        .reload()
        .reload()
        .told(["change 3 queued", "change 3 superseded", "change 4 queued"])
        .serves(2)
        .goes(1)
        .told(["g2 done in 0 ms", "change 2 done"])
        .serves(3)
        .goes(2)
        .told(["g3 done in 0 ms", "change 4 done"]);
}

#[test]
fn a_plain_reload_keeps_the_configuration_of_the_one_whose_place_it_takes() {
    let new = |spec: &mut oxherd_core::AppSpec| (spec.args, spec.instances) = (vec!["new".into()], 2);
    let script = app(1).up().reload().reload_with(new).reload().serves(2).goes(1).serves(3).serves(4).goes(2);
    assert_eq!(script.fleet.spec(crate::script::APP).map(|spec| spec.args.len()), Some(1));
    script.told([
        "change 3 queued",
        "change 3 superseded",
        "change 4 queued",
        "g2 done in 0 ms",
        "change 2 done",
        "scaled 1 to 2",
        "all 2 serve [:80] after 0 ms",
        "g3 done in 0 ms",
        "change 4 done",
    ]);
}

#[test]
fn a_queued_reload_follows_an_aborted_one() {
    app(1).up().reload().reload().spawned(2).exits(2, 1).serves(3).goes(1).told([
        "change 3 queued",
        "g2 aborted with 0 replaced: s0 died with code 1",
        "change 2 aborted",
        "g3 done in 0 ms",
        "change 3 done",
    ]);
}

#[test]
fn an_old_worker_that_crashes_meanwhile_is_not_respawned_beside_its_successor() {
    app(1)
        .up()
        .reload()
        .spawned(2)
        .at(50)
        .exits(1, 1)
        .at(5000)
        .did(["spawn 2 s0 g2", "sweep 1"])
        .told(["respawn s0 1/16 in 100 ms"])
        .listening(2)
        .did(["admit 2"])
        .told(["g2 done in 5 s", "change 2 done", "all 1 serve [:80] after 4.9 s"]);
}

#[test]
fn a_slot_that_gave_up_gets_a_successor() {
    app_with(1, |spec| spec.max_restarts = 1)
        .start()
        .spawned(1)
        .exits(1, 1)
        .reload()
        .did(["spawn 1 s0 g1", "sweep 1", "spawn 2 s0 g2"])
        .serves(2)
        .did(["admit 2"])
        .told([
            "gave up s0: 1 exits within 1 min 0 s",
            "change 1 failed",
            "g2 done in 0 ms",
            "change 2 done",
            "all 1 serve [:80] after 0 ms",
        ])
        .ends(None);
}

#[test]
fn a_slot_added_meanwhile_starts_old_and_is_reloaded_in_its_turn() {
    app(1)
        .up()
        .reload()
        .scale(2)
        .did(["spawn 2 s0 g2", "spawn 3 s1 g1"])
        .serves(3)
        .serves(2)
        .goes(1)
        .did(["admit 3", "admit 2", "withdraw 1", "disconnect 1 Object", "sweep 1", "spawn 4 s1 g2"])
        .serves(4)
        .goes(3)
        .told([
            "scaled 1 to 2",
            "all 2 serve [:80] after 0 ms",
            "change 3 done",
            "g2 done in 0 ms",
            "change 2 done",
        ]);
}

#[test]
fn a_slot_taken_away_meanwhile_takes_its_successor_along() {
    app(2)
        .up()
        .reload()
        .serves(3)
        .goes(1)
        .spawned(4)
        .scale(1)
        .goes(2)
        .exits(4, 0)
        .did([
            "spawn 3 s0 g2",
            "admit 3",
            "withdraw 1",
            "disconnect 1 Object",
            "sweep 1",
            "spawn 4 s1 g2",
            "withdraw 2",
            "SIGTERM 4",
            "disconnect 2 Object",
            "sweep 2",
            "sweep 4",
            "retire s1",
        ])
        .told(["scaled 2 to 1", "g2 done in 0 ms", "change 2 done", "change 3 done"]);
}

#[test]
fn a_successor_of_a_listening_worker_must_listen_however_old_it_is() {
    app(1)
        .up()
        .reload()
        .spawned(2)
        .at(20_000)
        .did(["spawn 2 s0 g2"])
        .listening(2)
        .did(["admit 2", "withdraw 1"]);
}

#[test]
fn an_aborted_generation_that_listened_asks_nothing_of_the_old_one() {
    let mut script = app(2).start().spawned(1).spawned(2).at(1000);
    script.forget();
    script.reload().serves(3).goes(1).exits(4, 1).at(3000).exits(2, 0).spawned(5).at(4000).did([
        "spawn 3 s0 g2",
        "admit 3",
        "withdraw 1",
        "disconnect 1 Object",
        "sweep 1",
        "spawn 4 s1 g2",
        "sweep 4",
        "sweep 2",
        "spawn 5 s1 g1",
        "admit 5",
    ]);
}

#[test]
fn slow_leavers_hold_up_further_successors_of_their_slot() {
    let stubborn = app_with(1, |spec| (spec.listen_timeout, spec.kill_timeout) = (ms(10), ms(100_000)));
    let twice = stubborn.up().reload().spawned(2).later(10).reload().spawned(3).later(10);
    let mut script = twice;
    script.forget();
    script.reload().did([]).exits(2, 0).did(["sweep 2", "spawn 4 s0 g4"]);
}

#[test]
fn a_reload_may_not_change_what_listeners_are_built_on() {
    app(1)
        .up()
        .reload_with(|spec| spec.name = "other".into())
        .refused("this cannot change the name of an app: delete it and start it anew");
}

#[test]
fn a_reload_with_a_strategy_that_would_be_ignored_is_refused() {
    app_with(1, |spec| spec.distribution = Distribution::Shared)
        .up()
        .reload_with(|spec| spec.strategy = Strategy::LeastConnections)
        .refused(
            "strategy `least-connections` has no effect with distribution `shared`, where a connection is whose worker \
             comes first: choose distribution `handoff` or `kernel`, or leave the strategy out",
        )
        .reload_with(|spec| (spec.strategy, spec.weights) = (Strategy::RoundRobin, vec![1]))
        .refused("weights have no effect with strategy `round-robin`: choose `weighted`, or leave them out");
}
