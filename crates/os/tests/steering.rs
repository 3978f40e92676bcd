//! Steering of a listener group and closing of doors, over real connections.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use common::{eventually, is_readable};
use oxherd_os::socket::{ListenOptions, LocalAddr, accept, accept_queue_len, listen, listen_tcp, local_addr};
use oxherd_os::steering::{close_doors, steer};

/// Loopback of both families, as far as there are any.
fn loopbacks() -> Vec<SocketAddr> {
    let has_v6 = listen_tcp("[::1]:0".parse().unwrap(), &ListenOptions::default()).is_ok();
    if !has_v6 {
        println!("only half: no IPv6 here");
    }
    let all = ["127.0.0.1:0", "[::1]:0"].into_iter().take(if has_v6 { 2 } else { 1 });
    all.map(|address| address.parse().unwrap()).collect()
}

fn address_of(fd: &OwnedFd) -> SocketAddr {
    match local_addr(fd).unwrap() {
        LocalAddr::Inet(address) => address,
        other => panic!("not an IP address: {other:?}"),
    }
}

/// Listeners of one group, at the indices of their places.
fn group(address: SocketAddr, size: usize) -> Vec<OwnedFd> {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = listen_tcp(address, &options).unwrap();
    let address = address_of(&first);
    std::iter::once(first).chain((1..size).map(|_| listen_tcp(address, &options).unwrap())).collect()
}

/// Connects `count` times and tells how many of the connections each listener got.
fn distribution(listeners: &[OwnedFd], count: usize) -> Vec<usize> {
    let address = address_of(&listeners[0]);
    let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut got = vec![0; listeners.len()];
    eventually("all connections", || {
        for (place, listener) in listeners.iter().enumerate() {
            got[place] += std::iter::from_fn(|| accept(listener).ok()).count();
        }
        (got.iter().sum::<usize>() == clients.len()).then_some(())
    });
    got
}

#[test]
fn connections_spread_over_the_active_and_no_others() {
    for address in loopbacks() {
        let listeners = group(address, 4);
        steer(&listeners[2], &[1, 3]).unwrap();
        let got = distribution(&listeners, 200);
        assert_eq!((got[0], got[2]), (0, 0), "{got:?}");
        // Further from even than this with a probability of one in 10^11.
        assert!(got[1] > 50 && got[3] > 50, "{got:?}");
        steer(&listeners[0], &[0, 1, 2, 3]).unwrap();
        let got = distribution(&listeners, 400);
        assert!(got.iter().all(|count| *count > 40), "{got:?}");
    }
}

#[test]
fn a_single_index_takes_all() {
    for address in loopbacks() {
        let listeners = group(address, 3);
        for place in 0..3 {
            steer(&listeners[0], &[place as u32]).unwrap();
            assert_eq!(distribution(&listeners, 20)[place], 20);
        }
    }
}

#[test]
fn the_index_is_the_order_of_listening() {
    let options = ListenOptions { reuse_port: true, listen_now: false, ..ListenOptions::default() };
    let first = listen_tcp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let mut listeners = vec![first];
    for _ in 0..2 {
        listeners.push(listen_tcp(address_of(&listeners[0]), &options).unwrap());
    }
    for place in [2, 0, 1] {
        listen(&listeners[place], 16).unwrap();
    }
    for (index, place) in [(0, 2), (1, 0), (2, 1)] {
        steer(&listeners[0], &[index]).unwrap();
        assert_eq!(distribution(&listeners, 10)[place], 10, "index {index}");
    }
    // A close moves the last into the hole.
    drop(listeners.remove(2));
    steer(&listeners[0], &[0]).unwrap();
    assert_eq!(distribution(&listeners, 10), [0, 10]);
}

#[test]
fn steering_before_the_others_listen_holds() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = listen_tcp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    steer(&first, &[0]).unwrap();
    let second = listen_tcp(address_of(&first), &options).unwrap();
    assert_eq!(distribution(&[first, second], 30), [30, 0]);
}

#[test]
fn impossible_steering_is_an_error() {
    let lone = listen_tcp("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    assert!(steer(&lone, &[]).is_err());
}

#[test]
fn closed_doors_keep_newcomers_out_and_nobody_else() {
    for address in loopbacks() {
        let listener = listen_tcp(address, &ListenOptions::default()).unwrap();
        let address = address_of(&listener);
        let inside = TcpStream::connect(address).unwrap();
        eventually("one waiting", || accept_queue_len(&listener).unwrap().filter(|count| *count == 1));
        close_doors(&listener).unwrap();
        close_doors(&listener).unwrap();

        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let accepted = accept(&listener).unwrap();
        rustix::io::write(&accepted, b"served").unwrap();
        drop(accepted);
        let mut text = String::new();
        (&inside).read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
        assert!(!is_readable(&listener));
    }
}

#[test]
fn closed_doors_of_a_whole_group_let_nobody_in() {
    let listeners = group("127.0.0.1:0".parse().unwrap(), 2);
    let inside = distribution(&listeners, 20);
    assert_eq!(inside.iter().sum::<usize>(), 20);
    listeners.iter().for_each(|listener| close_doors(listener).unwrap());
    let refused = TcpStream::connect(address_of(&listeners[0])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
