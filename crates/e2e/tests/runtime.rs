//! `oxherd runtime`: keeper and daemon in the foreground, as the main process of a container has to be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use oxherd_e2e::places::{self, Folder};
use oxherd_e2e::{Builder, DEADLINE, Herd, Load, Mark, eventually, http, procs};
use rustix::process::Signal;

/// A folder with a home for the herd and what it is to run.
struct Place(Folder);

impl Place {
    fn new() -> Self {
        Self(Folder::new())
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    /// A list of apps, in its file.
    fn apps(&self, apps: &serde_json::Value) -> PathBuf {
        self.0.write("apps.json", &apps.to_string())
    }

    /// The only app: a line for the shell, of which nothing follows.
    fn once(&self, line: &str) -> PathBuf {
        let script = self.0.write("once.sh", &format!("#!/bin/sh\n{line}\n"));
        let app = serde_json::json!({"name": "once", "script": script, "interpreter": "/bin/sh", "restart": "never"});
        self.apps(&app)
    }

    fn start(&self, args: &[&str], file: &Path) -> Herd {
        self.herd(args, file).start()
    }

    fn herd(&self, args: &[&str], file: &Path) -> Builder {
        Herd::runtime(&self.home(), args, file)
    }

    /// Two workers of the fixture that tells who answers.
    fn web(&self) -> PathBuf {
        let script = places::fixture("app.js");
        let node = places::node(places::DEFAULT_NODE);
        self.apps(&serde_json::json!({"name": "web", "script": script, "interpreter": node, "instances": 2}))
    }

    /// What another command says of this home.
    fn ask(&self, args: &[&str]) -> String {
        let mut command = Command::new(places::oxherd());
        let output = command.args(args).env("OXHERD_HOME", self.home()).stdin(Stdio::null()).output();
        let output = output.expect("the program can be run");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The daemon's process, by what `ping` says.
    fn daemon(&self) -> Option<u32> {
        let said = self.ask(&["ping"]);
        said.split_once("daemon ")?.1.split(' ').next()?.parse().ok()
    }
}

#[test]
fn it_ends_with_the_code_of_its_app() {
    for (line, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("sleep 0; exit 255", 255),
    ] {
        let place = Place::new();
        let mut herd = place.start(&[], &place.once(line));
        herd.wait_code(code);
    }
}

#[test]
fn the_code_of_an_app_outlives_the_daemon() {
    let place = Place::new();
    let bad = place.0.write("bad.sh", "exit 9");
    let (go, good) =
        (place.0.path().join("go"), place.0.write("good.sh", "while [ ! -e go ]; do sleep 0.01; done"));
    let app = |name: &str, script: &Path| serde_json::json!({"name": name, "script": script, "interpreter": "/bin/sh", "restart": "never"});
    let file = place.apps(&serde_json::json!({"apps": [app("bad", &bad), app("good", &good)]}));
    let mut herd = place.start(&[], &file);
    herd.wait_text(Mark::START, "bad: Slot 0 is finished and not respawned");
    let daemon = eventually("a daemon", || place.daemon());
    procs::kill(daemon, Signal::KILL);
    eventually("another daemon", || place.daemon().filter(|now| *now != daemon));
    std::fs::write(go, "").expect("the folder is writable");
    herd.wait_code(9);
}

#[test]
fn one_that_gives_up_says_so() {
    let place = Place::new();
    let app = |code: &str, place: &Place| {
        let script = place.0.write("crash.sh", code);
        place.apps(&serde_json::json!({"name": "crash", "script": script, "interpreter": "/bin/sh",
            "max_restarts": 2, "restart_delay": 0}))
    };
    let lines = place.start(&[], &app("exit 5", &place)).wait_code(5);
    assert!(
        lines.iter().any(|line| line.text.starts_with("Gave up on 1 slot, no worker is left")),
        "{lines:#?}"
    );
    let well = Place::new();
    well.start(&[], &app("exit 0", &well)).wait_code(3);
}

#[test]
fn what_cannot_start_is_a_usage_error() {
    let place = Place::new();
    let empty = place.apps(&serde_json::json!({"apps": []}));
    place.start(&[], &empty).wait_code(2);
    place.start(&[], &place.0.write("broken.json", "{")).wait_code(2);
    place.start(&["--bogus"], &place.once("exit 0")).wait_code(2);
    place.start(&[], Path::new("/no/such.json")).wait_code(2);
}

#[test]
fn a_home_has_one_herd() {
    let place = Place::new();
    let web = place.web();
    let herd = place.start(&[], &web);
    herd.address();
    let lines = place.start(&[], &web).wait_code(1);
    let line = &lines.last().expect("it says why").text;
    let expected = format!(
        "oxherd: a daemon has {} already: set OXHERD_HOME to another folder, or end it with `oxherd kill`",
        place.home().display()
    );
    assert_eq!(line, &expected);
    herd.stop();
}

#[test]
fn workers_speak_on_its_stdout_and_stderr() {
    let place = Place::new();
    let speak = "echo to you; echo or to you >&2; printf unfinished";
    let lines = place.start(&[], &place.once(speak)).wait_code(0);
    let said = |who: &str| {
        let mut said: Vec<_> = lines
            .iter()
            .filter(|line| line.who == who)
            .map(|line| (line.text.as_str(), line.is_error))
            .collect();
        said.sort_unstable();
        said
    };
    assert_eq!(said("slot 0"), [("or to you", true), ("to you", false), ("unfinished", false)]);
    let raw = Place::new();
    let lines = raw.start(&["--raw"], &raw.once(speak)).wait_code(0);
    let mut words: Vec<_> =
        lines.iter().filter(|line| line.who.is_empty()).map(|line| line.text.as_str()).collect();
    words.sort_unstable();
    assert_eq!(words, ["or to you", "to you", "unfinished"]);
}

#[test]
fn several_apps_are_told_apart() {
    let place = Place::new();
    let script = place.0.write("hello.sh", "echo hello");
    let app = |name: &str| serde_json::json!({"name": name, "script": script, "interpreter": "/bin/sh", "restart": "never"});
    let file = place.apps(&serde_json::json!([app("one"), app("other")]));
    let lines = place.start(&[], &file).wait_code(0);
    let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert!(text.contains(&"one 0   | hello") && text.contains(&"other 0 | hello"), "{text:#?}");
    assert!(text.iter().any(|line| line.starts_with("other: Worker ")), "{text:#?}");
}

#[test]
fn signals_reach_the_daemon() {
    let place = Place::new();
    let herd = place.start(&[], &place.web());
    let address = herd.address();
    let before = herd.pids_that_answer(&address, 2);
    herd.reload();
    assert!(herd.pids_that_answer(&address, 2).iter().all(|pid| !before.contains(pid)));
    let mark = herd.mark();
    herd.signal(Signal::TTIN);
    herd.wait_text(mark, "Scaled from 2 to 3 slots");
    herd.stop();

    let place = Place::new();
    let mut herd = place.start(&[], &place.once("trap '' TERM; echo here; while :; do sleep 0.1; done"));
    herd.wait_text(Mark::START, "here");
    herd.signal(Signal::TERM);
    herd.wait_text(Mark::START, "Stopping: ");
    herd.signal(Signal::INT);
    herd.wait_code(1);
}

#[test]
fn a_second_stop_signal_kills_whichever_daemon_had_the_first() {
    let place = Place::new();
    let script = place.0.write("stubborn.sh", "trap '' TERM; echo here; while :; do sleep 0.1; done");
    let app = serde_json::json!({"script": script, "interpreter": "/bin/sh", "kill_timeout": "1h"});
    let mut herd = place.start(&[], &place.apps(&app));
    herd.wait_text(Mark::START, "here");
    herd.signal(Signal::TERM);
    herd.wait_text(Mark::START, "is sent SIGTERM");
    let daemon = eventually("a daemon", || place.daemon());
    procs::kill(daemon, Signal::KILL);
    eventually("another daemon", || place.daemon().filter(|now| *now != daemon));
    herd.signal(Signal::TERM);
    herd.wait_code(1);
}

#[test]
fn deaths_of_the_daemon_cost_no_request_and_no_line() {
    let place = Place::new();
    let herd = place.start(&[], &place.web());
    let address = herd.address();
    let workers = herd.pids_that_answer(&address, 2);
    let (short, kept) = (Load::short(&address, "/", 4), Load::keep_alive(&address, "/", 2));
    for _ in 0..4 {
        short.wait_more(100);
        let daemon = eventually("a daemon", || place.daemon());
        procs::kill(daemon, Signal::KILL);
        eventually("another daemon", || place.daemon().filter(|now| *now != daemon));
    }
    short.wait_more(100);
    let (short, kept) = (short.stop(), kept.stop());
    println!("4 deaths in the foreground: short {short}; keep-alive {kept}");
    assert_eq!((short.failed(), kept.failed()), (0, 0), "{short}; {kept}");
    assert_eq!(herd.pids_that_answer(&address, 2), workers);
    let mark = herd.mark();
    http::get(&address, "/busy?ms=1");
    herd.wait_text(mark, "busy for 1 ms");
    herd.stop();
}

#[test]
fn a_herd_ends_with_its_keeper() {
    let place = Place::new();
    let mut herd = place.start(&[], &place.web());
    herd.address();
    herd.signal(Signal::KILL);
    herd.wait_exit(DEADLINE);
    herd.wait_text(Mark::START, "The keeper has ended: stopping everything");
    eventually("the end of all", || herd.processes().is_empty().then_some(()));
}

#[test]
fn nothing_is_saved() {
    let place = Place::new();
    let herd = place.start(&[], &place.web());
    herd.address();
    herd.stop();
    let mut left: Vec<_> = std::fs::read_dir(place.home())
        .expect("there is a home")
        .map(|entry| entry.expect("it can be read").file_name())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["lock", "logs"]);
}

#[test]
fn a_home_that_cannot_be_written_is_made_up_for() {
    let place = Place::new();
    let tmp = place.0.path().join("tmp");
    std::fs::create_dir(&tmp).expect("the folder is writable");
    let builder = place.herd(&[], &place.once("exit 0")).env("OXHERD_HOME", "");
    let lines = builder.env("HOME", "/proc/sys").env("TMPDIR", &tmp).start().wait_code(0);
    let uid = rustix::process::getuid().as_raw();
    let instead = format!("; using {}/oxherd-{uid} instead", tmp.display());
    let line = &lines.first().expect("it says so").text;
    assert!(line.starts_with("oxherd: ") && line.ends_with(&instead), "{line}");
    // Other commands find it there.
    let builder = place.herd(&[], &place.once("sleep 1000")).env("OXHERD_HOME", "");
    let herd = builder.env("HOME", "/proc/sys").env("TMPDIR", &tmp).start();
    let ask = |home: Option<&Path>, verb: &str| {
        let mut command = Command::new(places::oxherd());
        command.arg(verb).env_remove("OXHERD_HOME").env_remove("HOME").env("TMPDIR", &tmp);
        let output = command.envs(home.map(|home| ("HOME", home))).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said + &String::from_utf8_lossy(&output.stderr)
    };
    let is_there = |home: Option<&Path>| ask(home, "ping").starts_with("pong").then_some(());
    eventually("a daemon that is found", || is_there(Some(Path::new("/proc/sys"))));
    is_there(None).expect("without a home it is found as well");
    // It is nobody's who has a home that can be used, also when no daemon is left there.
    let good = Folder::new();
    ask(Some(good.path()), "resurrect");
    assert!(ask(Some(good.path()), "ping").contains(&format!("home {}", good.path().display())));
    assert_eq!(ask(Some(good.path()), "kill"), "the daemon has ended, and all apps with it\n");
    assert_eq!(ask(Some(good.path()), "kill"), "no daemon is running\n");
    is_there(None).expect("it goes on");
    herd.stop();
    // One that was chosen is not made up for.
    let builder = place.herd(&[], &place.once("exit 0")).env("OXHERD_HOME", "/proc/sys/oxherd");
    builder.start().wait_code(1);
}

/// A process namespace of its own, in which the keeper is the first process; without privileges inside a user
/// namespace. `None` where the kernel refuses.
fn namespace() -> Option<Vec<&'static str>> {
    let words = match procs::is_root() {
        true => vec!["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
        false => {
            vec!["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
        }
    };
    let mut probe = Command::new(words[0]);
    let works =
        probe.args(&words[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|it| it.success());
    works.then_some(words)
}

#[test]
fn the_first_process_of_a_container_reaps_and_obeys() {
    let Some(words) = namespace() else {
        println!("not run: the kernel refuses a process namespace to this user");
        return;
    };
    let place = Place::new();
    // An orphan comes to the first process, and ends there.
    let orphan = "(sleep 0.05 & echo orphan $! of $$ under $PPID) ; while :; do sleep 0.1; done";
    let herd = place.herd(&[], &place.once(orphan)).under(words).start();
    let (line, _) = herd.wait_text(Mark::START, "orphan ");
    assert!(line.text.ends_with("under 1"), "{}", line.text);
    let keeper = eventually("the keeper", || {
        procs::children(herd.pid()).into_iter().find(|pid| procs::describe(*pid).contains(" keeper "))
    });
    eventually("no zombie below the first process", || {
        let zombies =
            procs::children(keeper).into_iter().filter(|pid| procs::state(*pid) == Some('Z')).count();
        let has_worker = procs::children(keeper).len() >= 2;
        (zombies == 0 && has_worker).then_some(())
    });
    // The first process of a namespace gets only signals that it asked for.
    procs::kill(keeper, Signal::TERM);
    let mut herd = herd;
    let status = herd.wait_exit(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{}", herd.tail());
}
