//! The `kernel` distribution: where connections really land must be where the books say, through lending,
//! withdrawal, crashes, retirement and reopening.

use super::harness::{Herd, Worker, clients};
use crate::traffic::Order;
use crate::traffic::lifecycle::HANDSHAKE_GRACE_MS;

/// Takes what came to a worker by either way, and answers.
fn serve(worker: &mut Worker) -> Vec<u64> {
    let mut names = Vec::new();
    while let Some(got) = worker.take() {
        names.push(got.name());
        worker.answer(&got, true);
    }
    names
}

#[test]
fn only_lent_and_admitted_listeners_get_connections() {
    let mut herd = Herd::kernel();
    let (one, address) = herd.worker(0);
    let (other, same) = herd.worker(1);
    assert_eq!(address, same);
    let _clients = clients(address, 0..64);
    herd.settle();
    let (mut first, second) = (one.accept_lent(), other.accept_lent());
    assert!(!first.is_empty() && !second.is_empty());
    first.extend(second);
    first.sort_unstable();
    assert_eq!(first, (0..64).collect::<Vec<_>>());
}

#[test]
fn what_waits_on_an_excluded_side_is_handed_over() {
    let mut herd = Herd::kernel();
    let (leaving, address) = herd.worker(0);
    let _early = clients(address, 0..4);
    let (mut staying, _) = herd.worker(1);
    herd.order(Order::Withdraw(leaving.place.instance));
    let _late = clients(address, 4..24);
    let mut names = Vec::new();
    herd.until("all are served", |_| {
        names.extend(serve(&mut staying));
        names.extend(staying.accept_lent());
        (names.len() == 24).then_some(())
    });
    assert!(leaving.accept_lent().is_empty());
    names.sort_unstable();
    assert_eq!(names, (0..24).collect::<Vec<_>>());
}

#[test]
fn a_crashed_slots_queue_is_served_by_others() {
    let mut herd = Herd::kernel();
    let (mut crashing, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 0..40);
    herd.bury(&mut crashing);
    let _later = clients(address, 40..60);
    let mut names = Vec::new();
    herd.until("all are served", |_| {
        names.extend(serve(&mut other));
        names.extend(other.accept_lent());
        (names.len() == 60).then_some(())
    });
    names.sort_unstable();
    assert_eq!(names, (0..60).collect::<Vec<_>>());
}

#[test]
fn the_next_one_inherits_the_queue_when_nobody_else_is_there() {
    let mut herd = Herd::kernel();
    let (mut crashing, address) = herd.worker(0);
    let _clients = clients(address, 0..10);
    herd.bury(&mut crashing);
    let (mut next, same) = herd.worker(0);
    assert_eq!(same, address);
    let mut names = Vec::new();
    herd.until("all are served", |_| {
        names.extend(serve(&mut next));
        names.extend(next.accept_lent());
        (names.len() == 10).then_some(())
    });
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 10);
}

#[test]
fn the_books_hold_through_any_order_of_scaling() {
    let mut herd = Herd::kernel();
    let (mut keeper, address) = herd.worker(0);
    let mut next_name = 0;
    for round in 0..12_u32 {
        let slots: Vec<u32> = (1..2 + round % 4).collect();
        let mut others: Vec<Worker> = slots.iter().map(|slot| herd.worker(*slot).0).collect();
        // One of them is replaced: its successor gets the slot's other side.
        let (successor, _) = herd.worker(1);
        herd.order(Order::Withdraw(others[0].place.instance));
        let mut old = std::mem::replace(&mut others[0], successor);
        let names = next_name..next_name + 30;
        next_name += 30;
        let held = clients(address, names.clone());
        let mut got = Vec::new();
        herd.until("all are served", |_| {
            for worker in others.iter_mut().chain([&mut keeper]) {
                got.extend(serve(worker));
                got.extend(worker.accept_lent());
            }
            (got.len() == 30).then_some(())
        });
        got.sort_unstable();
        assert_eq!(got, names.collect::<Vec<_>>(), "round {round}");
        drop(held);
        herd.bury(&mut old);
        // Not always from the highest slot down: the hole in the kernel's order moves about.
        if round % 2 == 0 {
            others.reverse();
        }
        for mut worker in others {
            let slot = worker.place.slot;
            herd.bury(&mut worker);
            herd.order(Order::RetireSlot(super::harness::APP, slot));
        }
        // Now and then slots are back before their listeners are closed.
        if round % 3 != 0 {
            herd.pass(HANDSHAKE_GRACE_MS);
        }
    }
}

#[test]
fn a_retired_slot_stays_for_those_whose_handshake_is_under_way() {
    let mut herd = Herd::kernel();
    let (mut staying, address) = herd.worker(0);
    let (mut going, _) = herd.worker(1);
    herd.order(Order::Withdraw(going.place.instance));
    herd.bury(&mut going);
    herd.order(Order::RetireSlot(super::harness::APP, going.place.slot));
    let listening = || procs_listening_at(address);
    assert_eq!(listening(), 4);
    herd.pass(HANDSHAKE_GRACE_MS - 1);
    assert_eq!(listening(), 4);
    herd.pass(1);
    assert_eq!(listening(), 2);
    let _clients = clients(address, 0..8);
    let mut names = Vec::new();
    herd.until("all are served", |_| {
        names.extend(staying.accept_lent());
        (names.len() == 8).then_some(())
    });
    // Nobody is left to serve them: nobody gets in.
    herd.bury(&mut staying);
    herd.order(Order::RetireSlot(super::harness::APP, staying.place.slot));
    assert_eq!(listening(), 0);
}

/// How many sockets listen there (`/proc/net/tcp`: state `0A`).
fn procs_listening_at(address: std::net::SocketAddr) -> usize {
    let port = format!(":{:04X} ", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(&port) && line.contains(" 00000000:0000 0A ")).count()
}

#[test]
fn who_waits_in_a_retired_slot_is_handed_over() {
    let mut herd = Herd::kernel();
    let (mut staying, address) = herd.worker(0);
    let (mut going, _) = herd.worker(1);
    let _clients = clients(address, 0..40);
    herd.order(Order::Withdraw(going.place.instance));
    herd.bury(&mut going);
    herd.order(Order::RetireSlot(super::harness::APP, going.place.slot));
    let mut names = Vec::new();
    herd.until("all are served", |_| {
        names.extend(serve(&mut staying));
        names.extend(staying.accept_lent());
        (names.len() == 40).then_some(())
    });
    names.sort_unstable();
    assert_eq!(names, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_side_whose_descriptor_did_not_arrive_is_lent_again() {
    let mut herd = Herd::kernel();
    let mut worker = herd.attach(0);
    worker.query(r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4"#);
    herd.settle();
    worker.hear().unwrap();
    worker.fds.clear();
    worker.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    herd.settle();
    worker.hear().unwrap();
    worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    herd.order(Order::Admit(worker.place.instance));
    let address = worker.keep_lent();
    let _clients = clients(address, 0..32);
    herd.settle();
    assert_eq!(worker.accept_lent().len(), 32);
}
