//! What follows when a worker ends by itself.

use oxherd_core::{Event, Outcome, RestartWhen, Signal, Status};

use crate::script::{app, app_with, id, ms};

#[test]
fn a_crash_is_followed_by_a_respawn_after_the_back_off() {
    app(1)
        .up()
        .at(500)
        .dies(1, Signal::KILL)
        .did(["sweep 1"])
        .told(["respawn s0 1/16 in 100 ms"])
        .at(599)
        .did([])
        .at(600)
        .did(["spawn 2 s0 g1"])
        .serves(2)
        .did(["admit 2"])
        .told(["all 1 serve [:80] after 100 ms"])
        .later(100)
        .exits(2, 1)
        .told(["respawn s0 2/16 in 200 ms"])
        .later(200)
        .serves(3)
        .later(5000)
        .exits(3, 1)
        .told(["all 1 serve [:80] after 200 ms", "respawn s0 2/16 in 0 ms"])
        .did(["sweep 2", "spawn 3 s0 g1", "admit 3", "sweep 3", "spawn 4 s0 g1"]);
}

#[test]
fn a_slot_gives_up_and_so_does_the_fleet() {
    app_with(1, |spec| spec.max_restarts = 2)
        .start()
        .spawned(1)
        .exits(1, 1)
        .told(["respawn s0 1/2 in 100 ms"])
        .later(100)
        .spawned(2)
        .exits(2, 1)
        .told(["gave up s0: 2 exits within 1 min 0 s", "change 1 failed"])
        .later(100_000)
        .did(["spawn 1 s0 g1", "sweep 1", "spawn 2 s0 g1", "sweep 2"])
        .ends(Some(Outcome::GaveUp));
}

#[test]
fn a_fixed_delay_takes_the_place_of_the_back_off() {
    app_with(1, |spec| spec.restart_delay = Some(ms(70)))
        .up()
        .exits(1, 1)
        .told(["respawn s0 1/16 in 70 ms"])
        .at(70)
        .did(["sweep 1", "spawn 2 s0 g1"]);
}

#[test]
fn on_failure_lets_code_0_be_the_end_but_no_signal() {
    let script = app_with(2, |spec| spec.restart = RestartWhen::OnFailure).up();
    script
        .at(2000)
        .exits(1, 0)
        .told(["finished s0 code 0"])
        .ends(None)
        .dies(2, Signal::TERM)
        .told(["respawn s1 0/16 in 0 ms"])
        .serves(3)
        .exits(3, 0)
        .told(["finished s1 code 0"])
        .ends(Some(Outcome::AllEnded));
}

#[test]
fn never_means_never() {
    app_with(1, |spec| spec.restart = RestartWhen::Never)
        .start()
        .spawned(1)
        .exits(1, 3)
        .told(["finished s0 code 3", "change 1 failed"])
        .ends(Some(Outcome::AllEnded));
}

#[test]
fn a_program_that_is_through_has_not_failed_to_start() {
    app_with(1, |spec| spec.restart = RestartWhen::Never)
        .start()
        .spawned(1)
        .exits(1, 0)
        .told(["finished s0 code 0", "change 1 done"])
        .ends(Some(Outcome::AllEnded));
    app_with(2, |spec| spec.stop_exit_codes = vec![7])
        .start()
        .spawned(1)
        .spawned(2)
        .exits(1, 7)
        .told(["finished s0 code 7"])
        .exits(2, 7)
        .told(["finished s1 code 7", "change 1 done"]);
}

#[test]
fn reported_errors_and_failures_fill_one_window() {
    let report = |number| Event::ErrorReported { instance: id(number), error: "oh".into() };
    app_with(1, |spec| (spec.max_errors, spec.error_window) = (Some(3), ms(10_000)))
        .up()
        .at(2000)
        .event(report(1))
        .event(report(1))
        .at(3000)
        .exits(1, 1)
        .told(["respawn s0 0/16 in 0 ms"])
        .serves(2)
        .at(5000)
        .exits(2, 1)
        .told(["all 1 serve [:80] after 0 ms", "gave up s0: 3 errors within 10 s"])
        .ends(Some(Outcome::GaveUp));
}

#[test]
fn errors_of_long_ago_are_forgiven_even_without_a_new_one() {
    let report = |number| Event::ErrorReported { instance: id(number), error: "oh".into() };
    app_with(1, |spec| (spec.max_errors, spec.error_window) = (Some(2), ms(10_000)))
        .up()
        .event(report(1))
        .at(60_000)
        .event(report(1))
        .exits(1, 0)
        .told(["respawn s0 0/16 in 0 ms"]);
}

#[test]
fn too_many_reports_end_a_worker_that_goes_on() {
    let report = || Event::ErrorReported { instance: id(1), error: "oh".into() };
    app_with(1, |spec| spec.max_errors = Some(2))
        .up()
        .event(report())
        .told([])
        .event(report())
        .did(["withdraw 1"])
        .told(["gave up s0: 2 errors within 1 min 0 s"])
        .exits(1, 0)
        .ends(Some(Outcome::GaveUp));
}

#[test]
fn a_program_that_does_not_exist_is_not_tried_twice() {
    app(2)
        .start()
        .cannot_spawn(1, true)
        .cannot_spawn(2, true)
        .did(["spawn 1 s0 g1", "spawn 2 s1 g1"])
        .told(["gave up s0: cannot run node", "change 1 failed", "gave up s1: cannot run node"])
        .ends(Some(Outcome::GaveUp));
}

#[test]
fn a_passing_spawn_failure_is_an_unstable_exit() {
    app(1)
        .start()
        .cannot_spawn(1, false)
        .told(["respawn s0 1/16 in 100 ms"])
        .at(100)
        .did(["spawn 1 s0 g1", "spawn 2 s0 g1"])
        .serves(2)
        .told(["all 1 serve [:80] after 100 ms", "change 1 done"]);
}

#[test]
fn a_slot_that_gave_up_starts_afresh_on_restart() {
    app_with(1, |spec| spec.max_restarts = 1)
        .start()
        .spawned(1)
        .exits(1, 1)
        .told(["gave up s0: 1 exits within 1 min 0 s", "change 1 failed"])
        .restart()
        .did(["spawn 1 s0 g1", "sweep 1", "spawn 2 s0 g1"])
        .serves(2)
        .told(["all 1 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn a_slot_whose_worker_is_done_does_not_wait_for_a_restart() {
    let script = app_with(1, |spec| {
        (spec.stop_exit_codes, spec.restart_delay) = (vec![7], Some(ms(500)));
    });
    let script = script.up().later(5000).exits(1, 7);
    assert_eq!(script.status().apps[0].slots[0].status, Status::Stopped);
    assert_eq!(script.fleet.poll_timeout(), None, "nothing will happen, and nobody is told so");
    script.told(["finished s0 code 7"]).ends(Some(Outcome::AllEnded));
}

#[test]
fn whoever_waits_for_a_restart_is_restarted() {
    for growing in [None, Some(ms(400))] {
        let script = app_with(1, |spec| {
            spec.restart_delay = growing.is_none().then(|| ms(400));
            spec.exp_backoff_restart_delay = growing;
        });
        let script = script.up().later(5000).dies(1, Signal::KILL);
        assert_eq!(script.status().apps[0].slots[0].status, Status::WaitingRestart);
        script.later(399).did(["sweep 1"]).later(1).did(["spawn 2 s0 g1"]);
    }
}
