//! What changes nothing.

use oxherd::api::{AppView, Herd, Pong};
use serde_json::Value;

use crate::rig::{Rig, run};

#[test]
fn ping_tells_who_is_there() {
    let rig = Rig::new();
    let pong: Pong = serde_json::from_value(rig.get("/v1/ping").json()).unwrap();
    assert_eq!((pong.version.as_str(), pong.pid, pong.keeper_pid), ("1.2.3", std::process::id(), 4242));
    assert_eq!((pong.starts, pong.home.as_str()), (0, "/home/me/.oxherd"));
    assert_eq!(run(rig.client().ping()).unwrap().pid, std::process::id());
}

#[test]
fn apps_are_shown_with_all_their_figures() {
    let rig = Rig::with(&["web", "api"]);
    rig.herd.logs().lose("web", 3);
    let answer = rig.get("/v1/apps");
    assert_eq!(answer.status, 200);
    let herd: Herd = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(herd.daemon_memory, 4096);
    assert_eq!(herd.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["web", "api"]);
    let web = &herd.apps[0];
    assert_eq!(web.command, ["/bin/server", "--port", "3000"]);
    assert_eq!((web.cwd.as_str(), web.dropped_lines, web.up, web.handed_over), ("/srv", 3, true, 11));
    assert_eq!(web.out_file, rig.folder.join("web-out.log").display().to_string());
    let worker = &web.slots[0].workers[0];
    assert_eq!((worker.pid, worker.memory), (Some(std::process::id()), Some(1 << 20)));
    assert_eq!((worker.requests, worker.connections, worker.handed_over), (Some(5), Some(2), 6));
    assert_eq!(worker.addresses, ["127.0.0.1:3000"]);
    assert!(worker.cpu_percent.is_some());
    assert_eq!(run(rig.client().apps()).unwrap().apps.len(), 2);
}

#[test]
fn one_app_by_name_or_by_id() {
    let rig = Rig::with(&["web", "0", "a/b c"]);
    let shown = |selector: &str| {
        let view: AppView = serde_json::from_value(rig.get(&format!("/v1/apps/{selector}")).json()).unwrap();
        (view.app.0, view.name)
    };
    assert_eq!(shown("web"), (0, "web".into()));
    assert_eq!(shown("0"), (1, "0".into()), "an app named like a number wins over the id");
    assert_eq!(shown("2"), (2, "a/b c".into()));
    assert_eq!(shown("a%2Fb%20c"), (2, "a/b c".into()));
    assert_eq!(run(rig.client().app("a/b c")).unwrap().app.0, 2);
    assert_eq!(
        rig.get("/v1/apps/9").problem(),
        (404, "there is no app `9`: `oxherd ls` lists the apps".into())
    );
    assert_eq!(rig.get("/v1/apps/all").problem().0, 404);
    assert_eq!(rig.get("/v1/apps/%FF").problem().0, 400);
    assert_eq!(run(rig.client().app("nix")).unwrap_err().status(), Some(404));
}

#[test]
fn the_document_is_served() {
    let answer = Rig::new().get("/v1/openapi.json");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    assert_eq!(answer.json()["openapi"].as_str().map(|version| version.starts_with("3.1")), Some(true));
}

#[test]
fn what_is_not_there_is_told_in_json() {
    let rig = Rig::new();
    for path in ["/", "/v1", "/v2/ping", "/v1/apps/", "/v1/apps/web/fly"] {
        let (status, error) = rig.get(path).problem();
        assert_eq!((status, error.contains(path)), (404, true), "{error}");
    }
    let (status, error) = rig.ask("PUT", "/v1/apps", &[], b"{}").problem();
    assert_eq!((status, error.contains("does not take PUT")), (405, true));
    let allow = |method, path| {
        let answer = rig.ask(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{answer:?}");
        let line = answer.head.lines().find_map(|line| line.strip_prefix("allow: ").map(str::to_owned));
        line.unwrap()
    };
    assert_eq!(allow("PATCH", "/v1/apps"), "get,head,post");
    assert_eq!(allow("GET", "/v1/kill"), "post");
    assert_eq!(allow("DELETE", "/v1/ping"), "get,head");
}

#[test]
fn a_query_that_cannot_be_read_is_refused() {
    let rig = Rig::with(&["web"]);
    for path in [
        "/v1/logs?linez=3",
        "/v1/logs?lines=many",
        "/v1/logs?lines=-1",
        "/v1/logs?follow=yes",
        "/v1/logs?stream=stdin",
        "/v1/events?apps=web",
        "/v1/changes/1?wait=soon",
        "/v1/changes/1?wait=601",
        "/v1/changes/one",
        "/v1/changes/-1",
    ] {
        assert_eq!(rig.get(path).problem().0, 400, "{path}");
    }
    let (_, error) = rig.get("/v1/logs?linez=3").problem();
    assert!(
        error.contains("cannot read the query `linez=3`") && error.contains("unknown field `linez`"),
        "{error}"
    );
    assert_eq!(rig.get("/v1/logs?app=nix").problem().0, 404);
    assert_eq!(rig.get("/v1/events?app=nix").problem().0, 404);
}

#[test]
fn head_gives_no_body() {
    let rig = Rig::new();
    let answer = rig.ask("HEAD", "/v1/ping", &[], b"");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(rig.get("/v1/ping").json()["starts"], Value::from(0));
}
