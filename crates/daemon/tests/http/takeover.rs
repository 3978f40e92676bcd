//! The daemon dies while it answers, and another goes on: nothing is done twice and nothing forgotten.

use std::io::{Read, Write};

use oxherd_core::{ChangeOutcome, Request};

use crate::rig::{Rig, request, run, spec, start_bodies, start_body};

/// The requests that were made, but for the starts that prepared the test.
fn made(rig: &Rig, prepared: usize) -> usize {
    rig.herd.lock().requests.len() - prepared
}

#[test]
fn a_waiting_client_hears_from_the_next_daemon() {
    let mut rig = Rig::with(&["web"]);
    rig.herd.lock().slow = true;
    let change = run(rig.client().restart("web")).unwrap().changes[0].change;
    let client = rig.client();
    let waiting = std::thread::spawn(move || run(client.wait(change)));
    rig.end_server();
    rig.take_over();
    rig.herd.let_ready();
    assert_eq!(waiting.join().unwrap().unwrap(), ChangeOutcome::Done);
}

#[test]
fn an_end_that_nobody_saw_is_judged_by_what_is() {
    let mut rig = Rig::with(&["web", "api"]);
    rig.herd.lock().slow = true;
    let restart = run(rig.client().restart("web")).unwrap().changes[0].change;
    let reload = run(rig.client().reload("api", None)).unwrap().changes[0].change;
    rig.end_server();
    // Between two daemons.
    rig.herd.let_ready();
    rig.take_over();
    let client = rig.client();
    assert_eq!(run(client.wait(restart)).unwrap(), ChangeOutcome::Done);
    assert_eq!(run(client.wait(reload)).unwrap(), ChangeOutcome::Done);
}

#[test]
fn an_answered_request_is_known_to_the_next_daemon() {
    let mut rig = Rig::with(&["web"]);
    let key = [("idempotency-key", "k")];
    let first = rig.ask("POST", "/v1/apps/web/restart", &key, b"").accepted();
    rig.end_server();
    rig.take_over();
    assert_eq!(rig.ask("POST", "/v1/apps/web/restart", &key, b"").accepted(), first);
    assert_eq!(made(&rig, 1), 1);
}

/// The daemon takes the request in and dies before it can answer.
fn cut(rig: &mut Rig, method: &str, path: &str, body: &str) {
    let before = rig.herd.lock().requests.len();
    rig.herd.lock().mute = true;
    let mut stream = rig.connect();
    stream.write_all(&request(method, path, &[("idempotency-key", "k")], body.as_bytes())).unwrap();
    let mut rest = Vec::new();
    // Its replies are dropped uncalled: the server thinks that the primary has ended.
    stream.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 503"));
    assert!(rig.herd.lock().requests.len() > before);
    rig.end_server();
    rig.take_over();
}

#[test]
fn a_request_that_was_taken_in_but_not_answered_is_not_made_again() {
    for (method, path, body) in [
        ("POST", "/v1/apps/web/restart", String::new()),
        ("POST", "/v1/apps/web/reload", String::new()),
        ("POST", "/v1/apps/web/stop", String::new()),
        ("POST", "/v1/apps/web/scale", r#"{"instances":3}"#.into()),
        ("DELETE", "/v1/apps/web", String::new()),
        ("POST", "/v1/apps", start_body("new")),
    ] {
        let mut rig = Rig::with(&["web"]);
        cut(&mut rig, method, path, &body);
        let accepted = rig.ask(method, path, &[("idempotency-key", "k")], body.as_bytes()).accepted();
        assert_eq!(accepted.len(), 1, "{method} {path}");
        assert_eq!(made(&rig, 1), 1, "{method} {path}");
        let outcome = run(rig.client().wait(oxherd_core::ChangeId(accepted[0].0))).unwrap();
        assert_eq!(outcome, ChangeOutcome::Done, "{method} {path}");
    }
}

#[test]
fn a_request_for_all_that_was_cut_is_answered_whole() {
    let mut rig = Rig::with(&["a", "b", "c"]);
    cut(&mut rig, "POST", "/v1/apps/all/restart", "");
    let accepted = rig.ask("POST", "/v1/apps/all/restart", &[("idempotency-key", "k")], b"").accepted();
    let names: Vec<_> = accepted.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(made(&rig, 3), 3);
}

#[test]
fn a_start_of_several_that_was_cut_is_answered_whole() {
    let mut rig = Rig::new();
    let body = start_bodies(&["a", "b", "c"]);
    cut(&mut rig, "POST", "/v1/apps", &body);
    let accepted = rig.ask("POST", "/v1/apps", &[("idempotency-key", "k")], body.as_bytes()).accepted();
    let names: Vec<_> = accepted.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(rig.get("/v1/apps").json()["apps"].as_array().unwrap().len(), 3);
}

#[test]
fn a_request_that_was_not_taken_in_is_made_by_the_next_daemon() {
    let mut rig = Rig::with(&["web"]);
    rig.herd.lock().dead = true;
    let client = rig.client();
    let asking = std::thread::spawn(move || run(client.start_new(spec("new"))));
    rig.end_server();
    rig.take_over();
    assert_eq!(asking.join().unwrap().unwrap().changes[0].name, "new");
    let starts = rig.herd.lock().requests.iter().filter(|it| matches!(it, Request::Start { .. })).count();
    assert_eq!(starts, 2);
}

#[test]
fn a_follower_is_told_that_the_daemon_has_gone() {
    let mut rig = Rig::with(&["web"]);
    let client = rig.client();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let following = std::thread::spawn(move || {
        run(async {
            let mut events = client.events(None).await.unwrap();
            ready.send(()).unwrap();
            // An orderly end here; a kill breaks the stream off, which is an error.
            while let Ok(Some(_)) = events.next().await {}
        });
    });
    is_ready.recv().unwrap();
    rig.end_server();
    following.join().unwrap();
}
