//! Steering programs in the kernel: who gets what, over real sockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use common::eventually;
use oxherd_os::socket::{ListenOptions, LocalAddr, accept, bind_udp, listen_tcp, local_addr};
use oxherd_os::steering::{ACTIVE_MAX, HASHED_MAX, Program, attach};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, connect, recv, sendto, socket, sockopt};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Udp,
}

/// A group of one port and its members, at the indices of their places.
struct Group {
    kind: Kind,
    address: SocketAddr,
    members: Vec<OwnedFd>,
}

impl Group {
    /// `None` where this machine has no such address.
    fn new(kind: Kind, address: &str, size: usize) -> Option<Self> {
        let mut group = Self { kind, address: address.parse().unwrap(), members: Vec::new() };
        for _ in 0..size {
            if let Err(error) = group.join() {
                println!("left out: {address}: {error}");
                return None;
            }
        }
        Some(group)
    }

    fn join(&mut self) -> std::io::Result<()> {
        let options =
            ListenOptions { reuse_port: true, v6_only: Some(false), backlog: 4096, ..Default::default() };
        let member = match self.kind {
            Kind::Tcp => listen_tcp(self.address, &options)?,
            Kind::Udp => bind_udp(self.address, Some(false), false, true)?,
        };
        if let LocalAddr::Inet(address) = local_addr(&member)? {
            self.address = address;
        }
        self.members.push(member);
        Ok(())
    }

    fn steer(&self, program: &Program) {
        attach(&self.members[0], program).unwrap();
    }

    /// The member that gets what comes from there: everything does that is under way now.
    fn reached_from(&self, source: IpAddr) -> usize {
        let client = self.client(source, 0);
        let member = self.arrived();
        drop(client);
        member
    }

    /// A connection, or a socket that has sent a datagram.
    fn client(&self, source: IpAddr, port: u16) -> OwnedFd {
        let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let to = SocketAddr::new(if source.is_ipv4() { LOCALHOST } else { source }, self.address.port());
        let kind = if self.kind == Kind::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let client = socket(family, kind, None).unwrap();
        bind(&client, &SocketAddr::new(source, port)).unwrap();
        match self.kind {
            Kind::Tcp => {
                // Its end leaves no port behind that is still in use.
                sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
                connect(&client, &to).unwrap();
            }
            Kind::Udp => {
                sendto(&client, b"x", SendFlags::empty(), &to).unwrap();
            }
        }
        client
    }

    fn arrived(&self) -> usize {
        eventually("somebody is reached", || {
            self.members.iter().position(|member| match self.kind {
                Kind::Tcp => accept(member).is_ok(),
                Kind::Udp => recv(member, &mut [0; 4], rustix::net::RecvFlags::empty()).is_ok(),
            })
        })
    }

    /// How many of `count` clients each member gets.
    fn shares(&self, count: usize) -> Vec<usize> {
        let mut got = vec![0; self.members.len()];
        let source = if self.address.is_ipv6() { self.address.ip() } else { LOCALHOST };
        (0..count).for_each(|_| got[self.reached_from(source)] += 1);
        got
    }

    fn all_reached(&self) -> Vec<usize> {
        sources().map(|source| self.reached_from(source)).collect()
    }
}

/// Addresses of the loopback interface: all of 127.0.0.0/8 are.
fn sources() -> impl Iterator<Item = IpAddr> {
    (1..=200).map(|n| Ipv4Addr::new(127, 0, n / 100, n).into())
}

#[test]
fn weights_hold_over_ten_thousand_connections() {
    let group = Group::new(Kind::Tcp, "127.0.0.1:0", 6).unwrap();
    group.steer(&Program::Weighted(vec![(1, 10), (2, 0), (3, 30), (5, 60)]));
    let got = group.shares(10_000);
    assert_eq!((got[0], got[2], got[4]), (0, 0, 0), "{got:?}");
    for (place, percent) in [(1, 10), (3, 30), (5, 60)] {
        assert!((got[place] as i64 - percent * 100).abs() <= 300, "{got:?}");
    }
    println!("10/30/60 gave {got:?}");
}

#[test]
fn weights_hold_for_datagrams_and_ipv6() {
    for (kind, address) in [(Kind::Udp, "127.0.0.1:0"), (Kind::Udp, "[::1]:0"), (Kind::Tcp, "[::1]:0")] {
        let Some(group) = Group::new(kind, address, 3) else { continue };
        group.steer(&Program::Weighted(vec![(0, 1), (2, 3)]));
        let got = group.shares(1000);
        // Further off with a probability of one in 10^12.
        assert!(got[1] == 0 && (150..350).contains(&got[0]), "{got:?}");
    }
}

#[test]
fn an_address_stays_with_its_key() {
    for (kind, address) in [(Kind::Tcp, "127.0.0.1:0"), (Kind::Tcp, "0.0.0.0:0"), (Kind::Udp, "0.0.0.0:0")] {
        // Two members for each key, as a slot has two listeners.
        let mut group = Group::new(kind, address, 6).unwrap();
        group.steer(&Program::Sticky(vec![(0, 0), (2, 1), (4, 2)]));
        let keys: Vec<usize> = group.all_reached().iter().map(|member| member / 2).collect();
        for key in 0..3 {
            let got = keys.iter().filter(|it| **it == key).count();
            assert!((30..105).contains(&got), "{got} of 200 for key {key}");
        }
        // Another generation, in another order.
        group.steer(&Program::Sticky(vec![(5, 2), (2, 1), (1, 0)]));
        let members = group.all_reached();
        let expected: Vec<usize> = keys.iter().map(|key| [1, 2, 5][*key]).collect();
        assert_eq!(members, expected);
        // The next slot.
        group.join().unwrap();
        group.join().unwrap();
        group.steer(&Program::Sticky(vec![(5, 2), (2, 1), (1, 0), (6, 3)]));
        let after = group.all_reached();
        let moved = members.iter().zip(&after).filter(|(old, new)| old != new).count();
        assert!(members.iter().zip(&after).all(|(old, new)| old == new || *new == 6));
        assert!((20..85).contains(&moved), "{moved} of 200 moved to a fourth");
        // One is left out: only its own go elsewhere.
        group.steer(&Program::Sticky(vec![(5, 2), (1, 0), (6, 3)]));
        let without = group.all_reached();
        assert!(after.iter().zip(&without).all(|(old, new)| old == new || *old == 2));
        assert!(!without.contains(&2));
    }
}

#[test]
fn sticky_takes_ipv6_and_ipv4_on_one_socket() {
    let Some(group) = Group::new(Kind::Tcp, "[::]:0", 3) else { return };
    group.steer(&Program::Sticky(vec![(0, 0), (1, 1), (2, 2)]));
    let of_six = group.all_reached();
    let plain = Group::new(Kind::Tcp, "0.0.0.0:0", 3).unwrap();
    plain.steer(&Program::Sticky(vec![(0, 0), (1, 1), (2, 2)]));
    assert_eq!(plain.all_reached(), of_six);
    let once = group.reached_from("::1".parse().unwrap());
    for _ in 0..20 {
        assert_eq!(group.reached_from("::1".parse().unwrap()), once);
    }
}

#[test]
fn a_flow_stays_and_its_neighbours_spread() {
    for (address, source) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let Some(group) = Group::new(Kind::Udp, address, 4) else { continue };
        group.steer(&Program::Flow((0..4).map(|n| (n, n)).collect()));
        let mut got = [0; 4];
        for _ in 0..200 {
            let client = group.client(source.parse().unwrap(), 0);
            let first = group.arrived();
            got[first] += 1;
            for _ in 0..3 {
                sendto(&client, b"x", SendFlags::empty(), &group.address).unwrap();
                assert_eq!(group.arrived(), first);
            }
        }
        // Fewer for one of four with a probability below one in 10^6.
        assert!(got.iter().all(|count| *count > 20), "{got:?}");
    }
}

#[test]
fn the_largest_programs_are_taken_or_refused_with_the_bound_that_applies() {
    let pairs = |count: usize| (0..count as u32).map(|n| (0, n + 1)).collect::<Vec<_>>();
    let programs = |extra: usize| {
        [
            Program::Random(vec![0; ACTIVE_MAX + extra]),
            Program::Weighted(pairs(ACTIVE_MAX + extra)),
            Program::Sticky(pairs(HASHED_MAX + extra)),
            Program::Flow(pairs(HASHED_MAX + extra)),
        ]
    };
    let group = Group::new(Kind::Tcp, "127.0.0.1:0", 2).unwrap();
    for program in programs(0) {
        if let Err(error) = attach(&group.members[0], &program) {
            // Older kernels set little aside by default.
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
            assert!(error.to_string().contains("net.core.optmem_max"));
            continue;
        }
        assert_eq!(group.shares(20), [20, 0]);
    }
    for program in programs(1).into_iter().chain([Program::Random(vec![]), Program::Weighted(vec![(0, 0)])]) {
        let error = attach(&group.members[0], &program).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to "), "{error}");
    }
}
