//! A withdrawn worker finishes what it has in hand; only then it is told to leave.

use super::harness::{Herd, client, clients};
use crate::traffic::Order;
use oxherd_core::{Event, Parting};

#[test]
fn it_is_withdrawn_50_ms_after_its_last_answer() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _clients = clients(address, 0..2);
    herd.settle();
    let (first, second) = (worker.take().unwrap(), worker.take().unwrap());
    herd.order(Order::Withdraw(worker.place.instance));
    worker.answer(&first, true);
    herd.pass(12);
    assert!(!herd.is_withdrawn(&worker));
    worker.answer(&second, true);
    herd.pass(49);
    assert!(!herd.is_withdrawn(&worker));
    herd.pass(1);
    assert!(herd.is_withdrawn(&worker));
}

#[test]
fn where_answers_take_long_the_grace_is_longer_but_bounded() {
    for (delay, grace) in [(30, 120), (5000, 1000)] {
        let mut herd = Herd::new();
        let (mut worker, address) = herd.worker(0);
        let _client = client(address, 0);
        herd.settle();
        let got = worker.take().unwrap();
        herd.order(Order::Withdraw(worker.place.instance));
        herd.pass(delay);
        worker.answer(&got, true);
        herd.pass(grace - 1);
        assert!(!herd.is_withdrawn(&worker), "{delay} ms");
        herd.pass(1);
        assert!(herd.is_withdrawn(&worker), "{delay} ms");
    }
}

#[test]
fn an_old_grace_does_not_end_a_new_one() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _first = client(address, 0);
    herd.settle();
    let got = worker.take().unwrap();
    worker.answer(&got, true);
    herd.settle();
    herd.order(Order::Withdraw(worker.place.instance));
    herd.pass(10);
    herd.order(Order::Admit(worker.place.instance));
    let _second = client(address, 1);
    herd.settle();
    herd.pass(12);
    let got = worker.take().unwrap();
    worker.answer(&got, true);
    herd.settle();
    herd.order(Order::Withdraw(worker.place.instance));
    herd.pass(10);
    assert!(!herd.is_withdrawn(&worker), "10 ms after its last answer");
    herd.pass(40);
    assert!(herd.is_withdrawn(&worker));
}

#[test]
fn it_hears_shutdown_then_disconnect() {
    for (parting, expected) in [(Parting::Object, r#"{"type":"shutdown"}"#), (Parting::Text, r#""shutdown""#)]
    {
        let mut herd = Herd::new();
        let (mut worker, address) = herd.worker(0);
        herd.order(Order::Withdraw(worker.place.instance));
        herd.order(Order::Disconnect(worker.place.instance, parting));
        herd.order(Order::Disconnect(worker.place.instance, parting));
        let heard = worker.hear_all();
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert_eq!(heard[0], expected);
        assert!(heard[1].contains(r#""act":"disconnect""#));
        let _late = client(address, 0);
        herd.settle();
        assert!(worker.hear().is_none());
        // The duplicate of its end is closed, so its leaving is seen.
        worker.end = None;
        herd.settle();
        assert!(herd.fact(|event| matches!(event, Event::ChannelClosed { .. })));
    }
}

#[test]
fn one_that_leaves_by_itself_is_answered_and_gets_nothing() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    worker.say(r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":44}"#);
    herd.settle();
    assert!(worker.hear().unwrap().starts_with(r#"{"cmd":"NODE_CLUSTER","ack":44,"#));
    assert!(herd.fact(|event| matches!(event, Event::Departing { .. })));
    let _client = client(address, 0);
    herd.settle();
    assert!(worker.hear().is_none());
    worker.end = None;
    herd.settle();
    assert!(herd.fact(|event| matches!(event, Event::ChannelClosed { .. })));
}
