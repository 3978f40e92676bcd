//! What the system is told to start at boot, what it hears of the keeper, and what a container is asked.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use oxherd_e2e::client::Address;
use oxherd_e2e::http::Client;
use oxherd_e2e::{Home, Pm2, eventually, ports, procs};
use rustix::process::Signal;

const SERVER: &str = "
const { existsSync } = require('node:fs');
const server = require('node:http').createServer((_, res) => res.end('hi'));
const look = () => existsSync(__dirname + '/go') ? server.listen(0, '127.0.0.1') : setTimeout(look, 5);
look();
";

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[test]
fn units_are_what_systemd_reads() {
    let pm2 = Pm2::new();
    let me = pm2.ok(&["startup", "systemd", "--print", "-u", "root", "--hp", "/srv/home", "--wait-ip"]);
    for line in
        ["Type=notify", "OOMPolicy=continue", "Delegate=yes", "User=root", "Wants=network-online.target"]
    {
        assert!(me.lines().any(|it| it == line), "{line}: {me}");
    }
    assert!(me.contains("Environment=\"PM2_HOME=/srv/home/.pm2\""), "{me}");
    let own = pm2.home().ok(&["startup", "systemd", "--print", "--user-unit"]);
    assert!(own.contains("WantedBy=default.target") && !own.contains("User="), "{own}");
    if !has("systemd-analyze") {
        return println!("skipped: there is no systemd-analyze to verify the units");
    }
    for (name, unit) in [("pm2-root.service", &me), ("oxherd.service", &own)] {
        let path = pm2.home().write(name, unit);
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_us: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(output.status.success() && about_us.is_empty(), "{said}");
    }
}

#[test]
fn scripts_of_openrc_are_shell() {
    let pm2 = Pm2::new();
    let script = pm2.ok(&["startup", "openrc", "--print", "-u", "o-x", "--hp", "/home/it's"]);
    assert!(script.starts_with("#!/sbin/openrc-run\n") && script.contains("use localmount"), "{script}");
    let path = pm2.home().write("script", &script);
    let output = Command::new("sh").arg("-n").arg(&path).output().expect("it runs");
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
}

/// What is written at boot runs: the keeper in the foreground, which says when a daemon serves, and ends with it.
#[test]
fn a_service_manager_hears_that_a_daemon_serves() {
    let home = Home::new();
    let socket = home.surroundings().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("the folder is ours");
    manager.set_read_timeout(Some(oxherd_e2e::DEADLINE)).expect("it is ours");
    let path = home.path().display().to_string();
    let mut keeper = home.command(&["keeper", "--home", &path]);
    keeper.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000").stderr(Stdio::null());
    let mut keeper = keeper.spawn().expect("it runs");
    // That it is ready, and signs of life from before to after that.
    let hears = |wanted: &str| {
        let mut heard = [0; 256];
        let count = manager.recv(&mut heard).expect("it says something");
        heard[..count].starts_with(wanted.as_bytes())
    };
    for wanted in ["WATCHDOG=1\n", "READY=1\n", "WATCHDOG=1\n"] {
        while !hears(wanted) {}
    }
    assert_eq!(home.ping().map(|(_, pid, _)| pid), Some(keeper.id()), "it is the main process");
    procs::kill(keeper.id(), Signal::TERM);
    let ended = eventually("its end", || keeper.try_wait().expect("it is our child"));
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_container_is_asked_whether_it_lives_and_is_ready() {
    let home = Home::new();
    let script = home.write("web.js", SERVER);
    let address = format!("127.0.0.1:{}", ports::free());
    let args = ["runtime", &script, "-i", "1", "--min-uptime", "60s", "--probes", &address];
    let mut runtime = home.command(&args).stdout(Stdio::null()).spawn().expect("it runs");
    let address = Address::reach(&address);
    let ask = |path: &str| {
        let response = Client::connect(&address).and_then(|mut it| it.request("GET", path, "", b"")).ok()?;
        Some((response.status, response.text()))
    };
    let wait =
        |path: &str, wanted: u16| eventually(path, || ask(path).filter(|(status, _)| *status == wanted)).1;
    assert_eq!(wait("/livez", 200), "alive\n");
    assert_eq!(ask("/readyz"), Some((503, "web has no worker that is ready\n".into())));
    assert_eq!(ask("/v1/apps").map(|it| it.0), Some(404), "nothing else is told");
    home.write("go", "");
    assert_eq!(wait("/readyz", 200), "ready\n");
    // Another daemon answers at the same place.
    home.kill_daemon();
    wait("/livez", 200);
    wait("/readyz", 200);
    home.ok(&["stop", "web"]);
    assert_eq!(wait("/readyz", 503), "no app is to run\n");
    procs::kill(runtime.id(), Signal::TERM);
    eventually("its end", || runtime.try_wait().expect("it is our child"));
    let refused = home.run(&["runtime", &script, "--probes", "nowhere"]);
    assert_eq!(refused.status.code(), Some(2));
}
