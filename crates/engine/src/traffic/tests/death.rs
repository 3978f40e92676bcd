//! A worker dies: what it has not answered for reaches another, exactly once.

use super::harness::{Herd, clients};
use crate::traffic::Order;

#[test]
fn unanswered_connections_reach_another_in_order() {
    let mut herd = Herd::new();
    let (mut dying, address) = herd.worker(0);
    let _clients = clients(address, 0..2);
    herd.settle();
    let taken = dying.take().unwrap();
    let mut other = herd.attach(1);
    other.listen(&mut herd, 0);
    herd.order(Order::Admit(other.place.instance));
    assert!(other.take().is_none());
    drop(taken);
    herd.bury(&mut dying);
    let names = [other.take().unwrap().name(), other.take().unwrap().name()];
    assert_eq!(names, [0, 1]);
    assert!(other.take().is_none());
}

#[test]
fn what_it_answered_with_its_last_breath_counts() {
    let mut herd = Herd::new();
    let (mut dying, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 0..1);
    herd.settle();
    let got = dying.take().unwrap();
    dying.answer(&got, true);
    herd.bury(&mut dying);
    assert!(other.take().is_none());
    assert_eq!(dying.counters.handed_over(), 1);
}

#[test]
fn nobody_is_left_and_the_next_one_gets_them() {
    let mut herd = Herd::new();
    let (mut dying, address) = herd.worker(0);
    let _clients = clients(address, 0..4);
    herd.settle();
    herd.bury(&mut dying);
    let (mut next, _) = herd.worker(0);
    for name in 0..4 {
        let got = next.take().unwrap();
        assert_eq!(got.name(), name);
        next.answer(&got, true);
        herd.settle();
    }
}

#[test]
fn a_closed_channel_gives_back_at_once() {
    let mut herd = Herd::without_recall();
    let (mut quitting, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 0..1);
    herd.settle();
    let got = quitting.take().unwrap();
    drop(got);
    quitting.end = None;
    herd.settle();
    assert_eq!(other.take().expect("its process may live on for long").name(), 0);
}

#[test]
fn a_descendant_that_writes_for_ever_is_not_read_for_ever() {
    let mut herd = Herd::new();
    let (mut dying, _) = herd.worker(0);
    let end = dying.end.as_ref().unwrap().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        end.set_nonblocking(false).unwrap();
        while std::io::Write::write_all(&mut &end, b"{\"noise\":1}\n").is_ok() {}
    });
    herd.settle();
    herd.bury(&mut dying);
    drop(herd);
    writer.join().unwrap();
}
