//! Workers written with the library under `oxherd run`: reloads under load, figures by the page, reports of panics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oxherd_e2e::http::Client;
use oxherd_e2e::{Address, Builder, Herd, Load, Mark, eventually, http, turn};

const RELOADS: usize = 5;
const CLIENTS: usize = 4;

fn worker() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_sdk_worker").expect("cargo sets it for tests").into()
}

fn herd(args: &[&str]) -> Builder {
    Herd::run(["-i", "2", "--sockets", "channel"], worker()).args(args)
}

/// Short connections and kept ones at the same time; not one request may fail.
fn reloads_lose_nothing(distribution: &str, serialization: &str) {
    let _turn = turn::alone();
    let herd = herd(&["--distribution", distribution, "--serialization", serialization]).start();
    let address = herd.address();
    let short = Load::short(&address, "/", CLIENTS);
    let kept = Load::keep_alive(&address, "/", CLIENTS);
    for _ in 0..RELOADS {
        short.wait_more(100);
        kept.wait_more(100);
        herd.reload();
    }
    kept.wait_more(100);
    let (short, kept) = (short.stop(), kept.stop());
    println!("{distribution}, {RELOADS} reloads: short {short}; kept {kept}");
    herd.stop();
    assert_eq!((short.failed(), kept.failed()), (0, 0), "{distribution}: short {short}; kept {kept}");
    assert!(kept.by_pid.len() > 2, "{distribution}: clients go to the successors: {kept}");
}

#[test]
fn reloads_lose_nothing_by_handoff() {
    reloads_lose_nothing("handoff", "json");
}

#[test]
fn reloads_lose_nothing_with_values_on_the_channel() {
    reloads_lose_nothing("handoff", "advanced");
}

#[test]
fn reloads_lose_nothing_by_the_kernel() {
    reloads_lose_nothing("kernel", "json");
}

#[test]
fn reloads_lose_nothing_with_a_shared_listener() {
    reloads_lose_nothing("shared", "json");
}

/// A connection that is kept, and the worker that serves it.
fn keep(address: &Address) -> (u64, Client) {
    let mut client = Client::connect(address).expect("it listens");
    let answer = client.get("/").expect("it answers").json();
    (answer["pid"].as_u64().expect("it tells its pid"), client)
}

/// Open connections are counted exactly, at their beginning and at their end: nothing is sent for it.
#[test]
fn the_worker_with_fewest_connections_gets_the_next() {
    let herd = herd(&["--strategy", "least-connections"]).start();
    let address = herd.address();
    let mut open: BTreeMap<u64, Vec<Client>> = BTreeMap::new();
    for _ in 0..8 {
        let (pid, client) = keep(&address);
        open.entry(pid).or_default().push(client);
    }
    let counts: Vec<usize> = open.values().map(Vec::len).collect();
    assert_eq!(counts, [4, 4]);

    let freed = *open.keys().next().expect("two serve");
    open.remove(&freed);
    eventually("the worker whose clients left gets the next ones", || {
        let (pid, client) = keep(&address);
        let is_it = pid == freed;
        open.entry(pid).or_default().push(client);
        is_it.then_some(())
    });
    let before = open[&freed].len();
    for _ in 0..2 {
        let (pid, client) = keep(&address);
        open.entry(pid).or_default().push(client);
    }
    assert_eq!(open[&freed].len(), before + 2);
    drop(open);
    herd.stop();
}

#[test]
fn a_panic_is_reported_and_shown() {
    let herd = herd(&[]).start();
    let address = herd.address();
    http::get(&address, "/panic");
    let (line, _) = herd.wait_text(Mark::START, "reports an error: thread 'main' panicked at");
    assert!(line.text.ends_with(": asked to"), "{}", line.text);
    herd.stop();
}

#[test]
fn bad_use_gets_a_clear_error() {
    let port = free_port();
    let herd = herd(&[]).env("TWICE", "1").env("PORT", &port).start();
    let twice = format!("cannot listen on 127.0.0.1:{port}: this worker listens there already");
    herd.wait_text(Mark::START, &twice);
    let taken = Herd::run(["-i", "1", "--sockets", "channel"], worker()).env("PORT", &port).start();
    taken.wait_text(Mark::START, &format!("cannot listen on 127.0.0.1:{port}: address in use"));
    herd.stop();
}

/// A port that nobody has, just now.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port().to_string()
}
