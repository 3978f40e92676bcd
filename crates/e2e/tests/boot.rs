//! What `oxherd startup` writes, under a systemd that runs.

use std::fs;

use oxherd_e2e::client::Address;
use oxherd_e2e::machine::{Machine, told};
use oxherd_e2e::{Load, eventually, eventually_within, ports};

const SERVICE: &str = "oxherd-ox";
const SLOW: std::time::Duration = std::time::Duration::from_secs(60);

fn serves(address: &Address) -> Option<()> {
    oxherd_e2e::http::try_once(address, "GET", "/", "", b"").ok().filter(|it| it.status == 200).map(drop)
}

/// The process, by its number inside.
fn kill(machine: &Machine, pid: &str) {
    machine.ok(&["kill", "-KILL", pid]);
}

fn daemon(machine: &Machine) -> String {
    let said = told("ping", &machine.oxherd(&["ping"]));
    let pid = said.split_once("daemon ").and_then(|(_, rest)| rest.split(' ').next());
    pid.expect("it says so").to_owned()
}

#[test]
fn a_service_of_systemd_outlives_all_but_the_machine() {
    let mut machine = match Machine::boot() {
        Ok(machine) => machine,
        Err(why) => return println!("not run: {why}"),
    };
    let (program, home) = (machine.program(), machine.home().display().to_string());
    let said = machine.ok(&[&program, "startup", "-u", "ox", "--hp", &home]);
    assert!(said.contains("starts at boot what ran last"), "{said}");
    machine.ok(&["systemctl", "start", SERVICE]);
    let port = ports::free();
    let script = machine.folder().copy("app.js", "app.js").display().to_string();
    let env = format!("PORT={port}");
    let start = ["start", &script, "--name", "web", "-i", "2", "--env", &env];
    told("start", &machine.oxherd(&start));
    let address = Address::v4(port);
    let main = machine.property(SERVICE, "MainPID");

    // Each worker is in a cgroup of its own below the service's.
    let cgroup = machine.property(SERVICE, "ControlGroup");
    let workers = told("pid", &machine.oxherd(&["pid", "web"]));
    let mut of_workers: Vec<String> = workers
        .lines()
        .map(|pid| machine.ok(&["cat", &format!("/proc/{}/cgroup", pid.trim())]).trim().to_owned())
        .collect();
    of_workers.sort();
    of_workers.dedup();
    assert_eq!(of_workers.len(), 2, "{of_workers:?}");
    assert!(of_workers.iter().all(|it| it.contains(&format!("{cgroup}/"))), "{of_workers:?} in {cgroup}");

    // No client notices a reload, the end of the daemon, or that of the main process.
    let load = Load::short(&address, "/", 2);
    load.wait_more(50);
    machine.ok(&["systemctl", "reload", SERVICE]);
    load.wait_more(50);
    kill(&machine, &daemon(&machine));
    load.wait_more(50);
    kill(&machine, &main);
    let successor = eventually("another main process", || {
        let pid = machine.property(SERVICE, "MainPID");
        (pid != main && pid != "0").then_some(pid)
    });
    load.wait_more(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    assert_eq!(machine.property(SERVICE, "ActiveState"), "active");
    assert_eq!(machine.property(SERVICE, "Result"), "success");
    assert_eq!(machine.property(SERVICE, "NRestarts"), "0");

    // When both are killed nobody is left, and systemd starts all again.
    machine.ok(&["kill", "-KILL", &successor, &daemon(&machine)]);
    eventually_within(SLOW, "another life", || {
        (machine.property(SERVICE, "NRestarts") != "0").then(|| serves(&address)).flatten()
    });

    machine.crash();
    eventually_within(SLOW, "what ran before", || serves(&address));

    let said = machine.ok(&[&program, "unstartup", "-u", "ox", "--hp", &home]);
    assert!(said.contains("is removed") && said.contains("goes on"), "{said}");
    let unit = machine.folder().path().join("etc").join(format!("{SERVICE}.service"));
    assert!(!unit.exists());
    serves(&address).expect("what runs goes on");
    told("kill", &machine.oxherd(&["kill"]));
    let enabled = machine.folder().path().join("etc/multi-user.target.wants");
    assert!(fs::read_dir(enabled).map_or(true, |mut it| it.next().is_none()), "nothing is left enabled");
}
