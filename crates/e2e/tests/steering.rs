//! The strategies of the `kernel` distribution, with real workers: who gets what, and who is served all the same.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use oxherd_e2e::{Address, Builder, Event, Herd, Load, eventually, places, procs, turn};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::Signal;
use serde_json::Value;

fn kernel(workers: u32, strategy: &str) -> Builder {
    Herd::of("app.js").workers(workers).args(["--distribution", "kernel", "--strategy", strategy])
}

/// The slot that answers a client with this address.
fn slot_for(source: u8, address: &Address) -> u64 {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0));
    bind(&client, &from).expect("the loopback has all of 127.0.0.0/8");
    connect(&client, &SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))).expect("somebody listens");
    let mut client = TcpStream::from(client);
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it is answered");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let body: Value = serde_json::from_str(body).expect("the answer is JSON");
    body["slot"].as_str().and_then(|slot| slot.parse().ok()).expect("it tells the slot")
}

fn slots_for_all(address: &Address) -> BTreeMap<u8, u64> {
    (1..=60).map(|source| (source, slot_for(source, address))).collect()
}

#[test]
fn weights_hold_over_ten_thousand_connections() {
    let _turn = turn::alone();
    let herd = kernel(3, "weighted").args(["--weights", "10,30,60"]).start();
    let address = herd.address();
    let pids = herd.wait_count(3);
    // That all serve is said a moment before the last one is given connections.
    herd.pids_that_answer(&address, 3);
    let load = Load::short(&address, "/", 4);
    load.wait_more(10_000);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    let percent = |pid: &u32| tally.by_pid.get(pid).copied().unwrap_or(0) as f64 * 100.0 / tally.ok as f64;
    let shares: Vec<f64> = pids.iter().map(percent).collect();
    println!("weights 10/30/60 gave {shares:.1?} % of {}", tally.ok);
    assert!(shares.iter().zip([10.0, 30.0, 60.0]).all(|(share, weight)| (share - weight).abs() <= 3.0));
    herd.stop();
}

#[test]
fn an_address_keeps_its_slot_through_crash_reload_and_scaling() {
    let herd = kernel(3, "sticky").start();
    let address = herd.address();
    herd.pids_that_answer(&address, 1);
    // The last one may be given its share a moment later than it is told.
    let before = eventually("three slots", || {
        let slots = slots_for_all(&address);
        (0..3).all(|slot| slots.values().any(|it| *it == slot)).then_some(slots)
    });
    assert_eq!(slots_for_all(&address), before, "the same again");

    let mark = herd.mark();
    procs::kill(herd.serving()[&1], Signal::KILL);
    herd.wait_event(mark, Event::Ready);
    eventually("the replacement has its addresses", || (slots_for_all(&address) == before).then_some(()));

    herd.reload();
    assert_eq!(slots_for_all(&address), before, "a reload moves nobody");

    herd.signal(Signal::TTIN);
    herd.wait_count(4);
    let after = eventually("a fourth slot", || {
        let slots = slots_for_all(&address);
        slots.values().any(|slot| *slot == 3).then_some(slots)
    });
    let moved = before.iter().filter(|(source, slot)| after[source] != **slot).count();
    assert!(before.iter().all(|(source, slot)| after[source] == *slot || after[source] == 3));
    assert!((4..32).contains(&moved), "{moved} of 60 moved to a fourth slot");
    herd.stop();
}

/// In a network of its own, where every port is free, and where no other packet comes by.
fn in_own_network(builder: Builder) -> Herd {
    let script = "ip link set lo up && exec \"$@\"";
    builder
        .env("ADDRESS", "0.0.0.0")
        .env("PORT", "8080")
        .under(["unshare", "--net", "sh", "-c", script, "sh"])
        .start()
}

/// Handshakes begin, workers go, and only then the handshakes end.
fn late_handshakes_are_served(sockets: &str, change: impl Fn(&Herd, &[u32]) -> Vec<u32>) {
    const CLIENTS: usize = 20;
    let lacks = ["unshare", "nsenter", "ip", "python3"].into_iter().find(|it| !procs::is_on_path(it));
    if let Some(lacks) = lacks {
        return println!("skipped: there is no {lacks}");
    }
    if !procs::is_root() || !Path::new("/dev/net/tun").exists() {
        return println!("skipped: a TUN device needs root and /dev/net/tun");
    }
    let herd = in_own_network(kernel(2, "random").args(["--sockets", sockets]));
    let port = herd.address().port();
    let old = herd.wait_count(2);
    let mut client = Command::new("nsenter")
        .args(["--net", "--target", &herd.pid().to_string(), "--"])
        .arg(places::python())
        .arg(places::fixture("late_client.py"))
        .args([port.to_string(), CLIENTS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut told = BufReader::new(client.stdout.take().expect("it is piped")).lines();
    let mut next = || told.next().expect("it tells").expect("it tells in lines");
    assert_eq!(next(), "half-open");
    let gone = change(&herd, &old);
    for pid in &gone {
        eventually("those who were to go are gone", || (!procs::is_alive(*pid)).then_some(()));
    }
    client.stdin.take().expect("it is piped").write_all(b"go\n").expect("it listens");
    let result: Value = serde_json::from_str(&next()).expect("it tells JSON");
    eventually("the client's end", || client.try_wait().expect("it is our child"));
    let pids: Vec<u32> = result["pids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pid| Some(pid.as_u64()? as u32))
        .collect();
    println!(
        "{sockets}: {CLIENTS} handshakes that ended after the switch: {} served, {}",
        pids.len(),
        result["ends"]
    );
    assert_eq!(pids.len(), CLIENTS, "{result}");
    assert!(pids.iter().all(|pid| !gone.contains(pid)));
    herd.stop();
}

fn reload(herd: &Herd, all: &[u32]) -> Vec<u32> {
    herd.reload();
    all.to_vec()
}

fn scale_down(herd: &Herd, all: &[u32]) -> Vec<u32> {
    herd.signal(Signal::TTOU);
    let left = herd.wait_count(1);
    all.iter().copied().filter(|pid| !left.contains(pid)).collect()
}

#[test]
fn handshakes_that_end_after_the_switch_are_served() {
    late_handshakes_are_served("channel", reload);
}

#[test]
fn handshakes_that_end_after_the_switch_are_served_by_programs_that_know_nothing() {
    late_handshakes_are_served("universal", reload);
}

#[test]
fn handshakes_that_end_after_scaling_down_are_served() {
    late_handshakes_are_served("channel", scale_down);
    late_handshakes_are_served("universal", scale_down);
}
