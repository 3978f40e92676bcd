//! Another primary takes over while workers are held before they listen. Calls of workers that are lent their sockets
//! outlive a primary; a question on a channel does not.

use oxherd_core::{
    AppSpec, Child, Distribution, Fleet, Generation, Image, Inventory, Label, Moment, Place, Slot, Sockets,
    Status,
};

use crate::script::{APP, Script, app_with, id};

fn child(slot: u32, generation: u32, number: u32) -> Child {
    let place =
        Place { app: APP, slot: Slot(slot), generation: Generation(generation), instance: id(number) };
    let born = Some(Moment::from_millis(0));
    Child { label: Label(place), listens: false, was_ready: false, leaving: false, born, ended: false }
}

fn listens(slot: u32, generation: u32, number: u32) -> Child {
    Child { listens: true, ..child(slot, generation, number) }
}

fn inventory<const N: usize>(children: [Child; N]) -> Inventory {
    Inventory { boot_id: "boot".into(), children: children.to_vec(), ..Inventory::default() }
}

/// What a primary has left of itself.
fn image(script: &Script) -> Image {
    let text = serde_json::to_string(&script.fleet.image()).expect("an image is JSON");
    serde_json::from_str(&text).expect("an image reads back")
}

/// Another primary takes over from `image`; numbers go on where they were.
fn from<const N: usize>(image: Image, mut script: Script, children: [Child; N]) -> Script {
    script.forget();
    script.fleet = Fleet::from_image(image, &inventory(children), script.moment()).expect("the image fits");
    script.drain();
    script
}

fn taken_over<const N: usize>(script: Script, children: [Child; N]) -> Script {
    from(image(&script), script, children)
}

fn lent(instances: u32, change: impl FnOnce(&mut AppSpec)) -> Script {
    app_with(instances, |spec| {
        (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
        change(spec);
    })
}

fn with_standby() -> Script {
    lent(1, |spec| spec.standby = 1).up().parks(2)
}

fn standbys(script: &Script) -> Vec<Status> {
    script.status().apps[0].standbys.iter().map(|it| it.status).collect()
}

#[test]
fn a_parked_one_that_is_lent_its_sockets_stays_parked() {
    let script = taken_over(with_standby().at(5000), [listens(0, 1, 1), child(1, 1, 2)]);
    assert!(script.fleet.holds(id(2)) && !script.fleet.holds(id(1)));
    // Its call is seen anew.
    let script = script.did(["unpark 1 s0", "admit 1"]).told([]).parked(2).did([]).told([]);
    assert_eq!(standbys(&script), [Status::Standby]);
    script.exits(1, 1).did(["sweep 1", "unpark 2 s0"]);
}

#[test]
fn a_parked_one_with_a_channel_is_replaced_and_nobody_is_blamed() {
    let script = app_with(1, |spec| spec.standby = 1).up().parks(2);
    let script = taken_over(script, [listens(0, 1, 1), child(1, 1, 2)]).told([]);
    let script = script.did(["admit 1", "SIGTERM 2", "spawn 3 s1 g1 parks"]).exits(2, 0).parks(3);
    script.did(["sweep 2"]).told(["3 parked"]);
}

#[test]
fn one_that_boots_and_is_lent_its_sockets_goes_on() {
    let script = lent(1, |spec| spec.standby = 1).up().spawned(2);
    let script = taken_over(script, [listens(0, 1, 1), child(1, 1, 2)]).did(["unpark 1 s0", "admit 1"]);
    script.parked(2).told(["2 parked"]).at(100_000).did([]);
}

#[test]
fn the_order_to_let_one_go_is_given_again() {
    let script = with_standby().at(5000).exits(1, 1);
    let script = taken_over(script, [child(1, 1, 2)]).did(["unpark 2 s0"]).told([]);
    script.listening(2).did(["admit 2", "spawn 3 s1 g1 parks"]).told(["all 1 serve [:80] after 0 ms"]);
}

#[test]
fn one_with_a_channel_is_told_its_slot_again() {
    let script = app_with(1, |spec| spec.standby = 1).up().parks(2).at(5000).exits(1, 1).listening(2);
    let script = taken_over(script, [listens(1, 1, 2)]);
    assert_eq!(script.fleet.place_of(id(2)).map(|place| place.slot), Some(Slot(0)));
    script.did(["sweep 3", "unpark 2 s0", "admit 2", "spawn 4 s1 g1 parks"]);
}

#[test]
fn one_that_was_let_go_after_the_image_is_found_to_listen() {
    let script = with_standby();
    let stale = image(&script);
    let script = script.at(5000).exits(1, 1).listening(2);
    let script = from(stale, script, [listens(1, 1, 2)]);
    script.did(["sweep 1", "unpark 2 s0", "admit 2", "spawn 3 s1 g1 parks"]);
}

#[test]
fn a_batch_is_let_go_by_whoever_sees_the_last_of_it_boot() {
    let script = lent(2, |spec| spec.parallel = 2).up().reload().parks(3).spawned(4);
    let children = [listens(0, 1, 1), listens(1, 1, 2), child(0, 2, 3), child(1, 2, 4)];
    let script = taken_over(script, children).did(["unpark 1 s0", "admit 1", "unpark 2 s1", "admit 2"]);
    script.parked(3).parked(4).did(["unpark 3 s0", "unpark 4 s1"]).told(["4 parked"]);
}

#[test]
fn one_that_is_gone_is_booted_again() {
    let script = taken_over(with_standby(), [listens(0, 1, 1)]);
    let script = script.did(["sweep 2", "unpark 1 s0", "admit 1"]).told(["standby s1 in 100 ms"]);
    script.later(100).did(["spawn 3 s1 g1 parks"]);
}

#[test]
fn one_that_was_only_ordered_is_ordered_again() {
    let script = taken_over(lent(1, |spec| spec.standby = 1).up(), [listens(0, 1, 1)]);
    script.did(["sweep 2", "unpark 1 s0", "admit 1", "spawn 3 s1 g1 parks"]).told([]);
}

#[test]
fn without_an_image_a_number_that_is_no_slot_s_is_led_out() {
    let mut script = with_standby().at(5000).exits(1, 1).listening(2).parks(3);
    let desired = script.fleet.desired();
    script.forget();
    let children = inventory([listens(1, 1, 2), child(1, 1, 3)]);
    script.fleet = Fleet::from_desired(desired, script.limits(), &children, script.moment());
    script.drain();
    // The one that served is drained, the one that was held has nothing to finish.
    script.did(["SIGTERM 3", "withdraw 2", "spawn 4 s0 g1"]).told([]);
}

#[test]
fn without_an_image_whoever_has_a_slot_is_let_go() {
    let mut script = lent(1, |_| {}).up();
    let desired = script.fleet.desired();
    script.forget();
    let children = inventory([Child { born: None, ..child(0, 1, 1) }]);
    script.fleet = Fleet::from_desired(desired, script.limits(), &children, script.moment());
    script.drain();
    script.did(["unpark 1 s0"]).listening(1).did(["admit 1"]);
}
