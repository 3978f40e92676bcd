//! Steering of a group, where connections really land: by weight, by address, by load, and in the order of the books.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use oxherd_core::{InstanceId, Slot, Strategy};
use oxherd_os::socket::{ListenOptions, accept, bind_udp, listen_tcp};
use oxherd_os::steering::Program;
use oxherd_os::{Interest, Poller};
use oxherd_wire::load;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::harness::{APP, Herd, Worker};
use super::strategies::share;
use crate::traffic::Order;
use crate::traffic::group::{Group, Transport};
use crate::traffic::timers::Timer;

fn herd(strategy: Strategy, weights: &[u32]) -> Herd {
    let mut herd = Herd::kernel();
    herd.spec.strategy = strategy;
    herd.spec.weights = weights.to_vec();
    // What other tests open is none of this.
    herd.traffic.steerings.forget_openings();
    herd
}

/// A connection from one of the loopback's addresses.
fn connect_from(source: u8, to: SocketAddr) -> OwnedFd {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&client, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0))).unwrap();
    connect(&client, &to).unwrap();
    client
}

/// The slot of the worker that a connection from there reaches.
fn slot_of(source: u8, to: SocketAddr, workers: &[&Worker]) -> u32 {
    let _client = connect_from(source, to);
    let got = |worker: &&&Worker| worker.lent.iter().any(|fd| accept(fd).is_ok());
    workers.iter().find(got).map(|worker| worker.place.slot.0).expect("it is at one of them")
}

fn slots_of(to: SocketAddr, workers: &[&Worker]) -> Vec<u32> {
    (1..=120).map(|source| slot_of(source, to, workers)).collect()
}

#[test]
fn weights_are_those_of_the_slots() {
    let mut herd = herd(Strategy::Weighted, &[10, 30, 60, 0]);
    let (workers, addresses): (Vec<_>, Vec<_>) = (0..4).map(|slot| herd.worker(slot)).unzip();
    let mut got = [0; 4];
    for _ in 0..1000 {
        got[slot_of(1, addresses[0], &workers.iter().collect::<Vec<_>>()) as usize] += 1;
    }
    // Six standard deviations.
    for (got, (weight, slack)) in got.iter().zip([(100_u32, 57), (300, 87), (600, 93), (0, 0)]) {
        assert!(weight.abs_diff(*got) <= slack, "{got} for {weight}");
    }
}

#[test]
fn an_address_keeps_its_slot_through_a_crash_a_reload_and_a_scaling_up() {
    let mut herd = herd(Strategy::Sticky, &[]);
    let (first, address) = herd.worker(0);
    let (mut second, _) = herd.worker(1);
    let (third, _) = herd.worker(2);
    let before = slots_of(address, &[&first, &second, &third]);
    assert!((0..3).all(|slot| before.iter().filter(|it| **it == slot).count() > 15), "{before:?}");

    // While nobody has the slot its addresses go elsewhere, and no others do.
    herd.bury(&mut second);
    let during = slots_of(address, &[&first, &third]);
    assert!(before.iter().zip(&during).all(|(old, new)| old == new || *old == 1));
    let (second, _) = herd.worker(1);
    assert_eq!(slots_of(address, &[&first, &second, &third]), before);

    // The successor has the slot's other side.
    let (successor, _) = herd.worker(0);
    herd.order(Order::Withdraw(first.place.instance));
    assert_eq!(slots_of(address, &[&successor, &second, &third]), before);
    assert!(first.accept_lent().is_empty());

    let (fourth, _) = herd.worker(3);
    let after = slots_of(address, &[&successor, &second, &third, &fourth]);
    let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
    assert!(before.iter().zip(&after).all(|(old, new)| old == new || *new == 3));
    assert!((10..60).contains(&moved), "{moved} of 120 moved to a fourth slot");
}

#[test]
fn what_waits_at_a_slots_old_side_is_its_successors() {
    let mut herd = herd(Strategy::Sticky, &[]);
    let (old, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let clients: Vec<_> = (1..=40).map(|source| connect_from(source, address)).collect();
    for client in &clients {
        rustix::io::write(client, &7_u64.to_be_bytes()).unwrap();
    }
    let others = std::iter::from_fn(|| accept(&other.lent[0]).ok()).count();
    let (mut successor, _) = herd.worker(0);
    herd.order(Order::Withdraw(old.place.instance));
    let mut got = 0;
    herd.until("all are served", |_| {
        while let Some(connection) = successor.take() {
            successor.answer(&connection, true);
            got += 1;
        }
        assert!(other.take().is_none(), "it is another slot's");
        (others + got == clients.len()).then_some(())
    });
    assert!(got > 5, "{got} of 40 are the slot's");
}

/// Those of `of` connections that reach each worker; all of them wait.
fn waiting_at(address: SocketAddr, of: usize, workers: &[Worker]) -> (Vec<TcpStream>, Vec<usize>) {
    let queue = |worker: &Worker| {
        let lengths = worker.lent.iter().map(|fd| oxherd_os::socket::accept_queue_len(fd).unwrap().unwrap());
        lengths.sum::<u32>() as usize
    };
    let before: Vec<usize> = workers.iter().map(queue).collect();
    let clients = (0..of).map(|_| TcpStream::connect(address).unwrap()).collect();
    let after: Vec<usize> = workers.iter().map(queue).collect();
    (clients, after.iter().zip(before).map(|(after, before)| after - before).collect())
}

#[test]
fn a_queue_that_grows_gets_nothing_while_another_is_empty() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let (workers, addresses): (Vec<_>, Vec<_>) = (0..2).map(|slot| herd.worker(slot)).unzip();
    let (_held, got) = waiting_at(addresses[0], 40, &workers);
    assert!(got.iter().all(|got| *got > 4), "nobody was weighed yet: {got:?}");
    while accept(&workers[1].lent[0]).is_ok() {}
    herd.settle();
    // By and by the burst is forgotten.
    (0..30).for_each(|_| herd.pass(10));
    while accept(&workers[1].lent[0]).is_ok() {}
    herd.pass(10);
    let (_more, got) = waiting_at(addresses[0], 10, &workers);
    assert_eq!(got, [0, 10], "the first has a queue");
}

#[test]
fn reported_requests_are_followed() {
    let mut herd = herd(Strategy::LeastBusy, &[]);
    let (mut workers, addresses): (Vec<_>, Vec<_>) = (0..2).map(|slot| herd.worker(slot)).unzip();
    let pages: Vec<_> = workers.iter_mut().map(|worker| share(&mut herd, worker)).collect();
    pages[0].set(load::WORD_IN_FLIGHT, 50);
    // Somebody has to come for anybody to look.
    let (_first, _) = waiting_at(addresses[0], 1, &workers);
    herd.settle();
    for worker in &workers {
        while accept(&worker.lent[0]).is_ok() {}
    }
    (0..10).for_each(|_| herd.pass(10));
    let (_held, got) = waiting_at(addresses[0], 20, &workers);
    assert_eq!(got, [0, 20]);
}

#[test]
fn nobody_is_weighed_while_nobody_comes() {
    let mut herd = herd(Strategy::LeastConnections, &[]);
    let (workers, addresses): (Vec<_>, Vec<_>) = (0..2).map(|slot| herd.worker(slot)).unzip();
    let is_awake = |herd: &Herd| herd.traffic.timers.is_set(|timer| matches!(timer, Timer::Weigh(_)));
    (0..5).for_each(|_| herd.pass(1000));
    assert!(!is_awake(&herd));
    for _ in 0..3 {
        let (_client, _) = waiting_at(addresses[0], 1, &workers);
        herd.settle();
        assert!(is_awake(&herd), "somebody has come");
        workers.iter().for_each(|worker| while accept(&worker.lent[0]).is_ok() {});
        (0..300).for_each(|_| herd.pass(100));
        assert!(!is_awake(&herd), "that is long ago");
    }
}

#[test]
fn other_strategies_never_wake() {
    for strategy in [Strategy::Random, Strategy::RoundRobin, Strategy::Weighted, Strategy::Sticky] {
        let mut herd = herd(strategy, &[]);
        let (workers, addresses): (Vec<_>, Vec<_>) = (0..2).map(|slot| herd.worker(slot)).unzip();
        let (_clients, _) = waiting_at(addresses[0], 5, &workers);
        herd.pass(10);
        assert!(!herd.traffic.timers.is_set(|timer| matches!(timer, Timer::Weigh(_))));
    }
}

/// A group's books beside the kernel's, and what everybody holds of it.
struct Books {
    group: Group,
    poller: Poller,
    transport: Transport,
    /// Copies that workers have.
    copies: BTreeMap<InstanceId, OwnedFd>,
    next: u32,
}

impl Books {
    fn new(transport: Transport) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let group = match transport {
            Transport::Tcp => Group::open(any, None, 64, Slot(0)).unwrap(),
            Transport::Udp => {
                // The first is a program's own, as ever.
                let first = bind_udp(any, None, false, true).unwrap();
                let mut group = Group::empty(address_of(&first), None, Transport::Udp);
                let poller = Poller::new().unwrap();
                group.adopt(Slot(0), InstanceId { starts: 0, number: 0 }, first, 64, &poller).unwrap();
                group
            }
        };
        Self { group, poller: Poller::new().unwrap(), transport, copies: BTreeMap::new(), next: 1 }
    }

    fn new_instance(&mut self) -> InstanceId {
        self.next += 1;
        InstanceId { starts: 0, number: self.next }
    }

    /// Each index is where the books say.
    fn check(&self, story: &str) {
        for (index, member) in self.group.members().iter().enumerate() {
            self.group.steer(&Program::Random(vec![index as u32])).unwrap();
            let landed = match self.transport {
                Transport::Tcp => {
                    let _client = TcpStream::connect(self.group.address()).unwrap();
                    accept(&member.source.fd).is_ok()
                }
                Transport::Udp => {
                    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                    client.send_to(b"x", self.group.address()).unwrap();
                    let flags = rustix::net::RecvFlags::DONTWAIT;
                    rustix::net::recv(&member.source.fd, &mut [0; 4], flags).is_ok()
                }
            };
            assert!(landed, "index {index} is not member {}: {story}", member.number);
        }
    }

    fn lend(&mut self, slot: Slot) {
        let instance = self.new_instance();
        let copies = &self.copies;
        let member = self.group.lend(slot, instance, |it| !copies.contains_key(&it)).unwrap();
        let copy = member.source.fd.try_clone().unwrap();
        self.copies.insert(instance, copy);
    }

    fn adopt(&mut self, slot: Slot) {
        let instance = self.new_instance();
        let address = self.group.address();
        let options = ListenOptions { reuse_port: true, listen_now: false, ..ListenOptions::default() };
        let own = match self.transport {
            Transport::Tcp => listen_tcp(address, &options).unwrap(),
            Transport::Udp => bind_udp(address, None, false, true).unwrap(),
        };
        let copy = own.try_clone().unwrap();
        self.group.adopt(slot, instance, own, 64, &self.poller).unwrap();
        self.copies.insert(instance, copy);
    }

    fn crash(&mut self, chance: u64) {
        let Some(instance) = self.copies.keys().nth(chance as usize % self.copies.len().max(1)).copied()
        else {
            return;
        };
        self.copies.remove(&instance);
        self.group.give_back(instance);
    }

    /// The slot's workers are gone before it is retired.
    fn retire(&mut self, slot: Slot) {
        let others = self.group.members().iter().any(|member| member.slot != slot);
        if !others {
            return;
        }
        let of_slot = self.group.members().iter().filter(|member| member.slot == slot);
        let owners: Vec<InstanceId> = of_slot.filter_map(|member| member.owner).collect();
        owners.into_iter().for_each(|owner| self.group.give_back(owner));
        // A listener can be ended whoever has it, as a descendant may; a UDP socket cannot.
        if self.transport == Transport::Udp {
            let inode = |fd: &OwnedFd| oxherd_os::socket::inode(fd).unwrap();
            let of_slot = self.group.members().iter().filter(|member| member.slot == slot);
            let sockets: Vec<u64> = of_slot.map(|member| inode(&member.source.fd)).collect();
            self.copies.retain(|_, copy| !sockets.contains(&inode(copy)));
        }
        self.group.retire(slot, &self.poller);
    }
}

fn address_of(fd: &OwnedFd) -> SocketAddr {
    match oxherd_os::socket::local_addr(fd).unwrap() {
        oxherd_os::socket::LocalAddr::Inet(address) => address,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_order_of_the_books_is_the_kernels_whatever_happens() {
    for seed in 0..12_u64 {
        let mut books = Books::new(Transport::Tcp);
        let mut chance = seed;
        let mut story = format!("seed {seed}:");
        for _ in 0..40 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = Slot((chance >> 40) as u32 % 5);
            let what = (chance >> 33) % 8;
            match what {
                0..4 => books.lend(slot),
                4 => books.adopt(slot),
                5 => books.crash(chance >> 45),
                6 => books.retire(slot),
                _ => {
                    // A worker's copy is watched as those of members are, and dropped as they are not.
                    if let Some(copy) = books.copies.values().next() {
                        drop(books.poller.add(copy, 0, Interest::READ | Interest::ONCE));
                    }
                }
            }
            story.push_str(&format!(" {what}/{}", slot.0));
            books.check(&story);
        }
    }
}

#[test]
fn the_order_of_udp_sockets_is_the_kernels_too() {
    for seed in 100..106_u64 {
        let mut books = Books::new(Transport::Udp);
        let mut chance = seed;
        let mut story = format!("seed {seed}:");
        for _ in 0..30 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = Slot((chance >> 40) as u32 % 4);
            match (chance >> 33) % 6 {
                0..4 => books.lend(slot),
                4 => books.crash(chance >> 45),
                _ => books.retire(slot),
            }
            story.push_str(&format!(" {}/{}", (chance >> 33) % 6, slot.0));
            books.check(&story);
        }
    }
}

#[test]
fn who_is_withdrawn_gets_nothing_from_that_moment_on() {
    for strategy in Strategy::ALL {
        let mut herd = herd(strategy, &[]);
        let (workers, addresses): (Vec<_>, Vec<_>) = (0..3).map(|slot| herd.worker(slot)).unzip();
        let (_early, _) = waiting_at(addresses[0], 60, &workers);
        workers.iter().for_each(|worker| while accept(&worker.lent[0]).is_ok() {});
        herd.order(Order::Withdraw(workers[1].place.instance));
        for round in 0..5 {
            let (_clients, got) = waiting_at(addresses[0], 60, &workers);
            assert_eq!(got[1], 0, "{strategy}, round {round}: {got:?}");
            assert_eq!(got.iter().sum::<usize>(), 60);
            herd.pass(10);
            workers.iter().for_each(|worker| while accept(&worker.lent[0]).is_ok() {});
        }
        assert_eq!(herd.traffic.listeners.of_app(APP).len(), 1);
    }
}
