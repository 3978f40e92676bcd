//! Closing time: whoever waits is served before the doors are said to be closed.

use std::os::unix::net::UnixStream;

use oxherd_core::Event;

use super::harness::{APP, Herd, Worker, clients};
use crate::traffic::Order;

fn are_closed(herd: &Herd) -> bool {
    herd.fact(|event| matches!(event, Event::DoorsClosed { .. }))
}

fn serve_until_closed(herd: &mut Herd, worker: &mut Worker) -> usize {
    let mut served = 0;
    while !are_closed(herd) {
        assert!(served <= 1000);
        herd.pass(10);
        if let Some(got) = worker.take() {
            assert!(!are_closed(herd));
            worker.answer(&got, true);
            served += 1;
        }
    }
    served + std::iter::from_fn(|| worker.take()).count()
}

#[test]
fn all_that_wait_are_served_first() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _clients = clients(address, 0..30);
    herd.order(Order::CloseDoors(APP));
    assert_eq!(serve_until_closed(&mut herd, &mut worker), 30);
    assert!(std::net::TcpStream::connect_timeout(&address, LONG_ENOUGH).is_err());
}

const LONG_ENOUGH: std::time::Duration = std::time::Duration::from_millis(300);

#[test]
fn at_a_unix_socket_too() {
    let path = std::env::temp_dir().join(format!("oxherd-engine-{}-doors.sock", std::process::id()));
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let shown = path.display();
    worker
        .ask(&mut herd, &format!(r#""index":0,"data":null,"address":"{shown}","port":-1,"addressType":-1"#));
    herd.order(Order::Admit(worker.place.instance));
    let _clients: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    herd.order(Order::CloseDoors(APP));
    assert_eq!(serve_until_closed(&mut herd, &mut worker), 20);
    assert!(UnixStream::connect(&path).is_err());
    herd.order(Order::CloseListeners(APP));
    assert!(!path.exists());
}

#[test]
fn a_worker_that_comes_late_turns_nobody_away() {
    let mut herd = Herd::new();
    let path = std::env::temp_dir().join(format!("oxherd-engine-{}-late.sock", std::process::id()));
    let members =
        format!(r#""index":0,"data":null,"address":"{}","port":-1,"addressType":-1"#, path.display());
    let mut worker = herd.attach(0);
    worker.ask(&mut herd, &members);
    herd.order(Order::Admit(worker.place.instance));
    let mut late = herd.attach(1);
    let _clients: Vec<_> = (0..9).map(|_| UnixStream::connect(&path).unwrap()).collect();
    herd.order(Order::CloseDoors(APP));
    assert!(late.ask(&mut herd, &members).contains(r#""errno":null"#));
    assert_eq!(serve_until_closed(&mut herd, &mut worker), 9);
}
