//! Connections that a blocked worker has not read go to another, whatever moment it wakes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Herd, client, clients, newconn_seq};
use crate::traffic::Order;
use crate::traffic::worker::Attention;

const PROBE: &str = r#"{"cmd":"NODE_OXHERD_PROBE"}"#;

#[test]
fn the_idle_one_gets_what_the_blocked_one_left() {
    let mut herd = Herd::new();
    let (mut blocked, address) = herd.worker(0);
    let (mut idle, _) = herd.worker(1);
    let _clients = clients(address, 0..2);
    herd.settle();
    let got = idle.take().unwrap();
    assert_eq!(got.name(), 1);
    idle.answer(&got, true);
    herd.pass(4);
    assert!(idle.take().is_none());
    herd.pass(1);
    let got = idle.take().expect("0 is recalled");
    assert_eq!(got.name(), 0);
    idle.answer(&got, true);
    let _later = clients(address, 2..4);
    herd.settle();
    assert!(idle.take().is_some() && idle.take().is_some(), "a suspect gets nothing");
    assert_eq!(blocked.hear_all(), [PROBE]);
    assert!(blocked.fds.is_empty());
    herd.pass(5);
    let _last = client(address, 9);
    herd.settle();
    assert_eq!(blocked.take().expect("it has read the probe").name(), 9);
}

#[test]
fn nothing_is_recalled_while_nobody_is_idle() {
    let mut herd = Herd::new();
    let (mut blocked, address) = herd.worker(0);
    let (mut busy, _) = herd.worker(1);
    let _clients = clients(address, 0..2);
    herd.settle();
    let _in_hand = busy.take().unwrap();
    herd.pass(100);
    assert_eq!(blocked.take().unwrap().name(), 0);
}

#[test]
fn messages_in_front_are_sent_again_in_order() {
    let mut herd = Herd::new();
    let (mut blocked, address) = herd.worker(0);
    let (mut idle, _) = herd.worker(1);
    let id = blocked.place.instance.worker_id();
    // Words that look like a connection's: only a descriptor makes one.
    let fake = format!(r#"{{"cmd":"NODE_HANDLE","targetWorker":{id},"fromWorker":1,"seq":1,"cmd":1}}"#);
    idle.say(&format!(r#"{{"targetWorker":{id},"n":1,"fromWorker":2}}"#));
    idle.say(&fake);
    idle.say(&format!(r#"{{"targetWorker":{id},"n":2,"fromWorker":2}}"#));
    herd.settle();
    let _client = client(address, 7);
    herd.settle();
    idle.say(&format!(r#"{{"targetWorker":{id},"n":3,"fromWorker":2}}"#));
    herd.settle();
    herd.pass(5);
    assert!(idle.take().is_none(), "a message behind it could not keep its place");
    let heard = blocked.hear_all();
    assert_eq!(heard.len(), 5, "{heard:?}");
    blocked.fds.clear();
    blocked.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    herd.settle();
    let got = idle.take().unwrap();
    idle.answer(&got, true);
    herd.settle();

    for n in 4..6 {
        idle.say(&format!(r#"{{"targetWorker":{id},"n":{n},"fromWorker":2}}"#));
    }
    idle.say(&fake);
    herd.settle();
    let _client = client(address, 8);
    herd.settle();
    herd.pass(5);
    assert_eq!(idle.take().expect("it is recalled").name(), 8);
    let heard = blocked.hear_all();
    let wanted = [r#""n":4"#, r#""n":5"#, r#""seq":1"#];
    let found: Vec<_> = heard.iter().filter(|line| *line != PROBE).collect();
    assert_eq!(found.len(), 3, "{heard:?}");
    assert!(found.iter().zip(wanted).all(|(line, wanted)| line.contains(wanted)), "{heard:?}");
}

#[test]
fn a_withdrawn_one_that_sleeps_is_relieved() {
    let mut herd = Herd::new();
    let (blocked, address) = herd.worker(0);
    let (mut idle, _) = herd.worker(1);
    let _client = client(address, 0);
    herd.settle();
    herd.order(Order::Withdraw(blocked.place.instance));
    herd.pass(5);
    assert_eq!(idle.take().unwrap().name(), 0);
    herd.pass(50);
    assert!(herd.is_withdrawn(&blocked));
}

#[test]
fn whoever_reads_a_connection_has_it_alone() {
    const ROUNDS: u64 = 4000;
    let mut herd = Herd::new();
    let (mut sleepy, address) = herd.worker(0);
    let (mut idle, _) = herd.worker(1);
    let stop = AtomicBool::new(false);
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Reads whenever it happens to run: before, amid and after a recall.
            let mut names = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                if let Some(got) = sleepy.take() {
                    names.push(got.name());
                    sleepy.answer(&got, true);
                }
                std::thread::yield_now();
            }
            names
        });
        let mut held = Vec::new();
        for round in 0..ROUNDS {
            held.push(client(address, round));
            herd.now += 3;
            herd.settle();
            while let Some(got) = idle.take() {
                *times.entry(got.name()).or_default() += 1;
                idle.answer(&got, true);
            }
            if held.len() > 100 {
                held.remove(0);
            }
        }
        herd.until("all are answered", |herd| {
            herd.now += 5;
            while let Some(got) = idle.take() {
                *times.entry(got.name()).or_default() += 1;
                idle.answer(&got, true);
            }
            herd.settle();
            herd.traffic.workers.iter().all(|(_, it)| it.unanswered.is_empty()).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap().into_iter().for_each(|name| *times.entry(name).or_default() += 1);
    });
    assert_eq!(times.len() as u64, ROUNDS, "every client was served");
    assert!(times.values().all(|times| *times == 1), "and by one worker only");
    herd.pass(5);
    herd.pass(5);
    assert!(herd.traffic.workers.iter().all(|(_, it)| it.attention == Attention::Awake || {
        // Its reader has stopped with the probe unread.
        sleepy.hear_all().iter().all(|line| newconn_seq(line).is_none())
    }));
}
