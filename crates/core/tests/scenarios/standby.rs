//! Standbys: booted beside the slots, held before they listen, and ready to take the slot of one that dies.

use oxherd_core::{Distribution, Event, Outcome, Request, RestartWhen, Signal, Slot, Sockets, Status};

use crate::script::{APP, Script, app_with, id, ms};

/// An app with a standby that is parked; what led there is taken.
fn with_standby(instances: u32) -> Script {
    let mut script = app_with(instances, |spec| spec.standby = 1).up().parks(instances + 1);
    script.forget();
    script
}

fn standbys(script: &Script) -> Vec<(u32, Status)> {
    let standbys = &script.status().apps[0].standbys;
    standbys.iter().map(|it| (it.place.slot.0, it.status)).collect()
}

#[test]
fn a_standby_is_booted_once_all_serve_and_is_no_worker() {
    let script = app_with(2, |spec| spec.standby = 1).start().serves(1).did([
        "spawn 1 s0 g1",
        "spawn 2 s1 g1",
        "admit 1",
    ]);
    let script = script.serves(2).did(["admit 2", "spawn 3 s2 g1 parks"]);
    let script = script.told(["all 2 serve [:80] after 0 ms", "change 1 done"]);
    assert_eq!(standbys(&script), [(2, Status::Starting)]);
    let script = script.parks(3).did([]).told(["3 parked"]).at(100_000).did([]).told([]);
    assert_eq!(standbys(&script), [(2, Status::Standby)]);
    assert_eq!(script.status().apps[0].slots.len(), 2);
    assert!(script.fleet.holds(id(3)) && !script.fleet.holds(id(1)));
}

#[test]
fn a_crash_promotes_it_and_another_is_booted_once_it_listens() {
    let script = with_standby(2).at(5000).dies(2, Signal::KILL).did(["sweep 2", "unpark 3 s1"]);
    let script = script.told(["respawn s1 0/16 in 0 ms", "3 takes s1"]);
    assert_eq!(script.status().apps[0].slots[1].instances[0].place.slot, Slot(1));
    assert!(!script.fleet.holds(id(3)));
    let script = script.later(20).listening(3).did(["admit 3", "spawn 4 s2 g1 parks"]);
    let script = script.told(["all 2 serve [:80] after 20 ms"]).parks(4).dies(1, Signal::KILL);
    let script = script.did(["sweep 1", "unpark 4 s0"]).listening(4).did(["admit 4", "spawn 5 s2 g1 parks"]);
    assert_eq!((script.restarts(0), script.restarts(1)), (1, 1));
}

#[test]
fn it_takes_over_whatever_the_back_off_says() {
    let script = app_with(1, |spec| (spec.standby, spec.restart_delay) = (1, Some(ms(60_000)))).up().parks(2);
    let mut script = script.at(100);
    script.forget();
    script.exits(1, 1).did(["sweep 1", "unpark 2 s0"]).told(["respawn s0 1/16 in 0 ms", "2 takes s0"]);
}

#[test]
fn one_that_parks_after_the_crash_does_not_wait_for_the_back_off() {
    let script = app_with(1, |spec| (spec.standby, spec.restart_delay) = (1, Some(ms(60_000)))).up();
    script
        .spawned(2)
        .exits(1, 1)
        .told(["respawn s0 1/16 in 1 min 0 s"])
        .parked(2)
        .did(["sweep 1", "unpark 2 s0"])
        .told(["2 parked", "2 takes s0"]);
}

#[test]
fn a_slot_that_gave_up_is_not_filled_and_its_standbys_go() {
    let mut script = app_with(1, |spec| (spec.standby, spec.max_restarts) = (1, 2)).up().parks(2).exits(1, 1);
    script = script.listening(2).parks(3);
    script.forget();
    // Just promoted, it counts as young however long it has waited.
    let script = script.at(500).exits(2, 1).did(["sweep 2", "SIGTERM 3"]);
    let script = script.told(["gave up s0: 2 exits within 1 min 0 s"]).ends(None);
    script.exits(3, 0).did(["sweep 3"]).told([]).ends(Some(Outcome::GaveUp));
}

#[test]
fn a_worker_that_is_not_to_be_restarted_is_not_relieved() {
    let script = app_with(1, |spec| (spec.standby, spec.restart) = (1, RestartWhen::Never)).up().parks(2);
    let mut script = script.at(5000);
    script.forget();
    script.exits(1, 0).did(["sweep 1", "SIGTERM 2"]).told(["finished s0 code 0"]);
}

#[test]
fn a_parked_one_that_dies_is_booted_again_with_pauses_and_ends_nothing() {
    let script = with_standby(1).at(200).exits(2, 1).did(["sweep 2"]).told(["standby s1 in 100 ms"]);
    let script = script.later(99).did([]).later(1).did(["spawn 3 s1 g1 parks"]).spawned(3).exits(3, 1);
    let mut script = script.told(["standby s1 in 200 ms"]).later(200).did(["sweep 3", "spawn 4 s1 g1 parks"]);
    for (number, pause) in (4..24).zip([400, 800, 1600, 3200, 6400, 12_800].into_iter().chain([15_000; 14])) {
        script = script.spawned(number).exits(number, 1).later(pause);
    }
    script.forget();
    let script = script.parks(24).later(1000).exits(24, 1).told(["24 parked", "standby s1 in 0 ms"]);
    script.did(["sweep 24", "spawn 25 s1 g1 parks"]).ends(None);
}

#[test]
fn one_that_cannot_be_spawned_at_all_is_not_tried_again_before_a_reload() {
    let script = app_with(1, |spec| spec.standby = 1).up().cannot_spawn(2, true).told([]);
    let script = script.later(100_000).did([]).exits(1, 1).told(["respawn s0 0/16 in 0 ms"]);
    let mut script = script.did(["sweep 1", "spawn 3 s0 g1"]).serves(3).reload().serves(4);
    script.forget();
    script.goes(3).did(["disconnect 3 Object", "sweep 3", "spawn 5 s1 g2 parks"]);
}

#[test]
fn one_that_cannot_be_spawned_now_is_tried_later() {
    let script = app_with(1, |spec| spec.standby = 1).up().cannot_spawn(2, false);
    script.told(["standby s1 in 100 ms"]).later(100).did(["spawn 3 s1 g1 parks"]);
}

#[test]
fn one_that_cannot_be_held_goes_and_is_not_booted_again_before_a_reload() {
    let script = app_with(1, |spec| spec.standby = 1).up().spawned(2);
    let script = script.event(Event::CannotPark { instance: id(2) }).did(["SIGTERM 2"]).exits(2, 0);
    let script = script.later(100_000).did(["sweep 2"]).told([]).reload().serves(3).goes(1);
    script.did([
        "spawn 3 s0 g2",
        "admit 3",
        "withdraw 1",
        "disconnect 1 Object",
        "sweep 1",
        "spawn 4 s1 g2 parks",
    ]);
}

#[test]
fn one_that_is_heard_to_listen_before_the_word_that_it_cannot_be_held_takes_no_slot() {
    let script = app_with(1, |spec| spec.standby = 1).up().listening(2);
    let script = script.event(Event::CannotPark { instance: id(2) }).did(["SIGTERM 2"]);
    script.exits(1, 1).did(["sweep 1"]).later(100).did(["spawn 3 s0 g1"]);
}

#[test]
fn one_of_a_batch_that_cannot_be_held_goes_on_alone() {
    let script = app_with(2, |spec| spec.parallel = 2).up().reload().spawned(3).spawned(4);
    let script = script.event(Event::CannotPark { instance: id(3) }).parked(4);
    script.did(["spawn 3 s0 g2 parks", "spawn 4 s1 g2 parks", "unpark 4 s1"]).parked(3).did(["unpark 3 s0"]);
}

#[test]
fn nothing_but_a_slot_makes_it_ready() {
    let script = with_standby(1).listening(2).ready(2).at(100_000).did([]);
    // It listens already: there is nothing to wait for.
    script.exits(1, 1).did(["sweep 1", "unpark 2 s0", "admit 2", "spawn 3 s1 g1 parks"]);
}

#[test]
fn what_it_said_while_it_was_held_counts_with_wait_ready() {
    let script = app_with(1, |spec| (spec.standby, spec.wait_ready) = (1, true)).start().serves(1).ready(1);
    let mut script = script.spawned(2).ready(2).parked(2).at(5000);
    script.forget();
    script.exits(1, 1).did(["sweep 1", "unpark 2 s0", "admit 2", "spawn 3 s1 g1 parks"]);
}

#[test]
fn one_that_never_parks_is_told_of_and_not_used() {
    let script = app_with(1, |spec| spec.standby = 1).up().spawned(2).at(30_000);
    let script = script.told(["2 not ready after 30 s"]).did([]);
    script.exits(1, 1).did(["sweep 1", "spawn 3 s0 g1"]);
}

#[test]
fn a_reload_replaces_it_afterwards() {
    let script = with_standby(1).reload().serves(3).did(["spawn 3 s0 g2", "admit 3", "withdraw 1"]);
    let script = script.goes(1).did(["disconnect 1 Object", "sweep 1", "SIGTERM 2", "spawn 4 s1 g2 parks"]);
    assert_eq!(standbys(&script), [(1, Status::Starting), (1, Status::Stopping)]);
    let script = script.exits(2, 0).parks(4).at(5000).exits(3, 1);
    script.did(["sweep 2", "sweep 3", "unpark 4 s0"]);
}

#[test]
fn amid_a_reload_it_takes_slots_of_its_own_generation_only() {
    // Slot 0 runs the new generation already.
    let mut script = with_standby(2).at(5000).reload().serves(4).goes(1).spawned(5).at(7000);
    script.forget();
    let script = script.exits(4, 1).did(["sweep 4", "spawn 6 s0 g2"]);
    assert_eq!(standbys(&script), [(2, Status::Standby)]);

    // The new generation is no good: the slot goes back to the old one.
    let mut script = with_standby(2).at(5000).reload().serves(4).goes(1).spawned(5);
    script.forget();
    script.exits(4, 1).did(["sweep 4", "SIGTERM 5", "unpark 3 s0"]);

    let mut script = with_standby(2).at(5000).reload();
    script.forget();
    script.exits(2, 1).did(["sweep 2", "unpark 3 s1"]);
}

#[test]
fn a_reload_may_bring_more_or_none() {
    let script = with_standby(1).reload_with(|spec| spec.standby = 2).serves(3).goes(1);
    let script = script.did([
        "spawn 3 s0 g2",
        "admit 3",
        "withdraw 1",
        "disconnect 1 Object",
        "sweep 1",
        "SIGTERM 2",
        "spawn 4 s1 g2 parks",
        "spawn 5 s2 g2 parks",
    ]);
    let script = script.parks(4).parks(5).exits(2, 0).reload_with(|spec| spec.standby = 0).serves(6).goes(3);
    script.did([
        "sweep 2",
        "spawn 6 s0 g3",
        "admit 6",
        "withdraw 3",
        "disconnect 3 Object",
        "sweep 3",
        "SIGTERM 4",
        "SIGTERM 5",
    ]);
}

#[test]
fn a_new_slot_is_taken_by_the_parked_one_of_its_number() {
    let script = with_standby(1).scale(2).did(["unpark 2 s1"]).told(["scaled 1 to 2", "2 takes s1"]);
    script
        .listening(2)
        .did(["admit 2", "spawn 3 s2 g1 parks"])
        .told(["all 2 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn one_that_boots_with_the_number_of_a_new_slot_is_replaced() {
    let script = app_with(1, |spec| spec.standby = 1).up().spawned(2).scale(2);
    script.did(["spawn 3 s1 g1", "SIGTERM 2"]).serves(3).did(["admit 3", "spawn 4 s2 g1 parks"]);
}

#[test]
fn with_fewer_slots_it_keeps_its_number() {
    let script = with_standby(2).scale(1).did(["withdraw 2"]).goes(2).parked(3);
    let script = script.did(["disconnect 2 Object", "sweep 2", "retire s1"]);
    assert_eq!(standbys(&script), [(2, Status::Standby)]);
}

#[test]
fn stop_and_restart_take_it_along() {
    let script = with_standby(1).stop().doors_closed().did(["close doors", "SIGTERM 2", "withdraw 1"]);
    let script = script.goes(1).told([]).exits(2, 0).told(["stopped", "change 2 done"]);
    script.did(["disconnect 1 Object", "sweep 1", "sweep 2", "close listeners"]);

    let script = with_standby(1).restart().did(["SIGTERM 2", "withdraw 1"]).goes(1);
    let script = script.did(["disconnect 1 Object", "sweep 1", "spawn 3 s0 g1"]).serves(3);
    script.did(["admit 3", "spawn 4 s1 g1 parks"]);
}

#[test]
fn a_crash_while_the_app_stops_promotes_nobody() {
    let script = with_standby(2).stop().exits(1, 1).did(["close doors", "sweep 1"]);
    script.doors_closed().did(["SIGTERM 3", "withdraw 2"]);
}

#[test]
fn one_that_is_asked_to_leave_is_replaced() {
    let script = with_standby(1).ask(Request::Retire { instance: id(2) });
    script.did(["SIGTERM 2", "spawn 3 s1 g1 parks"]).told(["change 2 done"]);
}

#[test]
fn its_errors_are_no_slot_s() {
    let script = app_with(1, |spec| (spec.standby, spec.max_errors) = (1, Some(1))).up().parks(2);
    let script = script.event(Event::ErrorReported { instance: id(2), error: "oh".into() });
    script.told(["2 parked"]).exits(2, 1).told(["standby s1 in 100 ms"]);
}

#[test]
fn late_and_repeated_news_of_it_change_nothing() {
    let script = with_standby(1).parked(2).did([]).told([]).at(5000).exits(1, 1);
    script.did(["sweep 1", "unpark 2 s0"]).parked(2).did(["unpark 2 s0"]).listening(2).parked(2).did([
        "admit 2",
        "spawn 3 s1 g1 parks",
        "unpark 2 s0",
    ]);
}

#[test]
fn a_slot_with_variables_of_its_own_is_not_for_a_standby() {
    let script = with_standby(1);
    let env = vec![("ROLE".into(), "x".into())];
    let script = script.ask(Request::Fork { app: APP, slot: Slot(1), env });
    script.did(["spawn 3 s1 g1", "SIGTERM 2"]).serves(3).did(["admit 3", "spawn 4 s2 g1 parks"]);
}

#[test]
fn a_worker_that_is_lent_its_sockets_is_drained_before_it_is_told() {
    let lent = |standby| {
        app_with(1, move |spec| {
            (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
            spec.standby = standby;
        })
    };
    let script = lent(0).up().stop().doors_closed().did(["close doors", "withdraw 1"]);
    let script = script.later(300).withdrawn(1).did(["SIGTERM 1"]).later(4999).did([]);
    script.later(1).did(["kill 1"]).dies(1, Signal::KILL).told(["stopped", "change 2 done"]);

    // What is not done in time is told anyway.
    let script = lent(0).up().reload().serves(2).did(["spawn 2 s0 g2", "admit 2", "withdraw 1"]);
    let script = script.later(9999).did([]).later(1).did(["SIGTERM 1"]).exits(1, 0).withdrawn(1);
    script.did(["sweep 1"]).told(["g2 done in 10 s", "change 2 done"]);

    // Its age is no readiness where others of its kind listen.
    let script = lent(1).up().parks(2).at(5000).exits(1, 1).later(5000).told([
        "2 parked",
        "respawn s0 0/16 in 0 ms",
        "2 takes s0",
    ]);
    script.listening(2).told(["all 1 serve [:80] after 5 s"]);
}
