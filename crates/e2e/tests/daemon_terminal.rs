//! What people see who type: progress, tables that fit, colours, and what Ctrl-C does.

use oxherd_e2e::screen::Session;
use oxherd_e2e::terminal::CTRL_C;
use oxherd_e2e::told::masked;
use oxherd_e2e::{Home, eventually, procs};
use rustix::process::Signal;

/// It listens once there is a file `go` beside it.
const PATIENT: &str = "
const { existsSync } = require('node:fs');
const server = require('node:http').createServer((_, res) => res.end('hi'));
const look = () => existsSync(__dirname + '/go') ? server.listen(0, '127.0.0.1') : setTimeout(look, 5);
look();
";

fn home_with_web(instances: &str) -> Home {
    let home = Home::new();
    let script = home.write("web.js", PATIENT);
    home.write("go", "");
    // Living long is not being ready here.
    home.ok(&["start", &script, "-i", instances, "--min-uptime", "20s"]);
    home
}

fn hold(home: &Home) {
    std::fs::remove_file(home.surroundings().join("go")).expect("it is ours");
}

/// The rows of a picture, masked, with its spinner and the seconds at rest.
fn rows(picture: &str) -> Vec<String> {
    let rest = |c: char| if "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".contains(c) { '~' } else { c };
    picture.lines().map(|line| masked(&line.chars().map(rest).collect::<String>())).collect()
}

#[test]
fn a_reload_shows_each_slot_and_ends_with_the_table() {
    let home = home_with_web("3");
    hold(&home);
    let session = Session::start(&home, &["reload", "web"], 80, &[]);
    let picture = session.wait("a successor", |picture| picture.contains("starting"));
    println!("{picture}");
    let rows_seen = rows(&picture);
    assert_eq!(rows_seen.len(), 4);
    assert!(rows_seen[0].starts_with("~ Reloading web: 0 of 3 slots replaced, "), "{picture}");
    assert_eq!(rows_seen[1..], ["~ 0 starting pid #", "· 1 online pid #", "· 2 online pid #"]);
    home.write("go", "");
    let (code, picture, _) = session.end();
    println!("{picture}");
    assert_eq!(code, Some(0));
    let rows_seen = rows(&picture);
    assert_eq!(rows_seen[0], "web: reloaded, every slot runs generation 2 after #");
    assert_eq!(rows_seen[2], "│ id │ name │ mode │ pid │ uptime │ ↺ │ status │ cpu │ memory │");
    assert_eq!(rows_seen[4], "│ 0:0 │ web │ handoff │ # │ #s │ 0 │ online │ #% │ # MiB │");
    assert_eq!(rows_seen.len(), 8);
}

#[test]
fn tables_fit_every_width_and_nothing_is_broken() {
    let home = home_with_web("2");
    let name = "a-queue-of-work-with-a-name-that-nobody-wants-to-type-twice";
    let queue = home.write("queue.sh", "while :; do sleep 0.1; done\n");
    home.ok(&["start", &queue, "-i", "1", "--name", name, "--min-uptime", "50ms"]);
    home.ok(&["stop", name]);
    for width in [120, 80, 60, 40] {
        for verb in [&["ls"][..], &["describe", "web"], &["stop", "nobody-of-that-name"], &["start", name]] {
            if verb[0] == "start" && width < 120 {
                continue;
            }
            let (_, picture, _, is_broken) = Session::start(&home, verb, width, &[]).end_anyhow();
            println!("{picture}");
            // A path that is wider than the terminal stays one, for those who copy it.
            assert!(!is_broken || verb[0] == "describe", "{verb:?} at {width}:\n{picture}");
            let widest = picture.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= usize::from(width), "{verb:?} at {width}:\n{picture}");
        }
    }
    let columns = |width| {
        let (_, picture, _) = Session::start(&home, &["ls"], width, &[]).end();
        picture
            .lines()
            .nth(1)
            .expect("a heading")
            .split('│')
            .map(|it| it.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let all = ["", "id", "name", "mode", "pid", "uptime", "↺", "status", "cpu", "memory", ""];
    assert_eq!(columns(120), all);
    home.ok(&["delete", name]);
    assert_eq!(columns(80), all, "80 columns are enough for all");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let home = home_with_web("1");
    for (no_color, wanted) in [("", true), ("1", false)] {
        let (code, picture, raw) = Session::start(&home, &["ls"], 80, &[("NO_COLOR", no_color)]).end();
        assert_eq!(code, Some(0));
        assert_eq!(raw.contains("\x1b[32monline"), wanted, "{raw:?}");
        assert_eq!(raw.contains('\x1b'), wanted, "{raw:?}");
        assert!(picture.contains("│ online │"), "{picture}");
    }
    let (_, picture, _) = Session::start(&home, &["ls"], 80, &[("TERM", "dumb")]).end();
    assert!(picture.starts_with("id  name  mode") && !picture.contains('│'), "{picture}");
    home.ok(&["kill"]);
    let (code, picture, _) = Session::start(&home, &["ls"], 80, &[]).end();
    assert_eq!(
        (code, picture.as_str()),
        (Some(0), "oxherd: no daemon is running: `oxherd start` starts one\n")
    );
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_change() {
    let home = home_with_web("2");
    let before = home.pids("web");
    hold(&home);
    let session = Session::start(&home, &["reload", "web"], 80, &[]);
    session.wait("a successor", |picture| picture.contains("starting"));
    session.press(CTRL_C);
    let (code, picture, _) = session.end();
    println!("{picture}");
    assert_eq!(code, Some(130));
    let end =
        "oxherd: not waiting any more: the reload of web goes on (`oxherd ls` shows how\n  far it is)\n";
    assert!(picture.ends_with(end) && !picture.contains("^C"), "{picture}");
    home.write("go", "");
    assert_replaced(&home, &before);
}

#[test]
fn a_killed_command_changes_nothing() {
    let home = home_with_web("2");
    let before = home.pids("web");
    hold(&home);
    let session = Session::start(&home, &["reload", "web"], 80, &[]);
    let picture = session.wait("a successor", |picture| picture.contains("starting"));
    procs::kill(session.pid(), Signal::KILL);
    let (code, after, _) = session.end();
    assert_eq!(code, None);
    assert_eq!(rows(&after)[1..], rows(&picture)[1..], "the cursor is below what stands there");
    home.write("go", "");
    assert_replaced(&home, &before);
}

#[test]
fn a_start_that_fails_shows_why_while_it_goes_on() {
    let home = Home::new();
    let script = home.write("crash.js", "throw new Error('broken');\n");
    let args = [
        "start",
        &script,
        "-i",
        "1",
        "--max-restarts",
        "3",
        "--restart-delay",
        "300ms",
        "--min-uptime",
        "10s",
    ];
    let session = Session::start(&home, &args, 80, &[]);
    let picture = session.wait("a pause", |picture| picture.contains("waiting restart"));
    println!("{picture}");
    assert!(picture.contains("ended with code 1; again in 300 ms (unstable exit "), "{picture}");
    let (code, picture, _) = session.end();
    println!("{picture}");
    assert_eq!(code, Some(1));
    assert!(
        picture.starts_with("crash: the start failed: slot 0 gives up: 3 unstable exits within 1 min 0 s;\n")
    );
    assert!(picture.contains("│ errored │"), "{picture}");
}

/// The reload comes to its end without anybody who waits for it.
fn assert_replaced(home: &Home, before: &[u64]) {
    eventually("the end of the reload", || {
        let app = home.herd()["apps"][0].clone();
        let slots = app["slots"].as_array()?;
        let online = slots
            .iter()
            .all(|slot| slot["status"] == "online" && slot["workers"].as_array().map(Vec::len) == Some(1));
        (online && app["reload"].is_null() && app["generation"] == 2).then_some(())
    });
    assert!(home.pids("web").iter().all(|pid| !before.contains(pid)));
}
