//! What changes something: accepted, refused, repeated, waited for.

use std::io::Write;
use std::time::Duration;

use oxherd::client::ClientError;
use oxherd_core::{AppId, ChangeOutcome, Desired, DesiredApp, Generation, Request};

use crate::herd::FIRST;
use crate::rig::{Answer, DEADLINE, Rig, request, run, spec, start_bodies, start_body};

#[test]
fn each_change_is_accepted_and_comes_to_its_end() {
    let rig = Rig::new();
    let client = rig.client();
    run(async {
        let started = client.start_new(spec("web")).await.unwrap();
        assert_eq!((started.changes[0].app, started.changes[0].name.as_str()), (FIRST, "web"));
        let mut ids = vec![started.changes[0].change];
        for accepted in [
            client.scale("web", 3).await,
            client.restart("0").await,
            client.reload("web", None).await,
            client.stop("web").await,
            client.start("web").await,
            client.start("web").await,
            client.delete("web").await,
        ] {
            let accepted = accepted.unwrap();
            assert_eq!(accepted.changes.len(), 1);
            let change = accepted.changes[0].change;
            assert_eq!(client.wait(change).await.unwrap(), ChangeOutcome::Done, "change {}", change.0);
            ids.push(change);
        }
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert!(client.apps().await.unwrap().apps.is_empty());
        let view = client.change_of(ids[0]).await.unwrap();
        assert_eq!((view.change, view.outcome), (ids[0], Some(ChangeOutcome::Done)));
    });
    let kinds: Vec<_> = rig.herd.lock().requests.iter().map(kind).collect();
    // An app that runs is only waited for when it is to start.
    let expected = ["start", "scale", "restart", "reload", "stop", "restart", "scale", "delete"];
    assert_eq!(kinds, expected);
}

#[test]
fn several_apps_are_started_by_one_request() {
    let rig = Rig::with(&["web"]);
    let accepted = rig.post("/v1/apps", &start_bodies(&["a", "b", "c"])).accepted();
    assert_eq!(accepted.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let client = rig.client();
    run(async {
        let started = client.start_all(vec![spec("d"), spec("e")]).await.unwrap();
        assert_eq!(started.changes.len(), 2);
        assert!(client.start_all(Vec::new()).await.unwrap().changes.is_empty());
        assert_eq!(client.apps().await.unwrap().apps.len(), 6);
    });
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Start { .. } => "start",
        Request::Register { .. } => "register",
        Request::Reload { .. } => "reload",
        Request::Restart { .. } => "restart",
        Request::Adjust { .. } => "adjust",
        Request::Scale { .. } => "scale",
        Request::Stop { .. } => "stop",
        Request::Delete { .. } => "delete",
        Request::Shutdown => "shutdown",
        Request::Fork { .. } => "fork",
        Request::Retire { .. } => "retire",
        Request::Recycle { .. } => "recycle",
        Request::Kill => "kill",
    }
}

#[test]
fn refusals_have_their_status_and_a_way_out() {
    let rig = Rig::with(&["web", "rest"]);
    assert_eq!(rig.post("/v1/apps/rest/stop", "").accepted().len(), 1);
    let mut other = spec("web");
    other.name = "other".into();
    let renamed = serde_json::json!({ "spec": other }).to_string();
    let cases = [
        ("/v1/apps", start_body("web"), 409, "an app named `web` exists already: "),
        ("/v1/apps", start_body(""), 422, "cannot run the app: the app has no name"),
        ("/v1/apps", start_body("all"), 422, "the name `all` means every app"),
        ("/v1/apps", r#"{"spec":{"name":"x"}}"#.into(), 422, "`name` and `program` must be there"),
        ("/v1/apps", r#"{"spec":7}"#.into(), 422, "no JSON object"),
        ("/v1/apps", r#"{"spec":{"name":"x","program":"y","instances":"2"}}"#.into(), 422, "invalid type"),
        ("/v1/apps", r#"{"spec":{"name":"x","program":"y","argz":[]}}"#.into(), 422, "unknown key `argz`"),
        ("/v1/apps", "{}".into(), 422, "the body is `{\"spec\": …}` or"),
        ("/v1/apps", start_bodies(&["new", "web"]), 409, "an app named `web` exists already: "),
        ("/v1/apps", start_bodies(&["new", "new"]), 422, "two of the apps are named `new`"),
        ("/v1/apps", start_bodies(&["new", ""]), 422, "cannot run the app: the app has no name"),
        ("/v1/apps", "".into(), 400, "the request has no body"),
        ("/v1/apps", "{\"spec\":".into(), 400, "the body is no JSON"),
        ("/v1/apps/nix/stop", "".into(), 404, "there is no app `nix`"),
        ("/v1/apps/rest/reload", "".into(), 409, "app `rest` is stopped: "),
        ("/v1/apps/rest/scale", r#"{"instances":2}"#.into(), 409, "is stopped"),
        ("/v1/apps/web/scale", r#"{"instances":0}"#.into(), 422, "instances must be at least 1"),
        ("/v1/apps/web/scale", r#"{"instances":9999}"#.into(), 422, "more than the limit of 1024"),
        ("/v1/apps/web/scale", r#"{"instances":-1}"#.into(), 422, "invalid value"),
        ("/v1/apps/web/scale", "".into(), 400, "no body"),
        ("/v1/apps/web/reload", renamed, 409, "this cannot change the name"),
        ("/v1/apps/web/stop", r#"{"force":true}"#.into(), 422, "unknown field `force`"),
        ("/v1/apps/web/stop", "\u{0}".into(), 400, "no JSON"),
    ];
    let before = rig.get("/v1/apps").json()["apps"].clone();
    for (path, body, status, text) in cases {
        let (found, error) = rig.post(path, &body).problem();
        assert_eq!((found, error.contains(text)), (status, true), "{path} {body}: {error}");
    }
    let shape = |apps: &serde_json::Value| {
        let apps = apps.as_array().unwrap().iter();
        apps.map(|app| (app["name"].clone(), app["up"].clone(), app["instances"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        shape(&before),
        shape(&rig.get("/v1/apps").json()["apps"]),
        "a refused request changes nothing"
    );
}

#[test]
fn a_body_has_a_limit() {
    let rig = Rig::new();
    let mut stream = rig.connect();
    // Only the head: the length that it tells is enough.
    write!(stream, "POST /v1/apps HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", (16 << 20) + 1)
        .unwrap();
    assert_eq!(Answer::read(stream).problem(), (413, "the request's body is larger than 16 MiB".into()));
    // The largest that is allowed is read to its end.
    let body = format!("{{\"spec\":{}7}}", " ".repeat((16 << 20) - 10));
    assert_eq!(body.len(), 16 << 20);
    assert_eq!(rig.post("/v1/apps", &body).problem().0, 422);
    let mut stream = rig.connect();
    stream.write_all(b"POST /v1/apps HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 1 << 20], b"\r\n"].concat();
    // The server answers and closes as soon as it is too much.
    while stream.write_all(&chunk).is_ok() {}
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[test]
fn all_means_every_app_and_is_refused_only_by_all() {
    let rig = Rig::new();
    let none = rig.post("/v1/apps/all/stop", "").problem();
    assert_eq!(none, (404, "there are no apps: `oxherd start` starts one".into()));
    let rig = Rig::with(&["a", "b", "c"]);
    let names = |answer: Answer| answer.accepted().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names(rig.post("/v1/apps/all/restart", "")), ["a", "b", "c"]);
    assert_eq!(names(rig.post("/v1/apps/b/stop", "")), ["b"]);
    assert_eq!(names(rig.post("/v1/apps/all/reload", "")), ["a", "c"], "a stopped app has nothing to reload");
    assert_eq!(names(rig.post("/v1/apps/all/stop", "")), ["a", "b", "c"]);
    assert_eq!(rig.post("/v1/apps/all/reload", "").problem().0, 409);
    assert_eq!(names(rig.ask("DELETE", "/v1/apps/all", &[], b"")), ["a", "b", "c"]);
}

#[test]
fn a_client_that_is_killed_in_the_middle_changes_nothing() {
    let rig = Rig::with(&["a", "b", "c"]);
    let mut follower = rig.follow("/v1/events");
    let mut stream = rig.connect();
    stream.write_all(&request("POST", "/v1/apps/all/stop", &[], b"")).unwrap();
    drop(stream);
    let mut stopped = Vec::new();
    while stopped.len() < 3 {
        let (_, item) = follower.event().unwrap();
        if item["notice"]["notice"] == "stopped" {
            stopped.push(item["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(stopped, ["a", "b", "c"]);
}

#[test]
fn the_same_key_gets_the_same_answer() {
    let rig = Rig::with(&["web"]);
    let key = [("idempotency-key", "k1")];
    let first = rig.ask("POST", "/v1/apps/web/restart", &key, b"");
    let again = rig.ask("POST", "/v1/apps/web/restart", &key, b"");
    assert_eq!(first.accepted(), again.accepted());
    assert_eq!(rig.herd.lock().requests.len(), 2, "one start, one restart");
    let (status, error) = rig.ask("POST", "/v1/apps/web/stop", &key, b"").problem();
    assert_eq!((status, error.contains("belongs to another request")), (409, true));
    let refused = rig.ask("POST", "/v1/apps/web/scale", &[("idempotency-key", "k2")], br#"{"instances":0}"#);
    assert_eq!(refused.status, 422);
    let allowed = rig.ask("POST", "/v1/apps/web/scale", &[("idempotency-key", "k2")], br#"{"instances":2}"#);
    assert_eq!(allowed.status, 202, "a refused request leaves its key free");
    let long = "k".repeat(129);
    for wrong in ["", &long, "schlüssel"] {
        let answer = rig.ask("POST", "/v1/apps/web/stop", &[("idempotency-key", wrong)], b"");
        assert_eq!(answer.problem().0, 400, "{wrong}");
    }
}

#[test]
fn waiting_ends_with_the_change_or_with_the_time() {
    let rig = Rig::new();
    rig.herd.lock().slow = true;
    let (id, _) = rig.post("/v1/apps", &start_body("web")).accepted()[0].clone();
    assert_eq!(rig.get(&format!("/v1/changes/{id}")).json()["outcome"], serde_json::Value::Null);
    assert_eq!(rig.get(&format!("/v1/changes/{id}?wait=1")).json()["outcome"], serde_json::Value::Null);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = rig.connect();
            stream.write_all(&request("GET", &format!("/v1/changes/{id}?wait=600"), &[], b"")).unwrap();
            stream
        })
        .collect();
    // The server has seen them all once it has accepted one more behind them.
    assert_eq!(rig.get("/v1/ping").status, 200);
    rig.herd.let_ready();
    for stream in waiting {
        assert_eq!(Answer::read(stream).json()["outcome"], "done");
    }
    assert_eq!(rig.get("/v1/changes/999").problem().0, 404);
}

#[test]
fn an_outcome_says_what_went_wrong() {
    let rig = Rig::with(&["web"]);
    rig.herd.lock().slow = true;
    let client = rig.client();
    run(async {
        let accepted = client.reload("web", None).await.unwrap();
        rig.herd.let_one_die();
        let outcome = client.wait(accepted.changes[0].change).await.unwrap();
        assert!(matches!(outcome, ChangeOutcome::ReloadAborted(_)), "{outcome:?}");
    });
}

#[test]
fn what_was_saved_is_run() {
    let rig = Rig::with(&["web"]);
    let wanted = |name: &str, up| DesiredApp {
        app: AppId(7),
        generation: Generation(3),
        spec: spec(name),
        instances: 2,
        up,
    };
    rig.herd.lock().saved =
        Ok(Desired { apps: vec![wanted("web", true), wanted("api", true), wanted("old", false)] });
    let names: Vec<_> = rig.post("/v1/resurrect", "").accepted().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["api", "old"], "what runs already is left alone");
    let api = run(rig.client().app("api")).unwrap();
    assert_eq!((api.instances, api.up), (2, true));
    assert!(!run(rig.client().app("old")).unwrap().up, "what was stopped stays so");
    rig.herd.lock().saved = Err("cannot read /x: no such file; save first".into());
    assert_eq!(
        rig.post("/v1/resurrect", "").problem(),
        (409, "cannot read /x: no such file; save first".into())
    );
}

#[test]
fn upgrade_reopen_and_kill_reach_the_daemon() {
    let rig = Rig::with(&["web"]);
    let client = rig.client();
    run(async {
        assert!(client.upgrade(Some("/opt/oxherd")).await.unwrap().changes.is_empty());
        client.reopen_logs().await.unwrap();
        rig.herd.lock().upgrade_error = Some("cannot run /opt/oxherd: permission denied".into());
        let error = client.upgrade(None).await.unwrap_err();
        assert_eq!(
            (error.status(), error.to_string()),
            (Some(409), "cannot run /opt/oxherd: permission denied".into())
        );
        client.kill().await.unwrap();
        let error = client.restart("web").await.unwrap_err();
        assert_eq!(error.status(), Some(409));
        assert!(error.to_string().starts_with("the primary is stopping"), "{error}");
    });
    assert_eq!(rig.herd.lock().upgrades, [Some("/opt/oxherd".into()), None]);
    assert_eq!(rig.herd.lock().reopened, 1);
    assert_eq!(rig.herd.lock().requests.iter().filter(|request| **request == Request::Shutdown).count(), 1);
}

#[test]
fn a_primary_that_has_ended_is_told_of() {
    let rig = Rig::with(&["web"]);
    rig.herd.lock().dead = true;
    for answer in [rig.get("/v1/apps"), rig.post("/v1/apps/web/stop", "")] {
        assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
        assert_eq!(answer.problem(), (503, "the daemon is ending: try again in a moment".into()));
    }
    assert_eq!(rig.get("/v1/ping").status, 200);
}

#[test]
fn a_client_without_a_daemon_says_so() {
    let rig = Rig::new();
    let nobody = oxherd::client::Client::at(rig.folder.join("nobody"));
    let error = run(nobody.ping()).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    assert!(error.to_string().starts_with("no daemon is running at /"), "{error}");
    assert!(run(nobody.wait_end(DEADLINE)));
    assert!(!run(rig.client().wait_end(Duration::ZERO)));
}
