//! Queries: identities, ports, failures, what is closed when, and what is unlinked.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use oxherd_core::Generation;

use super::harness::{Herd, Worker, client, key_of, number_after};
use crate::Alert;
use crate::traffic::{News, Order};

fn tcp(port: u16) -> String {
    format!(r#""index":0,"data":null,"address":"127.0.0.1","port":{port},"addressType":4,"backlog":false"#)
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oxherd-engine-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn any_port_is_the_same_for_the_same_index() {
    let mut herd = Herd::new();
    let (mut one, mut other) = (herd.attach(0), herd.attach(1));
    let ports = [one.listen(&mut herd, 0), one.listen(&mut herd, 1)];
    assert_ne!(ports[0], ports[1]);
    assert_eq!(ports, [other.listen(&mut herd, 0), other.listen(&mut herd, 1)]);
    let named = other.ask(&mut herd, &tcp(ports[0].port()));
    assert!(named.contains(r#""errno":-98"#), "the port is another listener's: {named}");
}

#[test]
fn twice_in_one_worker_and_busy_elsewhere() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for mut herd in [Herd::new(), Herd::kernel()] {
        let mut worker = herd.attach(0);
        assert!(worker.ask(&mut herd, &tcp(port)).contains(r#""errno":-98"#));
        let is_told = |news: &News| matches!(news, News::Alert(Alert::CannotListen { .. }));
        assert!(herd.told.iter().any(is_told));
    }
    drop(taken);
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let reply = worker.ask(&mut herd, &tcp(port));
    assert_eq!(number_after(&reply, r#""port":"#), Some(u64::from(port)), "{reply}");
    let members = tcp(port).replace("\"data\":null", "\"data\":{\"ticketKeys\":\"ab\"}");
    let again = worker.ask(&mut herd, &members);
    assert!(again.contains(r#""errno":-98"#) && again.contains(r#""data":{"ticketKeys":"ab"}"#), "{again}");
}

#[test]
fn the_last_users_close_closes_and_it_can_listen_again() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let members = tcp(address.port());
    let key = "L0";
    worker.say(&format!(r#"{{"cmd":"NODE_CLUSTER","act":"close","key":"{key}","seq":9}}"#));
    herd.settle();
    assert!(TcpStream::connect(address).is_err());
    let again = worker.ask(&mut herd, &members);
    assert_ne!(key_of(&again), key);
    let _client = client(address, 5);
    herd.settle();
    assert_eq!(worker.take().unwrap().name(), 5);
}

#[test]
fn a_leaving_worker_closes_nothing_for_others() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    herd.order(Order::Withdraw(worker.place.instance));
    worker.say(r#"{"cmd":"NODE_CLUSTER","act":"close","key":"L0","seq":9}"#);
    herd.bury(&mut worker);
    let _client = client(address, 6);
    let (mut next, same) = herd.worker(0);
    assert_eq!(same, address);
    assert_eq!(next.take().unwrap().name(), 6);
}

/// A worker and its successor, which listens elsewhere; the first has ended.
fn moved(herd: &mut Herd, next: Generation) -> (Worker, [SocketAddr; 2]) {
    let (mut old, left) = herd.worker(0);
    herd.generation = next;
    let mut new = herd.attach(0);
    let wanted = new.listen(herd, 1);
    herd.order(Order::Admit(new.place.instance));
    herd.order(Order::Withdraw(old.place.instance));
    herd.bury(&mut old);
    (new, [left, wanted])
}

#[test]
fn where_a_new_generation_does_not_listen_nobody_waits_for_ever() {
    for mut herd in [Herd::new(), Herd::kernel()] {
        let (_new, [left, wanted]) = moved(&mut herd, Generation(2));
        herd.pass(4000);
        assert!(TcpStream::connect(left).is_ok(), "it may be wanted yet");
        herd.pass(2000);
        assert!(TcpStream::connect(left).is_err());
        assert!(TcpStream::connect(wanted).is_ok());
    }
}

#[test]
fn where_a_worker_of_the_same_generation_has_crashed_its_successor_is_waited_for() {
    for mut herd in [Herd::new(), Herd::kernel()] {
        let (_new, [left, wanted]) = moved(&mut herd, Generation(1));
        herd.pass(60_000);
        assert!(TcpStream::connect(left).is_ok() && TcpStream::connect(wanted).is_ok());
    }
}

#[test]
fn a_second_port_of_a_new_generation_may_come_later() {
    let mut herd = Herd::new();
    let (mut new, [left, _]) = moved(&mut herd, Generation(2));
    herd.pass(4000);
    assert_eq!(new.listen(&mut herd, 0), left);
    herd.pass(60_000);
    let _client = client(left, 7);
    herd.settle();
    assert_eq!(new.take().unwrap().name(), 7);
}

#[test]
fn ticket_keys_of_the_first_are_everybodys() {
    let mut herd = Herd::new();
    let (mut one, mut other) = (herd.attach(0), herd.attach(1));
    let with =
        |keys: &str| tcp(0).replace("\"data\":null", &format!("\"data\":{{\"ticketKeys\":\"{keys}\"}}"));
    assert!(one.ask(&mut herd, &with("aa")).contains(r#""data":{"ticketKeys":"aa"}"#));
    assert!(other.ask(&mut herd, &with("bb")).contains(r#""data":{"ticketKeys":"aa"}"#));
}

#[test]
fn a_path_is_taken_away_with_its_listener() {
    let folder = Folder::new("path");
    let path = folder.0.join("app.sock");
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let members =
        format!(r#""index":0,"data":null,"address":"{}","port":-1,"addressType":-1"#, path.display());
    let reply = worker.ask(&mut herd, &members);
    assert!(reply.contains(r#""errno":null"#) && !reply.contains("sockname"), "{reply}");
    herd.order(Order::Admit(worker.place.instance));
    let _client = UnixStream::connect(&path).unwrap();
    herd.settle();
    assert!(worker.take().is_some());
    let mut other = herd.attach(1);
    assert!(other.ask(&mut herd, &members).contains(r#""errno":null"#));
    herd.bury(&mut worker);
    herd.bury(&mut other);
    assert!(path.exists());
    herd.order(Order::CloseListeners(super::harness::APP));
    assert!(!path.exists());
}

#[test]
fn udp_is_one_socket_for_all() {
    let mut herd = Herd::new();
    let (mut one, mut other) = (herd.attach(0), herd.attach(1));
    let members =
        r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":"udp4","fd":-1,"flags":0"#;
    for worker in [&mut one, &mut other] {
        let reply = worker.ask(&mut herd, members);
        assert!(reply.contains(r#""type":"dgram.Native""#) && reply.contains(r#""errno":0"#), "{reply}");
        worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    }
    let sockets: Vec<UdpSocket> =
        [one, other].into_iter().map(|mut it| it.fds.pop_front().unwrap().into()).collect();
    assert_eq!(sockets[0].local_addr().unwrap(), sockets[1].local_addr().unwrap());
}

#[test]
fn a_socket_that_did_not_arrive_is_sent_again_and_then_given_up() {
    let mut herd = Herd::kernel();
    let mut worker = herd.attach(0);
    worker.query(&tcp(0));
    for _ in 0..3 {
        herd.settle();
        assert!(worker.hear().unwrap().contains("net.Native"));
        worker.fds.clear();
        worker.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    }
    herd.settle();
    assert!(worker.hear().unwrap().contains(r#""errno":-24"#));
    assert!(worker.ask(&mut herd, &tcp(0)).contains(r#""errno":0"#), "a failure is not remembered");
}
