//! Workers that do bad things with their sockets: the primary is not kept waiting, keeps nothing of theirs, and others
//! are served all the while.

use oxherd_e2e::{Home, Load, Program, eventually, eventually_within, http, ports, procs, turn};
use rustix::process::Signal;
use std::process::Output;
use std::rc::Rc;
use std::time::Duration;

/// Ten thousand calls of a slow language.
const LONG: Duration = Duration::from_secs(90);

/// An app with a misdeed beside one that serves.
struct Beside {
    /// How long others wait is looked at: no other misdeed is to be the cause.
    _turn: Rc<turn::Turn>,
    home: Home,
    web: Program,
    load: Load,
    open: (usize, usize),
    starts: u32,
}

impl Beside {
    fn new() -> Self {
        let turn = turn::alone();
        let home = Home::new();
        let web = Program::go();
        assert!(start(&home, "web", &web, &["-i", "2"]).status.success());
        eventually("the server", || http::try_once(web.address(), "GET", "/", "", b"").ok());
        let load = Load::short(web.address(), "/", 2);
        load.wait_more(20);
        let open = open_files(&home);
        let (_, _, starts) = home.ping().expect("a daemon");
        Self { _turn: turn, home, web, load, open, starts }
    }

    /// Starts a misdeed, which may crash so fast that its start fails.
    fn commit(&self, deed: &str, options: &[&str]) {
        let program = Program::python_script("hostile.py", ports::free()).more([deed]);
        let output = start(&self.home, "bad", &program, options);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    }

    /// Waits until the worker has said so.
    fn wait_said(&self, text: &str) -> String {
        eventually_within(LONG, text, || {
            let said = std::fs::read_to_string(self.home.path().join("logs/bad-out.log")).unwrap_or_default();
            said.contains(text).then_some(said)
        })
    }

    /// It goes, and nothing has come of it.
    fn check(self, deed: &str) {
        self.load.wait_more(50);
        self.home.ok(&["delete", "bad"]);
        let before = self.open;
        eventually(
            &format!("as many descriptors as before: {before:?}, now {:?}", open_files(&self.home)),
            || {
                let now = open_files(&self.home);
                (now.0 <= before.0 && now.1 <= before.1).then_some(())
            },
        );
        let tally = self.load.stop();
        println!("beside a worker that does {deed}: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        let starts = self.home.ping().map(|(_, _, starts)| starts);
        assert_eq!(starts, Some(self.starts), "the daemon has lived all the time");
        assert!(tally.slowest() < Duration::from_secs(2), "somebody had to wait: {tally}");
        self.home.ok(&["reload", "web"]);
        assert_eq!(http::get(self.web.address(), "/").status, 200);
    }
}

/// The descriptors of the daemon and of its keeper.
fn open_files(home: &Home) -> (usize, usize) {
    let (daemon, keeper, _) = eventually("a daemon", || home.ping());
    (procs::open_files(daemon), procs::open_files(keeper))
}

fn start(home: &Home, name: &str, program: &Program, options: &[&str]) -> Output {
    let words = program.words();
    let mut args = vec!["start", "--name", name, "--sockets", "universal", "--interpreter", "none"];
    args.extend(options);
    args.extend([words[0].as_str(), "--"]);
    args.extend(words[1..].iter().map(String::as_str));
    home.run(&args)
}

#[test]
fn ten_thousand_binds() {
    let beside = Beside::new();
    beside.commit("binds", &["-i", "2"]);
    beside.wait_said("bound 10000");
    beside.check("ten thousand binds");
}

#[test]
fn more_listeners_than_descriptors() {
    let beside = Beside::new();
    beside.commit("keeps", &["-i", "1"]);
    beside.wait_said("kept some");
    beside.check("keeping all that it can bind");
}

#[test]
fn death_in_the_middle_of_a_call() {
    let beside = Beside::new();
    beside.commit("binds-and-dies", &["-i", "2", "--restart-delay", "0", "--max-restarts", "12"]);
    eventually_within(LONG, "an app that has given up", || {
        beside.home.ok(&["ls"]).contains("errored").then_some(())
    });
    beside.check("dying after a bind");
}

#[test]
fn bad_pointers() {
    let beside = Beside::new();
    beside.commit("pointers", &["-i", "1"]);
    let said = beside.wait_said("good: ");
    for expected in [
        "null: Bad address",
        "nowhere: Bad address",
        "kernel: Bad address",
        "short: Invalid argument",
        "long: Invalid argument",
        "negative: Invalid argument",
        "no descriptor: Bad file descriptor",
        "closed: Bad file descriptor",
        "listen: -1 shutdown: -1",
        "good: done",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    beside.check("bad pointers");
}

#[test]
fn an_address_that_changes_under_the_eyes() {
    let beside = Beside::new();
    beside.commit("race", &["-i", "2"]);
    beside.wait_said("raced");
    beside.check("racing its address");
}

#[test]
fn descriptors_that_change_under_the_eyes() {
    let beside = Beside::new();
    beside.commit("closes", &["-i", "2"]);
    beside.wait_said("shuffled");
    beside.check("racing its descriptors");
}

/// One waits, and its child binds too: both are let go with the slot, or end with it.
#[test]
fn a_fork_while_parked() {
    let beside = Beside::new();
    beside.commit("forks-parked", &["-i", "1", "--standby", "1", "--restart-delay", "0"]);
    let said = beside.wait_said("forked");
    assert!(said.contains("forked"), "{said}");
    beside.check("forking while parked");
}

#[test]
fn a_kill_while_parked() {
    let beside = Beside::new();
    let program = Program::go();
    let started =
        start(&beside.home, "bad", &program, &["-i", "1", "--standby", "1", "--restart-delay", "0"]);
    assert!(started.status.success(), "{started:?}");
    let parked = || {
        let herd = beside.home.herd();
        let app = herd["apps"].as_array()?.iter().find(|it| it["name"] == "bad")?.clone();
        let worker = app["standbys"][0]["worker"].clone();
        (worker["status"] == "standby").then(|| worker["pid"].as_u64())?
    };
    let mut known = 0;
    for _ in 0..5 {
        let pid = eventually("another standby", || parked().filter(|pid| *pid != known));
        procs::kill(pid as u32, Signal::KILL);
        known = pid;
    }
    beside.check("being killed while it is parked");
}
