//! How connections and messages reach workers.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_e2e::http::{self, Client};
use oxherd_e2e::{Address, Home, eventually, places, ports};
use serde_json::{Value, json};

use crate::stand::{Case, LISTEN, Seen, case, environment, listening, observe_in};

pub(crate) fn cases() -> Vec<Case> {
    [spread(), sockets(), channel()].into_iter().flatten().collect()
}

#[test]
fn connections_and_messages_come_as_the_app_says() {
    let home = Home::new();
    observe_in(home, &cases());
}

/// Which slots answered, and how often.
fn shares(seen: &Seen<'_>, count: usize) -> BTreeMap<u64, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(seen.ask("/")["slot"].as_u64().expect("a slot")).or_default() += 1;
    }
    shares
}

/// Forty requests, of which each of two slots gets about so many. A worker that the machine leaves waiting gets fewer, so that
/// some rounds may be needed.
fn assert_shares(seen: &Seen<'_>, wanted: [usize; 2]) {
    const SLACK: usize = 4;
    seen.pids(2);
    eventually(&format!("shares of {wanted:?} of {}", seen.app), || {
        let shares = shares(seen, 40);
        let last = [0, 1].map(|slot| shares.get(&slot).copied().unwrap_or(0));
        let is_near = last.iter().zip(wanted).all(|(got, wanted)| got.abs_diff(wanted) <= SLACK);
        println!("{}: {last:?}", seen.app);
        is_near.then_some(())
    });
}

/// One of two workers tells that it has a request in hand: its slot, and the client that waits.
fn busy(seen: &Seen<'_>) -> (u64, Client) {
    seen.pids(2);
    let client = seen.ask_in_vain("/never");
    let told = seen.wait_notes("in hand of slot ", 1);
    (told[0].parse().expect("a slot"), client)
}

/// The listening sockets of both workers.
fn both(seen: &Seen<'_>) -> [BTreeSet<String>; 2] {
    let pids = seen.pids(2);
    [listening(pids[0]), listening(pids[1])]
}

fn spread() -> Vec<Case> {
    vec![
        case(&["distribution"], json!({"distribution": "handoff", "instances": 2}), |seen| {
            assert!(both(seen).iter().all(BTreeSet::is_empty), "the daemon has the listener");
        }),
        case(&["distribution"], json!({"distribution": "kernel", "instances": 2}), |seen| {
            let [one, other] = both(seen);
            assert!(one.len() == 1 && other.len() == 1 && one != other, "one each: {one:?} {other:?}");
        }),
        case(&["distribution"], json!({"distribution": "shared", "instances": 2}), |seen| {
            let [one, other] = both(seen);
            assert!(one.len() == 1 && one == other, "one for both: {one:?} {other:?}");
        }),
        case(
            &["strategy", "weights"],
            json!({"strategy": "weighted", "weights": "1,3", "instances": 2}),
            |seen| {
                seen.pids(2);
                assert_shares(seen, [10, 30]);
            },
        ),
        case(&["strategy"], json!({"strategy": "round-robin", "instances": 2}), |seen| {
            let (busy, client) = busy(seen);
            assert_shares(seen, [20, 20]);
            drop((busy, client));
        }),
        case(&["strategy"], json!({"strategy": "least-busy", "instances": 2}), |seen| {
            let (busy, client) = busy(seen);
            assert_shares(seen, if busy == 0 { [0, 40] } else { [40, 0] });
            drop(client);
        }),
        case(
            &["strategy"],
            json!({"strategy": "sticky", "distribution": "kernel", "instances": 2}),
            |seen| {
                seen.pids(2);
                assert_eq!(shares(seen, 20).len(), 1, "one client, one worker");
            },
        ),
    ]
}

/// A program that binds two ports of its own choice, from its arguments.
const TWO_PORTS: &str = "\
import socket, sys, time
servers = []
for port in sys.argv[1:]:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(('127.0.0.1', int(port)))
    server.listen()
    servers.append(server)
time.sleep(1000)
";

fn sockets() -> Vec<Case> {
    let (lent, own) = (ports::free(), ports::free());
    let python = places::python();
    vec![
        case(&["sockets"], json!({"sockets": "channel"}), |seen| {
            assert!(environment(seen.pid()).contains_key("NODE_CHANNEL_FD"));
        }),
        case(&["sockets"], json!({"sockets": "none"}), |seen| {
            seen.wait_notes("listens", 1);
            let pid = seen.pid();
            assert!(!environment(pid).contains_key("NODE_CHANNEL_FD"));
            assert_eq!(listening(pid).len(), 1, "it has its own");
            assert!(seen.view()["slots"][0]["workers"][0]["addresses"].as_array().is_some_and(Vec::is_empty));
        }),
        case(
            &["sockets"],
            json!({"sockets": "universal", "instances": 2, "env": {"PORT": ports::free()}}),
            |seen| {
                let pids = seen.pids(2);
                assert!(!environment(pids[0]).contains_key("NODE_CHANNEL_FD"));
                let mut answered = BTreeSet::new();
                eventually("both answer at one port", || {
                    answered.insert(seen.ask("/")["pid"].as_u64()? as u32);
                    (answered.len() == 2).then_some(())
                });
                assert_eq!(answered, pids.into_iter().collect());
            },
        ),
        case(
            &["ports"],
            json!({
                "ports": [lent, "1-2"], "sockets": "universal", "script": "python3", "interpreter": "none",
                "args": ["-c", TWO_PORTS, lent, own],
            }),
            |seen| {
                seen.pid();
                let view = seen.view();
                let addresses = view["slots"][0]["workers"][0]["addresses"].as_array().cloned();
                let words = crate::stand::command_line(seen.pid());
                let lent = format!("127.0.0.1:{}", words[words.len() - 2]);
                assert_eq!(addresses, Some(vec![Value::from(lent)]), "the other is its own");
            },
        ),
        case(
            &["listen"],
            json!({
                "listen": {"web": "$FOLDER/web.sock", "admin": "$FOLDER/admin.sock"}, "sockets": "listen-fds",
                "script": python, "interpreter": "none", "args": ["-c", "
import os, socket
names = os.environ['LISTEN_FDNAMES'].split(':')
server = socket.socket(fileno=3 + names.index('web'))
while True:
    client, _ = server.accept()
    client.recv(1000)
    body = ' '.join(sorted(names)).encode()
    client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)
    client.close()
"],
            }),
            |seen| {
                seen.pid();
                let at = Address::Unix(seen.folder().join("web.sock"));
                let names = Client::connect(&at).and_then(|mut it| it.get("/")).expect("an answer").text();
                assert_eq!(names, "admin web");
            },
        ),
    ]
}

fn channel() -> Vec<Case> {
    vec![
        case(&["serialization"], json!({"serialization": "advanced"}), |seen| {
            assert_eq!(environment(seen.pid())["NODE_CHANNEL_SERIALIZATION_MODE"], "advanced");
            seen.ask("/errors");
            eventually("its message is understood", || (seen.view()["errors"] == 1).then_some(()));
        }),
        case(&["handoff_window"], json!({"handoff_window": 5}), |seen| {
            seen.pid();
            seen.ask("/block");
            // More than it may leave unanswered: it reads nothing any more.
            let address = seen.home.address(&seen.app);
            let clients: Vec<Client> =
                (0..20).map(|_| Client::connect(&address).expect("the kernel has room")).collect();
            eventually("five are accepted, and no more", || (queued(&address) == 20 - 5).then_some(()));
            drop(clients);
        }),
        case(&["max_message"], json!({"max_message": "64K"}), |seen| {
            let pid = seen.pid();
            seen.ask("/large?kib=32");
            assert_eq!(seen.pid(), pid, "short enough");
            drop(http::try_once(&seen.home.address(&seen.app), "GET", "/large?kib=80", "", b""));
            seen.wait_replaced(pid);
        }),
    ]
}

/// How many connections wait in the kernel at an address (`proc(5)`, `/proc/net/tcp`: of a listener, the receive queue).
fn queued(address: &Address) -> u64 {
    let at = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("it is readable");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = rows.filter(|row| row.len() > 4 && row[3] == LISTEN && row[1].ends_with(&at));
    let row = found.next().expect("somebody listens");
    let (_, waiting) = row[4].split_once(':').expect("two queues");
    u64::from_str_radix(waiting, 16).expect("a number")
}
