//! Who gets the next connection, by each strategy, with workers that tell of their load in either way.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use oxherd_core::Strategy;
use oxherd_os::SharedWords;
use oxherd_wire::load;

use super::harness::{Got, Herd, Worker, client, in_own_process, open_fds};
use super::keeper::{MemoryStash, succeed};

const ONLINE: &str = r#"{"cmd":"NODE_CLUSTER","act":"online","oxherd":1,"seq":0}"#;

/// The page of a worker of ours, as that one writes it.
pub(super) struct Page {
    words: SharedWords,
    fd: OwnedFd,
}

impl Page {
    fn new() -> Self {
        let (words, fd) = SharedWords::new("page").unwrap();
        let page = Self { words, fd };
        page.set(load::WORD_MAGIC, load::MAGIC);
        page
    }

    pub(super) fn set(&self, word: usize, value: u64) {
        self.words.words()[word].store(value, Ordering::Release);
    }

    fn add(&self, word: usize, value: u64) {
        self.words.words()[word].fetch_add(value, Ordering::AcqRel);
    }
}

fn frame() -> Vec<u8> {
    let mut line = Vec::new();
    oxherd_wire::worker::load(&mut line);
    line
}

/// Sends a descriptor as if it were a page, and awaits that it is acknowledged.
fn send_page(herd: &mut Herd, worker: &mut Worker, fd: impl AsFd) {
    worker.send_fd(&frame(), fd);
    herd.until("an acknowledgement", |_| worker.hear().filter(|line| line.contains("NODE_HANDLE_ACK")));
}

fn await_hello(herd: &mut Herd, worker: &mut Worker) {
    herd.until("a greeting", |_| {
        worker.hear().filter(|line| {
            let mut hello = Vec::new();
            oxherd_wire::hello(&mut hello, 64 << 20);
            format!("{line}\n").as_bytes() == hello
        })
    });
}

pub(super) fn share(herd: &mut Herd, worker: &mut Worker) -> Page {
    worker.say(ONLINE);
    await_hello(herd, worker);
    let page = Page::new();
    send_page(herd, worker, &page.fd);
    page
}

fn herd(strategy: Strategy, weights: &[u32]) -> Herd {
    let mut herd = Herd::without_recall();
    (herd.spec.strategy, herd.spec.weights) = (strategy, weights.to_vec());
    herd
}

fn workers(herd: &mut Herd, count: u32) -> (Vec<Worker>, SocketAddr) {
    let made: Vec<_> = (0..count).map(|slot| herd.worker(slot)).collect();
    let address = made[0].1;
    (made.into_iter().map(|(worker, _)| worker).collect(), address)
}

/// One more client, whose connection somebody takes. Who?
fn next(herd: &mut Herd, workers: &mut [Worker], address: SocketAddr) -> (usize, Got) {
    let before = herd.now;
    let _client = client(address, before);
    herd.until("somebody who takes it", |_| {
        workers.iter_mut().enumerate().find_map(|(at, worker)| worker.take().map(|got| (at, got)))
    })
}

/// The same, answered at once, `count` times over.
fn serve(herd: &mut Herd, workers: &mut [Worker], address: SocketAddr, count: usize) -> Vec<usize> {
    let mut order = Vec::new();
    for _ in 0..count {
        let (at, got) = next(herd, workers, address);
        workers[at].answer(&got, true);
        herd.settle();
        order.push(at);
    }
    order
}

#[test]
fn a_worker_with_requests_in_flight_is_left_alone_while_another_is_idle() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let (mut workers, address) = workers(&mut herd, 3);
    assert_eq!(
        serve(&mut herd, &mut workers, address, 4),
        [0, 1, 2, 0],
        "in turn, as long as nobody reports"
    );
    let pages: Vec<_> = workers.iter_mut().map(|worker| share(&mut herd, worker)).collect();
    pages[1].set(load::WORD_IN_FLIGHT, 1);
    pages[2].set(load::WORD_IN_FLIGHT, 2);
    assert_eq!(serve(&mut herd, &mut workers, address, 3), [0, 0, 0]);
    pages[0].set(load::WORD_IN_FLIGHT, 3);
    assert_eq!(serve(&mut herd, &mut workers, address, 2), [1, 1]);
    pages[0].set(load::WORD_IN_FLIGHT, 1);
    pages[0].set(load::WORD_LAG_US, 70);
    pages[1].set(load::WORD_LAG_US, 80);
    assert_eq!(serve(&mut herd, &mut workers, address, 2), [0, 0]);
}

#[test]
fn what_a_worker_has_not_seen_yet_counts_and_what_it_has_seen_does_not_count_twice() {
    let mut herd = herd(Strategy::LeastConnections, &[]);
    let (mut workers, address) = workers(&mut herd, 2);
    // Served before there was a page: no part of its count.
    serve(&mut herd, &mut workers, address, 6);
    let pages: Vec<_> = workers.iter_mut().map(|worker| share(&mut herd, worker)).collect();
    pages[0].set(load::WORD_SEEN, 10);
    pages[0].set(load::WORD_CLOSED, 8);
    let (at, got) = next(&mut herd, &mut workers, address);
    assert_eq!(at, 1);
    // It has seen it, but not answered: one connection, not two.
    pages[1].add(load::WORD_SEEN, 1);
    let (at, second) = next(&mut herd, &mut workers, address);
    assert_eq!(at, 1, "one is fewer than two");
    pages[1].add(load::WORD_SEEN, 1);
    [got, second].iter().for_each(|got| workers[1].answer(got, true));
    herd.settle();
    // Both have two, and 0 is next in turn.
    let (at, got) = next(&mut herd, &mut workers, address);
    assert_eq!(at, 0);
    workers[0].answer(&got, false);
    pages[1].add(load::WORD_CLOSED, 2);
    herd.settle();
    let (at, got) = next(&mut herd, &mut workers, address);
    assert_eq!(at, 1, "what was refused counts for nobody");
    workers[1].answer(&got, true);
}

#[test]
fn messages_are_corrected_by_what_was_handed_over_since() {
    let mut herd = herd(Strategy::LeastConnections, &[]);
    let (mut workers, address) = workers(&mut herd, 2);
    serve(&mut herd, &mut workers, address, 4);
    workers[0].say(r#"{"type":"stats","stats":{"connections":3}}"#);
    workers[1].say(r#"{"type":"stats","stats":{"connections":0}}"#);
    herd.settle();
    assert_eq!(serve(&mut herd, &mut workers, address, 6), [1, 1, 1, 0, 1, 0]);
    workers[0].say(r#"{"type":"request","connections":9}"#);
    workers[0].say(r#"{"type":"stats","stats":{"requests":1}}"#);
    herd.settle();
    assert_eq!(serve(&mut herd, &mut workers, address, 4), [1; 4], "what is not told stays as it was");
}

#[test]
fn what_was_in_flight_long_ago_says_nothing() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let (mut workers, address) = workers(&mut herd, 2);
    workers[0].say(r#"{"type":"stats","stats":{"inFlight":1}}"#);
    herd.settle();
    assert_eq!(serve(&mut herd, &mut workers, address, 3), [1, 1, 1]);
    herd.pass(1000);
    assert_eq!(serve(&mut herd, &mut workers, address, 3), [0, 1, 0]);
}

#[test]
fn weights_are_kept_though_connections_come_back() {
    let mut herd = herd(Strategy::Weighted, &[3, 1]);
    let (mut workers, address) = workers(&mut herd, 2);
    for expected in [0, 0, 1, 0, 0, 0, 1, 0] {
        let (at, got) = next(&mut herd, &mut workers, address);
        assert_eq!(at, expected);
        // Refused, it is offered again, to the same one first: it is still owed one.
        workers[at].answer(&got, false);
        herd.settle();
        let got = herd.until("the same again", |_| workers[expected].take());
        workers[expected].answer(&got, true);
        herd.settle();
    }
}

#[test]
fn a_slot_keeps_its_weight_when_its_worker_is_replaced() {
    let mut herd = herd(Strategy::Weighted, &[1, 3]);
    let (mut workers, address) = workers(&mut herd, 2);
    let (successor, _) = herd.worker(1);
    let mut gone = std::mem::replace(&mut workers[1], successor);
    herd.bury(&mut gone);
    let order = serve(&mut herd, &mut workers, address, 40);
    assert_eq!(order.iter().filter(|at| **at == 1).count(), 30);
}

#[test]
fn chance_leaves_nobody_out_and_prefers_the_less_busy() {
    let mut herd = herd(Strategy::Random, &[]);
    let (mut workers, address) = workers(&mut herd, 3);
    let order = serve(&mut herd, &mut workers, address, 60);
    assert!((0..3).all(|at| order.contains(&at)), "{order:?}");
    let page = share(&mut herd, &mut workers[2]);
    page.set(load::WORD_IN_FLIGHT, 5);
    let order = serve(&mut herd, &mut workers, address, 30);
    assert!(!order.contains(&2) && order.contains(&0) && order.contains(&1), "{order:?}");
}

#[test]
fn the_strategy_is_that_of_the_youngest_generation() {
    let mut herd = herd(Strategy::RoundRobin, &[]);
    let (mut workers, address) = workers(&mut herd, 2);
    let pages: Vec<_> = workers.iter_mut().map(|worker| share(&mut herd, worker)).collect();
    pages[0].set(load::WORD_IN_FLIGHT, 4);
    assert_eq!(serve(&mut herd, &mut workers, address, 4), [0, 1, 0, 1], "no load is looked at");
    herd.spec.strategy = Strategy::LeastBusy;
    let (third, _) = herd.worker(2);
    workers.push(third);
    assert_eq!(serve(&mut herd, &mut workers, address, 4), [2, 1, 2, 1]);
}

#[test]
fn figures_that_cannot_be_true_do_no_harm() {
    for strategy in [Strategy::LeastBusy, Strategy::LeastConnections, Strategy::Random] {
        let mut herd = herd(strategy, &[]);
        let (mut workers, address) = workers(&mut herd, 2);
        let liar = share(&mut herd, &mut workers[0]);
        for word in load::WORD_SEEN..load::WORD_LATENCY {
            liar.set(word, u64::MAX);
        }
        workers[1].say(r#"{"type":"stats","stats":{"connections":18446744073709551615,"inFlight":18446744073709551615}}"#);
        herd.settle();
        assert_eq!(serve(&mut herd, &mut workers, address, 8).len(), 8);
        liar.set(load::WORD_SEEN, 0);
        let order = serve(&mut herd, &mut workers, address, 8);
        assert!(!herd.is_condemned(&workers[0]), "{strategy} {order:?}");
    }
}

#[test]
fn what_is_no_page_is_acknowledged_and_closed() {
    if !in_own_process() {
        return;
    }
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let (mut workers, address) = workers(&mut herd, 2);
    let before = open_fds();
    let (blank, unmarked) = SharedWords::new("blank").unwrap();
    let short = oxherd_os::memfd::memfd("short", b"page").unwrap();
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    let socket = OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
    for fd in [unmarked, short, null, socket] {
        workers[0].say(ONLINE);
        await_hello(&mut herd, &mut workers[0]);
        send_page(&mut herd, &mut workers[0], &fd);
        herd.pass(1000);
    }
    // One that nobody asked for, from a worker that did not say that it is one of ours.
    let page = Page::new();
    page.set(load::WORD_IN_FLIGHT, 9);
    send_page(&mut herd, &mut workers[1], &page.fd);
    drop((blank, page));
    assert_eq!(open_fds(), before);
    assert!(workers.iter().all(|worker| !herd.is_condemned(worker) && worker.counters.page().is_none()));
    assert_eq!(serve(&mut herd, &mut workers, address, 4), [0, 1, 0, 1]);
    assert_eq!(workers[0].hear_all(), [""; 0], "one greeting for each word of it");
}

#[test]
fn a_page_without_its_descriptor_is_refused_and_may_come_again() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let mut worker = herd.attach(0);
    worker.say(ONLINE);
    await_hello(&mut herd, &mut worker);
    worker.write(&frame());
    herd.until("a refusal", |_| worker.hear().filter(|line| line.contains("NODE_HANDLE_NACK")));
    let page = Page::new();
    send_page(&mut herd, &mut worker, &page.fd);
    page.set(load::WORD_REQUESTS, 7);
    assert_eq!(worker.counters.all_requests(), Some(7));
}

#[test]
fn a_greeting_is_not_repeated_at_will_and_a_later_page_replaces_the_first() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let mut worker = herd.attach(0);
    let first = share(&mut herd, &mut worker);
    first.set(load::WORD_ERRORS, 1);
    for _ in 0..5 {
        worker.say(ONLINE);
    }
    herd.settle();
    assert_eq!(worker.hear_all(), [""; 0]);
    let unasked = Page::new();
    send_page(&mut herd, &mut worker, &unasked.fd);
    assert_eq!(worker.counters.all_errors(), Some(1));
    herd.pass(1000);
    let second = share(&mut herd, &mut worker);
    second.set(load::WORD_ERRORS, 2);
    assert_eq!(worker.counters.all_errors(), Some(2));
}

#[test]
fn a_nodes_online_is_not_answered() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let mut worker = herd.attach(0);
    worker.say(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
    herd.settle();
    assert_eq!(worker.hear_all(), [""; 0]);
}

#[test]
fn figures_of_the_page_and_of_messages_are_one() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let mut worker = herd.attach(0);
    worker.say(r#"{"type":"metrics","data":{"requests":9,"errors":1}}"#);
    worker.say(r#"{"type":"stats","stats":{"connections":8}}"#);
    worker.say(r#"{"type":"error","error":"x"}"#);
    herd.settle();
    let counters = std::sync::Arc::clone(&worker.counters);
    let figures = || (counters.all_requests(), counters.all_errors(), counters.open_connections());
    assert_eq!(figures(), (Some(9), Some(2), Some(8)));
    let page = share(&mut herd, &mut worker);
    assert_eq!(figures(), (Some(9), Some(2), Some(0)), "what it counts in its own way stays");
    page.set(load::WORD_REQUESTS, 12);
    page.set(load::WORD_ERRORS, 3);
    page.set(load::WORD_OPEN, 2);
    assert_eq!(figures(), (Some(12), Some(4), Some(2)));
    herd.bury(&mut worker);
    assert_eq!(figures(), (Some(12), Some(4), Some(2)), "after its death, too");
}

#[test]
fn another_primary_goes_on_with_the_figures() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    old.spec.strategy = Strategy::LeastConnections;
    let (mut workers, address) = workers(&mut old, 2);
    let pages: Vec<_> = workers.iter_mut().map(|worker| share(&mut old, worker)).collect();
    // Each holds two that the old primary has handed over; of a third, unread, the page does not know yet.
    for page in &pages {
        page.set(load::WORD_SEEN, 2);
    }
    workers[1].say(r#"{"type":"stats","stats":{"connections":50}}"#);
    old.settle();
    let heirs: Vec<&Worker> = workers.iter().collect();
    let mut herd = succeed(old, &stash, &heirs);
    for worker in &mut workers {
        let fence = herd.until("a fence", |_| worker.take());
        worker.answer(&fence, false);
        await_hello(&mut herd, worker);
    }
    let (at, got) = next(&mut herd, &mut workers, address);
    pages[at].add(load::WORD_SEEN, 1);
    // The page comes again while a connection is unanswered that it has counted.
    send_page(&mut herd, &mut workers[at], &pages[at].fd);
    let (second, other) = next(&mut herd, &mut workers, address);
    assert_ne!(at, second, "three are more than two");
    pages[second].add(load::WORD_SEEN, 1);
    workers[at].answer(&got, true);
    workers[second].answer(&other, true);
    herd.settle();
    pages[second].set(load::WORD_CLOSED, 1);
    let (third, _got) = next(&mut herd, &mut workers, address);
    assert_eq!(third, second, "two are fewer than three");
}

#[test]
fn what_messages_told_is_known_to_the_next_primary() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    old.spec.strategy = Strategy::LeastConnections;
    let (mut workers, address) = workers(&mut old, 2);
    workers[0].say(r#"{"type":"stats","stats":{"connections":2}}"#);
    old.settle();
    let heirs: Vec<&Worker> = workers.iter().collect();
    let mut herd = succeed(old, &stash, &heirs);
    for worker in &mut workers {
        let fence = herd.until("a fence", |_| worker.take());
        worker.answer(&fence, false);
        herd.settle();
    }
    assert_eq!(serve(&mut herd, &mut workers, address, 3), [1; 3]);
}
