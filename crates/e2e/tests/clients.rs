//! Long connections and unusual clients: slow readers, refused connections, WebSockets, workers that leave.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use oxherd_e2e::http::{self, Client};
use oxherd_e2e::{Address, DEADLINE, Event, Failure, Herd, Mark, procs, turn};

const BIG_BYTES: usize = 32 << 20;

#[test]
fn a_slow_reader_gets_all_of_its_answer_through_a_reload() {
    let herd = Herd::of("big.js").workers(2).start();
    let address = herd.address();
    let mut client = Client::connect(&address).expect("it accepts");
    client.send("GET", "/big", "Connection: close\r\n", b"").expect("it is sent");
    let mut stream = client.into_stream();
    let mut head = [0; 64 << 10];
    stream.read_exact(&mut head).expect("the answer begins");
    // The worker cannot be through with it: so much does not fit into the buffers between.
    let before = herd.wait_count(2);
    let mark = herd.mark();
    herd.signal(rustix::process::Signal::HUP);
    herd.wait_event(mark, Event::AskedToFinish);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the answer goes on");
    let header = head.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a header ends") + 4;
    assert_eq!(head.len() - header + rest.len(), BIG_BYTES);
    herd.wait_line(mark, DEADLINE, "the end of the reload", |line| line.text.starts_with("Reload is done"));
    assert!(herd.wait_count(2).iter().all(|pid| !before.contains(pid)));
    herd.stop();
}

#[test]
fn connections_that_all_workers_refuse_wait_without_a_spin() {
    let _turn = turn::alone();
    let herd = Herd::of("one-each.js").workers(2).start();
    let address = herd.address();
    let mut holders: Vec<Client> = (0..2).map(|_| Client::connect(&address).expect("it accepts")).collect();
    let pids: BTreeSet<_> =
        holders.iter_mut().map(|it| it.get("/").expect("it answers").json()["pid"].as_u64()).collect();
    assert_eq!(pids.len(), 2, "each worker has one");

    let waited = Duration::from_secs(1);
    let mut third = Client::connect_within(&address, waited).expect("the kernel accepts");
    let cpu = procs::cpu_time(herd.pid());
    assert_eq!(third.get("/").map(|it| it.status), Err(Failure::Timeout), "nobody has room");
    let used = procs::cpu_time(herd.pid()) - cpu;
    println!("the primary used {used:?} of CPU while a connection was refused for {waited:?}");
    assert!(used < waited / 5, "{used:?}");

    // The request lies there already; somebody answers when there is room.
    drop(holders.pop());
    assert_eq!(third.receive("GET").expect("it is served in the end").status, 200);
    drop((holders, third));
    herd.stop();
}

/// A client's frame with a short text: final, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn upgrade(address: &Address) -> Client {
    let mut client = Client::connect(address).expect("it accepts");
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = client.request("GET", "/", fields, b"").expect("it answers");
    assert_eq!(answer.status, 101);
    client
}

#[test]
fn websockets_work_and_drain_by_the_drain_timeout() {
    let drain = Duration::from_secs(1);
    let herd = Herd::of("websocket.js").workers(2).args(["--drain-timeout", "1s"]).start();
    let address = herd.address();
    let mut streams: Vec<_> = (0..4).map(|_| upgrade(&address).into_stream()).collect();
    let mut talk = |word: &str| {
        let talked = streams.iter_mut().map(|stream| {
            stream.get_mut().write_all(&frame(word)).expect("it is sent");
            let mut head = [0; 2];
            stream.read_exact(&mut head).expect("it is answered");
            let mut text = vec![0; usize::from(head[1])];
            stream.read_exact(&mut text).expect("it is answered");
            let text = String::from_utf8(text).expect("it is text");
            let (pid, rest) = text.split_once(' ').expect("a pid and words");
            assert_eq!(rest, format!("heard {word}"));
            pid.parse::<u32>().expect("a pid")
        });
        talked.collect::<BTreeSet<u32>>()
    };
    let old = talk("one");
    assert_eq!(old.len(), 2);

    let mark = herd.mark();
    let started = Instant::now();
    herd.signal(rustix::process::Signal::HUP);
    let (first, _) = herd.wait_event(mark, Event::AskedToFinish);
    assert_eq!(talk("two"), old, "they go on while their worker drains: {first:?}");
    herd.wait_line(mark, DEADLINE, "the end of the reload", |line| line.text.starts_with("Reload is done"));
    assert!(started.elapsed() >= 2 * drain, "two slots in turn, each by its timeout");
    for mut stream in streams {
        let mut rest = Vec::new();
        // Both ways are an end: the process that had it is gone.
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok_and(|count| count == 0), "it ends");
    }
    herd.pids_that_answer(&address, 2);

    let _open = upgrade(&address);
    let started = Instant::now();
    herd.stop();
    let took = started.elapsed();
    assert!(took >= drain && took < 3 * drain, "the stop took {took:?}");
}

#[test]
fn workers_that_leave_by_themselves_are_replaced() {
    let herd = Herd::of("leaving.js").workers(2).start();
    let address = herd.address();
    herd.wait_count(2);
    // A worker that only closes its channel is ended by Node itself, with nobody's blessing.
    let ways =
        [("/worker-disconnect", "true"), ("/worker-kill", "true"), ("/process-disconnect", "undefined")];
    for (path, wanted) in ways {
        let mark = herd.mark();
        let pid = http::get(&address, path).json()["pid"].as_u64().expect("it tells") as u32;
        herd.wait_text(mark, &format!("{pid} exits with 0, wanted: {wanted}"));
        let (ended, mark) = herd.wait_event(mark, Event::Ended);
        assert_eq!(
            (ended.pid, ended.what.starts_with("ended with code 0")),
            (pid, true),
            "{path}: {ended:?}"
        );
        let (next, _) = herd.wait_event(mark, Event::Ready);
        assert_eq!(next.slot, ended.slot);
        let answering = herd.pids_that_answer(&address, 2);
        assert!(!answering.contains(&pid) && answering.contains(&next.pid));
    }
    herd.stop();
}

#[test]
fn workers_know_that_they_were_asked_to_leave() {
    let herd = Herd::of("leaving.js").workers(2).start();
    let address = herd.address();
    assert_eq!(http::get(&address, "/").json()["connected"], true);
    let pids = herd.wait_count(2);
    herd.reload();
    for pid in pids {
        herd.wait_text(Mark::START, &format!("{pid} exits with 0, wanted: true"));
    }
    herd.stop();
}
