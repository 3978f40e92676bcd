//! Restarting, scaling, stopping, and the end of the fleet.

use oxherd_core::{Event, Outcome, Signal};

use crate::script::{app, app_with, id};

#[test]
fn a_restart_starts_when_everybody_has_left() {
    app(1)
        .up()
        .restart()
        .did(["withdraw 1"])
        .withdrawn(1)
        .did(["disconnect 1 Object"])
        .exits(1, 0)
        .did(["sweep 1", "spawn 2 s0 g1"])
        .serves(2)
        .told(["all 1 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn a_reload_during_a_restart_waits_for_the_leaving_too() {
    app(1).up().restart().reload().did(["withdraw 1"]).goes(1).did([
        "disconnect 1 Object",
        "sweep 1",
        "spawn 2 s0 g1",
        "spawn 3 s0 g2",
    ]);
}

#[test]
fn scaling_up_spawns_and_scaling_down_takes_the_highest() {
    app(1)
        .up()
        .scale(3)
        .did(["spawn 2 s1 g1", "spawn 3 s2 g1"])
        .serves(2)
        .serves(3)
        .told(["scaled 1 to 3", "all 3 serve [:80] after 0 ms", "change 2 done"])
        .scale(1)
        .did(["admit 2", "admit 3", "withdraw 3", "withdraw 2"])
        .goes(2)
        .told(["scaled 3 to 1"])
        .goes(3)
        .did(["disconnect 2 Object", "sweep 2", "retire s1", "disconnect 3 Object", "sweep 3", "retire s2"])
        .told(["change 3 done"])
        .scale(9)
        .refused("9 instances are more than the limit of 8")
        .scale(0)
        .refused("instances must be at least 1");
}

#[test]
fn a_stop_closes_the_doors_then_drains_then_closes_the_listeners() {
    app(1)
        .up()
        .stop()
        .did(["close doors"])
        .doors_closed()
        .did(["withdraw 1"])
        .goes(1)
        .did(["disconnect 1 Object", "sweep 1", "close listeners"])
        .told(["stopped", "change 2 done"])
        .ends(None)
        .reload()
        .refused("app `web` is stopped: `restart web` starts it")
        .at(60_000)
        .restart()
        .did(["spawn 2 s0 g1"])
        .serves(2)
        .told(["all 1 serve [:80] after 0 ms", "change 3 done"]);
}

#[test]
fn doors_that_stay_open_are_waited_for_two_seconds() {
    app(1).up().stop().at(1999).did(["close doors"]).at(2000).did(["withdraw 1"]);
}

#[test]
fn a_crash_while_the_doors_close_is_not_respawned() {
    app(2).up().stop().exits(1, 1).doors_closed().goes(2).at(100_000).did([
        "close doors",
        "sweep 1",
        "withdraw 2",
        "disconnect 2 Object",
        "sweep 2",
        "close listeners",
    ]);
}

#[test]
fn a_restart_of_a_stopping_app_starts_once_its_listeners_are_closed() {
    app(1)
        .up()
        .stop()
        .restart()
        .did(["close doors"])
        .doors_closed()
        .goes(1)
        .did(["withdraw 1", "disconnect 1 Object", "sweep 1", "close listeners", "spawn 2 s0 g1"])
        .told(["change 2 superseded", "stopped"])
        .serves(2)
        .told(["all 1 serve [:80] after 0 ms", "change 3 done"]);
}

#[test]
fn a_kill_takes_back_that_an_app_was_to_start_again() {
    app(1).up().stop().restart().kill().exits(1, 137).ends(Some(Outcome::Killed)).did([
        "close doors",
        "withdraw 1",
        "kill 1",
        "sweep 1",
        "close listeners",
    ]);
}

#[test]
fn a_delete_forgets_and_nobody_takes_that_back() {
    app(1)
        .up()
        .delete()
        .stop()
        .refused("there is no app with id 0: `ls` lists the apps")
        .shutdown()
        .doors_closed()
        .goes(1)
        .told(["change 2 superseded", "stopped", "deleted", "change 3 done"])
        .ends(Some(Outcome::Stopped));
}

#[test]
fn a_delete_ends_a_stop_that_is_under_way() {
    app(1).up().stop().delete().doors_closed().goes(1).told([
        "change 2 superseded",
        "stopped",
        "deleted",
        "change 3 done",
    ]);
}

#[test]
fn a_shutdown_drains_all_and_ends_well() {
    app(2)
        .up()
        .shutdown()
        .start()
        .refused("the primary is stopping: start it anew once it has ended")
        .doors_closed()
        .goes(1)
        .ends(None)
        .goes(2)
        .did([
            "close doors",
            "withdraw 1",
            "withdraw 2",
            "disconnect 1 Object",
            "sweep 1",
            "disconnect 2 Object",
            "sweep 2",
            "close listeners",
        ])
        .told(["stopped", "change 2 done"])
        .ends(Some(Outcome::Stopped));
}

#[test]
fn a_second_signal_kills() {
    app(1)
        .up()
        .shutdown()
        .kill()
        .did(["close doors", "withdraw 1", "kill 1"])
        .dies(1, Signal::KILL)
        .told(["change 2 superseded", "stopped", "change 3 done"])
        .ends(Some(Outcome::Killed));
}

#[test]
fn a_kill_reaches_a_worker_that_is_about_to_be_born() {
    app(1)
        .start()
        .kill()
        .did(["spawn 1 s0 g1"])
        .spawned(1)
        .did(["kill 1"])
        .exits(1, 137)
        .ends(Some(Outcome::Killed));
}

#[test]
fn a_stop_of_a_reloading_app_takes_the_successor_along() {
    app(1).up().reload().spawned(2).reload().stop().doors_closed().exits(2, 0).goes(1).told([
        "change 3 queued",
        "g2 aborted with 0 replaced: superseded",
        "change 2 aborted",
        "change 3 superseded",
        "stopped",
        "change 4 done",
    ]);
}

#[test]
fn a_drain_that_never_ends_is_cut_short_step_by_step() {
    app(1)
        .up()
        .stop()
        .doors_closed()
        .did(["close doors", "withdraw 1"])
        .at(9_999)
        .did([])
        .at(10_000)
        .did(["SIGTERM 1"])
        .at(15_000)
        .did(["kill 1"])
        .told([])
        .at(20_200)
        .did(["kill 1"])
        .told(["1 unkillable"])
        .dies(1, Signal::KILL)
        .told(["stopped", "change 2 done"]);
}

#[test]
fn a_worker_that_stays_after_its_connections_are_gone_gets_the_signal_soon() {
    app_with(1, |spec| (spec.stop_signal, spec.shutdown_with_message) = (Signal::INT, true))
        .up()
        .stop()
        .doors_closed()
        .withdrawn(1)
        .event(Event::ChannelClosed { instance: id(1) })
        .at(200)
        .did(["close doors", "withdraw 1", "disconnect 1 Text", "SIGINT 1"]);
}

#[test]
fn every_change_ends_once() {
    app(1)
        .start()
        .restart()
        .told(["change 1 superseded"])
        .scale(2)
        .spawned(1)
        .exits(1, 137)
        .serves(2)
        .serves(3)
        .told(["scaled 1 to 2", "all 2 serve [:80] after 0 ms", "change 2 done", "change 3 done"])
        .did(["spawn 1 s0 g1", "spawn 2 s1 g1", "kill 1", "sweep 1", "spawn 3 s0 g1", "admit 2", "admit 3"]);
}

#[test]
fn names_are_taken_once() {
    app(1)
        .up()
        .start()
        .refused("an app named `web` exists already: `reload web` or `restart web`, or choose another name");
}
