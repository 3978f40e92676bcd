//! Workers that are started with their app's listeners.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use oxherd_core::{Distribution, Generation, InstanceId, ListenAt, Place, Slot, Sockets};

use super::harness::{APP, Herd, clients, label_of};
use crate::traffic::Order;
use crate::traffic::orders::{Borrowing, Opening};

fn herd(addresses: &[String]) -> Herd {
    let mut herd = Herd::new();
    herd.spec.sockets = Sockets::ListenFds;
    herd.spec.distribution = Distribution::Kernel;
    let at = |address: &String| ListenAt { name: "web".into(), address: address.clone() };
    herd.spec.listen = addresses.iter().map(at).collect();
    herd
}

fn place(slot: u32, number: u32) -> Place {
    let instance = InstanceId { starts: 0, number };
    Place { app: APP, slot: Slot(slot), generation: Generation(1), instance }
}

fn open(herd: &mut Herd, place: Place) -> Result<Vec<OwnedFd>, String> {
    let (reply, answer) = mpsc::channel();
    let spec = Arc::new(herd.spec.clone());
    herd.order(Order::Open(Opening { place, spec, reply }));
    answer.try_recv().unwrap()
}

fn begin(herd: &mut Herd, place: Place) {
    herd.order(Order::Borrow(Borrowing {
        place,
        label: label_of(place),
        spec: Arc::new(herd.spec.clone()),
        pid: u32::MAX >> 4,
        traps: None,
        counters_fd: None,
        parks: false,
        is_heir: false,
    }));
    herd.order(Order::Admit(place.instance));
}

fn waiting(fd: &OwnedFd) -> u32 {
    oxherd_os::socket::accept_queue_len(fd).unwrap().unwrap()
}

/// An address of the machine itself where nobody listens.
fn free_address(last: u8) -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 200 | a, b, c.clamp(1, 254)), 8000 + u16::from(last)))
}

#[test]
fn each_slot_has_its_own_and_a_replacement_the_queue() {
    let address = free_address(1);
    let path = std::env::temp_dir().join(format!("oxherd-listen-fds-{}", std::process::id()));
    let mut herd = herd(&[address.to_string(), path.display().to_string()]);
    let (one, other) = (place(0, 1), place(1, 2));
    let of_one = open(&mut herd, one).unwrap();
    let of_other = open(&mut herd, other).unwrap();
    assert_eq!((of_one.len(), of_other.len()), (2, 2));
    begin(&mut herd, one);
    begin(&mut herd, other);
    let _clients = clients(address, 0..32);
    let (waits, others) = (waiting(&of_one[0]), waiting(&of_other[0]));
    assert!(waits > 0 && others > 0 && waits + others == 32);
    herd.order(Order::Detach(one.instance));
    let replacement = place(0, 3);
    let of_replacement = open(&mut herd, replacement).unwrap();
    assert_eq!(waiting(&of_replacement[0]), waits);
    // It could not be started: what was opened for it goes to the next.
    herd.order(Order::Detach(replacement.instance));
    assert!(herd.traffic.opened.is_empty());
    assert_eq!(waiting(&open(&mut herd, place(0, 4)).unwrap()[0]), waits);
    herd.order(Order::CloseListeners(APP));
    assert!(!path.exists());
}

#[test]
fn an_address_in_use_is_said_in_words() {
    let address = free_address(2);
    let _foreign = TcpListener::bind(address).unwrap();
    let mut herd = herd(&[address.to_string()]);
    let refused = open(&mut herd, place(0, 1)).unwrap_err();
    assert!(refused.starts_with(&format!("cannot listen on {address}: Address already in use")), "{refused}");
    assert!(herd.traffic.opened.is_empty() && herd.traffic.listeners.iter().count() == 0);
}
