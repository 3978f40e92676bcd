//! A configuration that changes under running workers.

use oxherd_core::{AppSpec, Request, RestartWhen};

use crate::script::{APP, Script, app, app_with, ms};

fn adjust(script: Script, change: impl FnOnce(&mut AppSpec)) -> Script {
    let mut spec = script.spec.clone();
    change(&mut spec);
    script.ask(Request::Adjust { app: APP, spec: Box::new(spec) })
}

#[test]
fn it_is_so_from_the_next_moment_on_and_nobody_is_replaced() {
    let script = adjust(app(1).up(), |spec| spec.max_memory_restart = Some(100));
    script.did([]).told(["change 2 done"]).holds(1, 101).did(["spawn 2 s0 g1"]);
    let script = adjust(app(1).up(), |spec| (spec.drain_timeout, spec.kill_timeout) = (ms(70), ms(30)));
    let mut script = script.stop().doors_closed();
    script.forget();
    script.later(70).did(["SIGTERM 1"]).later(30).did(["kill 1"]);
    let script = adjust(app(1).up(), |spec| spec.restart = RestartWhen::Never).exits(1, 1);
    script.did(["sweep 1"]).told(["change 2 done", "finished s0 code 1"]);
}

#[test]
fn the_number_of_slots_goes_with_it() {
    let script = adjust(app(1).up(), |spec| (spec.instances, spec.parallel) = (2, 2));
    let script = script.did(["spawn 2 s1 g1"]).told(["scaled 1 to 2"]).serves(2);
    script.did(["admit 2"]).told(["all 2 serve [:80] after 0 ms", "change 2 done"]);
}

#[test]
fn a_stopped_app_takes_it_over_and_stays_stopped() {
    let mut script = app(1).up().stop().doors_closed().goes(1);
    script.forget();
    let script = adjust(script, |spec| (spec.instances, spec.parallel) = (2, 2)).did([]);
    script.told(["scaled 1 to 2", "change 3 done"]).restart().did(["spawn 2 s0 g2", "spawn 3 s1 g2"]);
    // Nobody goes by what it was: it may be anything else but another app.
    let mut script = app(1).up().stop().doors_closed().goes(1);
    script.forget();
    let script = adjust(script, |spec| spec.cwd = "/srv".into()).did([]).told(["change 3 done"]);
    adjust(script, |spec| spec.name = "other".into())
        .refused("this cannot change the name of an app: delete it and start it anew");
}

#[test]
fn what_workers_were_started_with_is_refused() {
    let refusal = "this changes what the workers of `web` were started with: reload it by that configuration";
    adjust(app(1).up(), |spec| (spec.parallel, spec.cwd) = (2, "/srv".into())).refused(refusal).did([]);
    adjust(app(1).up(), |spec| spec.wait_ready = true).refused(refusal);
    adjust(app(1).up(), |spec| spec.parallel = 0).refused("parallel must be at least 1");
}

#[test]
fn amid_a_reload_it_is_another_that_follows() {
    let script = app_with(1, |spec| spec.parallel = 2).up().reload().did(["spawn 2 s0 g2"]);
    let script = adjust(script, |spec| spec.parallel = 1).did([]).told(["change 3 queued"]).serves(2).goes(1);
    script
        .did(["admit 2", "withdraw 1", "disconnect 1 Object", "sweep 1", "spawn 3 s0 g3"])
        .told(["g2 done in 0 ms", "change 2 done"]);
}
