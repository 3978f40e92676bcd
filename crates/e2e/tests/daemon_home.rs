//! Homes that are not as they should be: what people are told, and what becomes of what was there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use oxherd_e2e::told::{on_paper, told};
use oxherd_e2e::{Home, eventually, places, procs};
use rustix::process::Signal;

const SERVER: &str = "
require('node:http').createServer((_, res) => res.end(process.env.COLOUR ?? '')).listen(0, '127.0.0.1');
";
/// A worker that lives for so long is taken to be ready though it does not listen: longer than any machine takes.
const PATIENCE: &str = "60s";
const STARTED: &str = "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\n[0]\n";

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// The closed folder of a home, before its daemon ever ran.
fn furnish(home: &Home) {
    fs::create_dir(home.path()).expect("it is ours");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
}

fn start(home: &Home) -> String {
    let script = home.write("web.js", SERVER);
    told(home, &["start", &script, "-i", "1", "--min-uptime", PATIENCE])
}

fn files(home: &Home, part: &str) -> Vec<String> {
    let entries = fs::read_dir(home.path()).expect("it is there").filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(part)).collect()
}

#[test]
fn what_others_have_left_is_replaced_and_nobody_is_hurt() {
    for innocent in [None, Some(Command::new("sleep").arg("600").spawn().expect("it runs"))] {
        let home = Home::new();
        furnish(&home);
        drop(UnixListener::bind(home.path().join("oxherd.sock")).expect("it is ours"));
        let gone = || {
            let mut child = Command::new("true").spawn().expect("it runs");
            eventually("its end", || child.try_wait().expect("it is our child"));
            child.id()
        };
        let named = innocent.as_ref().map_or_else(gone, std::process::Child::id);
        fs::write(home.path().join("oxherd.pid"), format!("{named}\n")).expect("it is ours");
        assert_eq!(
            told(&home, &["ping"]),
            "! oxherd: no daemon is running at ~/home/oxherd.sock: `oxherd start` starts one\n[1]\n"
        );
        assert_eq!(start(&home), STARTED);
        let (_, keeper, _) = home.ping().expect("it serves");
        let written = fs::read_to_string(home.path().join("oxherd.pid")).expect("it is there");
        assert_eq!(written, format!("{keeper}\n"));
        home.ok(&["kill"]);
        assert_eq!(files(&home, "oxherd."), [""; 0], "pid file and socket are gone");
        if let Some(mut innocent) = innocent {
            assert!(procs::is_alive(named));
            innocent.kill().expect("it is our child");
            eventually("its end", || innocent.try_wait().expect("it is our child"));
        }
    }
}

#[test]
fn two_that_start_at_once_share_one_daemon() {
    for _ in 0..3 {
        let home = Home::new();
        let names = ["one", "two", "three"];
        let starts = names.map(|name| {
            let script = home.write(&format!("{name}.js"), SERVER);
            let mut command = home.command(&["start", &script, "-i", "1", "--min-uptime", PATIENCE]);
            (name, std::thread::spawn(move || command.output().expect("it runs")))
        });
        for (name, start) in starts {
            let output = start.join().expect("it does not panic");
            assert_eq!(on_paper(&home, &output), STARTED.replace("web", name));
        }
        let running = names.map(|name| home.pids(name).len());
        assert_eq!(running, [1, 1, 1]);
        let keepers = home.processes().into_iter().filter(|pid| is_ours(*pid)).count();
        assert_eq!(keepers, 2, "one keeper and one daemon");
    }
}

fn is_ours(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1);
    words.next().is_some_and(|word| word == b"keeper" || word == b"daemon")
}

#[test]
fn homes_that_cannot_be_used_are_named_with_the_way_out() {
    let home = Home::new();
    fs::write(home.path(), "precious").expect("it is ours");
    assert_eq!(
        start(&home),
        "! oxherd: cannot use ~/home: it is not a folder (move it away, or set OXHERD_HOME to a folder)\n[1]\n"
    );
    assert_eq!(fs::read(home.path()).expect("it is there"), b"precious");
    assert_eq!(told(&home, &["kill"]), "no daemon is running\n[0]\n");
    fs::remove_file(home.path()).expect("it is ours");

    furnish(&home);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    assert_eq!(
        start(&home),
        "! oxherd: cannot use ~/home: other users may write to it (close it with: chmod # ~/home)\n[1]\n"
    );
    assert_eq!(mode(&home.path()), 0o777, "nothing is changed behind people's backs");
    fs::remove_dir(home.path()).expect("it is empty");

    let elsewhere = |folder: &str, args: &[&str]| {
        let output = home.command(args).env("OXHERD_HOME", folder).output().expect("it runs");
        on_paper(&home, &output)
    };
    let long = format!("/tmp/{}", "h".repeat(100));
    let limit = format!(
        "! oxherd: cannot use {long}/oxherd.sock: the path of a socket has at most # bytes, this one # (set OXHERD_HOME \
         to a shorter path)\n[2]\n"
    );
    for verb in [&["resurrect"][..], &["ls"], &["stop", "web"]] {
        assert_eq!(elsewhere(&long, verb), limit);
    }
    let lost = home.surroundings().join("no/home");
    assert_eq!(
        elsewhere(lost.to_str().expect("text"), &["resurrect"]),
        "! oxherd: cannot use ~/no/home: there is no folder ~/no (make it, or set OXHERD_HOME to a folder that you may \
         write)\n[1]\n"
    );
    let nowhere =
        home.command(&["ls"]).env_remove("OXHERD_HOME").env_remove("HOME").output().expect("it runs");
    assert_eq!(
        on_paper(&home, &nowhere),
        "! oxherd: there is no home folder: neither OXHERD_HOME nor HOME is set (set OXHERD_HOME to a folder that you \
         may write)\n[2]\n"
    );
}

#[test]
fn another_users_home_is_left_alone() {
    let home = Home::new();
    furnish(&home);
    let (folder, own, owner) = if procs::is_root() {
        chown(home.path(), Some(65534), None).expect("root may");
        (home.path(), "0".to_owned(), "#")
    } else {
        (Path::new("/").to_owned(), "#".to_owned(), "0")
    };
    let output = home.command(&["resurrect"]).env("OXHERD_HOME", &folder).output().expect("it runs");
    let told = on_paper(&home, &output).replace("cannot use /:", "cannot use ~/home:");
    assert_eq!(
        told,
        format!(
            "! oxherd: cannot use ~/home: it belongs to user id {owner}, and this is user id {own} (act as that user, or \
             set OXHERD_HOME to a folder of your own)\n[1]\n"
        )
    );
    assert_eq!(fs::read_dir(home.path()).map_or(0, Iterator::count), 0);
}

#[test]
fn without_permission_nothing_is_there() {
    if procs::is_root() {
        return println!("skipped: root has every permission");
    }
    let home = Home::new();
    furnish(&home);
    let close =
        |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
    close(0o500);
    let way = "(set OXHERD_HOME to a folder that you may write)\n[1]\n";
    assert_eq!(start(&home), format!("! oxherd: cannot use ~/home: permission denied {way}"));
    close(0o000);
    assert_eq!(
        told(&home, &["ls"]),
        "! oxherd: cannot reach the daemon at ~/home/oxherd.sock: permission denied\n[1]\n"
    );
    close(0o700);
}

/// Runs a script of the shell where the home is a file system of its own, of 64 KiB.
fn on_small_disk(home: &Home, script: &str) -> Option<Output> {
    furnish(home);
    let whole = format!(
        "mount -t tmpfs -o size=64k,mode=700 none '{0}' || exit 99\nox='{1}'\nhome='{0}'\n{script}",
        home.path().display(),
        places::oxherd().display()
    );
    let inner = home.command(&[]);
    let mut command = Command::new("unshare");
    command.args(if procs::is_root() { &["-m"][..] } else { &["-Urm"] }).args(["sh", "-c", &whole]);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let output = command.output().expect("unshare runs");
    if output.status.code() == Some(99) || String::from_utf8_lossy(&output.stderr).starts_with("unshare: ") {
        println!("skipped: the kernel refuses: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

#[test]
fn a_full_disk_stops_nobody_and_is_told() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let steps = format!(
        "cat /dev/zero > $home/fill 2>/dev/null
         $ox start {script} -i 1 --min-uptime {PATIENCE}; echo \"<$?>\"
         $ox reload web; echo \"<$?>\"
         $ox ls; echo \"<$?>\"
         rm $home/fill
         until [ -s $home/state.json ]; do sleep 0.05; done
         $ox ls; echo \"<$?>\"
         $ox kill; echo \"<$?>\"
         grep -c 'Cannot save\\|is saved again' $home/daemon.log"
    );
    let Some(output) = on_small_disk(&home, &steps) else { return };
    let paper = on_paper(&home, &output);
    println!("{paper}");
    let list =
        "id name mode pid uptime restarts status cpu memory\n0 web handoff # #s 0 online #% # MiB\n<0>\n";
    let wanted = format!(
        "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\n<0>\nweb:0 is ready after #, pid #\n\
         web:0 ended with code 0, pid #\nweb: reloaded, every slot runs generation 2 after #\n<0>\n{list}{list}\
         the daemon has ended, and all apps with it\n<0>\n"
    );
    assert!(paper.starts_with(&wanted), "{paper}");
    let trouble = "! oxherd: Cannot save ~/home/state.json: the disk is full; the last saved version stays, and it is tried again\n";
    assert_eq!(paper.matches(trouble).count(), 3, "after each verb, until there is room: {paper}");
    assert!(paper.ends_with(&format!("{trouble}[0]\n")), "{paper}");
}

#[test]
fn a_read_only_disk_is_told() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let steps = format!(
        "$ox start {script} -i 1 --min-uptime {PATIENCE}; $ox kill; mount -o remount,ro $home || exit 99
         $ox start {script} -i 1 --min-uptime {PATIENCE}; echo \"<$?>\"
         $ox resurrect; echo \"<$?>\"
         $ox ls; echo \"<$?>\"
         $ox kill; echo \"<$?>\"
         mount -o remount,rw $home; $ox resurrect; $ox kill"
    );
    let Some(output) = on_small_disk(&home, &steps) else { return };
    let paper = on_paper(&home, &output);
    let alive = "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\nthe daemon has ended, and all apps with it\n";
    let refused = "! oxherd: cannot use ~/home: the file system is read-only (set OXHERD_HOME to a folder that you may write)\n";
    assert_eq!(
        paper,
        format!(
            "{alive}<1>\n<1>\nid name mode pid uptime restarts status cpu memory\n<0>\nno daemon is running\n<0>\n{alive}\
             {refused}{refused}! oxherd: no daemon is running: `oxherd start` starts one\n[0]\n"
        )
    );
}

/// Everything of a home is killed as by a power cut; its files are what is left. What is wanted is on the disk a moment
/// after it was answered for: nobody waits for the disk.
fn cut_the_power(home: &Home) {
    eventually("the saved wish that idle is stopped", || {
        let state = fs::read_to_string(home.path().join("state.json")).ok()?;
        state
            .lines()
            .any(|app| app.contains("\"name\":\"idle\"") && app.contains("\"up\":false"))
            .then_some(())
    });
    // Whoever starts others goes first.
    let (daemon, keeper, _) = home.ping().expect("it serves");
    [keeper, daemon].into_iter().for_each(|pid| procs::kill(pid, Signal::KILL));
    eventually("the end of everybody", || {
        home.processes().into_iter().for_each(|pid| procs::kill(pid, Signal::KILL));
        home.processes().is_empty().then_some(())
    });
}

fn herd_of_three(home: &Home) {
    let script = home.write("web.js", SERVER);
    let mut command = home.command(&["start", &script, "-i", "1", "--min-uptime", PATIENCE]);
    assert!(command.env("COLOUR", "green").stdout(Stdio::null()).status().expect("it runs").success());
    home.ok(&["scale", "web", "2"]);
    let idle = home.write("idle.js", SERVER);
    home.ok(&["start", &idle, "-i", "2", "--min-uptime", PATIENCE]);
    home.ok(&["stop", "idle"]);
}

fn assert_resurrected(home: &Home) {
    let paper = told(home, &["resurrect"]);
    let mut lines: Vec<&str> = paper.lines().collect();
    lines[..2].sort_unstable();
    assert_eq!(
        lines,
        [
            "web:0 is ready after #, pid #",
            "web:1 is ready after #, pid #",
            "web: 2 workers serve 127.0.0.1:#",
            "idle: stopped, as it was",
            "[0]"
        ]
    );
    assert_eq!(told(home, &["resurrect"]), "nothing to do\n[0]\n");
    assert_eq!((home.pids("web").len(), home.pids("idle").len()), (2, 0));
    assert_eq!(oxherd_e2e::http::get(&home.address("web"), "/").body, b"green", "the environment is kept");
    home.ok(&["start", "idle"]);
    assert_eq!(home.pids("idle").len(), 2);
    home.ok(&["stop", "idle"]);
}

#[test]
fn resurrect_brings_back_what_was_wanted() {
    let home = Home::new();
    herd_of_three(&home);
    home.ok(&["kill"]);
    assert_resurrected(&home);
    cut_the_power(&home);
    assert!(home.path().join("oxherd.sock").exists(), "nobody was left to remove it");
    assert_resurrected(&home);
    for (name, wanted) in
        [("", 0o700), ("logs", 0o700), ("state.json", 0o600), ("oxherd.sock", 0o600), ("daemon.log", 0o600)]
    {
        assert_eq!(mode(&home.path().join(name)), wanted, "{name}");
    }
    // A clock that was wrong, and one that will be.
    let file = home.path().join("state.json");
    for moment in ["1", "99999999999999"] {
        cut_the_power(&home);
        let state = fs::read_to_string(&file).expect("it is there");
        let saved_at =
            state.split_once("\"saved_at_ms\":").expect("it says so").1.split(',').next().expect("a number");
        fs::write(&file, state.replacen(saved_at, moment, 1)).expect("it is ours");
        assert_resurrected(&home);
    }
}

#[test]
fn a_state_that_is_cut_short_gives_the_one_before() {
    let home = Home::new();
    herd_of_three(&home);
    home.ok(&["kill"]);
    let file = home.path().join("state.json");
    let whole = fs::read(&file).expect("it is there");
    fs::write(&file, &whole[..whole.len() / 2]).expect("it is ours");
    let paper = told(&home, &["resurrect"]);
    let trouble = paper.lines().find(|line| line.starts_with("! ")).expect("it is told");
    assert!(
        trouble
            .starts_with("! oxherd: Cannot use ~/home/state.json: it is damaged: it ends too early (line ")
            && trouble.contains("; it is now ~/home/state.json.broken-")
            && trouble.ends_with(", and the version before it is used, with 2 apps"),
        "{paper}"
    );
    assert!(paper.ends_with("[0]\n"), "{paper}");
    let aside = files(&home, "broken");
    assert_eq!(fs::read(home.path().join(&aside[0])).expect("it is kept"), &whole[..whole.len() / 2]);
    assert!(!told(&home, &["ls"]).contains("! "), "told once");
}

#[test]
fn states_of_other_versions_are_kept_aside_and_told() {
    let cases = [
        ("{\"version\":2,\"apps\":[],\"herds\":[]}", "it has version 2, this build reads version 1"),
        ("{\"version\":0}", "it has version 0, this build reads version 1"),
        ("not a state", "it is damaged: it is no JSON (line 1, column 2)"),
        ("", "it is damaged: it ends too early (line 1, column 0)"),
    ];
    for (bytes, why) in cases {
        let home = Home::new();
        furnish(&home);
        fs::write(home.path().join("state.json"), bytes).expect("it is ours");
        let paper = told(&home, &["resurrect"]);
        let lines: Vec<&str> = paper.lines().collect();
        assert_eq!(
            lines[0],
            format!(
                "! oxherd: Cannot read the saved state: ~/home/state.json: {why}; ~/home/state.json.bak: it is not there"
            )
        );
        assert!(
            lines[1].starts_with("! oxherd: Kept ~/home/state.json as ~/home/state.json.broken-"),
            "{paper}"
        );
        assert!(
            lines[1].ends_with(" (to have its apps again: `oxherd kill`, repair it, move it back)"),
            "{paper}"
        );
        assert_eq!(
            lines[2..],
            ["! oxherd: nothing can be resurrected: what was saved could not be read", "[1]"]
        );
        let aside = files(&home, "broken");
        assert_eq!(fs::read_to_string(home.path().join(&aside[0])).expect("it is kept"), bytes);
        // Starting something is possible, and is saved.
        let paper = start(&home);
        assert!(paper.contains("web: 1 worker serves ") && paper.ends_with("[0]\n"), "{paper}");
        home.ok(&["kill"]);
        assert_eq!(told(&home, &["resurrect"]), STARTED);
    }
}

/// The bytes that version 1 writes, with a program that is here.
#[test]
fn a_state_of_version_1_is_read_for_ever() {
    let home = Home::new();
    furnish(&home);
    let script = home.write("web.js", SERVER);
    let node = places::node(places::DEFAULT_NODE);
    let golden = fs::read_to_string(places::fixture("state-1.json")).expect("it is a fixture");
    let bytes = golden.replace("@NODE@", node.to_str().expect("text")).replace("@SCRIPT@", &script);
    fs::write(home.path().join("state.json"), bytes).expect("it is ours");
    assert_resurrected(&home);
    let owner = fs::metadata(home.path().join("state.json")).expect("it is there").uid();
    assert_eq!(owner, rustix::process::geteuid().as_raw());
}
