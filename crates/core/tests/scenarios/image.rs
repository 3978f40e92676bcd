//! Images: what is written must keep loading, and what cannot be loaded is refused.

use oxherd_core::{
    Child, Distribution, Event, Fleet, Generation, Image, ImageError, InstanceId, Inventory, Label, Moment,
    Place, Slot, Sockets, Strategy,
};

use crate::script::{APP, Script, app, app_with, id};

fn place(slot: u32, generation: u32, instance: InstanceId) -> Place {
    Place { app: APP, slot: Slot(slot), generation: Generation(generation), instance }
}

fn child(slot: u32, generation: u32, number: u32, listens: bool) -> Child {
    let label = Label(place(slot, generation, id(number)));
    Child { label, listens, was_ready: false, leaving: false, born: None, ended: false }
}

fn inventory(children: Vec<Child>) -> Inventory {
    Inventory { boot_id: "boot".into(), starts: 1, children, ..Inventory::default() }
}

/// Another primary takes over with these children.
fn taken_over(mut script: Script, children: Vec<Child>) -> Script {
    let text = serde_json::to_string(&script.fleet.image()).expect("an image is JSON");
    assert_eq!(serde_json::to_string(&script.fleet.image_ref()).expect("it is JSON too"), text);
    let image: Image = serde_json::from_str(&text).expect("an image reads back");
    script.fleet = Fleet::from_image(image, &inventory(children), script.moment()).expect("the image fits");
    script.drain();
    script
}

/// As it was the default when version 1 was new.
fn in_turn(instances: u32) -> Script {
    app_with(instances, |spec| spec.strategy = Strategy::RoundRobin)
}

/// What is compared with `image-v1.json`: amid a reload, with one worker of each kind.
fn amid_a_reload() -> Script {
    in_turn(2).up().at(100).reload().at(150).serves(3).at(200).event(Event::Withdrawn { instance: id(1) })
}

/// What is compared with `image-v1-more.json`: amid a reload that adds a slot, with another behind it; one worker was
/// interrupted by an earlier takeover.
fn amid_a_growing_reload() -> Script {
    let script = in_turn(1).up().at(100).reload_with(|spec| spec.instances = 2).spawned(2);
    let children = vec![child(0, 1, 1, true), child(1, 2, 2, false)];
    taken_over(script, children).reload_with(|spec| spec.instances = 1)
}

/// What is compared with `image-v1-end.json`: the fleet ends, and was to be up.
fn amid_the_end() -> Script {
    in_turn(1).up().shutdown()
}

/// What is compared with `image-v1-weights.json`: a reload brings weights.
fn amid_a_reload_with_weights() -> Script {
    in_turn(2).up().at(100).reload_with(|spec| {
        spec.strategy = Strategy::Weighted;
        spec.weights = vec![3, 1];
    })
}

/// What is compared with `image-v1-standby.json`: a standby has just taken a slot, one that was to follow it has died,
/// and a batch of the next generation is held.
fn amid_standbys() -> Script {
    let script = app_with(2, |spec| {
        (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
        (spec.parallel, spec.standby, spec.ports) = (2, 2, "80,8000-8999".parse().expect("these are ports"));
    });
    let script = script.up().parks(3).parks(4).at(2000).exits(1, 1).exits(4, 1).listening(3);
    script.at(2050).exits(2, 1).reload().parks(6).parks(5).exits(6, 1)
}

/// Version 1 may grow by what old bytes need not have; what was written once keeps loading.
#[test]
fn images_of_version_1_are_what_is_written_now_and_keep_loading() {
    let golden = [
        ("image-v1.json", include_str!("image-v1.json"), amid_a_reload()),
        ("image-v1-more.json", include_str!("image-v1-more.json"), amid_a_growing_reload()),
        ("image-v1-end.json", include_str!("image-v1-end.json"), amid_the_end()),
        ("image-v1-weights.json", include_str!("image-v1-weights.json"), amid_a_reload_with_weights()),
        ("image-v1-standby.json", include_str!("image-v1-standby.json"), amid_standbys()),
    ];
    for (name, text, script) in golden {
        let written = serde_json::to_value(script.fleet.image()).expect("an image is JSON");
        if std::env::var_os("OXHERD_WRITE_GOLDEN").is_some() {
            let text = serde_json::to_string_pretty(&written).expect("an image is JSON");
            let path = format!("{}/tests/scenarios/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, text + "\n").expect("the golden file is written");
        }
        let kept: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(written, kept, "{name}: version 1 changed its shape: that needs a new version");
        let image: Image = serde_json::from_str(text).expect("version 1 loads");
        assert_eq!(
            serde_json::to_value(&image).expect("an image is JSON"),
            kept,
            "{name} reads back as another"
        );
    }
}

#[test]
fn a_fleet_goes_on_from_bytes_of_version_1() {
    let image: Image = serde_json::from_str(include_str!("image-v1.json")).expect("version 1 loads");
    let children =
        vec![child(0, 2, 3, true), child(1, 1, 2, true), child(1, 2, 4, false), child(0, 1, 1, true)];
    let fleet = Fleet::from_image(image, &inventory(children), Moment::from_millis(2000)).expect("it fits");
    let status = fleet.status(Moment::from_millis(2000));
    assert_eq!(status.apps[0].reload.as_ref().map(|it| it.replaced), Some(1));
}

#[test]
fn another_version_and_another_boot_are_refused() {
    let image = app(1).up().fleet.image();
    let mut value = serde_json::to_value(&image).expect("an image is JSON");
    value["version"] = 7.into();
    let other: Image = serde_json::from_value(value).expect("the shape is the same");
    let now = Moment::from_millis(0);
    let refused = Fleet::from_image(other, &inventory(Vec::new()), now).map(drop);
    assert_eq!(refused, Err(ImageError::Version { found: 7 }));
    let elsewhere = Inventory { boot_id: "other".into(), ..inventory(Vec::new()) };
    assert_eq!(Fleet::from_image(image, &elsewhere, now).map(drop), Err(ImageError::OtherBoot));
}

#[test]
fn who_was_seen_ready_by_nobody_is_admitted() {
    let script = app(1).start().spawned(1);
    taken_over(script, vec![child(0, 1, 1, true)]).did(["spawn 1 s0 g1", "admit 1"]);
}

#[test]
fn a_stall_is_found_out_anew() {
    let script = app(1).up().event(Event::Stalled { instance: id(1) });
    taken_over(script, vec![child(0, 1, 1, true)]).did(["withdraw 1", "admit 1"]);
}

#[test]
fn an_instance_without_a_process_gets_its_exit_and_its_tree_is_swept() {
    let script = app(2).up().at(5000);
    taken_over(script, vec![child(1, 1, 2, true)])
        .did(["sweep 1", "admit 2", "spawn 1 s0 g1"])
        .told(["respawn s0 0/16 in 0 ms"]);
}

#[test]
fn an_order_to_start_that_was_lost_is_given_again() {
    taken_over(app(1).start(), Vec::new()).did(["spawn 1 s0 g1", "sweep 1", "spawn 1 s0 g1"]).told([]);
}

#[test]
fn an_unknown_child_takes_its_empty_slot() {
    let mut script = app(1).up().at(500);
    script = taken_over(script, vec![child(0, 1, 7, true)]);
    script.did(["sweep 1", "admit 7"]).told(["respawn s0 1/16 in 100 ms", "7 adopted"]).at(60_000).did([]);
}

#[test]
fn an_unknown_child_ends_what_was_given_up() {
    let script = app_with(1, |spec| spec.max_restarts = 1).start().spawned(1).exits(1, 1);
    let mut script = taken_over(script, vec![child(0, 1, 7, false)]);
    script.forget();
    let another = InstanceId { starts: 1, number: 1 };
    let script = script.scale(1).told([]).event(Event::Spawned { instance: another });
    let listens = Event::Listening { instance: another, address: ":80".into() };
    script.event(listens).told(["all 1 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn a_channel_that_nobody_saw_open_is_seen_to_close() {
    let script = taken_over(app(1).start().spawned(1), vec![child(0, 1, 1, true)]);
    let closed = script.event(Event::ChannelClosed { instance: id(1) });
    closed.did(["spawn 1 s0 g1", "admit 1", "withdraw 1"]);
}

#[test]
fn an_unknown_child_of_the_coming_generation_is_the_successor() {
    let script = app(1).up().reload();
    taken_over(script, vec![child(0, 1, 1, true), child(0, 2, 9, true)]).did([
        "spawn 2 s0 g2",
        "sweep 2",
        "admit 1",
        "admit 9",
        "withdraw 1",
    ]);
}

#[test]
fn an_unknown_child_without_a_place_is_led_out_unadmitted() {
    let script = app(1).up();
    taken_over(script, vec![child(0, 1, 1, true), child(0, 5, 9, true), child(3, 1, 8, false)])
        .did(["admit 1", "withdraw 9", "SIGTERM 8"])
        .reload()
        .did(["spawn 1 s0 g6"]);
}

#[test]
fn a_child_of_no_app_is_killed_and_its_end_awaited() {
    let mut script = app(1);
    script = taken_over(script, vec![child(0, 1, 4, true)]).did(["kill 4"]).shutdown().ends(None);
    script.exits(4, 137).did(["sweep 4"]).told(["change 1 done"]).ends(Some(oxherd_core::Outcome::Stopped));
}

#[test]
fn a_stopped_app_with_a_child_stops_again() {
    let script = app(1).up().stop().doors_closed().goes(1);
    let mut script = taken_over(script, vec![child(0, 1, 9, true)]);
    script.forget();
    script.goes(9).did(["disconnect 9 Object", "sweep 9", "close listeners"]).told(["stopped"]);
}

#[test]
fn doors_are_told_again_to_close() {
    let script = app(1).up().stop();
    taken_over(script, vec![child(0, 1, 1, true)]).did(["close doors", "admit 1", "close doors"]);
}

#[test]
fn no_id_is_given_twice_even_if_the_keeper_has_lost_count() {
    let mut script = app(1).up();
    let text = serde_json::to_string(&script.fleet.image()).expect("an image is JSON");
    let image: Image = serde_json::from_str(&text).expect("an image reads back");
    let same = Inventory { starts: 0, ..inventory(vec![child(0, 1, 1, true), child(0, 9, 5, true)]) };
    script.fleet = Fleet::from_image(image, &same, script.moment()).expect("the image fits");
    script.scale(2).did(["admit 1", "withdraw 5", "spawn 6 s1 g1"]);
}
