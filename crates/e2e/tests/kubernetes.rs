//! `oxherd export kubernetes`: what Kubernetes reads, and what its container then does.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Child, Command, Stdio};

use oxherd_e2e::client::Address;
use oxherd_e2e::http::{self, Client};
use oxherd_e2e::places::Folder;
use oxherd_e2e::{Home, eventually, places, ports, procs};
use rustix::process::Signal;
use serde_json::{Value, json};

const SERVER: &str = "
const told = { args: process.argv.slice(2), node: process.execArgv, token: process.env.TOKEN };
require('node:http').createServer((_, res) => res.end(JSON.stringify(told))).listen(0, '127.0.0.1');
";
/// What would be lost or changed by a careless writer: YAML, and Kubernetes' own `$(NAME)`.
const TOKEN: &str = "s3cret: $(PORT) $$ \"it's\" \u{85}\u{2028}\u{7f} 日本 #";

/// The documents, as Kubernetes reads them.
fn read(yaml: &str) -> Vec<Value> {
    let folder = Folder::new();
    let file = File::open(folder.write("all.yaml", yaml)).expect("it is there");
    let mut python = Command::new(places::python());
    python.arg(places::fixture("kubernetes/validate.py")).env("PYTHONPATH", places::tool("kubernetes"));
    python.env("PYTHONDONTWRITEBYTECODE", "1").stdin(file);
    let output = python.output().expect("there is a Python");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{yaml}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

/// Texts of a list, with `$$` as Kubernetes takes it.
fn words(list: &Value) -> Vec<String> {
    let words = list.as_array().expect("a list").iter().map(|it| it.as_str().expect("a text"));
    words.map(|it| it.replace("$$", "$")).collect()
}

fn is_label(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// What holds for each, whatever it is of.
fn check_all(deployments: &[Value]) {
    let mut names = BTreeSet::new();
    for it in deployments {
        let (pod, container) = (&it["spec"]["template"], container(it));
        let name = it["metadata"]["name"].as_str().expect("a text");
        assert!(is_label(name) && names.insert(name), "{name}");
        assert_eq!(container["name"], name);
        assert_eq!(it["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            let of_name = |it: &&Value| it["name"] == *port;
            assert!(container["ports"].as_array().is_some_and(|list| list.iter().any(|it| of_name(&it))));
        }
    }
}

fn grace(deployment: &Value) -> u64 {
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number")
}

/// The container, run as Kubernetes would, in another home.
struct Running {
    home: Home,
    child: Child,
    probes: Address,
}

impl Running {
    fn start(deployment: &Value, work: &std::path::Path) -> Self {
        let (home, container) = (Home::new(), container(deployment));
        let command = words(&container["command"]);
        assert_eq!(command.first().map(String::as_str), Some("oxherd"));
        let args = [&command[1..], &words(&container["args"])].concat();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut runtime = home.command(&args);
        for entry in container["env"].as_array().into_iter().flatten() {
            let value = entry["value"].as_str().expect("a text").replace("$$", "$");
            runtime.env(entry["name"].as_str().expect("a text"), value);
        }
        let child = runtime.current_dir(work).stdout(Stdio::null()).spawn().expect("it runs");
        let port = command.last().and_then(|it| it.rsplit_once(':')).expect("an address").1;
        Self { home, child, probes: Address::reach(&format!("127.0.0.1:{port}")) }
    }

    fn wait_ok(&self, probe: &str) {
        let ask = || Client::connect(&self.probes).and_then(|mut it| it.request("GET", probe, "", b"")).ok();
        eventually(probe, || ask().filter(|it| it.status == 200));
    }

    fn end(mut self) {
        procs::kill(self.child.id(), Signal::TERM);
        let ended = eventually("its end", || self.child.try_wait().expect("it is our child"));
        assert!(ended.success(), "{ended}");
    }
}

#[test]
fn apps_of_a_file_are_run_by_it() {
    let home = Home::new();
    home.write("server.js", SERVER);
    let own = if procs::is_root() { json!({"uid": 65534, "gid": 65534}) } else { json!({}) };
    let long = format!("{}.under_score", "x".repeat(70));
    let mut apps = json!([
        {"name": "Shop Front", "port": 3000, "instances": 2, "parallel": 2, "standby": 0, "max_memory_restart": "200M",
         "drain_timeout": "3s", "kill_timeout": 1600, "listen_timeout": "90s", "env": {"TOKEN": TOKEN},
         "env_production": {"TOKEN": format!("production {TOKEN}")}},
        {"name": "shop-front", "sockets": "universal", "standby": 1, "instances": {"min": 1, "max": 4},
         "max_memory_restart": "64M", "env": {"PASSWORD": "hunter2"}},
        {"name": "8080", "instances": "max", "restart": "on-failure"},
        {"name": long, "exec_mode": "fork", "instances": 1},
        {"name": "日本", "interpreter": "/bin/sh", "args": ["-c", "exit 0"], "restart": "never"},
    ]);
    for app in apps.as_array_mut().expect("a list") {
        app["script"] = "server.js".into();
    }
    apps[2].as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
    let file = home.write("apps.json", &json!({"apps": apps}).to_string());
    let port = ports::free().to_string();
    let mut export = home.command(&[
        "export",
        "kubernetes",
        "apps.json",
        "--env",
        "production",
        "--image",
        "registry.example:5000/shop@sha256:00",
        "--probe-port",
        &port,
    ]);
    let output = export.current_dir(home.surroundings()).output().expect("it runs");
    let yaml = String::from_utf8(output.stdout).expect("it is a text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!yaml.contains("hunter2") && !yaml.contains("s3cret"), "secrets stay in the file: {yaml}");
    let all = read(&yaml);
    check_all(&all);
    let name = |it: &Value| it["metadata"]["name"].as_str().expect("a text").to_owned();
    let names: Vec<String> = all.iter().map(name).collect();
    assert_eq!(names[..3], ["shop-front", "shop-front-2", "8080"]);
    let pause = words(&container(&all[0])["lifecycle"]["preStop"]["exec"]["command"]);
    let pause: u64 = pause[1].parse().expect("a number");
    assert_eq!(grace(&all[0]), pause + 3 + 2 + 5, "the pause, 4.6 s of draining and killing, 5 s to spare");
    assert_eq!(container(&all[0])["startupProbe"]["failureThreshold"], 90);
    assert_eq!(container(&all[0])["ports"][0]["containerPort"], 3000);
    let memory = |it| container(it)["resources"]["limits"]["memory"].clone();
    // Four workers at their limit, and one that waits beside a successor; 32 MiB are the keeper's and the daemon's.
    assert_eq!([&all[0], &all[1], &all[2]].map(memory), [json!("832Mi"), json!("416Mi"), Value::Null]);

    let running = Running::start(&all[0], &home.surroundings());
    running.wait_ok("/livez");
    running.wait_ok("/readyz");
    let told = http::get(&running.home.address("Shop Front"), "/").json();
    assert_eq!(told["token"], format!("production {TOKEN}"));
    let app = &running.home.herd()["apps"];
    assert_eq!(app.as_array().map(Vec::len), Some(1), "each container has its app only: {app}");
    running.end();

    let taken = home.run(&["export", "kubernetes", &file, "--port", "9614"]);
    assert_eq!(taken.status.code(), Some(2), "{}", String::from_utf8_lossy(&taken.stderr));
}

#[test]
fn apps_of_the_command_line_are_written_out() {
    let (home, port) = (Home::new(), ports::free().to_string());
    let script = home.write("my server.js", SERVER);
    let token = format!("TOKEN={TOKEN}");
    let node = places::node(places::DEFAULT_NODE).display().to_string();
    let mut start = home.command(&["start", &script, "-n", "l'été $(x)", "-i", "1", "--interpreter", &node]);
    start.args(["--max-memory-restart", "300M", "--restart", "on-failure", "--stop-exit-codes", "3,4"]);
    start.args(["--drain-timeout", "2s", "-k", "1500ms", "--cron", "0 4 * * *", "--env", &token]);
    start.args(["--node-args", "--no-warnings --title='a b'", "--", "--say", "$(HOME) $$", "-1", "{a: b}"]);
    let started = start.current_dir(home.surroundings()).output().expect("it runs");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let export = home.run(&["export", "kubernetes", "all", "--probe-port", &port]);
    let said = String::from_utf8_lossy(&export.stderr).into_owned();
    assert!(said.contains("left out") && said.contains("cron_restart"), "{said}");
    let all = read(&String::from_utf8(export.stdout).expect("it is a text"));
    check_all(&all);
    assert_eq!(all[0]["metadata"]["name"], "l--t----x");

    let running = Running::start(&all[0], &home.surroundings());
    running.wait_ok("/readyz");
    let told = http::get(&running.home.address("l'été $(x)"), "/").json();
    assert_eq!(told["token"], TOKEN);
    assert_eq!(told["args"], json!(["--say", "$(HOME) $$", "-1", "{a: b}"]));
    assert_eq!(told["node"], json!(["--no-warnings", "--title=a b"]));
    let again = running.home.run(&["export", "kubernetes", "all", "--probe-port", &port]);
    let again = read(&String::from_utf8(again.stdout).expect("it is a text"));
    assert_eq!(container(&again[0])["args"], container(&all[0])["args"], "nothing is lost on the way");
    running.end();
}
