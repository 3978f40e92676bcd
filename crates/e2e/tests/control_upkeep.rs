//! What the daemon does for apps besides keeping them: reloads by the clock and by changed files, numbers and files with
//! pids, the snapshot, and environments. And a client that dies amid a reload.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use oxherd_e2e::{Home, eventually, http, places, procs};
use rustix::process::Signal;
use serde_json::{Value, json};

const SERVER: &str = "require('http').createServer((_, it) => it.end('ok')).listen(0, '127.0.0.1')";

fn spec(home: &Home, name: &str, script: &str, more: Value) -> Value {
    let folder = home.surroundings().join(format!("{name}-src"));
    let path = folder.join(format!("{name}.js"));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&path, script)).expect("the folder is writable");
    let mut spec = json!({
        "name": name, "program": places::node("22"), "args": [path], "cwd": home.surroundings(),
        "env": [["PATH", "/usr/bin:/bin"], ["SECRET", "hunter2"]], "kill_timeout": 2000
    });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    spec
}

fn post(home: &Home, path: &str, body: &Value, status: u16) -> Value {
    let answer =
        http::try_once(&home.api(), "POST", path, "", body.to_string().as_bytes()).expect("an answer");
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    answer.json()
}

fn start(home: &Home, specs: &[Value]) {
    post(home, "/v1/apps", &json!({ "specs": specs }), 202);
    for spec in specs {
        let name = spec["name"].as_str().expect("a name");
        // One that the clock reloads may never be at rest on a machine that is busy.
        if spec["autostart"] != false && spec["upkeep"]["cron"].is_null() {
            online(home, name);
        }
    }
}

fn app(home: &Home, name: &str) -> Value {
    let herd = home.herd();
    let apps = herd["apps"].as_array().expect("apps").clone();
    apps.into_iter().find(|app| app["name"] == name).unwrap_or(Value::Null)
}

fn online(home: &Home, name: &str) {
    eventually("workers that serve", || {
        let app = app(home, name);
        let slots = app["slots"].as_array()?.clone();
        let settled = app["reload"].is_null()
            && slots.iter().all(|slot| slot["workers"].as_array().is_some_and(|it| it.len() == 1));
        (settled && slots.iter().all(|slot| slot["status"] == "online")).then_some(())
    });
}

fn generation(home: &Home, name: &str) -> u64 {
    app(home, name)["generation"].as_u64().unwrap_or(0)
}

fn daemon(home: &Home) {
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    home.ok(&["delete", "idle"]);
}

#[test]
fn the_clock_and_changed_files_reload_what_runs_and_start_nothing() {
    let home = Home::new();
    daemon(&home);
    let pid_file = home.surroundings().join("run/web.pid");
    let watched = home.surroundings().join("watched-src");
    let watch = json!({"watch": {"paths": [watched], "ignore": ["*.tmp"], "delay": 0}, "pid_file": pid_file});
    let around = json!({"paths": [home.surroundings()], "ignore": ["watched-src", "run"], "delay": 0});
    let every_second = json!({"upkeep": {"cron": "* * * * * *"}});
    start(
        &home,
        &[
            spec(&home, "clock", SERVER, every_second.clone()),
            spec(&home, "stopped", SERVER, every_second),
            spec(&home, "watched", SERVER, json!({ "upkeep": watch })),
            spec(&home, "around", SERVER, json!({ "upkeep": { "watch": around } })),
            spec(&home, "later", SERVER, json!({"autostart": false})),
        ],
    );
    home.ok(&["stop", "stopped"]);
    let before = generation(&home, "stopped");
    assert_eq!(app(&home, "later")["up"], false);
    eventually("two reloads by the clock", || (generation(&home, "clock") >= 3).then_some(()));
    assert!(app(&home, "clock")["cron_at_ms"].as_u64().is_some());
    // As many times came for the one that is stopped.
    let stopped = app(&home, "stopped");
    assert_eq!((&stopped["up"], &stopped["cron_at_ms"]), (&json!(false), &json!(null)));
    assert_eq!(generation(&home, "stopped"), before);
    home.ok(&["delete", "clock"]);
    let pid = || fs::read_to_string(&pid_file).ok()?.trim().parse::<u64>().ok();
    eventually("the pid", || (pid() == home.pids("watched").first().copied()).then_some(()));
    home.write("around.js", "");
    eventually("a reload", || (generation(&home, "around") == 2).then_some(()));
    online(&home, "around");
    changes(&home, &watched);
    // The daemon's home is in that folder, and much was written there since.
    assert_eq!(generation(&home, "around"), 2);
    eventually("the new pid", || (pid() == home.pids("watched").first().copied()).then_some(()));
    home.ok(&["stop", "watched"]);
    eventually("no file", || (!pid_file.exists()).then_some(()));
    assert!(
        home.log().contains("watched is reloaded: ")
            && home.log().contains("clock is reloaded: the clock says so")
    );
}

/// A port that was free a moment ago, for programs that bind one of their own.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn a_program_that_binds_its_own_port_is_renewed() {
    let home = Home::new();
    daemon(&home);
    let script = format!(
        "require('http').createServer((_, it) => it.end(process.env.MARK ?? '')).listen({}, '127.0.0.1')",
        free_port()
    );
    let mut alone = spec(&home, "alone", &script, json!({"sockets": "none", "min_uptime": 300}));
    start(&home, std::slice::from_ref(&alone));
    let (mut pids, mut generation_before) = (home.pids("alone"), generation(&home, "alone"));
    let mut renew = |path: &str, body: Value, is_new_generation: bool| {
        let changes = post(&home, path, &body, 202)["changes"].clone();
        let change = changes[0]["change"].as_u64().expect("a change");
        let view = format!("/v1/changes/{change}?wait=20");
        let view = http::try_once(&home.api(), "GET", &view, "", b"").expect("an answer").json();
        assert_eq!(view["outcome"], "done", "{path}: {view}");
        let (now, generation_now) = (home.pids("alone"), generation(&home, "alone"));
        assert!(now.len() == 1 && now != pids, "{path}: {now:?} after {pids:?}");
        assert_eq!(generation_now > generation_before, is_new_generation, "{path}");
        (pids, generation_before) = (now, generation_now);
    };
    renew("/v1/apps/alone/reload", json!({}), true);
    renew("/v1/apps/alone/recycle", json!({"slot": 0}), false);
    renew("/v1/apps/alone/restart", json!({}), false);
    alone["env"] = json!([["PATH", "/usr/bin:/bin"], ["MARK", "other"]]);
    renew("/v1/apps/alone/restart", json!({ "spec": alone }), true);
    let app = app(&home, "alone");
    assert_eq!(app["slots"][0]["restarts"], 0, "nobody died of a port in use: {app}");
}

/// What does not count changes nothing, what counts reloads once, and what is broken replaces nobody.
fn changes(home: &Home, watched: &std::path::Path) {
    for ignored in ["a.tmp", ".swp", "node_modules"] {
        fs::create_dir_all(watched.join(ignored)).expect("a folder");
    }
    fs::create_dir(watched.join("lib")).expect("a folder");
    eventually("a reload for a folder", || (generation(home, "watched") == 2).then_some(()));
    online(home, "watched");
    for number in 0..200 {
        fs::write(watched.join("lib/new.js"), number.to_string()).expect("a file");
    }
    eventually("a reload for a file in it", || (generation(home, "watched") == 3).then_some(()));
    online(home, "watched");
    let pids = home.pids("watched");
    fs::write(watched.join("watched.js"), "throw new Error('broken')").expect("a file");
    eventually("an aborted reload", || home.log().to_lowercase().contains("abort").then_some(()));
    assert_eq!((home.pids("watched"), generation(home, "watched")), (pids, 3));
}

#[test]
fn a_client_that_dies_amid_a_reload_leaves_nothing_half_done() {
    let home = Home::new();
    daemon(&home);
    let slow =
        "setTimeout(() => require('http').createServer((_, it) => it.end('ok')).listen(0, '127.0.0.1'), 300)";
    start(&home, &[spec(&home, "web", slow, json!({"instances": 4}))]);
    let before: BTreeSet<u64> = home.pids("web").into_iter().collect();
    let mut client = home
        .command(&["reload", "web"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    eventually("the reload", || (!app(&home, "web")["reload"].is_null()).then_some(()));
    procs::kill(client.id(), Signal::KILL);
    eventually("its end", || client.try_wait().expect("it is our child"));
    eventually("all four replaced", || {
        let now: BTreeSet<u64> = home.pids("web").into_iter().collect();
        (now.len() == 4 && now.is_disjoint(&before) && generation(&home, "web") == 2).then_some(())
    });
    online(&home, "web");
    // What is remembered of slots outlives the daemon.
    let slots = |key: &str| {
        let app = app(&home, "web");
        app["slots"].as_array().expect("slots").iter().map(|slot| slot[key].clone()).collect::<Vec<_>>()
    };
    assert_eq!(slots("renewals"), [1, 1, 1, 1].map(Value::from));
    let (numbers, created) = (slots("number"), slots("created_at_ms"));
    assert_eq!(numbers, [0, 1, 2, 3].map(Value::from));
    home.kill_daemon();
    eventually("another daemon", || home.ping());
    online(&home, "web");
    assert_eq!((slots("number"), slots("created_at_ms")), (numbers, created));
    // Killed by a signal is not code 0.
    procs::kill(u32::try_from(home.pids("web")[2]).expect("a pid"), Signal::KILL);
    eventually("its exit", || (slots("last_exit")[2] == json!({"signal": 9})).then_some(()));
    online(&home, "web");
    assert_eq!(slots("restarts"), [0, 0, 1, 0].map(Value::from));
    assert_eq!(post(&home, "/v1/apps/web/reset", &json!({}), 200)["apps"][0]["count"], 4);
    assert_eq!((slots("restarts"), slots("renewals")), (vec![json!(0); 4], vec![json!(0); 4]));
    one_worker(&home);
}

/// One slot is replaced, and one worker is signalled.
fn one_worker(home: &Home) {
    let before = home.pids("web");
    post(home, "/v1/apps/web/recycle", &json!({"slot": 1}), 202);
    eventually("another worker in slot 1", || {
        let now = home.pids("web");
        (now.len() == 4 && now[1] != before[1] && [0, 2, 3].iter().all(|at| now[*at] == before[*at]))
            .then_some(())
    });
    online(home, "web");
    let told = post(home, "/v1/apps/web/signal", &json!({"signal": "SIGKILL", "slot": 3}), 200);
    assert_eq!(told["apps"][0]["count"], 1);
    eventually("its exit", || {
        (app(home, "web")["slots"][3]["last_exit"] == json!({"signal": 9})).then_some(())
    });
}

#[test]
fn nothing_of_ours_is_in_an_app_s_environment_and_nothing_of_the_app_s_in_open_files() {
    let home = Home::new();
    daemon(&home);
    start(&home, &[spec(&home, "web", SERVER, json!({"upkeep": {"namespace": "shop"}}))]);
    let pid = home.pids("web")[0];
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("a process");
    let names: BTreeSet<String> = environ
        .split(|byte| *byte == 0)
        .filter_map(|entry| Some(String::from_utf8_lossy(entry).split_once('=')?.0.to_owned()))
        .collect();
    let documented = [
        "PATH",
        "SECRET",
        "NODE_APP_INSTANCE",
        "OXHERD_SLOT",
        "OXHERD_INSTANCE",
        "NODE_CHANNEL_FD",
        "NODE_CHANNEL_SERIALIZATION_MODE",
        "NODE_UNIQUE_ID",
    ];
    assert_eq!(names, documented.map(str::to_owned).into());
    let env = http::try_once(&home.api(), "GET", "/v1/apps/web/env", "", b"").expect("an answer").json();
    assert_eq!(env["pid"], pid);
    assert!(env["env"].as_array().expect("pairs").contains(&json!(["SECRET", "hunter2"])));
    // The snapshot: private, made on demand, and what resurrect goes back to.
    let saved = home.path().join("saved.json");
    assert!(!saved.exists());
    assert_eq!(post(&home, "/v1/save", &json!({}), 200)["apps"], 1);
    let secrets = |folder: std::path::PathBuf| {
        let files = fs::read_dir(folder).expect("a folder").flatten().map(|it| it.path());
        files
            .filter(|it| fs::read(it).is_ok_and(|text| String::from_utf8_lossy(&text).contains("hunter2")))
            .collect::<Vec<_>>()
    };
    let with_secrets =
        eventually("the saved state", || Some(secrets(home.path())).filter(|it| it.len() >= 2));
    for file in with_secrets {
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
    home.ok(&["delete", "web"]);
    eventually("its end", || app(&home, "web").is_null().then_some(()));
    home.ok(&["resurrect"]);
    online(&home, "web");
    let api = home.api();
    for _ in 0..2 {
        let answer = http::try_once(&api, "DELETE", "/v1/save", "", b"").expect("an answer");
        assert_eq!(answer.status, 200);
    }
    assert!(!saved.exists());
}
