//! Files of apps under the real daemon: where lines go and how they look, lines of any length and any bytes, files that
//! are put aside, a disk that is full, and what `logs` makes of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use oxherd_e2e::{Home, eventually, http, places, procs};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts an app by a specification, as other programs do.
fn start(home: &Home, name: &str, script: &str, more: Value) {
    let script = home.write(&format!("{name}.js"), script);
    let mut spec = json!({
        "name": name, "program": places::node("22"), "args": [script], "cwd": home.surroundings(),
        "env": [["PATH", std::env::var("PATH").expect("a path")], ["SECRET", "hunter2"]], "sockets": "none",
        "min_uptime": 1, "restart": "never"
    });
    let fields = spec.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    post(home, "/v1/apps", &json!({ "spec": spec }), 202);
}

fn post(home: &Home, path: &str, body: &Value, status: u16) -> Value {
    let body = body.to_string();
    let answer = http::try_once(&home.api(), "POST", path, "", body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    if answer.text().is_empty() { Value::Null } else { answer.json() }
}

fn app(home: &Home, name: &str) -> Value {
    let herd = home.herd();
    let apps = herd["apps"].as_array().expect("apps").clone();
    apps.into_iter().find(|app| app["name"] == name).expect("the app")
}

fn stopped(home: &Home, name: &str) {
    eventually("its end", || (app(home, name)["slots"][0]["status"] == "stopped").then_some(()));
}

fn text(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[test]
fn lines_go_where_the_app_says() {
    let home = Home::new();
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    let folder = home.surroundings().join("new/folder");
    let path = |name: &str| folder.join(name).display().to_string();
    let script =
        "console.log('one'); console.error('two'); process.stdout.write(Buffer.from([255, 254, 10]))";
    let logs = json!({"out": path("out.log"), "err": path("err.log"), "both": path("both.log"), "date_format": "[d] YYYY"});
    start(&home, "dated", script, json!({"upkeep": {"logs": logs, "namespace": "shop"}}));
    let logs = json!({"out": path("json.log"), "err": "/dev/null", "json": true, "per_slot": true});
    start(&home, "records", script, json!({"upkeep": {"logs": logs, "namespace": "shop"}}));
    start(&home, "silent", script, json!({"upkeep": {"logs": {"disabled": true}}}));
    start(&home, "stuck", script, json!({"upkeep": {"logs": {"out": "/proc/nowhere/out.log"}}}));
    ["dated", "records", "silent", "stuck"].iter().for_each(|name| stopped(&home, name));
    eventually("all lines", || (text(&folder.join("both.log")).lines().count() == 3).then_some(()));
    let out = fs::read(folder.join("out.log")).expect("a file");
    assert!(out.starts_with(b"d 20") && out.ends_with(b": \xff\xfe\n"), "{out:?}: bytes stay as they are");
    assert!(text(&folder.join("err.log")).ends_with(": two\n"));
    let number = app(&home, "records")["slots"][0]["number"].as_u64().expect("a number");
    let records = folder.join(format!("json-{number}.log"));
    eventually("two records", || (text(&records).lines().count() == 2).then_some(()));
    let first: Value =
        serde_json::from_str(text(&records).lines().next().expect("a line")).expect("a record");
    assert_eq!(
        (&first["message"], &first["type"], &first["app_name"]),
        (&json!("one"), &json!("out"), &json!("records"))
    );
    assert!(!home.path().join("logs/silent-out.log").exists());
    // The app ran all the same, and people are told.
    let troubles = eventually("trouble", || {
        let troubles = home.herd()["troubles"].as_array().expect("a list").clone();
        (!troubles.is_empty()).then_some(troubles)
    });
    assert!(troubles[0].as_str().expect("a text").contains("/proc/nowhere/out.log"), "{troubles:?}");
    assert_eq!(app(&home, "stuck")["slots"][0]["last_exit"], json!({"code": 0}));
    logs_of_the_namespace(&home, number);
}

fn logs_of_the_namespace(home: &Home, number: u64) {
    let shown = home.ok(&["logs", "shop", "--nostream", "--lines", "1", "--raw"]);
    assert!(shown.contains(": two\n") && shown.contains("\"process_id\":"), "{shown}");
    let shown = home.ok(&["logs", "records", "--nostream", "--json"]);
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{shown}");
    assert!(shown.contains(&format!("\"process_id\":{number},")), "{shown}");
    let flushed = post(home, "/v1/logs/flush?app=dated", &json!({}), 200);
    assert_eq!(flushed["apps"][0]["count"], 3);
    assert_eq!(home.ok(&["logs", "dated", "--nostream"]), "");
    let mode = |path: PathBuf| {
        fs::metadata(path).map(|it| std::os::unix::fs::PermissionsExt::mode(&it.permissions()))
    };
    assert_eq!(mode(home.surroundings().join("new/folder/out.log")).expect("a file") & 0o777, 0o600);
}

/// A line of 20 MB, written at once by one that ends right afterwards, and 20,000 short ones.
const LONG: &str = "
const long = 'x'.repeat(20_000_000);
process.stdout.write(long + '\\n', () => {
    for (let i = 0; i < 20000; i++) console.error('line ' + i);
});";

#[test]
fn lines_are_whole_however_long_and_many() {
    let home = Home::new();
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    let (daemon, ..) = home.ping().expect("a daemon");
    let rotate = json!({"size": 100_000, "every": null, "keep": 50, "gzip": true});
    start(&home, "long", LONG, json!({"upkeep": {"logs": {"rotate": rotate}}}));
    stopped(&home, "long");
    let out = home.path().join("logs/long-out.log");
    eventually("the long line", || (fs::metadata(&out).is_ok_and(|it| it.len() == 20_000_001)).then_some(()));
    assert_eq!(fs::read(&out).expect("a file").iter().filter(|byte| **byte == b'x').count(), 20_000_000);
    assert_eq!(app(&home, "long")["dropped_lines"], 0);
    assert!(procs::peak_bytes(daemon) < 40 << 20, "{} bytes", procs::peak_bytes(daemon));
    // The last lines are found across files that were put aside, in order.
    let shown = home.ok(&["logs", "long", "--err", "--nostream", "--raw", "--lines", "15000"]);
    let numbers: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("line ")).collect();
    let expected: Vec<String> = (5000..20_000).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    eventually("compressed files", || {
        let names = fs::read_dir(home.path().join("logs")).ok()?;
        let names: Vec<_> = names.flatten().filter_map(|it| it.file_name().into_string().ok()).collect();
        let old = |end: &str| {
            names.iter().filter(|name| name.starts_with("long-error.log.") && name.ends_with(end)).count()
        };
        (old(".gz") == 2 && old("") == 2).then_some(())
    });
}

/// Lines with the process's own number, so that those of the next one are told apart.
const COUNTING: &str =
    "let n = 0; setInterval(() => { for (let i = 0; i < 20; i++) console.log(process.pid, n++); }, 5)";

#[test]
fn logs_follow_files_that_are_put_aside_and_workers_that_are_replaced() {
    let home = Home::new();
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    let by_size = json!({"size": 4000, "every": null, "keep": 1000, "gzip": true});
    let by_time = json!({"size": 0, "every": 1000, "keep": 2, "gzip": false});
    start(&home, "sized", COUNTING, json!({"upkeep": {"logs": {"rotate": by_size}}}));
    start(&home, "timed", COUNTING, json!({"upkeep": {"logs": {"rotate": by_time}}}));
    let mut follower = home
        .command(&["logs", "sized", "--raw", "--lines", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut next = || {
        let line = lines.next().expect("it goes on").expect("it can be read");
        let (pid, number) = line.split_once(' ').expect("two numbers");
        (pid.parse::<u64>().expect("a number"), number.parse::<u64>().expect("a number"))
    };
    let mut last = next();
    for turn in 0..2 {
        for _ in 0..1500 {
            let (pid, number) = next();
            let is_first = number == 0 && pid != last.0;
            assert!((pid, number) == (last.0, last.1 + 1) || is_first, "{pid} {number} after {last:?}");
            last = (pid, number);
        }
        if turn == 0 {
            home.ok(&["restart", "sized"]);
        }
    }
    procs::kill(follower.id(), Signal::INT);
    eventually("its end", || follower.try_wait().expect("it is our child"));
    let old = |name: &str| {
        let names = fs::read_dir(home.path().join("logs")).expect("a folder").flatten();
        let names = names.filter_map(|it| it.file_name().into_string().ok());
        names.filter(|it| it.starts_with(&format!("{name}-out.log."))).collect::<Vec<_>>()
    };
    let number = |name: &str| name.rsplit('.').next()?.parse::<u64>().ok();
    assert!(old("sized").len() >= 6, "{:?}", old("sized"));
    eventually("a third file", || old("timed").iter().any(|it| number(it) >= Some(3)).then_some(()));
    eventually("only two of them", || (old("timed").len() <= 2).then_some(()));
    home.ok(&["stop", "all"]);
    // The last lines are found across all of them, in order.
    let all = home.ok(&["logs", "sized", "--nostream", "--raw", "--lines", "1000"]);
    let numbers: Vec<u64> = all.lines().filter_map(|it| it.split_once(' ')?.1.parse().ok()).collect();
    assert!(numbers.len() == 1000 && numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
}

#[test]
fn a_full_disk_holds_up_no_worker() {
    let home = Home::new();
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    let (daemon, ..) = home.ping().expect("a daemon");
    let script =
        "for (let i = 0; i < 100000; i++) console.log('line ' + i + ' '.repeat(100)); console.error('done')";
    start(&home, "full", script, json!({"upkeep": {"logs": {"out": "/dev/full"}}}));
    stopped(&home, "full");
    assert_eq!(text(&home.path().join("logs/full-error.log")), "done\n");
    eventually("all are counted", || (app(&home, "full")["dropped_lines"] == 100_000).then_some(()));
    let troubles = home.herd()["troubles"].to_string();
    assert!(troubles.contains("/dev/full: the disk is full"), "{troubles}");
    let told = home.log().matches("/dev/full").count();
    assert_eq!(told, 1, "it is told once: {}", home.log());
    assert!(procs::peak_bytes(daemon) < 40 << 20);
}

#[test]
fn stdout_of_a_worker_behaves_as_nodes_does() {
    let home = Home::new();
    home.ok(&["start", &home.write("idle.js", "setInterval(() => {}, 1000)"), "--name", "idle"]);
    let script = "
        const results = [process.stdout.write('small\\n')];
        const big = process.stdout.write(Buffer.alloc(5_000_000, 'y'));
        const end = () => console.error(JSON.stringify([results[0], big, typeof big]));
        big ? end() : process.stdout.once('drain', end);";
    start(&home, "writer", script, json!({}));
    stopped(&home, "writer");
    let told = eventually("what it saw", || {
        Some(text(&home.path().join("logs/writer-error.log"))).filter(|it| !it.is_empty())
    });
    // Pipes are written to synchronously on Linux: what node itself does with one.
    assert!(told == "[true,false,\"boolean\"]\n" || told == "[true,true,\"boolean\"]\n", "{told}");
    let out = home.path().join("logs/writer-out.log");
    eventually("all bytes", || (fs::metadata(&out).is_ok_and(|it| it.len() == 5_000_007)).then_some(()));
}
