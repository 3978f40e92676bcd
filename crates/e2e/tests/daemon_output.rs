//! What each verb says in a pipe, to the letter: stdout, stderr and the exit code.

use std::process::Stdio;

use oxherd_e2e::told::{on_paper, told};
use oxherd_e2e::{Home, places, procs};

/// It listens, unless a file `broken` lies beside it.
const SERVER: &str = "
if (require('node:fs').existsSync(__dirname + '/broken')) throw new Error('broken');
require('node:http').createServer((_, res) => res.end('hi')).listen(0, '127.0.0.1');
";
/// A worker that lives for so long is taken to be ready though it does not listen: longer than any machine takes.
const PATIENCE: &str = "60s";
const NOBODY_THERE: &str =
    "! oxherd: no daemon is running at ~/home/oxherd.sock: `oxherd start` starts one\n[1]\n";

#[test]
fn without_a_daemon_each_verb_says_so() {
    let home = Home::new();
    let verbs: [&[&str]; 9] = [
        &["stop", "web"],
        &["restart", "all"],
        &["reload", "web"],
        &["delete", "web"],
        &["scale", "web", "2"],
        &["describe", "web"],
        &["logs"],
        &["ping"],
        &["upgrade"],
    ];
    for verb in verbs {
        assert_eq!(told(&home, verb), NOBODY_THERE, "{verb:?}");
    }
    let note = "! oxherd: no daemon is running: `oxherd start` starts one\n[0]\n";
    let headings = "id name mode pid uptime restarts status cpu memory\n";
    assert_eq!(told(&home, &["ls"]), format!("{headings}{note}"));
    let nothing = "{\n\"apps\": [],\n\"daemon_memory\": 0,\n\"uptime_ms\": 0,\n\"troubles\": []\n}\n";
    assert_eq!(told(&home, &["ls", "--json"]), format!("{nothing}{note}"));
    assert_eq!(told(&home, &["kill"]), "no daemon is running\n[0]\n");
    assert!(!home.path().exists(), "whoever only looks leaves nothing behind");
    // The only verb that starts a daemon without an app.
    assert_eq!(told(&home, &["resurrect"]), "nothing to do\n[0]\n");
    assert_eq!(
        told(&home, &["ping"]),
        "pong: oxherd 0.1.0, daemon # (start 0), keeper #, home ~/home\n[0]\n"
    );
}

#[test]
fn the_life_of_an_app_is_told_line_by_line() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let told = |args: &[&str]| told(&home, args);
    assert_eq!(
        told(&["start", &script, "-i", "1", "--min-uptime", PATIENCE]),
        "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\n[0]\n"
    );
    assert_eq!(told(&["start", "web"]), "web: runs already\n[0]\n");
    assert_eq!(told(&["start", "0"]), "web: runs already\n[0]\n");
    assert_eq!(
        told(&["ls"]),
        "id name mode pid uptime restarts status cpu memory\n0 web handoff # #s 0 online #% # MiB\n[0]\n"
    );
    assert_eq!(
        told(&["scale", "web", "+1"]),
        "web:1 is ready after #, pid #\nweb: scaled from 1 to 2 slots\n[0]\n"
    );
    assert_eq!(told(&["scale", "web", "2"]), "web: has as many slots already\n[0]\n");
    assert_eq!(
        told(&["ls"]),
        "id name mode pid uptime restarts status cpu memory\n0:0 web handoff # #s 0 online #% # MiB\n\
         0:1 web handoff # #s 0 online #% # MiB\n[0]\n"
    );
    assert_eq!(
        told(&["reload", "all"]),
        "web:0 is ready after #, pid #\nweb:0 ended with code 0, pid #\nweb:1 is ready after #, pid #\n\
         web:1 ended with code 0, pid #\nweb: reloaded, every slot runs generation 2 after #\n[0]\n"
    );
    assert_eq!(
        told(&["scale", "0", "-1"]),
        "web:1 ended with code 0, pid #\nweb: scaled from 2 to 1 slot\n[0]\n"
    );
    assert_eq!(
        told(&["restart", "web"]),
        "web:0 ended with code 0, pid #\nweb:0 is ready after #, pid #\n\
         web: restarted, 1 worker serves 127.0.0.1:#\n[0]\n"
    );
    assert_eq!(
        told(&["describe", "web"]).replace(places::node(places::DEFAULT_NODE).to_str().expect("text"), "NODE"),
        "web (id 0)\nstatus 1 of 1 slot online\ngeneration 2\nmode handoff\nstrategy least-busy\nsockets over the channel\n\
         program NODE ~/web.js\nfolder CWD\noutput ~/home/logs/web-out.log\n\
         error output ~/home/logs/web-error.log\ndropped lines 0\nrequests 0\nerrors 0\n\
         handed over 0 connections\n\nListens on\n127.0.0.1:#\n\nWorkers\n\
         slot worker generation pid status uptime restarts cpu memory requests errors connections handed over\n\
         0 5 2 # online #s 0 #% # MiB - - - 0\n[0]\n"
            .replace("CWD", std::env::current_dir().expect("it is there").to_str().expect("text"))
    );
    assert_eq!(told(&["stop", "web"]), "web:0 ended with code 0, pid #\nweb: stopped\n[0]\n");
    assert_eq!(told(&["stop", "web"]), "web: stopped\n[0]\n");
    assert_eq!(
        told(&["ls"]),
        "id name mode pid uptime restarts status cpu memory\n0 web handoff - - 0 stopped - -\n[0]\n"
    );
    assert_eq!(
        told(&["start", "all"]),
        "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\n[0]\n"
    );
    assert_eq!(told(&["upgrade"]), "upgraded: oxherd 0.1.0 (daemon #) to 0.1.0 (daemon #), keeper #\n[0]\n");
    assert_eq!(told(&["resurrect"]), "nothing to do\n[0]\n");
    assert_eq!(told(&["delete", "web"]), "web:0 ended with code 0, pid #\nweb: deleted\n[0]\n");
    assert_eq!(told(&["ls"]), "id name mode pid uptime restarts status cpu memory\n[0]\n");
    assert_eq!(told(&["kill"]), "the daemon has ended, and all apps with it\n[0]\n");
    assert_eq!(told(&["kill"]), "no daemon is running\n[0]\n");
    assert_eq!(told(&["ping"]), NOBODY_THERE);
}

#[test]
fn what_is_refused_is_told_with_the_way_out() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let told = |args: &[&str]| told(&home, args);
    home.ok(&["start", &script, "-i", "1", "--min-uptime", PATIENCE]);
    assert_eq!(
        told(&["start", &script]),
        "! oxherd: an app named `web` exists already: `reload web` or `restart web`, or choose another name\n[1]\n"
    );
    let similar = "! oxherd: there is no app `wbe`: did you mean `web`?\n[2]\n";
    let unlike = "! oxherd: there is no app `queue`: `oxherd ls` lists the apps\n[2]\n";
    for verb in ["stop", "restart", "reload", "delete", "describe", "logs"] {
        assert_eq!(told(&[verb, "wbe"]), similar, "{verb}");
        assert_eq!(told(&[verb, "queue"]), unlike, "{verb}");
    }
    assert_eq!(told(&["scale", "wbe", "2"]), similar);
    assert_eq!(told(&["stop", "7"]), "! oxherd: there is no app `7`: `oxherd ls` lists the apps\n[2]\n");
    let numbers = [
        ("x", "'x' for '<N|+N|-N>': `x` is no number of workers: 4, +2 and -1 are"),
        ("0", "'0' for '<N|+N|-N>': at least 1 worker must be left: `oxherd stop` stops an app"),
    ];
    for (number, why) in numbers {
        assert_eq!(told(&["scale", "web", number]), format!("! oxherd: invalid value {why}\n[2]\n"));
    }
    assert_eq!(
        told(&["scale", "web", "-1"]),
        "! oxherd: web has 1 slots: at least 1 must be left\n[2]\n".replace("1 slots", "1 slot")
    );
    assert_eq!(
        told(&["scale", "web", "99999"]),
        "! oxherd: cannot run the app: # instances are more than the limit of #\n[2]\n"
    );
    assert_eq!(
        told(&["upgrade", "/no/such"]),
        "! oxherd: cannot upgrade to /no/such: cannot start /no/such: no such program; check its name and the \
         PATH it is given, or use a full path\n[1]\n"
    );
    // What is right among the wrong is done.
    assert_eq!(
        told(&["stop", "wbe", "web"]),
        "web:0 ended with code 0, pid #\nweb: stopped\n! oxherd: there is no app `wbe`: did you mean `web`?\n[2]\n"
    );
    for args in [&["reload", "web"][..], &["scale", "web", "2"]] {
        assert_eq!(told(args), "! oxherd: app `web` is stopped: `restart web` starts it\n[1]\n");
    }
    home.ok(&["delete", "all"]);
    let none = "! oxherd: there are no apps: `oxherd start` starts one\n[2]\n";
    assert_eq!((told(&["reload", "all"]), told(&["delete", "all"])), (none.into(), none.into()));
}

#[test]
fn scripts_and_files_that_cannot_be_started_are_shown() {
    let home = Home::new();
    let here = std::env::current_dir().expect("it is there");
    let here = here.display();
    let missing =
        |name: &str| format!("cannot run {name}: no such file in {here}; check the path of the script");
    assert_eq!(told(&home, &["start", "no.js"]), format!("! oxherd: {}\n[2]\n", missing("no.js")));
    assert_eq!(
        told(&home, &["start", "wbe"]),
        format!("! oxherd: {}; no daemon is running at ~/home/oxherd.sock\n[2]\n", missing("wbe"))
    );
    let apps = "{\n  \"apps\": [\n    { \"name\": \"web\", \"script\": \"web.js\",\n      \"instnaces\": 2,\n      \"max_restarts\": \"many\" }\n  ]\n}\n";
    let file = home.write("apps.json", apps);
    let shown = home.run(&["start", &file]);
    assert_eq!(shown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&shown.stderr),
        format!(
            "{file}:4:7: unknown key `instnaces`\n  4 |       \"instnaces\": 2,\n    |       ^^^^^^^^^^^ did you mean \
             `instances`?\n{file}:5:23: `max_restarts`: give a whole number from 1 to 4294967295\n  5 |       \"max_restarts\": \
             \"many\" }}\n    |                       ^^^^^^\n"
        )
    );
    let torn = home.write("torn.json", "{ \"apps\": [ { \"name\": \"web\" \"script\": \"web.js\" } ] }\n");
    let shown = home.run(&["start", &torn]);
    assert_eq!(shown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&shown.stderr),
        format!(
            "{torn}:1:29: a comma is missing before this\n  1 | {{ \"apps\": [ {{ \"name\": \"web\" \"script\": \
             \"web.js\" }} ] }}\n    |                             ^\n"
        )
    );
    assert!(!home.path().exists(), "none of these starts a daemon");
    home.write("web.js", SERVER);
    let good = home.write(
        "good.json",
        "[{ \"name\": \"web\", \"script\": \"web.js\", \"instances\": 1, \"min_uptime\": 60000 }]\n",
    );
    assert_eq!(
        told(&home, &["start", &good]),
        "web:0 is ready after #, pid #\nweb: 1 worker serves 127.0.0.1:#\n[0]\n"
    );
    assert_eq!(
        told(&home, &["start", "wbe"]),
        format!("! oxherd: {}; there is no app `wbe`: did you mean `web`?\n[2]\n", missing("wbe"))
    );
}

#[test]
fn workers_that_fail_are_told_and_the_command_fails() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    home.write("broken", "");
    let told = |args: &[&str]| told(&home, args);
    let short = [
        "start",
        &script,
        "-i",
        "1",
        "--max-restarts",
        "2",
        "--restart-delay",
        "10ms",
        "--min-uptime",
        "20s",
    ];
    assert_eq!(
        told(&short),
        "! web:0 ended with code 1 after #, pid #\n! web:0 ended with code 1 after #, pid #\n\
         ! web:0 gives up: 2 unstable exits within 1 min 0 s\n\
         ! web: the start failed: slot 0 gives up: 2 unstable exits within 1 min 0 s; `oxherd logs web` shows what it \
         wrote\n[1]\n"
    );
    assert_eq!(
        told(&["ls"]),
        "id name mode pid uptime restarts status cpu memory\n0 web handoff - - 1 errored - -\n[0]\n"
    );
    let line = ["start", &script, "-n", "loop", "-i", "1", "--restart-delay", "300ms", "--min-uptime", "20s"];
    assert_eq!(
        told(&line),
        "! loop:0 ended with code 1 after #, pid #\n".repeat(3)
            + "! loop: the start has not come through: the worker in slot 0 ended with code 1 (unstable exit 3 of #), and \
               is tried again: `oxherd logs loop` shows what it wrote\n[1]\n"
    );
    home.ok(&["delete", "loop"]);
    // A program that is through has not failed.
    let job = home.write("job.js", "process.exit(0)");
    assert_eq!(
        told(&["start", &job, "-i", "1", "--no-autorestart"]),
        "job:0 ended with code 0 after #, pid #\njob: ran, and is through: the worker ended with code 0\n[0]\n"
    );
    home.ok(&["delete", "job"]);
    std::fs::remove_file(home.surroundings().join("broken")).expect("it is ours");
    home.ok(&["start", "web"]);
    let before = home.pids("web");
    home.write("broken", "");
    assert_eq!(
        told(&["reload", "web"]),
        "! web:0 ended with code 1 after #, pid #\n\
         ! web: the reload is aborted: the successor in slot 0 ended with code 1; no slot was replaced, the old workers \
         go on\n[1]\n"
    );
    assert_eq!(home.pids("web"), before);
    assert!(procs::is_alive(before[0] as u32));
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_fail() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let verbs: [&[&str]; 12] = [
        &["start", &script, "-i", "1", "--min-uptime", PATIENCE],
        &["ls"],
        &["ls", "--json"],
        &["describe", "web"],
        &["logs", "--no-follow"],
        &["ping"],
        &["reload", "web"],
        &["resurrect"],
        &["upgrade"],
        &["stop", "nobody"],
        &["kill"],
        &["kill"],
    ];
    for verb in verbs {
        let deaf = || {
            let (reader, writer) = std::io::pipe().expect("a descriptor is free");
            drop(reader);
            Stdio::from(writer)
        };
        let output = home.command(verb).stdout(deaf()).stderr(deaf()).output().expect("it runs");
        let wanted = if verb[1..] == ["nobody"] { "[2]\n" } else { "[0]\n" };
        assert_eq!(on_paper(&home, &output), wanted, "{verb:?}");
    }
}

#[test]
fn the_help_of_each_verb_has_examples() {
    let home = Home::new();
    let help = home.ok(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).expect("they are listed").lines();
    // A line that goes on is indented further.
    let named = commands.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let verbs: Vec<&str> =
        named.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect();
    assert!(verbs.len() >= 14, "{verbs:?}");
    for verb in verbs {
        let help = home.ok(&[verb, "--help"]);
        let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{verb} has none:\n{help}"));
        let typed = if verb == "list" { "ls" } else { verb };
        let wanted = format!("  oxherd {typed}");
        assert!(examples.lines().any(|line| line.starts_with(&wanted)), "{help}");
    }
}
