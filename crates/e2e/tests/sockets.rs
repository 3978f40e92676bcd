//! The sockets that Node programs open: addresses, ports, paths, protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use oxherd_e2e::places::Folder;
use oxherd_e2e::{Address, Failure, Herd, Mark, eventually, http, procs, script};
use serde_json::Value;

/// Lines of the workers that begin with `word`, once each of `count` workers has written one: the rest of them.
fn told(herd: &Herd, word: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines of {word:?}"), || {
        let lines = herd.lines().into_iter().filter(|line| line.is_of_worker());
        let rest = lines.filter_map(|line| Some(line.text.strip_prefix(word)?.trim().to_owned()));
        let rest: Vec<String> = rest.collect();
        (rest.len() == count).then_some(rest)
    })
}

/// What a server says before it hangs up.
fn greeting(address: &Address) -> Result<String, Failure> {
    let mut text = String::new();
    let mut connection = address.connect(Duration::from_secs(5))?;
    connection.read_to_string(&mut text).map_err(|error| Failure::of(&error))?;
    Ok(text.trim().to_owned())
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("skipped: this machine has no IPv6");
    }
    has
}

fn listens_everywhere(distribution: &str) {
    if !has_ipv6() {
        return;
    }
    let herd = Herd::of("listens.js").workers(2).args(["--distribution", distribution]).start();
    herd.wait_serving();
    let told = told(&herd, "ports ", 2);
    assert_eq!(told[0], told[1], "port 0 is the same port for all workers");
    let ports: BTreeMap<String, u16> = serde_json::from_str::<Value>(&told[0])
        .expect("it is JSON")
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, port)| (name.clone(), port.as_u64().expect("a port") as u16))
        .collect();
    assert_eq!(ports.values().collect::<BTreeSet<_>>().len(), ports.len(), "each listen has its own port");
    for (name, port) in &ports {
        let addresses = match name.as_str() {
            "v6" | "v6 only" => vec![Address::v6(*port)],
            "all" => vec![Address::v6(*port), Address::v4(*port)],
            _ => vec![Address::v4(*port)],
        };
        for address in addresses {
            let mut pids = BTreeSet::new();
            eventually(&format!("two processes at {name}"), || {
                let greeting = greeting(&address).expect("it answers");
                let (said, pid) = greeting.rsplit_once(' ').expect("a name and a pid");
                assert_eq!(said, name);
                pids.insert(pid.to_owned());
                (pids.len() == 2).then_some(())
            });
        }
    }
    assert_eq!(greeting(&Address::v4(ports["v6 only"])), Err(Failure::Refused));
    herd.stop();
}

#[test]
fn net_servers_on_all_kinds_of_addresses() {
    listens_everywhere("handoff");
}

#[test]
fn net_servers_under_the_kernel_distribution() {
    listens_everywhere("kernel");
}

#[test]
fn net_servers_under_the_shared_distribution() {
    listens_everywhere("shared");
}

fn answers(kind: &str, port: &str, times: &str) -> Vec<Value> {
    let text = script::run("tls-client.js", &[kind, port, times]);
    serde_json::from_str::<Value>(&text).expect("it is JSON").as_array().expect("a list").clone()
}

fn pids(answers: &[Value]) -> BTreeSet<u64> {
    answers.iter().map(|answer| answer["pid"].as_u64().expect("it tells")).collect()
}

fn encrypted(distribution: &str) {
    let herd = Herd::of("https.mjs").workers(2).args(["--distribution", distribution]).start();
    herd.wait_serving();
    let https = answers("https", &told(&herd, "https ", 2)[0], "16");
    assert_eq!(pids(&https).len(), 2);
    let resumed = https.iter().filter(|answer| answer["resumed"] == true).count();
    println!("{distribution}: {resumed} of {} sessions resumed over {:?}", https.len(), pids(&https));
    assert_eq!(resumed, https.len() - 1, "workers share their ticket keys: {https:?}");
    let http2 = answers("http2", &told(&herd, "http2 ", 2)[0], "16");
    assert_eq!(pids(&http2).len(), 2);
    assert!(http2.iter().all(|answer| answer["version"] == "2.0"));
    herd.stop();
}

#[test]
fn https_and_http2_in_an_es_module() {
    encrypted("handoff");
}

#[test]
fn https_and_http2_under_the_kernel_distribution() {
    encrypted("kernel");
}

#[test]
fn a_unix_socket_under_every_distribution() {
    for distribution in ["handoff", "kernel", "shared"] {
        let folder = Folder::new();
        let path = folder.path().join("app.sock");
        let args = ["--distribution", distribution];
        let herd = Herd::of("unix.js").workers(2).args(args).env("SOCKET", &path).start();
        let address = herd.address();
        assert_eq!(address, Address::Unix(path.clone()));
        let before = herd.pids_that_answer(&address, 2);
        herd.reload();
        assert!(herd.pids_that_answer(&address, 2).iter().all(|pid| !before.contains(pid)));
        herd.stop();
        assert!(!path.exists(), "{distribution}: the socket file goes away");
    }
}

#[test]
fn datagrams_are_echoed() {
    let herd = Herd::of("udp.js").workers(2).start();
    herd.wait_count(2);
    let shared: BTreeSet<String> = told(&herd, "shared ", 2).into_iter().collect();
    let own: BTreeSet<String> = told(&herd, "own ", 2).into_iter().collect();
    assert_eq!((shared.len(), own.len()), (1, 2), "{shared:?} {own:?}");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("it can be set");
    let echo = |port: &str| {
        let port: u16 = port.parse().expect("a port");
        client.send_to(b"hello", ("127.0.0.1", port)).expect("it is sent");
        let mut buffer = [0; 64];
        let (length, _) = client.recv_from(&mut buffer).expect("it is echoed");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for port in shared.iter().cycle().take(20).chain(&own) {
        assert!(echo(port).starts_with("hello "));
    }
    let own_pids: BTreeSet<String> = own.iter().map(|port| echo(port)).collect();
    assert_eq!(own_pids.len(), 2);
    herd.reload();
    let port = shared.first().expect("there is one");
    assert!(echo(port).starts_with("hello "), "the socket outlives a reload");
    herd.stop();
}

#[test]
fn an_exclusive_port_is_the_workers_own() {
    let herd = Herd::of("exclusive.js").workers(2).start();
    herd.wait_count(2);
    let ports = told(&herd, "own port ", 2);
    let pids = ports.iter().map(|port| http::get(&Address::v4(port.parse().expect("a port")), "/").json());
    let pids: BTreeSet<u64> = pids.map(|answer| answer["pid"].as_u64().expect("it tells")).collect();
    assert_eq!(pids.len(), 2);
    herd.stop();
}

/// The lines of errors.js, which are the same under Node's own primary.
fn errors_are_nodes_own(distribution: &str, places: &[&str]) -> Vec<String> {
    let args = ["--distribution", distribution];
    let herd = Herd::of("errors.js").workers(1).args(args).script_args(places).start();
    herd.wait_text(Mark::START, "done");
    let lines = herd.stop();
    let refused: Vec<&str> =
        lines.iter().filter_map(|line| line.text.strip_prefix("Cannot listen on ")).collect();
    assert_eq!(refused.len(), places.len() + 1, "the log has them too: {refused:?}");
    for (place, line) in places.iter().zip(&refused) {
        let why = ["address already in use", "no such file or directory", "permission denied"];
        assert!(line.contains(place) && why.iter().any(|why| line.ends_with(why)), "{line}");
    }
    let ours: Vec<String> =
        lines.into_iter().filter(|line| line.is_of_worker()).map(|line| line.text).collect();
    let theirs = script::run_with("errors.js", places, &[("LEAVE", "1")]);
    let theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
    assert_eq!(ours, theirs);
    ours
}

#[test]
fn errors_of_listening_reach_the_worker_as_under_nodes_primary() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = busy.local_addr().expect("it is bound").port().to_string();
    for distribution in ["handoff", "kernel", "shared"] {
        let lines = errors_are_nodes_own(distribution, &[&port, "/no/such/folder/app.sock"]);
        assert!(lines[0].contains("EADDRINUSE") && lines[0].contains(&port), "{lines:?}");
        assert!(lines[1].contains("EACCES"), "{lines:?}");
        assert_eq!(lines[2..], ["twice: EADDRINUSE", "again: true", "done"]);
    }
}

#[test]
fn a_privileged_port_is_refused_to_ordinary_users() {
    if procs::is_root() {
        return println!("skipped: root may listen everywhere");
    }
    let folder = Folder::new();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).expect("the folder is writable");
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(&closed, read_only).expect("it is ours");
    let path = closed.join("app.sock").display().to_string();
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    let has_privileged = start.trim().parse::<u16>().is_ok_and(|first| first > 1);
    let places: &[&str] = if has_privileged { &[&path, "1"] } else { &[&path] };
    let lines = errors_are_nodes_own("handoff", places);
    println!("{lines:?}");
    assert!(lines[..places.len()].iter().all(|line| line.contains("EACCES")), "{lines:?}");
}
