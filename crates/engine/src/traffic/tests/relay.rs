//! Connections that nobody accepts where they are, and whose workers cannot be handed any.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::borrowers::{Borrowed, Client, Pasture, SERVE};
use crate::traffic::Order;

/// A worker that sleeps, with clients in its queue.
fn asleep(pasture: &mut Pasture, count: usize) -> (Borrowed, Vec<Client>) {
    let worker = pasture.worker(0);
    pasture.stop(&worker);
    let clients = (0..count).map(|_| Client::of(pasture.address)).collect();
    (worker, clients)
}

#[test]
fn what_is_left_at_a_side_that_a_reload_has_left_is_relayed() {
    let mut pasture = Pasture::new();
    let (mut old, mut clients) = asleep(&mut pasture, 20);
    let successor = pasture.worker(0);
    pasture.herd.order(Order::Withdraw(old.place.instance));
    pasture.kill(&mut old);
    let served: BTreeSet<u32> = clients.iter_mut().map(|client| pasture.answer(client)).collect();
    assert_eq!(served, BTreeSet::from([successor.child.pid]));
    assert!(pasture.herd.traffic.relays.len() > 0);
    drop(clients);
    pasture.herd.until("all is over", |herd| (herd.traffic.relays.len() == 0).then_some(()));
}

#[test]
fn a_crashed_workers_queue_waits_for_its_replacement_only_so_long() {
    let mut pasture = Pasture::new();
    let (mut crashing, mut clients) = asleep(&mut pasture, 5);
    let other = pasture.spawn(1, SERVE);
    pasture.until_listening(&other);
    pasture.herd.order(Order::Admit(other.place.instance));
    pasture.kill(&mut crashing);
    pasture.herd.pass(999);
    assert!(clients.iter_mut().all(|client| !client.has_heard()));
    assert_eq!(pasture.herd.traffic.relays.len(), 0);
    pasture.herd.pass(1);
    for client in &mut clients {
        assert_eq!(pasture.answer(client), other.child.pid);
    }
}

#[test]
fn a_retired_slots_queue_is_relayed() {
    let mut pasture = Pasture::new();
    let (mut going, mut clients) = asleep(&mut pasture, 5);
    let other = pasture.worker(1);
    pasture.herd.order(Order::Withdraw(going.place.instance));
    pasture.kill(&mut going);
    pasture.herd.order(Order::RetireSlot(super::harness::APP, going.place.slot));
    for client in &mut clients {
        assert_eq!(pasture.answer(client), other.child.pid);
    }
}

#[test]
fn bytes_are_copied_both_ways_to_the_end_of_each_and_no_faster_than_they_are_read() {
    const BYTES: usize = 8 << 20;
    let mut pasture = Pasture::new();
    let script = "
s = listener()
c = s.accept()[0]
all = b''.join(iter(lambda: c.recv(65536), b''))
c.sendall(all[::-1])
c.close()
signal.pause()";
    let old = pasture.worker(0);
    pasture.stop(&old);
    let mut client = TcpStream::connect(pasture.address).unwrap();
    let successor = pasture.spawn(0, script);
    pasture.until_listening(&successor);
    pasture.herd.order(Order::Admit(successor.place.instance));
    pasture.herd.order(Order::Withdraw(old.place.instance));
    let mut old = old;
    pasture.kill(&mut old);
    let talk = std::thread::spawn(move || {
        let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        heard.reverse();
        heard == sent
    });
    pasture.herd.until("all is copied", |_| talk.is_finished().then_some(()));
    assert!(talk.join().unwrap());
    pasture.herd.until("it is over", |herd| (herd.traffic.relays.len() == 0).then_some(()));
}
