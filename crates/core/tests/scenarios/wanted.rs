//! What is wanted: apps that are known but stopped, what is saved, and changes that are under way.

use oxherd_core::{AppId, AppSpec, ChangeId, Desired, Fleet, Generation, Inventory, Limits, Moment, Request};

use crate::script::{APP, Script, app};

/// `2 of g1 up`, or nothing for an app that is not to be known.
fn wanted(script: &Script) -> Option<String> {
    let desired = script.fleet.desired();
    let app = desired.apps.first()?;
    let word = if app.up { "up" } else { "stopped" };
    Some(format!("{} of g{} {word}", app.instances, app.generation.0))
}

fn register(script: Script) -> Script {
    let spec = Box::new(script.spec.clone());
    script.ask(Request::Register { spec })
}

#[test]
fn a_registered_app_is_stopped_until_it_is_restarted() {
    let script = register(app(1)).did([]).told(["change 1 done"]).ends(None);
    assert!(!script.status().apps[0].up);
    assert_eq!(wanted(&script).as_deref(), Some("1 of g1 stopped"));
    let script = script
        .start()
        .refused("an app named `web` exists already: `reload web` or `restart web`, or choose another name");
    let script = register(script)
        .refused("an app named `web` exists already: `reload web` or `restart web`, or choose another name");
    let script = script.reload().refused("app `web` is stopped: `restart web` starts it");
    script.restart().did(["spawn 1 s0 g1"]).serves(1).told(["all 1 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn what_is_wanted_follows_wishes_and_not_what_is() {
    let script = app(2).start();
    assert_eq!(wanted(&script).as_deref(), Some("2 of g1 up"));
    let script = script.serves(1).serves(2).scale(3);
    assert_eq!(wanted(&script).as_deref(), Some("3 of g1 up"));
    let script = script.serves(3).stop();
    assert_eq!(wanted(&script).as_deref(), Some("3 of g1 stopped"));
    let script = script.restart();
    assert_eq!(wanted(&script).as_deref(), Some("3 of g1 up"));
    assert_eq!(wanted(&script.delete()), None);
}

#[test]
fn a_reload_is_wanted_for_good_once_it_is_done() {
    let script = app(1).up().reload_with(|spec| (spec.instances, spec.args) = (3, vec!["new".into()]));
    assert_eq!(wanted(&script).as_deref(), Some("1 of g1 up"));
    assert_eq!(script.fleet.spec(APP).map(|spec| spec.args.len()), Some(0));
    let script = script.serves(2).serves(3).serves(4).goes(1);
    assert_eq!(wanted(&script).as_deref(), Some("3 of g2 up"));
    assert_eq!(script.fleet.spec(APP).map(|spec| spec.args.len()), Some(1));
}

#[test]
fn the_end_of_the_fleet_is_no_wish_about_its_apps() {
    let script = app(1).up().shutdown().doors_closed();
    assert_eq!(wanted(&script).as_deref(), Some("1 of g1 up"));
    let script = script.goes(1).kill();
    assert_eq!(wanted(&script).as_deref(), Some("1 of g1 up"));
    let script = app(1).up().stop().shutdown().kill();
    assert_eq!(wanted(&script).as_deref(), Some("1 of g1 stopped"));
}

#[test]
fn what_is_wanted_outlives_a_boot_but_ids_of_changes_go_on() {
    let desired = app(2).up().fleet.desired();
    let inventory = Inventory { boot_id: "next boot".into(), starts: 3, ..Inventory::default() };
    let fleet = Fleet::from_desired(
        desired.clone(),
        Limits { max_instances: 1, ..Limits::default() },
        &inventory,
        Moment::default(),
    );
    assert_eq!(fleet.last_change(), ChangeId(3_000_000));
    let again = fleet.desired();
    assert_eq!((again.apps[0].instances, &again.apps[0].spec), (1, &desired.apps[0].spec));
    assert_eq!(again.apps[0].generation, Generation(1));
}

/// What is left of a forgotten app would be taken for the new one's.
#[test]
fn the_id_of_an_app_of_which_a_listener_is_left_is_not_given_again() {
    let listening = [AppId(4)].into();
    let inventory = Inventory { boot_id: "boot".into(), starts: 1, listening, ..Inventory::default() };
    let mut fleet = Fleet::from_desired(Desired::default(), Limits::default(), &inventory, Moment::default());
    let spec = Box::new(AppSpec::new("new", "node"));
    fleet.handle_request(Request::Start { spec }, Moment::default()).expect("it is accepted");
    assert_eq!(fleet.status(Moment::default()).apps[0].app, AppId(5));
}

#[test]
fn a_change_is_pending_until_it_is_told() {
    let pending =
        |script: &Script| (0..9).filter(|it| script.fleet.is_pending(ChangeId(*it))).collect::<Vec<_>>();
    let script = app(1).start();
    assert_eq!(pending(&script), [1]);
    let script = script.serves(1).reload().reload();
    assert_eq!((pending(&script), script.fleet.last_change()), (vec![2, 3], ChangeId(3)));
    let script = script.reload();
    assert_eq!(pending(&script), [2, 4]);
    let script = script.serves(2).goes(1).serves(3).goes(2);
    assert_eq!(pending(&script), Vec::<u64>::new());
}

#[test]
fn an_instance_knows_its_own_configuration() {
    let script = app(1).up().reload_with(|spec| spec.args = vec!["new".into()]);
    let args = |number| {
        script.fleet.spec_of(crate::script::id(number)).map(|spec: &std::sync::Arc<AppSpec>| spec.args.len())
    };
    assert_eq!([args(1), args(2), args(3)], [Some(0), Some(1), None]);
}
