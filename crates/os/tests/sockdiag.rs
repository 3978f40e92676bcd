//! The kernel's list of connections, against real ones.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use common::eventually;
use oxherd_os::sockdiag::{Connection, ConnectionState, Openings, connections};
use oxherd_os::socket::inode;

fn the_one(port: u16) -> Option<Connection> {
    match connections(port).unwrap()[..] {
        [] => None,
        [one] => Some(one),
        ref more => panic!("more than one: {more:?}"),
    }
}

fn expect(port: u16, what: &str, is_so: impl Fn(&Connection) -> bool) -> Connection {
    eventually(what, || the_one(port).filter(&is_so))
}

#[test]
fn a_connection_is_followed_from_its_queue_to_its_end() {
    for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            println!("left out: no IPv6 here for {address}");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connections(port).unwrap(), []);

        let to = if address.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
        let mut client = TcpStream::connect((to, port)).unwrap();
        client.write_all(b"hello").unwrap();
        let seen = expect(port, "a waiting one", |it| it.is_waiting() && it.unread == 5);
        assert_eq!(seen.state, ConnectionState::Established);
        assert_eq!((seen.local, seen.peer), (client.peer_addr().unwrap(), client.local_addr().unwrap()));

        let (mut server, _) = listener.accept().unwrap();
        let own = inode(&server).unwrap();
        let seen = expect(port, "an accepted one", |it| it.inode == own);
        assert!(!seen.is_waiting());
        server.read_exact(&mut [0; 5]).unwrap();
        expect(port, "all read", |it| it.unread == 0);

        client.shutdown(Shutdown::Write).unwrap();
        let seen = expect(port, "the client's end", |it| it.state == ConnectionState::CloseWait);
        assert_eq!((seen.unread, seen.unsent), (0, 0));
        server.shutdown(Shutdown::Write).unwrap();
        // The last acknowledgement ends it; the descriptor alone is no connection.
        eventually("none", || the_one(port).is_none().then_some(()));
    }
}

#[test]
fn what_nobody_reads_is_counted_as_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(count) = server.write(&[7; 65536]) {
        written += count;
    }
    let seen = expect(port, "a backlog", |it| it.unsent > 0);
    assert!(seen.unsent as usize <= written);
    server.shutdown(Shutdown::Write).unwrap();
    let seen = expect(port, "a half-closed one", |it| it.state == ConnectionState::FinWait);
    assert!(seen.inode != 0 && seen.unsent as usize <= written);
    drop(server);
    // It still holds bytes for the client, but nobody has it any more.
    assert_eq!(the_one(port), None);
    drop(client);
}

#[test]
fn idle_time_is_told_of_each_direction() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    expect(port, "some idle time", |it| it.last_sent_ms >= 40 && it.last_received_ms >= 40);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let seen = the_one(port).unwrap();
    assert!(seen.last_received_ms < seen.last_sent_ms, "{seen:?}");
    server.write_all(b"y").unwrap();
    expect(port, "both of the same age", |it| it.last_sent_ms <= it.last_received_ms);
}

#[test]
fn openings_are_counted() {
    let openings = Openings::new().unwrap();
    let before = openings.count().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _clients = [0; 3].map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let _servers = [0; 3].map(|_| listener.accept().unwrap());
    // Others may come meanwhile.
    assert!(openings.count().unwrap() >= before + 3);
}

#[test]
fn many_are_listed_whole_and_those_of_other_ports_are_not() {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let mut pairs = Vec::new();
    // More than fit into one message of the kernel.
    for place in (0..2).flat_map(|place| [place].repeat(200)) {
        let client = TcpStream::connect(("127.0.0.1", ports[place])).unwrap();
        let (server, _) = listeners[place].accept().unwrap();
        pairs.push((place, inode(&server).unwrap(), client, server));
    }
    for (place, port) in ports.into_iter().enumerate() {
        let mut listed: Vec<u64> = connections(port).unwrap().iter().map(|it| it.inode).collect();
        let mut own: Vec<u64> =
            pairs.iter().filter(|(at, ..)| *at == place).map(|(_, inode, ..)| *inode).collect();
        listed.sort_unstable();
        own.sort_unstable();
        assert_eq!(listed, own);
    }
}
