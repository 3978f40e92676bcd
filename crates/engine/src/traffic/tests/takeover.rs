//! Another primary goes on: with the listeners, with the workers once they have answered for what they owe, and
//! with the connections that nobody has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use oxherd_core::{Event, Parting, Slot};

use super::harness::{APP, Herd, Worker, client, clients, key_of, label_of};
use super::keeper::{MemoryStash, succeed};
use crate::traffic::Order;
use crate::traffic::lifecycle::HANDSHAKE_GRACE_MS;

/// The worker reads its fence, and everything before, and refuses it as Node does.
fn refuse_fence(herd: &mut Herd, worker: &mut Worker) {
    let fence = herd.until("a fence", |_| worker.take());
    worker.answer(&fence, false);
    herd.settle();
}

#[test]
fn a_worker_is_given_nothing_until_it_has_answered_for_what_it_owed() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, address) = old.worker(0);
    let mut herd = succeed(old, &stash, &[&worker]);
    let _client = client(address, 7);
    herd.settle();
    let fence = worker.take().unwrap();
    assert!(worker.take().is_none());
    worker.answer(&fence, false);
    herd.settle();
    let got = worker.take().unwrap();
    assert_eq!(got.name(), 7);
    assert!(got.seq >= 1 << 32, "its number is none of the old primary's");
}

#[test]
fn connections_that_nobody_has_go_to_others() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, address) = old.worker(0);
    let _clients = clients(address, 0..2);
    old.settle();
    // The first was refused, and nobody heard of it; the second was answered.
    let first = worker.take().unwrap();
    let mut second = worker.take().unwrap();
    worker.answer(&first, false);
    assert_eq!(second.name(), 1);
    second.connection.write_all(b"served").unwrap();
    drop((first, second));
    let mut herd = succeed(old, &stash, &[&worker]);
    refuse_fence(&mut herd, &mut worker);
    assert_eq!(worker.take().unwrap().name(), 0);
    assert!(worker.take().is_none(), "the served one is not given to anybody again");
}

#[test]
fn a_saved_connection_waits_for_the_fences_of_all_workers() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let ((mut one, address), (mut other, _)) = (old.worker(0), old.worker(1));
    let _client = client(address, 3);
    old.settle();
    let got = [&mut one, &mut other].into_iter().find_map(|worker| worker.take()).unwrap();
    drop(got);
    let mut herd = succeed(old, &stash, &[&one, &other]);
    refuse_fence(&mut herd, &mut one);
    assert!(one.take().is_none());
    // It dies in place of answering.
    herd.bury(&mut other);
    herd.settle();
    assert_eq!(one.take().unwrap().name(), 3);
}

#[test]
fn withdrawn_is_who_has_answered_for_what_it_owed() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, _) = old.worker(0);
    let mut herd = succeed(old, &stash, &[&worker]);
    herd.order(Order::Withdraw(worker.place.instance));
    herd.pass(2000);
    assert!(!herd.is_withdrawn(&worker));
    refuse_fence(&mut herd, &mut worker);
    herd.pass(1000);
    assert!(herd.is_withdrawn(&worker));
}

#[test]
fn nobody_is_told_to_leave_twice() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, _) = old.worker(0);
    old.order(Order::Disconnect(worker.place.instance, Parting::Object));
    assert!(worker.hear_all().iter().any(|line| line.contains("disconnect")));
    let mut herd = succeed(old, &stash, &[&worker]);
    herd.order(Order::Withdraw(worker.place.instance));
    herd.order(Order::Disconnect(worker.place.instance, Parting::Object));
    herd.pass(1000);
    assert!(herd.is_withdrawn(&worker));
    assert_eq!(worker.hear_all(), Vec::<String>::new());
}

#[test]
fn a_frame_whose_beginning_the_old_primary_read_is_skipped() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, address) = old.worker(0);
    let frame = worker.framed(r#"{"type":"stats","stats":{"requests":1}}"#);
    let (begun, rest) = frame.split_at(13);
    worker.write(begun);
    old.settle();
    let mut herd = succeed(old, &stash, &[&worker]);
    worker.write(rest);
    herd.settle();
    assert!(!herd.is_condemned(&worker));
    refuse_fence(&mut herd, &mut worker);
    let _client = client(address, 1);
    herd.settle();
    assert_eq!(worker.take().unwrap().name(), 1);
    // From here on every frame is whole.
    worker.say("nonsense");
    herd.settle();
    assert!(herd.is_condemned(&worker));
}

#[test]
fn a_group_keeps_its_order_and_its_owners() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    old.spec.distribution = oxherd_core::Distribution::Kernel;
    let ((mut one, address), (mut other, _)) = (old.worker(0), old.worker(1));
    let mut third = old.worker(2).0;
    // The last pair moves into the hole that the second leaves.
    old.order(Order::Withdraw(other.place.instance));
    old.bury(&mut other);
    old.order(Order::RetireSlot(APP, Slot(1)));
    old.pass(HANDSHAKE_GRACE_MS);
    let mut herd = succeed(old, &stash, &[&one, &third]);
    refuse_fence(&mut herd, &mut one);
    refuse_fence(&mut herd, &mut third);
    herd.order(Order::Withdraw(one.place.instance));
    let _clients = clients(address, 0..20);
    herd.settle();
    let mut names = third.accept_lent();
    names.sort_unstable();
    assert_eq!(names, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_closed_is_not_kept() {
    let stash = MemoryStash::default();
    let mut herd = Herd::kept(&stash);
    let (mut worker, address) = herd.worker(0);
    assert_eq!(stash.names().iter().filter(|name| name.starts_with("listener/")).count(), 1);
    herd.bury(&mut worker);
    herd.order(Order::CloseListeners(APP));
    assert!(stash.names().iter().all(|name| !name.starts_with("listener/")), "{:?}", stash.names());
    // The stash of a keeper forgets a moment later; nobody may get in meanwhile.
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn listeners_that_no_app_has_are_closed() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (worker, address) = old.worker(0);
    let mut herd = succeed(old, &stash, &[&worker]);
    herd.order(Order::Reconcile(BTreeMap::from([(APP, BTreeSet::from([Slot(0)]))])));
    let mut waiting = client(address, 0);
    herd.order(Order::Reconcile(BTreeMap::new()));
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(waiting.read(&mut [0]).is_err());
}

#[test]
fn a_worker_that_does_not_answer_its_fence_is_told_of() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (worker, _) = old.worker(0);
    let mut herd = succeed(old, &stash, &[&worker]);
    herd.pass(6000);
    assert!(herd.fact(|event| matches!(event, Event::Stalled { .. })));
}

#[test]
fn a_worker_that_answers_its_fence_speaks() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, _) = old.worker(0);
    let mut herd = succeed(old, &stash, &[&worker]);
    let is_online = |event: &Event| matches!(event, Event::Online { .. });
    assert!(!herd.fact(is_online));
    refuse_fence(&mut herd, &mut worker);
    assert!(herd.fact(is_online));
}

#[test]
fn a_worker_that_leaves_is_told_of_again() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut by_itself, _) = old.worker(0);
    let (told, _) = old.worker(1);
    let (staying, _) = old.worker(2);
    by_itself.say(r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":90}"#);
    old.settle();
    old.order(Order::Disconnect(told.place.instance, Parting::Object));
    let herd = succeed(old, &stash, &[&by_itself, &told, &staying]);
    for (worker, leaves) in [(&by_itself, 1), (&told, 1), (&staying, 0)] {
        let of = worker.place.instance;
        let departs = |event: &Event| matches!(event, Event::Departing { instance } if *instance == of);
        assert_eq!(herd.count_facts(departs), leaves, "{of}");
    }
}

#[test]
fn a_channel_that_was_closed_while_nobody_looked_is_told_of() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut worker, _) = old.worker(0);
    // While it has connections to lose the primary holds its end too, which hides that it is closed.
    old.order(Order::Disconnect(worker.place.instance, Parting::Object));
    worker.end = None;
    let herd = succeed(old, &stash, &[&worker]);
    assert!(herd.fact(|event| matches!(event, Event::ChannelClosed { .. })));
}

#[test]
fn one_that_breaks_the_protocol_is_marked_for_the_next_primary() {
    let mut herd = Herd::new();
    let (mut worker, _) = herd.worker(0);
    assert!(!worker.counters.was_condemned());
    worker.say("nonsense");
    herd.settle();
    assert!(herd.is_condemned(&worker) && worker.counters.was_condemned());
}

#[test]
fn a_listener_that_nobody_wants_any_more_goes_before_the_word_of_its_last_user() {
    let stash = MemoryStash::default();
    let mut herd = Herd::kept(&stash);
    let mut worker = herd.attach(0);
    let reply =
        worker.ask(&mut herd, r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4"#);
    herd.settle();
    let before = stash.history().len();
    worker.say(&format!(r#"{{"cmd":"NODE_CLUSTER","act":"close","key":"{}","seq":90}}"#, key_of(&reply)));
    herd.settle();
    let after = stash.history().split_off(before);
    assert_eq!(after, ["remove listener/0".to_owned(), format!("put uses/{}", label_of(worker.place))]);
}
