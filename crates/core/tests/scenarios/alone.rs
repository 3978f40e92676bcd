//! Workers that bind their own sockets cannot run side by side: the old one ends before the next starts. And
//! restarts that bring another configuration.

use oxherd_core::{Distribution, Request, Slot, Sockets};

use crate::script::{APP, Script, app, app_with, id};

fn alone(instances: u32) -> Script {
    app_with(instances, |spec| spec.sockets = Sockets::None).up()
}

impl Script {
    fn restart_with(self, change: impl FnOnce(&mut oxherd_core::AppSpec)) -> Self {
        let mut spec = self.spec.clone();
        change(&mut spec);
        self.ask(Request::Restart { app: APP, spec: Some(Box::new(spec)) })
    }
}

#[test]
fn a_reload_ends_the_old_ones_first() {
    let script = alone(2).later(5000).reload();
    script
        .did(["withdraw 1", "SIGTERM 1", "withdraw 2", "SIGTERM 2"])
        .exits(1, 0)
        .did(["sweep 1", "spawn 3 s0 g2"])
        .exits(2, 0)
        .did(["sweep 2", "spawn 4 s1 g2"])
        .spawned(3)
        .spawned(4)
        .later(1000)
        .did(["admit 3", "admit 4"])
        .told(["all 2 serve [] after 1 s", "change 2 done"]);
}

#[test]
fn a_reload_may_bring_another_number() {
    let mut script = alone(1).later(5000);
    script.forget();
    let script = script.reload_with(|spec| (spec.sockets, spec.instances) = (Sockets::None, 2));
    script.did(["withdraw 1", "SIGTERM 1", "spawn 2 s1 g2"]).exits(1, 0).did(["sweep 1", "spawn 3 s0 g2"]);
}

#[test]
fn one_slot_is_replaced_by_itself_and_nothing_is_held_against_it() {
    let mut script = alone(2).later(5000);
    script.forget();
    let script = script.recycle(1).recycle(0).did(["withdraw 2", "SIGTERM 2"]).exits(2, 1);
    let script = script.did(["sweep 2", "spawn 3 s1 g1"]).spawned(3).later(1000).told([
        "2 to be replaced: Asked",
        "s1 replaced in 1 s",
        "change 2 done",
        "1 to be replaced: Asked",
    ]);
    let script = script.did(["admit 3", "withdraw 1", "SIGTERM 1"]).exits(1, 0).spawned(4).exits(4, 1);
    assert_eq!(script.restarts(1), 0);
    script.did(["sweep 1", "spawn 4 s0 g1", "sweep 4"]).told(["respawn s0 1/16 in 100 ms"]);
}

#[test]
fn a_replacement_whose_slot_stays_empty_has_failed() {
    let mut script =
        app_with(1, |spec| (spec.sockets, spec.max_restarts) = (Sockets::None, 1)).up().later(5000);
    script.forget();
    script.recycle(0).exits(1, 0).spawned(2).exits(2, 1).told([
        "1 to be replaced: Asked",
        "gave up s0: 1 exits within 1 min 0 s",
        "change 2 failed",
    ]);
}

#[test]
fn a_restart_brings_another_configuration_to_whoever_starts_next() {
    let script = app(2).up().restart_with(|spec| spec.instances = 1);
    let script =
        script.did(["withdraw 1", "withdraw 2"]).goes(2).did(["disconnect 2 Object", "sweep 2", "retire s1"]);
    script.goes(1).did(["disconnect 1 Object", "sweep 1", "spawn 3 s0 g2"]).serves(3).did(["admit 3"]);
}

#[test]
fn a_restart_may_change_how_workers_are_reached() {
    app(1)
        .up()
        .reload()
        .spawned(2)
        .did(["spawn 2 s0 g2"])
        .restart_with(|spec| (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel))
        .doors_closed()
        .did(["SIGTERM 2", "close doors", "withdraw 1"])
        .exits(2, 0)
        .goes(1)
        .did(["sweep 2", "disconnect 1 Object", "sweep 1", "close listeners", "spawn 3 s0 g3"]);
}

#[test]
fn a_stopped_app_is_restarted_by_the_new_one_and_a_wrong_one_changes_nothing() {
    let script = app(1).up().stop().doors_closed().goes(1);
    let mut script = script.restart_with(|spec| spec.name = "other".into());
    script = script.refused("this cannot change the name of an app: delete it and start it anew");
    script.forget();
    let script = script.restart_with(|spec| spec.instances = 2).did(["spawn 2 s0 g2", "spawn 3 s1 g2"]);
    let place = script.fleet.occupant(APP, Slot(0)).map(|place| place.instance);
    assert_eq!(place, Some(id(2)));
}
