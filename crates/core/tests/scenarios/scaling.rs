//! The number of slots follows the load.

use oxherd_core::{AppSpec, Event, Scaling};

use crate::script::{APP, Script, app, app_with};

fn scaled(min: u32, max: u32) -> Script {
    app_with(min, |spec| spec.scaling = Some(Scaling { min, max })).up()
}

/// So many looks, one a second, that find the workers so busy.
fn looks(script: Script, count: u32, busy: u32) -> Script {
    seen(script, count, busy, 0)
}

fn seen(script: Script, count: u32, busy: u32, waiting: u32) -> Script {
    (0..count).fold(script, |script, _| script.event(Event::Loaded { app: APP, busy, waiting }).later(1000))
}

#[test]
fn connections_that_wait_are_load_whatever_the_workers_compute() {
    let script = seen(scaled(2, 3), 2, 10, 2).did([]);
    let script = seen(script, 1, 10, 2).did(["spawn 3 s2 g1"]).told(["scaled 2 to 3"]).serves(3);
    let script = seen(script, 100, 10, 1);
    assert_eq!(script.status().apps[0].instances, 3, "somebody waits");
}

#[test]
fn slots_are_added_while_all_are_busy_up_to_the_bound() {
    let script = looks(scaled(1, 2), 3, 900).did(["spawn 2 s1 g1"]).told(["scaled 1 to 2"]);
    let script = looks(script, 9, 1000).serves(2).did(["admit 2"]);
    looks(script, 9, 1000).did([]);
}

#[test]
fn slots_are_taken_away_after_a_quiet_minute_down_to_the_bound() {
    let script = looks(scaled(1, 3), 3, 900).serves(2);
    let mut script = looks(script, 60, 100);
    script.forget();
    let script = looks(script, 1, 100).told(["scaled 2 to 1"]).did(["withdraw 2"]).goes(2);
    looks(script, 200, 0).did(["disconnect 2 Object", "sweep 2", "retire s1"]);
}

#[test]
fn the_number_stays_within_its_bounds_whatever_is_asked() {
    let beyond = "5 instances are not between 1 and 4, where the load decides: reload with other bounds";
    scaled(1, 4).scale(5).refused(beyond);
    let script = looks(scaled(1, 4), 3, 900).serves(2).reload();
    assert_eq!(script.status().apps[0].instances, 2, "a reload keeps what the load has made of it");
    let script = script.serves(3).goes(1).serves(4).goes(2).reload_with(|spec| {
        spec.scaling = Some(Scaling { min: 3, max: 4 });
    });
    assert_eq!(script.status().apps[0].instances, 3);
}

#[test]
fn bounds_that_a_reload_brings_hold_for_what_is_asked_meanwhile() {
    let scaled = |min, max| move |spec: &mut AppSpec| spec.scaling = Some(Scaling { min, max });
    let beyond = "5 instances are not between 1 and 4, where the load decides: reload with other bounds";
    let script = app(5).up().reload_with(scaled(1, 4)).scale(5).refused(beyond);
    let script = script.reload_with(scaled(1, 3)).scale(4);
    script.refused("4 instances are not between 1 and 3, where the load decides: reload with other bounds");
}

#[test]
fn a_reload_that_waited_keeps_to_its_bounds_whatever_came_of_the_one_before() {
    let to = |instances| move |spec: &mut AppSpec| (spec.instances, spec.scaling) = (instances, None);
    let script =
        app(1).up().reload_with(to(3)).reload_with(|spec| spec.scaling = Some(Scaling { min: 2, max: 3 }));
    // The first one adds two slots, and fails: they are gone again when the second begins.
    let script = script.exits(2, 1);
    assert_eq!(script.status().apps[0].instances, 3, "asked for when there were three");
    let script = app(4).up().reload_with(|spec| spec.scaling = Some(Scaling { min: 1, max: 2 }));
    let script = script.serves(5).goes(1).serves(6).goes(2);
    assert_eq!(script.status().apps[0].instances, 2);
}
