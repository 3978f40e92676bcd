//! Who waits for an app all the time that is looked.

use super::harness::{APP, Herd, Worker, clients};
use crate::traffic::orders::{News, Order};

/// What is told while `act` is done at each of the looks.
fn counted(herd: &mut Herd, mut act: impl FnMut(u32)) -> Option<u32> {
    herd.told.clear();
    herd.order(Order::CountWaiting(APP));
    for look in 0..20 {
        act(look);
        herd.pass(40);
    }
    let mut told = herd.told.iter().filter_map(|news| match news {
        News::Waiting(APP, waiting) => Some(*waiting),
        _ => None,
    });
    let first = told.next();
    assert_eq!(told.next(), None, "it is told once");
    first
}

fn accept_all(worker: &Worker) {
    worker.accept_lent();
}

#[test]
fn whoever_is_accepted_meanwhile_did_not_wait_all_the_time() {
    let mut herd = Herd::kernel();
    let (first, address) = herd.worker(0);
    let (second, _) = herd.worker(1);
    assert_eq!(counted(&mut herd, |_| {}), Some(0));
    let _held = clients(address, 0..12);
    assert_eq!(counted(&mut herd, |_| {}), Some(12), "of all slots");
    let left = counted(&mut herd, |look| {
        if look == 4 {
            accept_all(&first)
        }
    });
    assert!(left.is_some_and(|left| left < 12), "{left:?}");
    accept_all(&second);
    assert_eq!(counted(&mut herd, |_| {}), Some(0));
}

#[test]
fn who_waits_at_the_primary_s_own_listener_counts() {
    let mut herd = Herd::new();
    let (worker, address) = herd.worker(0);
    herd.order(Order::Withdraw(worker.place.instance));
    let _held = clients(address, 0..3);
    assert_eq!(counted(&mut herd, |_| {}), Some(3), "nobody has room for them");
}
