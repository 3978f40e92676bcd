//! Workers that know nothing of being lent their listeners: who gets which, through boots, crashes and reloads.

use std::collections::BTreeSet;

use oxherd_core::{Distribution, Event};

use super::borrowers::{Borrowed, Client, Pasture, SERVE};
use crate::traffic::Order;
use crate::traffic::listener::Socket;

const SIGUSR1: i32 = 10;
const SIGCONT: i32 = 18;

fn pids(workers: &[&Borrowed]) -> BTreeSet<u32> {
    workers.iter().map(|it| it.child.pid).collect()
}

fn served_by(pasture: &mut Pasture, count: usize) -> BTreeSet<u32> {
    pasture.answers(count).into_iter().collect()
}

#[test]
fn programs_that_know_of_nothing_share_an_address() {
    let mut pasture = Pasture::new();
    let (one, other) = (pasture.worker(0), pasture.worker(1));
    assert_eq!(served_by(&mut pasture, 40), pids(&[&one, &other]));
}

#[test]
fn only_the_admitted_get_connections() {
    let mut pasture = Pasture::new();
    let one = pasture.worker(0);
    let other = pasture.spawn(1, SERVE);
    pasture.until_listening(&other);
    assert_eq!(served_by(&mut pasture, 20), pids(&[&one]));
    pasture.herd.order(Order::Admit(other.place.instance));
    assert_eq!(served_by(&mut pasture, 40), pids(&[&one, &other]));
}

#[test]
fn who_waits_at_a_crashed_worker_is_served_by_its_replacement() {
    let mut pasture = Pasture::new();
    let (mut one, other) = (pasture.worker(0), pasture.worker(1));
    for worker in [&one, &other] {
        pasture.stop(worker);
    }
    let mut clients: Vec<Client> = (0..24).map(|_| Client::of(pasture.address)).collect();
    pasture.kill(&mut one);
    // The other one sleeps on: what it has is not touched.
    let replacement = pasture.worker(0);
    other.child.signal(SIGCONT).unwrap();
    let served: BTreeSet<u32> = clients.iter_mut().map(|client| pasture.answer(client)).collect();
    assert_eq!(served, pids(&[&replacement, &other]));
}

#[test]
fn a_reload_alternates_between_the_slots_sides_and_loses_nobody() {
    let mut pasture = Pasture::new();
    let mut current = pasture.worker(0);
    for _ in 0..5 {
        let successor = pasture.worker(0);
        pasture.herd.order(Order::Withdraw(current.place.instance));
        assert_eq!(served_by(&mut pasture, 8), pids(&[&successor]));
        pasture.until_withdrawn(&current);
        pasture.kill(&mut current);
        assert_eq!(served_by(&mut pasture, 8), pids(&[&successor]));
        current = successor;
    }
    let Some(Socket::Kernel(group)) = pasture.herd.traffic.listeners.iter().next().map(|it| &it.1.socket)
    else {
        panic!("there is a group")
    };
    assert_eq!(group.members().len(), 2);
}

#[test]
fn a_worker_is_left_alone_until_its_connections_are_closed_or_idle() {
    let mut pasture = Pasture::new();
    let slow = "
signal.signal(signal.SIGUSR1, lambda *_: None)
s = listener()
c = s.accept()[0]
c.recv(8)
signal.pause()
c.sendall(b'%d\\n' % os.getpid())
signal.pause()";
    let slow = pasture.spawn(0, slow);
    pasture.until_listening(&slow);
    pasture.herd.order(Order::Admit(slow.place.instance));
    let mut client = Client::of(pasture.address);
    let sockets = || oxherd_os::proc::socket_inodes_of(slow.child.pid).unwrap().len();
    pasture.herd.until("it has accepted", |_| (sockets() == 2).then_some(()));
    let _other = pasture.worker(1);
    pasture.herd.order(Order::Withdraw(slow.place.instance));
    for _ in 0..100 {
        pasture.herd.pass(50);
        let of = slow.place.instance;
        let told = |event: &Event| matches!(event, Event::Withdrawn { instance } if *instance == of);
        assert!(!pasture.herd.fact(told), "it still owes an answer");
    }
    slow.child.signal(SIGUSR1).unwrap();
    pasture.until_withdrawn(&slow);
    assert!(client.has_heard(), "the answer came before");
}

#[test]
fn a_foreign_process_on_the_address_is_an_error_of_bind() {
    let mut pasture = Pasture::new();
    let foreign = std::net::TcpListener::bind(pasture.address).unwrap();
    let mut worker = pasture.spawn(
        0,
        "try:
    bound()
except OSError as e:
    sys.exit(e.errno)",
    );
    pasture.bury(&mut worker);
    assert_eq!(worker.child.exit(), Some(oxherd_os::ExitStatus::Code(98)));
    assert_eq!(pasture.herd.traffic.listeners.iter().count(), 0);
    drop(foreign);
}

#[test]
fn one_that_binds_twice_gets_the_same_listener() {
    let mut pasture = Pasture::new();
    let twice = "first = bound()
second = bound()
first.listen(64)
second.listen(64)
third = listener()
first.close()
second.close()
fourth = listener()
third.close()
serve(fourth)";
    for slot in [0, 0, 1] {
        let worker = pasture.spawn(slot, twice);
        pasture.until_listening(&worker);
        pasture.herd.order(Order::Admit(worker.place.instance));
        let served = served_by(&mut pasture, 8);
        assert!(served.contains(&worker.child.pid) || slot == 1, "{served:?}");
        if slot == 0 {
            let mut worker = worker;
            pasture.kill(&mut worker);
        }
    }
}

#[test]
fn children_of_a_worker_borrow_for_it() {
    let mut pasture = Pasture::new();
    let parent = "
for _ in range(3):
    if os.fork() == 0:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((HOST, PORT))
        s.listen(64)
        serve(s)
os.wait()";
    let worker = pasture.spawn(0, parent);
    pasture.until_listening(&worker);
    pasture.herd.order(Order::Admit(worker.place.instance));
    assert!(!served_by(&mut pasture, 12).contains(&worker.child.pid));
    drop(oxherd_os::host::kill_labelled(&pasture.herd.traffic.borrowers.get(0).unwrap().label));
}

#[test]
fn a_socket_that_is_polled_already_stays_the_programs_own() {
    let mut pasture = Pasture::new();
    let polled = "
s = socket.socket()
s.setblocking(False)
e = select.epoll()
e.register(s, select.EPOLLIN)
s.bind((HOST, PORT))
s.listen(64)
while True:
    for _ in e.poll():
        try:
            c = s.accept()[0]
        except BlockingIOError:
            continue
        c.setblocking(True)
        answer(c)";
    let mut before = None;
    for _ in 0..4 {
        let worker = pasture.spawn(0, polled);
        pasture.until_listening(&worker);
        pasture.herd.order(Order::Admit(worker.place.instance));
        if let Some(mut before) = before.replace(worker) {
            let before: &mut Borrowed = &mut before;
            pasture.herd.order(Order::Withdraw(before.place.instance));
            pasture.until_withdrawn(before);
            pasture.kill(before);
        }
        let current = before.as_ref().unwrap().child.pid;
        assert_eq!(served_by(&mut pasture, 6), BTreeSet::from([current]));
    }
}

#[test]
fn shutting_a_lent_listener_down_does_nothing_and_a_connection_is_its_own() {
    let mut pasture = Pasture::new();
    let script = "s = listener()
s.shutdown(socket.SHUT_RDWR)
while True:
    c = s.accept()[0]
    c.recv(8)
    c.sendall(b'%d\\n' % os.getpid())
    c.shutdown(socket.SHUT_RDWR)
    c.close()";
    let worker = pasture.spawn(0, script);
    pasture.until_listening(&worker);
    pasture.herd.order(Order::Admit(worker.place.instance));
    assert_eq!(served_by(&mut pasture, 6), pids(&[&worker]));
}

#[test]
fn shared_is_one_listener_for_all() {
    let mut pasture = Pasture::new();
    pasture.herd.spec.distribution = Distribution::Shared;
    let (mut one, other) = (pasture.worker(0), pasture.worker(1));
    assert_eq!(pasture.herd.traffic.listeners.iter().count(), 1);
    pasture.kill(&mut one);
    assert_eq!(served_by(&mut pasture, 6), pids(&[&other]));
    let third = pasture.worker(0);
    pasture.herd.order(Order::Withdraw(other.place.instance));
    pasture.until_withdrawn(&other);
    drop(third);
}

#[test]
fn ports_that_are_not_lent_are_the_programs_own() {
    let mut pasture = Pasture::new();
    pasture.herd.spec.ports = "8081".parse().unwrap();
    let script = "s = listener()
t = socket.socket()
t.bind((HOST, 8081))
t.listen(4)
serve(t)";
    let worker = pasture.spawn(0, script);
    pasture.until_listening(&worker);
    let listeners: Vec<String> =
        pasture.herd.traffic.listeners.iter().map(|(_, it)| it.address.clone()).collect();
    assert_eq!(listeners, [format!("{}:8081", pasture.address.ip())]);
}

#[test]
fn at_closing_time_workers_serve_those_who_wait_and_nobody_else_gets_in() {
    let mut pasture = Pasture::new();
    let worker = pasture.worker(0);
    let mut crashed = pasture.worker(1);
    pasture.stop(&worker);
    pasture.stop(&crashed);
    let mut clients: Vec<Client> = (0..16).map(|_| Client::of(pasture.address)).collect();
    // Who waits at one that has died and will not be replaced holds nobody up.
    pasture.kill(&mut crashed);
    pasture.herd.order(Order::CloseDoors(super::harness::APP));
    pasture.herd.pass(200);
    let is_closed = |event: &Event| matches!(event, Event::DoorsClosed { .. });
    assert!(!pasture.herd.fact(is_closed));
    let late = std::net::TcpStream::connect_timeout(&pasture.address, std::time::Duration::from_secs(5));
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    worker.child.signal(SIGCONT).unwrap();
    pasture.herd.until("the doors are closed", |herd| {
        herd.now += 10;
        herd.fact(is_closed).then_some(())
    });
    let served = clients.iter_mut().map(Client::has_heard).filter(|heard| *heard).count();
    assert!(served > 0);
}
