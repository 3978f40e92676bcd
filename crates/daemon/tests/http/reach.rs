//! What reaches workers and files: selectors, signals, messages, figures counted anew.

use serde_json::json;

use crate::rig::Rig;

#[test]
fn signals_and_messages_go_to_the_workers_that_are_meant_and_once() {
    let rig = Rig::with(&["web", "api"]);
    let sent =
        || std::mem::take(&mut rig.herd.lock().sent).into_iter().map(|(_, what)| what).collect::<Vec<_>>();
    let answer = rig.post("/v1/apps/all/signal", r#"{"signal": "usr2"}"#);
    assert_eq!(
        answer.json(),
        json!({"apps": [{"app": 0, "name": "web", "count": 1}, {"app": 1, "name": "api", "count": 1}]})
    );
    assert_eq!(sent(), ["12", "12"]);
    let body = br#"{"message": {"type": "config-change",  "data": 1}, "slot": 0}"#;
    for _ in 0..2 {
        let answer = rig.ask("POST", "/v1/apps/web/message", &[("idempotency-key", "k")], body);
        assert_eq!(answer.json()["apps"][0]["count"], 1);
    }
    assert_eq!(sent(), [r#"{"type": "config-change",  "data": 1}"#], "as it was written, and not twice");
    assert_eq!(rig.post("/v1/apps/api/send", r#"{"line": "hello"}"#).json()["apps"][0]["count"], 1);
    assert_eq!(sent(), ["hello"]);
    let refused = |path: &str, body: &str| rig.post(path, body).problem();
    assert_eq!(refused("/v1/apps/web/signal", r#"{"signal": "SIGNONE"}"#).0, 422);
    let (status, text) = refused("/v1/apps/web/signal", r#"{"signal": "HUP", "slot": 9}"#);
    assert_eq!((status, text.as_str()), (404, "app `web` has no slot 9"));
    assert_eq!(refused("/v1/apps/web/message", "{}").0, 422);
    assert!(sent().is_empty());
}

#[test]
fn selectors_choose_and_views_tell_what_is_remembered_of_slots() {
    let rig = Rig::with(&["web", "api", "web-2"]);
    let names = |query: &str| {
        let herd = rig.get(&format!("/v1/apps?app={query}")).json();
        let apps = herd["apps"].as_array().unwrap().clone();
        apps.iter().map(|app| app["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("%2Fweb%2F"), ["web", "web-2"]);
    assert_eq!(names("default"), ["web", "api", "web-2"]);
    let app = rig.get("/v1/apps/web").json();
    assert_eq!((&app["namespace"], &app["slots"][0]["number"]), (&json!("default"), &json!(40)));
    assert!(app["slots"][0]["workers"][0]["started_at_ms"].as_u64().unwrap() > 1_000_000_000_000);
    assert_eq!(rig.get("/v1/apps/default").problem().0, 400);
    let spec = rig.get("/v1/apps/%2Fapi%2F/spec").json();
    assert_eq!((&spec["apps"][0]["app"], &spec["apps"][0]["spec"]["name"]), (&json!(1), &json!("api")));
    let env = rig.get("/v1/apps/api/env").json();
    assert_eq!((&env["slot"], &env["pid"], &env["env"]), (&json!(0), &json!(null), &json!([])));
    assert_eq!(rig.get("/v1/apps/api/env?slot=4").problem().0, 404);
    let body = json!({"spec": {"name": "idle", "program": "/bin/server", "autostart": false}}).to_string();
    assert_eq!(rig.post("/v1/apps", &body).status, 202);
    assert_eq!(rig.get("/v1/apps/idle").json()["up"], false);
}

#[test]
fn files_are_emptied_and_the_snapshot_is_made_on_demand() {
    let rig = Rig::with(&["web", "api"]);
    assert_eq!(rig.post("/v1/logs/flush?app=api", "").json()["apps"][0]["count"], 2);
    assert_eq!(*rig.herd.logs().flushed.lock().unwrap(), ["api"]);
    assert_eq!(rig.post("/v1/apps/web/reset", "").json()["apps"][0]["count"], 1);
    assert_eq!(rig.post("/v1/save", "").json(), json!({"file": "/saved.json", "apps": 3}));
    assert_eq!(rig.herd.lock().snapshots, 1);
    assert_eq!(rig.ask("DELETE", "/v1/save", &[], b"").problem().0, 409);
}
