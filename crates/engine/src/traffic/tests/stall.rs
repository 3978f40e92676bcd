//! A worker that does not look at its channel is told of once, and so is its return.

use super::harness::{Herd, Worker, client};
use crate::traffic::Order;
use oxherd_core::Event;

fn stalls(herd: &Herd) -> (usize, usize) {
    let stalled = herd.count_facts(|event| matches!(event, Event::Stalled { .. }));
    (stalled, herd.count_facts(|event| matches!(event, Event::Resumed { .. })))
}

/// Messages to `worker` until its channel is full.
fn fill(herd: &mut Herd, from: &mut Worker, worker: &Worker) {
    let id = worker.place.instance.worker_id();
    let text = "x".repeat(16 << 10);
    for _ in 0..200 {
        from.say(&format!(r#"{{"targetWorker":{id},"text":"{text}"}}"#));
        herd.settle();
    }
}

#[test]
fn silent_for_5_s() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _client = client(address, 0);
    herd.settle();
    let got = worker.take().unwrap();
    herd.pass(4999);
    assert_eq!(stalls(&herd), (0, 0));
    herd.pass(1);
    assert_eq!(stalls(&herd), (1, 0));
    herd.order(Order::Withdraw(worker.place.instance));
    herd.pass(60_000);
    assert_eq!(stalls(&herd), (1, 0));
    worker.answer(&got, true);
    herd.settle();
    assert_eq!(stalls(&herd), (1, 1));
}

#[test]
fn each_connection_has_its_own_5_s() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    for _ in 0..10 {
        let _client = client(address, 0);
        herd.settle();
        let got = worker.take().unwrap();
        herd.pass(3000);
        worker.answer(&got, true);
        herd.settle();
    }
    assert_eq!(stalls(&herd), (0, 0));
}

#[test]
fn one_timer_per_worker_however_many_connections() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    for name in 0..100 {
        let _client = client(address, name);
        herd.pass(1);
        let got = worker.take().unwrap();
        worker.answer(&got, true);
        herd.pass(1);
    }
    assert!(herd.traffic.timers.len() <= 3, "{}", herd.traffic.timers.len());
}

#[test]
fn a_full_channel_for_2_s_even_of_one_that_is_not_ready() {
    let mut herd = Herd::new();
    let (mut chatty, _) = herd.worker(0);
    let mut booting = herd.attach(1);
    fill(&mut herd, &mut chatty, &booting);
    herd.pass(1999);
    assert_eq!(stalls(&herd), (0, 0));
    herd.pass(1);
    assert_eq!(stalls(&herd), (1, 0));
    herd.until("it reads", |herd| {
        booting.hear_all();
        (stalls(herd) == (1, 1)).then_some(())
    });
}

#[test]
fn a_full_channel_for_a_moment_is_nothing() {
    let mut herd = Herd::new();
    let (mut chatty, address) = herd.worker(0);
    let mut busy = herd.attach(1);
    busy.listen(&mut herd, 0);
    herd.order(Order::Admit(busy.place.instance));
    let _clients = (client(address, 0), client(address, 1));
    herd.settle();
    let got = busy.take().unwrap();
    herd.pass(4900);
    busy.answer(&got, true);
    fill(&mut herd, &mut chatty, &busy);
    herd.pass(100);
    assert_eq!(stalls(&herd).0, 1, "only the other one, which was silent for 5 s");
    while !busy.hear_all().is_empty() {
        herd.settle();
    }
}

#[test]
fn a_recalled_one_that_stays_asleep() {
    let mut herd = Herd::new();
    let (mut asleep, address) = herd.worker(0);
    let (mut idle, _) = herd.worker(1);
    let _client = client(address, 0);
    herd.pass(5);
    assert_eq!(idle.take().expect("it was recalled").name(), 0);
    herd.pass(5000);
    assert_eq!(
        herd.count_facts(
            |event| matches!(event, Event::Stalled { instance } if *instance == asleep.place.instance)
        ),
        1
    );
    asleep.hear_all();
    herd.pass(5);
    assert_eq!(stalls(&herd).1, 1);
}
