//! The number of slots follows the load.

use oxherd_core::{Event, Scaling};

use crate::script::{APP, Script, app_with};

fn scaled(min: u32, max: u32) -> Script {
    app_with(min, |spec| spec.scaling = Some(Scaling { min, max })).up()
}

/// So many looks, one a second, that find the workers so busy.
fn looks(script: Script, count: u32, busy: u32) -> Script {
    (0..count).fold(script, |script, _| script.event(Event::Loaded { app: APP, busy }).later(1000))
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
