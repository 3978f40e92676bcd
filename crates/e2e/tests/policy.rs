//! The rules by which workers are replaced, counted ready, and ended, observed on real programs.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use oxherd_e2e::http::{self, Client};
use oxherd_e2e::{Address, Home, Load, Roll, eventually, eventually_within, places, ports, procs};
use rustix::net::{self, AddressFamily, SocketType};
use rustix::process::Signal;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Runs an app by the control API. Spans are in milliseconds.
fn start(home: &Home, name: &str, program: &str, script: &str, more: Value) {
    let node = places::node(places::DEFAULT_NODE);
    let program = if program == "node" { node.to_str().expect("a plain path") } else { program };
    let mut spec = json!({
        "name": name, "program": program, "args": [places::fixture(script)], "cwd": "/tmp",
        "env": [["GATE", home.surroundings().join(format!("gate-{name}"))], ["PORT", "4000"]],
        "drain_timeout": 500, "kill_timeout": 500, "restart_delay": 50,
    });
    let (spec_map, more) = (spec.as_object_mut().expect("an object"), more.as_object().expect("likewise"));
    spec_map.extend(more.clone());
    let answer =
        http::post(&home.api(), "/v1/apps", "application/json", &json!({ "spec": spec }).to_string());
    assert!(answer.status < 300, "{name}: {}", answer.text());
}

fn home() -> Home {
    let home = Home::new();
    home.ok(&["start", places::fixture("quiet.js").to_str().expect("a plain path"), "--name", "daemon"]);
    home
}

fn open_gate(home: &Home, name: &str) {
    home.write(&format!("gate-{name}"), "");
}

/// The slots' pids of those that are online.
fn online(home: &Home, app: &str) -> Vec<(u64, u32)> {
    let seats = Roll::of(home, app).seats;
    seats.iter().filter(|it| it.status == "online").map(|it| (it.slot, it.pid)).collect()
}

fn wait_online(home: &Home, app: &str, count: usize) -> Vec<(u64, u32)> {
    eventually(&format!("{count} of {app} are online\n{}", home.log()), || {
        let now = online(home, app);
        (now.len() == count).then_some(now)
    })
}

fn status(home: &Home, app: &str) -> String {
    let herd = home.herd();
    let all = herd["apps"].as_array().cloned().unwrap_or_default();
    let app = all.iter().find(|it| it["name"] == app).cloned().unwrap_or_default();
    app["slots"][0]["status"].as_str().unwrap_or_default().to_owned()
}

fn ask(address: &Address, path: &str) -> Value {
    Client::connect(address).expect("it listens").get(path).expect("an answer").json()
}

/// Until the worker with this pid is not the slot's any more, another is, and the app is as large as before.
fn replaced(home: &Home, app: &str, pid: u32, count: usize) -> Duration {
    let since = Instant::now();
    eventually(&format!("{pid} of {app} is replaced\n{}", home.log()), || {
        let now = online(home, app);
        (now.len() == count && now.iter().all(|(_, it)| *it != pid)).then_some(())
    });
    since.elapsed()
}

#[test]
fn workers_that_use_too_much_or_have_served_enough_are_replaced_without_loss() {
    let home = home();
    let limit = 150 * MIB;
    start(&home, "large", "node", "policy/server.js", json!({"instances": 2, "max_memory_restart": limit}));
    start(&home, "served", "node", "policy/server.js", json!({"instances": 2, "max_requests": 300}));
    start(&home, "old", "node", "policy/server.js", json!({"max_lifetime": 3000}));
    let old = wait_online(&home, "old", 1)[0].1;
    wait_online(&home, "large", 2);
    let served = wait_online(&home, "served", 2);
    let (large, busy) = (home.address("large"), home.address("served"));
    let loads = [Load::short(&large, "/", 2), Load::short(&busy, "/", 2)];

    // The child's memory counts, and the child goes with the worker.
    let asked = ask(&large, "/brood?mb=200");
    let (pid, child) =
        (asked["pid"].as_u64().expect("a pid") as u32, asked["child"].as_u64().expect("a pid") as u32);
    let seen = Instant::now();
    let word = format!("pid {pid}) is to be replaced: it uses more memory than `max_memory_restart`");
    eventually("it is seen", || home.log().contains(&word).then_some(()));
    assert!(seen.elapsed() < Duration::from_millis(2500), "{:?}", seen.elapsed());
    println!(
        "memory: seen after {:?}, replaced after {:?}",
        seen.elapsed(),
        replaced(&home, "large", pid, 2)
    );
    assert!(procs::wait_gone(child, Duration::from_secs(5)), "the child outlives its worker");
    for (_, pid) in served {
        replaced(&home, "served", pid, 2);
    }
    replaced(&home, "old", old, 1);
    for load in loads {
        let tally = load.stop();
        assert!(tally.ok > 300 && tally.failed() == 0, "{tally}\n{}", home.log());
    }
    assert!(home.log().contains("it has served `max_requests`") && home.log().contains("it has lived for"));
}

#[test]
fn who_does_not_answer_is_replaced_and_killed() {
    let home = home();
    start(&home, "hangs", "node", "policy/server.js", json!({"instances": 2, "health_interval": 200}));
    start(&home, "idle", "node", "policy/server.js", json!({"health_interval": 100}));
    let idle = wait_online(&home, "idle", 1);
    wait_online(&home, "hangs", 2);
    let pid = ask(&home.address("hangs"), "/block")["pid"].as_u64().expect("a pid") as u32;
    replaced(&home, "hangs", pid, 2);
    assert!(procs::wait_gone(pid, Duration::from_secs(5)), "{}", home.log());
    assert!(home.log().contains(&format!("pid {pid}) is to be replaced: it does not answer any more")));
    assert_eq!(online(&home, "idle"), idle, "one that answers is well");
}

/// An address that is taken, and refuses connections until it is opened.
struct Knocked(OwnedFd);

impl Knocked {
    fn new() -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        Self(socket)
    }

    fn address(&self) -> SocketAddrV4 {
        let address = net::getsockname(&self.0).expect("it is bound");
        SocketAddrV4::try_from(address).expect("of IPv4")
    }

    fn open(&self) {
        net::listen(&self.0, 16).expect("it listens");
    }
}

#[test]
fn ready_is_who_says_so_or_is_found_so() {
    let home = home();
    start(
        &home,
        "says",
        "python3",
        "policy/notifies.py",
        json!({"sockets": "none", "wait_ready": true, "instances": 2}),
    );
    let probe =
        |path: &str| json!({"url": format!("http://127.0.0.1:1{path}"), "interval": 50, "timeout": 500});
    start(
        &home,
        "found",
        "node",
        "policy/server.js",
        json!({"ready_probe": probe("/well"), "listen_timeout": 1500}),
    );
    let place = Knocked::new();
    let probe = json!({"url": format!("tcp://{}", place.address()), "interval": 50, "timeout": 500});
    start(&home, "knocks", "node", "policy/server.js", json!({ "ready_probe": probe }));
    // Those who have not said it are not ready, whatever else happens.
    eventually("both wait", || (status(&home, "says") == "starting").then_some(()));
    eventually("it is probed", || (status(&home, "found") == "starting").then_some(()));
    open_gate(&home, "says");
    wait_online(&home, "says", 2);
    assert_eq!(["found", "knocks"].map(|app| status(&home, app)), ["starting"; 2]);
    place.open();
    wait_online(&home, "knocks", 1);
    open_gate(&home, "found");
    let before = wait_online(&home, "found", 1);
    // A release that is not well replaces nobody.
    std::fs::remove_file(home.surroundings().join("gate-found")).expect("it is there");
    let failed = home.run(&["reload", "found"]);
    assert!(!failed.status.success(), "{}", home.log());
    assert_eq!(online(&home, "found"), before);
}

/// One app computes; the workers of the other, which know of nothing, mostly wait, and so do those who come to them.
#[test]
fn the_number_of_slots_follows_the_load_and_nobody_is_lost_when_one_goes() {
    let home = home();
    let bounds = json!({"min": 1, "max": 2});
    start(&home, "computes", "node", "policy/server.js", json!({ "scaling": bounds }));
    let port = ports::free().to_string();
    let args = json!([places::fixture("policy/serial.py"), "127.0.0.1", port, "0.05"]);
    let more = json!({"args": args, "sockets": "universal", "distribution": "kernel", "scaling": bounds});
    start(&home, "waits", "python3", "", more);
    let apps = ["computes", "waits"];
    apps.iter().for_each(|app| drop(wait_online(&home, app, 1)));
    let loads = apps.map(|app| Load::short(&home.address(app), "/busy", 6));
    apps.iter().for_each(|app| drop(wait_online(&home, app, 2)));
    for (app, load) in apps.iter().zip(&loads) {
        let going = online(&home, app)[1].1;
        home.ok(&["scale", app, "1"]);
        assert!(procs::wait_gone(going, Duration::from_secs(10)), "{}", home.log());
        load.wait_more(20);
    }
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.failed(), 0, "{tally}\n{}", home.log());
    }
    assert!(!home.run(&["scale", "computes", "7"]).status.success(), "beyond the bounds");
}

#[test]
fn exits_numbers_and_owners_are_as_the_app_says() {
    let home = home();
    let ends = |code: &str| json!({"args": ["-e", code], "stop_exit_codes": [0, 7], "min_uptime": 50});
    start(&home, "seven", "node", "", ends("setTimeout(() => process.exit(7), 200)"));
    start(&home, "killed", "node", "", ends("setInterval(() => {}, 1000)"));
    let names = json!({"instances": 2, "instance_var": "MINE", "increment_var": "PORT"});
    start(&home, "named", "node", "policy/server.js", names);
    start(&home, "later", "node", "policy/server.js", json!({"autostart": false}));
    wait_online(&home, "named", 2);
    let address = home.address("named");
    let mut seen = std::collections::BTreeSet::new();
    eventually("both tell their numbers", || {
        let env = ask(&address, "/env")["env"].clone();
        assert_eq!(env["NODE_APP_INSTANCE"], Value::Null);
        seen.insert((env["MINE"].to_string(), env["PORT"].to_string()));
        (seen.len() == 2).then_some(())
    });
    let expected =
        [("0", "4000"), ("1", "4001")].map(|(mine, port)| (format!("{mine:?}"), format!("{port:?}")));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    eventually("it is done", || (status(&home, "seven") == "stopped").then_some(()));
    let pid = wait_online(&home, "killed", 1)[0].1;
    procs::kill(pid, Signal::KILL);
    replaced(&home, "killed", pid, 1);
    assert!(online(&home, "later").is_empty());
    home.ok(&["start", "later"]);
    wait_online(&home, "later", 1);
    if procs::is_root() {
        open_gate(&home, "owned");
        let owner = json!({"uid": 12_345, "gid": 12_346, "groups": [12_347]});
        start(&home, "owned", "node", "policy/server.js", json!({"owner": owner}));
        let pid = wait_online(&home, "owned", 1)[0].1;
        let told = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        assert!(told.contains("Uid:\t12345\t12345") && told.contains("Groups:\t12347"), "{told}");
        assert!(ask(&home.address("owned"), "/")["pid"].is_number(), "it serves");
    }
}

/// The processes that were started with this argument.
fn with_argument(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("it is there").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    pids.filter(has).collect()
}

#[test]
fn nothing_of_a_worker_s_tree_is_left_however_it_ends() {
    let home = home();
    let mark = home.surroundings().display().to_string();
    let args = json!([places::fixture("policy/brood.py"), mark]);
    let more = json!({"args": args, "sockets": "none", "instances": 2, "restart": "never"});
    start(&home, "brood", "python3", "", more);
    let before: Vec<u32> = eventually("two workers with a grandchild each", || {
        let all = with_argument(&mark);
        (all.len() == 4).then_some(all)
    });
    let workers = wait_online(&home, "brood", 2);
    procs::kill(workers[0].1, Signal::KILL);
    let left = |count| {
        eventually_within(Duration::from_secs(5), "their grandchildren are gone", || {
            (before.iter().filter(|pid| procs::is_alive(**pid)).count() == count).then_some(())
        });
    };
    left(2);
    home.ok(&["stop", "brood"]);
    left(0);
}

#[test]
fn lines_reach_a_worker_also_after_the_daemon_has_died() {
    let home = home();
    open_gate(&home, "reads");
    start(&home, "reads", "python3", "policy/notifies.py", json!({"sockets": "none", "wait_ready": true}));
    let pid = wait_online(&home, "reads", 1)[0].1;
    let send = |line: &str| {
        let body = json!({ "line": line }).to_string();
        eventually("it is sent", || {
            let fields = "Content-Type: application/json\r\n";
            let answer =
                http::try_once(&home.api(), "POST", "/v1/apps/reads/send", fields, body.as_bytes()).ok()?;
            assert!(answer.status < 300, "{}", answer.text());
            Some(())
        });
        let log = home.path().join("logs");
        eventually(&format!("{line} is read"), || {
            let files = std::fs::read_dir(&log).ok()?;
            let mut texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
            texts.find(|text| text.contains(&format!("read {line} ")))
        });
    };
    send("one");
    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
    send("two");
    assert_eq!(wait_online(&home, "reads", 1)[0].1, pid, "its input did not end");
}
