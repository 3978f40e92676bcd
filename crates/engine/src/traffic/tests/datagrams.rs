//! UDP sockets of workers that borrow.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use super::borrowers::{Borrowed, Pasture};
use crate::traffic::Order;

const ECHO: &str = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((HOST, PORT))
while True:
    s.sendto(b'%d' % os.getpid(), s.recvfrom(100)[1])";

fn worker(pasture: &mut Pasture, slot: u32) -> Borrowed {
    let worker = pasture.spawn(slot, ECHO);
    pasture.until_listening(&worker);
    pasture.herd.order(Order::Admit(worker.place.instance));
    worker
}

/// Whom a client of its own port talks with.
fn partner(client: &UdpSocket) -> u32 {
    let mut buffer = [0; 100];
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.send(b"hello").unwrap();
    let count = client.recv(&mut buffer).unwrap();
    std::str::from_utf8(&buffer[..count]).unwrap().parse().unwrap()
}

fn client(pasture: &Pasture) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(pasture.address).unwrap();
    client
}

#[test]
fn packets_are_spread_and_survive_reloads_and_crashes() {
    let mut pasture = Pasture::new();
    let (mut one, other) = (worker(&mut pasture, 0), worker(&mut pasture, 1));
    let clients: Vec<UdpSocket> = (0..24).map(|_| client(&pasture)).collect();
    let both: BTreeSet<u32> = clients.iter().map(partner).collect();
    assert_eq!(both, BTreeSet::from([one.child.pid, other.child.pid]));
    let mut successor = worker(&mut pasture, 0);
    pasture.herd.order(Order::Withdraw(one.place.instance));
    pasture.until_withdrawn(&one);
    let both: BTreeSet<u32> = clients.iter().map(partner).collect();
    assert_eq!(both, BTreeSet::from([successor.child.pid, other.child.pid]));
    pasture.kill(&mut one);
    pasture.kill(&mut successor);
    let replacement = worker(&mut pasture, 0);
    let both: BTreeSet<u32> = clients.iter().map(partner).collect();
    assert_eq!(both, BTreeSet::from([replacement.child.pid, other.child.pid]));
}
