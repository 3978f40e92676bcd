//! Workers that were not ready when their primary ended are replaced, and nobody is blamed for it.

use oxherd_core::{
    Child, Distribution, Event, Fleet, Generation, Image, Inventory, Label, Moment, Place, Probe, Slot,
    SlotRestarts, Sockets, Span,
};

use crate::script::{APP, Script, app, app_with, id};

/// A child of slot, generation and number; those that listen are written `listens`.
fn child(slot: u32, generation: u32, number: u32) -> Child {
    let place =
        Place { app: APP, slot: Slot(slot), generation: Generation(generation), instance: id(number) };
    let born = Some(Moment::from_millis(0));
    Child { label: Label(place), listens: false, was_ready: false, leaving: false, born, ended: false }
}

fn listens(slot: u32, generation: u32, number: u32) -> Child {
    Child { listens: true, ..child(slot, generation, number) }
}

/// Of that child a primary has left word that it was ready.
fn was_ready(child: Child) -> Child {
    Child { was_ready: true, ..child }
}

fn leaving(child: Child) -> Child {
    Child { leaving: true, ..child }
}

fn inventory<const N: usize>(children: [Child; N]) -> Inventory {
    Inventory { boot_id: "boot".into(), children: children.to_vec(), ..Inventory::default() }
}

/// Another primary takes over from a current image; numbers go on where they were.
fn taken_over<const N: usize>(mut script: Script, children: [Child; N]) -> Script {
    script.forget();
    let text = serde_json::to_string(&script.fleet.image()).expect("an image is JSON");
    let image: Image = serde_json::from_str(&text).expect("an image reads back");
    let inventory = inventory(children);
    script.fleet = Fleet::from_image(image, &inventory, script.moment()).expect("the image fits");
    script.drain();
    script
}

/// The same without an image: what is wanted and the inventory are all there is.
fn distrusted<const N: usize>(script: Script, children: [Child; N]) -> Script {
    without_image(script, inventory(children))
}

fn without_image(mut script: Script, inventory: Inventory) -> Script {
    script.forget();
    let text = serde_json::to_string(&script.fleet.desired()).expect("what is wanted is JSON");
    let desired = serde_json::from_str(&text).expect("it reads back");
    script.fleet = Fleet::from_desired(desired, script.limits(), &inventory, script.moment());
    script.drain();
    script
}

#[test]
fn who_was_not_ready_is_replaced_at_once_and_nobody_is_blamed() {
    let script =
        taken_over(app_with(1, |spec| spec.max_restarts = 1).start().spawned(1).online(1), [child(0, 1, 1)]);
    let script = script.did(["SIGTERM 1", "spawn 2 s0 g1"]).exits(1, 1).did(["sweep 1"]).told([]);
    let script = script.serves(2).told(["all 1 serve [:80] after 0 ms", "change 1 done"]);
    assert_eq!(script.restarts(0), 0);
}

#[test]
fn who_is_born_while_the_primary_ends_is_replaced_too() {
    taken_over(app(1).start(), [child(0, 1, 1)]).did(["SIGTERM 1", "spawn 2 s0 g1"]);
}

#[test]
fn without_a_channel_nothing_was_lost_and_it_goes_on() {
    let script = app_with(1, |spec| spec.sockets = Sockets::None).start().spawned(1).at(400);
    taken_over(script, [child(0, 1, 1)]).did([]).at(1000).did(["admit 1"]);
}

#[test]
fn listening_is_not_readiness_where_a_word_is_awaited_but_its_connections_are_finished() {
    let script = app_with(1, |spec| spec.wait_ready = true).start().spawned(1).listening(1);
    taken_over(script, [listens(0, 1, 1)])
        .did(["withdraw 1", "spawn 2 s0 g1"])
        .goes(1)
        .did(["disconnect 1 Object", "sweep 1"]);
    let script = app_with(1, |spec| spec.wait_ready = true).start().spawned(1).ready(1);
    taken_over(script, [listens(0, 1, 1)]).did(["admit 1"]);
}

#[test]
fn a_reload_goes_on_with_another_successor() {
    let script =
        taken_over(app(2).up().reload().spawned(3), [listens(0, 1, 1), listens(1, 1, 2), child(0, 2, 3)]);
    let script =
        script.did(["admit 1", "admit 2", "SIGTERM 3", "spawn 4 s0 g2"]).exits(3, 1).serves(4).goes(1);
    script.serves(5).goes(2).told(["g2 done in 0 ms", "change 2 done"]);
}

#[test]
fn a_whole_batch_is_replaced() {
    let script = app_with(2, |spec| spec.parallel = 2).up().reload().spawned(3).spawned(4);
    let children = [listens(0, 1, 1), listens(1, 1, 2), child(0, 2, 3), child(1, 2, 4)];
    taken_over(script, children).told([]).did([
        "admit 1",
        "admit 2",
        "SIGTERM 3",
        "SIGTERM 4",
        "spawn 5 s0 g2 parks",
        "spawn 6 s1 g2 parks",
    ]);
}

#[test]
fn who_refills_a_replaced_slot_is_replaced_by_its_own_generation() {
    let script = app(2).up().reload().serves(3).goes(1).at(5000).exits(3, 1).spawned(5);
    let script = taken_over(script, [listens(1, 1, 2), child(0, 2, 5), listens(1, 2, 4)]);
    script.told([]).did(["admit 2", "SIGTERM 5", "admit 4", "withdraw 2", "spawn 6 s0 g2"]);
}

#[test]
fn an_old_worker_on_its_way_back_leaves_its_slot_to_the_successor() {
    let script = app(1).up().at(5000).exits(1, 1).at(5100).reload().spawned(2);
    let script = taken_over(script, [child(0, 1, 2), child(0, 2, 3)]);
    script.told([]).did(["SIGTERM 2", "SIGTERM 3"]).exits(3, 1).did([
        "sweep 3",
        "spawn 4 s0 g1",
        "spawn 5 s0 g2",
    ]);
}

#[test]
fn a_queued_reload_follows() {
    let script = taken_over(app(1).up().reload().reload().spawned(2), [listens(0, 1, 1), child(0, 2, 2)]);
    let script = script.exits(2, 0).serves(3).goes(1).serves(4).goes(3);
    script.told(["g2 done in 0 ms", "change 2 done", "g3 done in 0 ms", "change 3 done"]);
}

#[test]
fn a_slot_that_is_being_taken_away_is_not_filled_again() {
    let script = app(1).up().scale(2).spawned(2).scale(1);
    taken_over(script, [listens(0, 1, 1), child(1, 1, 2)])
        .did(["admit 1", "SIGTERM 2"])
        .exits(2, 0)
        .did(["sweep 2", "retire s1"]);
}

#[test]
fn an_app_that_stops_goes_on_stopping() {
    let script = app(2).start().serves(1).spawned(2).stop();
    let script = taken_over(script, [listens(0, 1, 1), child(1, 1, 2)]);
    let script = script.did(["admit 1", "close doors"]).doors_closed().did(["withdraw 1", "SIGTERM 2"]);
    script.goes(1).exits(2, 0).told(["stopped", "change 2 done"]);
}

#[test]
fn a_worker_that_is_gone_is_blamed_as_ever() {
    let script = taken_over(app(1).up().reload().spawned(2), [listens(0, 1, 1)]);
    script.told(["g2 aborted with 0 replaced: s0 died with unknown status", "change 2 aborted"]);
}

#[test]
fn a_worker_that_has_just_ended_is_blamed_as_ever() {
    let ended = |child| Child { ended: true, ..child };
    let script = taken_over(app(1).up().reload().spawned(2), [listens(0, 1, 1), ended(child(0, 2, 2))]);
    let script = script.told([]).did(["admit 1"]).exits(2, 3).did(["sweep 2"]);
    script.told(["g2 aborted with 0 replaced: s0 died with code 3", "change 2 aborted"]);
}

#[test]
fn a_worker_whose_end_was_taken_note_of_is_only_swept() {
    let script = app(1).up().at(5000).exits(1, 1);
    let ended = Child { ended: true, ..listens(0, 1, 1) };
    let script =
        taken_over(script, [ended]).did(["sweep 2", "spawn 3 s0 g1"]).exits(1, 1).did(["sweep 1"]).told([]);
    assert_eq!(script.restarts(0), 1);
}

#[test]
fn two_takeovers_in_a_row_are_like_one() {
    let script = taken_over(app(1).up().reload().spawned(2), [listens(0, 1, 1), child(0, 2, 2)]);
    let script = taken_over(script, [listens(0, 1, 1), child(0, 2, 2)]);
    let script = script.did(["sweep 3", "admit 1", "SIGTERM 2", "spawn 4 s0 g2"]);
    script.exits(2, 0).serves(4).goes(1).told(["g2 done in 0 ms", "change 2 done"]);
}

#[test]
fn an_instance_is_as_old_as_its_process() {
    let script = taken_over(app(1).up().at(7000), [listens(0, 1, 1)]);
    assert_eq!(script.uptime(0), 7000);
    let script = distrusted(app(1).up().at(7000), [listens(0, 1, 1)]);
    assert_eq!(script.uptime(0), 7000);
}

#[test]
fn without_an_image_children_go_on_by_their_labels() {
    let script = distrusted(app(2).up(), [listens(0, 1, 1), child(1, 1, 2)]);
    let script = script.told(["1 adopted"]).did(["SIGTERM 2", "admit 1", "spawn 3 s1 g1"]);
    script.serves(3).told(["all 2 serve [:80] after 0 ms"]).scale(2).told(["change 1 done"]);
}

#[test]
fn without_an_image_a_worker_of_age_counts_as_ready_unless_its_kind_listens() {
    let silent = |age| distrusted(app(1).start().spawned(1).at(age), [child(0, 1, 1)]);
    silent(1000).told(["1 adopted", "all 1 serve [] after 0 ms"]).did(["admit 1"]);
    silent(999).told([]).did(["SIGTERM 1", "spawn 2 s0 g1"]);
    let unknown = Child { born: None, ..child(0, 1, 1) };
    distrusted(app(1).up().at(60_000), [unknown]).did(["SIGTERM 1", "spawn 2 s0 g1"]);
    let mixed = distrusted(app(2).up().at(30_000), [child(0, 1, 1), listens(1, 1, 2)]);
    mixed.did(["admit 2", "SIGTERM 1", "spawn 3 s0 g1"]);
}

#[test]
fn without_an_image_one_that_does_not_listen_yet_is_told_by_its_apps_listener() {
    let booting = |children| Inventory { listening: [APP].into(), ..inventory(children) };
    without_image(app(1).up().at(3000), booting([child(0, 1, 1)])).did(["SIGTERM 1", "spawn 2 s0 g1"]);
    without_image(app(1).up().at(3000), booting([was_ready(child(0, 1, 1))])).did(["admit 1"]);
    // That of another app says nothing.
    let other = Inventory { listening: [oxherd_core::AppId(7)].into(), ..inventory([child(0, 1, 1)]) };
    without_image(app(1).up().at(3000), other).did(["admit 1"]);
}

#[test]
fn without_an_image_one_that_listens_is_asked_again_whether_it_serves() {
    let second = Span::from_secs(1);
    let probe = Probe { url: "tcp://localhost:80".into(), interval: second, timeout: second };
    let script = app_with(1, |spec| {
        (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
        spec.ready_probe = Some(probe);
    });
    let script = script.start().spawned(1).listening(1).did(["spawn 1 s0 g1", "probe 1"]);
    let script = distrusted(script, [listens(0, 1, 1)]).told(["1 adopted"]).did(["unpark 1 s0", "probe 1"]);
    script.event(Event::Probed { instance: id(1) }).did(["admit 1"]);
}

#[test]
fn without_an_image_who_waits_for_a_word_is_ready_if_word_of_it_was_left() {
    let speaks = || app_with(1, |spec| spec.wait_ready = true).start().spawned(1).at(60_000);
    distrusted(speaks(), [was_ready(listens(0, 1, 1))]).told(["1 adopted"]).did(["admit 1"]);
    distrusted(speaks(), [was_ready(child(0, 1, 1))]).did(["admit 1"]);
    // However old they are.
    distrusted(speaks(), [listens(0, 1, 1)]).did(["withdraw 1", "spawn 2 s0 g1"]);
    distrusted(speaks(), [child(0, 1, 1)]).did(["SIGTERM 1", "spawn 2 s0 g1"]);
}

#[test]
fn without_an_image_a_program_without_a_channel_is_ready_by_its_age() {
    let apart = || app_with(1, |spec| spec.sockets = Sockets::None).start().spawned(1);
    distrusted(apart().at(1000), [child(0, 1, 1)]).told(["1 adopted", "all 1 serve [] after 0 ms"]);
    let young = distrusted(apart().at(400), [child(0, 1, 1)]).told(["1 adopted"]).did([]);
    young.at(999).did([]).at(1000).did(["admit 1"]);
}

#[test]
fn who_was_ready_when_the_image_was_older_goes_on() {
    let speaks = || app_with(1, |spec| spec.wait_ready = true).start().spawned(1).listening(1);
    taken_over(speaks(), [was_ready(listens(0, 1, 1))]).did(["admit 1"]);
    taken_over(app(1).start().spawned(1), [was_ready(child(0, 1, 1))]).did(["admit 1"]);
    let ended = Child { ended: true, ..was_ready(child(0, 1, 1)) };
    taken_over(app(1).start().spawned(1), [ended]).did([]).exits(1, 1).did(["sweep 1"]);
}

#[test]
fn without_an_image_who_is_leaving_has_no_slot_any_more() {
    let script = distrusted(app(1).up(), [leaving(was_ready(listens(0, 1, 1)))]);
    let script = script.told([]).did(["withdraw 1", "spawn 2 s0 g1"]).goes(1).serves(2);
    script.told(["all 1 serve [:80] after 0 ms"]);
    // There is room for one more once one of the two is gone.
    let script = app(1).up().reload().serves(2).withdrawn(1);
    let script = distrusted(script, [leaving(listens(0, 1, 1)), listens(0, 2, 2)]);
    let script = script.did(["withdraw 2", "withdraw 1"]).exits(1, 0).did(["sweep 1", "spawn 3 s0 g1"]);
    assert_eq!(script.restarts(0), 0);
}

#[test]
fn without_an_image_who_was_ready_is_finished_politely() {
    let script = distrusted(app(1).up(), [was_ready(child(0, 1, 1)), was_ready(child(3, 1, 2))]);
    script.did(["withdraw 2", "admit 1"]);
}

#[test]
fn what_was_noted_of_restarts_counts_without_an_image() {
    let noted = |slot, restarts| SlotRestarts { app: APP, slot: Slot(slot), restarts };
    let script = app(2).up().at(5000).exits(1, 1).at(10_000).exits(2, 1);
    assert_eq!(script.fleet.restarts(), [noted(0, 1), noted(1, 1)]);
    let past = vec![noted(1, 3), noted(2, 9), SlotRestarts { app: oxherd_core::AppId(7), ..noted(0, 1) }];
    let known = Inventory { restarts: past, ..inventory([listens(1, 1, 4)]) };
    let script = without_image(script, known).did(["admit 4", "spawn 5 s0 g1"]);
    assert_eq!([script.restarts(0), script.restarts(1)], [0, 3]);
    let script = script.at(20_000).exits(4, 1);
    assert_eq!(script.restarts(1), 4);
    assert_eq!(script.fleet.restarts(), [noted(1, 4)]);
    // A stopped app has no slots.
    let past = vec![noted(0, 3)];
    let stopped = app(1).up().stop().doors_closed().goes(1);
    let stopped = without_image(stopped, Inventory { restarts: past, ..inventory([]) });
    assert!(stopped.status().apps[0].slots.is_empty());
    // An image has counted itself.
    let script = taken_over(script, [listens(0, 1, 5)]);
    assert_eq!(script.restarts(1), 4);
}

#[test]
fn without_an_image_the_newest_of_a_slot_is_its_occupant() {
    let script = distrusted(app(1).up(), [listens(0, 1, 1), listens(0, 1, 2)]);
    script.told(["2 adopted", "all 1 serve [] after 0 ms"]).did(["admit 2", "withdraw 1"]);
    let script = distrusted(app(1).up(), [listens(0, 1, 1), child(0, 1, 2)]);
    script.told([]).did(["SIGTERM 2", "withdraw 1"]);
}

#[test]
fn without_an_image_a_reload_is_forgotten_and_its_generation_is_not_used_again() {
    let script = distrusted(app(2).up().reload().serves(3), [listens(0, 2, 3), listens(1, 1, 2)]);
    let script = script.did(["withdraw 3", "admit 2", "spawn 4 s0 g1"]);
    assert!(!script.fleet.is_pending(oxherd_core::ChangeId(2)));
    script.reload().did(["spawn 5 s0 g3"]);
}

#[test]
fn without_an_image_a_stopped_app_stops_again() {
    let script = distrusted(app(1).up().stop(), [listens(0, 1, 1)]).did(["withdraw 1"]).goes(1);
    script.did(["disconnect 1 Object", "sweep 1", "close listeners"]).told(["stopped"]);
}

#[test]
fn without_an_image_ids_of_strays_are_not_given_again() {
    let mut script = app(1).up();
    let mut stray = listens(0, 1, 9);
    stray.label.0.app = oxherd_core::AppId(4);
    script = distrusted(script, [listens(0, 1, 1), stray]).did(["kill 9", "admit 1"]);
    script.spec.name = "other".into();
    let script = script.start();
    let ids: Vec<_> = script.status().apps.iter().map(|app| app.app.0).collect();
    assert_eq!(ids, [0, 5]);
    script
        .event(Event::Exited { instance: id(9), exit: oxherd_core::Exit::Unknown })
        .did(["spawn 10 s0 g1", "sweep 9"]);
}
