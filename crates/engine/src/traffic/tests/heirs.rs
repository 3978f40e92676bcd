//! Workers that borrow outlive their primary: no call, no listener and no standby is lost.

use std::collections::BTreeSet;

use oxherd_core::{Event, Slot};

use super::borrowers::{Client, Pasture, SERVE};
use super::harness::Herd;
use super::keeper::MemoryStash;
use crate::traffic::Order;

fn kept(stash: &MemoryStash) -> Pasture {
    Pasture::with(Herd::kept(stash))
}

#[test]
fn those_who_serve_go_on_and_so_does_all_that_comes_after() {
    let stash = MemoryStash::default();
    let mut pasture = kept(&stash);
    let (mut one, other) = (pasture.worker(0), pasture.worker(1));
    pasture.succeed(&stash, &[&one, &other]);
    // Before anything is admitted anew the steering is as it was.
    let both = BTreeSet::from([one.child.pid, other.child.pid]);
    assert!(pasture.answers(20).iter().all(|pid| both.contains(pid)));
    pasture.until_listening(&one);
    for worker in [&one, &other] {
        pasture.herd.order(Order::Admit(worker.place.instance));
    }
    assert_eq!(pasture.answers(40).into_iter().collect::<BTreeSet<_>>(), both);
    let successor = pasture.worker(0);
    pasture.herd.order(Order::Withdraw(one.place.instance));
    pasture.until_withdrawn(&one);
    pasture.kill(&mut one);
    let both = BTreeSet::from([successor.child.pid, other.child.pid]);
    assert_eq!(pasture.answers(40).into_iter().collect::<BTreeSet<_>>(), both);
}

#[test]
fn a_parked_standby_is_still_one() {
    let stash = MemoryStash::default();
    let mut pasture = kept(&stash);
    let mut worker = pasture.worker(0);
    let standby = pasture.standby(9, SERVE);
    let is_parked = |event: &Event| matches!(event, Event::Parked { .. });
    pasture.until_fact("it parks", is_parked);
    for _ in 0..3 {
        pasture.succeed(&stash, &[&worker, &standby]);
        pasture.until_fact("it is parked still", is_parked);
        assert!(!pasture.herd.fact(|event| {
            matches!(event, Event::Listening { instance, .. } if *instance == standby.place.instance)
        }));
    }
    pasture.stop(&worker);
    let mut client = Client::of(pasture.address);
    pasture.kill(&mut worker);
    pasture.herd.order(Order::Unpark(standby.place.instance, Slot(0)));
    pasture.until_listening(&standby);
    pasture.herd.order(Order::Admit(standby.place.instance));
    assert_eq!(pasture.answer(&mut client), standby.child.pid);
}

#[test]
fn one_that_was_given_its_slot_keeps_it() {
    let stash = MemoryStash::default();
    let mut pasture = kept(&stash);
    let standby = pasture.standby(9, SERVE);
    pasture.herd.order(Order::Unpark(standby.place.instance, Slot(2)));
    pasture.succeed(&stash, &[&standby]);
    pasture.until_listening(&standby);
    let borrower = pasture.herd.traffic.borrowers.by_instance(standby.place.instance).unwrap();
    assert_eq!(borrower.place.slot, Slot(2));
}

/// The old primary dies after it has received a call, recorded or not. Before its first record nobody knows where the
/// numbers of a worker's calls begin.
#[test]
fn a_call_that_was_received_and_not_answered_is_answered() {
    for (calls_before, is_recorded) in [(0, true), (1, true), (1, false)] {
        let stash = MemoryStash::default();
        let mut pasture = kept(&stash);
        let first = pasture.worker(0);
        let worker = pasture.spawn(1, SERVE);
        let number = pasture.herd.traffic.borrowers.find(worker.place.instance).unwrap();
        let traffic = &mut pasture.herd.traffic;
        // From here on nobody but this test receives.
        let borrower = traffic.borrowers.get_mut(number).unwrap();
        traffic.poller.remove(borrower.traps.as_ref().unwrap()).unwrap();
        borrower.watched = false;
        for call in 0..=calls_before {
            let borrower = traffic.borrowers.get_mut(number).unwrap();
            let trapped = borrower.traps.as_ref().unwrap().receive().unwrap().unwrap();
            if call < calls_before || is_recorded {
                borrower.newest = trapped.id;
                traffic.keep_call(number, &trapped);
            }
            if call < calls_before {
                traffic.carry_out_call(number, &trapped);
            }
        }
        pasture.succeed(&stash, &[&first, &worker]);
        pasture.until_listening(&worker);
        for it in [&first, &worker] {
            pasture.herd.order(Order::Admit(it.place.instance));
        }
        let both = BTreeSet::from([first.child.pid, worker.child.pid]);
        assert_eq!(pasture.answers(40).into_iter().collect::<BTreeSet<_>>(), both);
    }
}
