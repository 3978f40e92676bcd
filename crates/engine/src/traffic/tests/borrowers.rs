//! Real processes whose calls are trapped, for the tests of workers that borrow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oxherd_core::{Distribution, Event, Generation, InstanceId, Place, Slot, Sockets};
use oxherd_os::{CgroupChoice, Child, Host, HostOptions, Lending, Output, SpawnSpec};

use super::harness::{APP, Herd, label_of};
use super::keeper::MemoryStash;
use crate::traffic::orders::{Bequest, Borrowing, News, Order};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
/// What the scripts begin with. `listener` is what most servers do; whoever connects is told the process.
const PRELUDE: &str = r"
import ctypes, os, select, signal, socket, sys, threading, time
HOST, PORT = sys.argv[1], int(sys.argv[2])
def bound(**options):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((HOST, PORT))
    return s
def listener():
    s = bound()
    s.listen(64)
    return s
def answer(c):
    c.recv(8)
    c.sendall(b'%d\n' % os.getpid())
    c.close()
def serve(s):
    while True:
        answer(s.accept()[0])
";
/// What most of them do then.
pub(super) const SERVE: &str = "serve(listener())";

/// A herd whose workers are processes that borrow.
pub(super) struct Pasture {
    pub(super) herd: Herd,
    pub(super) address: SocketAddr,
    host: Host,
    instances: u32,
}

/// One of them.
pub(super) struct Borrowed {
    pub(super) place: Place,
    pub(super) child: Child,
}

impl Pasture {
    pub(super) fn new() -> Self {
        Self::with(Herd::new())
    }

    pub(super) fn with(mut herd: Herd) -> Self {
        herd.spec.sockets = Sockets::Universal;
        herd.spec.distribution = Distribution::Kernel;
        let options = HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() };
        Self { herd, address: own_address(), host: Host::new(options).unwrap(), instances: 0 }
    }

    /// A process that runs a script, attached and not admitted.
    pub(super) fn spawn(&mut self, slot: u32, script: &str) -> Borrowed {
        self.spawn_as(slot, script, false)
    }

    pub(super) fn standby(&mut self, slot: u32, script: &str) -> Borrowed {
        self.spawn_as(slot, script, true)
    }

    fn spawn_as(&mut self, slot: u32, script: &str, parks: bool) -> Borrowed {
        self.instances += 1;
        let instance = InstanceId { starts: 0, number: self.instances };
        let place = Place { app: APP, slot: Slot(slot), generation: Generation(1), instance };
        let mut spec = SpawnSpec::new("python3");
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        spec.args = ["-uc".into(), format!("{PRELUDE}\n{script}"), ip, port].map(Into::into).to_vec();
        spec.env = std::env::var_os("PATH").map(|path| ("PATH".into(), path)).into_iter().collect();
        spec.label = format!("{}-{}", label_of(place), self.address.ip());
        (spec.lend, spec.stdout, spec.parent_death_signal) = (true, Output::Null, true);
        let spawned = self.host.spawn(&spec).unwrap();
        let Lending::On(traps) = spawned.lending else { panic!("{:?}", spawned.lending) };
        self.herd.order(Order::Borrow(Borrowing {
            place,
            label: spec.label,
            spec: Arc::new(self.herd.spec.clone()),
            pid: spawned.child.pid,
            traps: Some(traps),
            counters_fd: None,
            parks,
            is_heir: false,
        }));
        Borrowed { place, child: spawned.child }
    }

    /// The primary dies at this moment; its successor has what was in the stash, and whoever lives.
    pub(super) fn succeed(&mut self, stash: &MemoryStash, workers: &[&Borrowed]) {
        let traps = |worker: &Borrowed| {
            let it = self.herd.traffic.borrowers.by_instance(worker.place.instance).unwrap();
            it.traps.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap()
        };
        let traps: Vec<OwnedFd> = workers.iter().map(|it| traps(it)).collect();
        let (now, spec) = (self.herd.now, self.herd.spec.clone());
        self.herd = Herd::kept(stash);
        (self.herd.now, self.herd.spec) = (now, spec);
        let entries = stash.entries();
        self.herd.order(Order::TakeOver(Bequest { starts: 1, entries, connections: Vec::new() }));
        for (worker, traps) in workers.iter().zip(traps) {
            self.herd.order(Order::Borrow(Borrowing {
                place: worker.place,
                label: worker.child.label().to_owned(),
                spec: Arc::new(self.herd.spec.clone()),
                pid: worker.child.pid,
                traps: Some(traps),
                counters_fd: None,
                parks: false,
                is_heir: true,
            }));
        }
    }

    /// A process that serves, listening and admitted.
    pub(super) fn worker(&mut self, slot: u32) -> Borrowed {
        let worker = self.spawn(slot, SERVE);
        self.until_listening(&worker);
        self.herd.order(Order::Admit(worker.place.instance));
        worker
    }

    pub(super) fn until_listening(&mut self, worker: &Borrowed) {
        let of = worker.place.instance;
        self.until_fact(
            "it listens",
            |event| matches!(event, Event::Listening { instance, .. } if *instance == of),
        );
    }

    pub(super) fn until_fact(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        self.herd.until(what, |herd| herd.fact(&is_it).then_some(()));
    }

    /// It was withdrawn, and has nothing in hand any more.
    pub(super) fn until_withdrawn(&mut self, worker: &Borrowed) {
        let of = worker.place.instance;
        self.herd.until("it is withdrawn", |herd| {
            herd.now += 1;
            herd.fact(|event| matches!(event, Event::Withdrawn { instance } if *instance == of)).then_some(())
        });
    }

    /// The process is killed, and traffic is told.
    pub(super) fn kill(&mut self, worker: &mut Borrowed) {
        drop(worker.child.signal(SIGKILL));
        self.bury(worker);
    }

    /// The process ends, and traffic is told.
    pub(super) fn bury(&mut self, worker: &mut Borrowed) {
        let host = &mut self.host;
        self.herd.until("it ends", |_| host.try_wait(&mut worker.child).unwrap());
        let of = worker.place.instance;
        self.herd.order(Order::Detach(of));
        assert!(self.herd.told.iter().any(|news| matches!(news, News::Detached(it) if *it == of)));
    }

    pub(super) fn stop(&mut self, worker: &Borrowed) {
        worker.child.signal(SIGSTOP).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", worker.child.pid)).unwrap();
        self.herd.until("it stops", |_| stat().contains(") T ").then_some(()));
    }

    /// Which processes answered so many clients.
    pub(super) fn answers(&mut self, count: usize) -> Vec<u32> {
        let mut clients: Vec<Client> = (0..count).map(|_| Client::of(self.address)).collect();
        clients.iter_mut().map(|client| self.answer(client)).collect()
    }

    pub(super) fn answer(&mut self, client: &mut Client) -> u32 {
        self.herd.until("an answer", |_| client.answer())
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        drop(self.child.signal(SIGKILL));
    }
}

impl Drop for Pasture {
    fn drop(&mut self) {
        drop(self.host.reap_strangers());
    }
}

/// Somebody who wants to know which process serves.
pub(super) struct Client {
    connection: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).unwrap())
    }

    pub(super) fn on(mut connection: TcpStream) -> Self {
        connection.write_all(b"question").unwrap();
        connection.set_nonblocking(true).unwrap();
        Self { connection, heard: Vec::new() }
    }

    /// Whether something has come.
    pub(super) fn has_heard(&mut self) -> bool {
        matches!(self.connection.peek(&mut [0]), Ok(1))
    }

    pub(super) fn answer(&mut self) -> Option<u32> {
        let mut buffer = [0; 64];
        match self.connection.read(&mut buffer) {
            Ok(0) => Some(String::from_utf8_lossy(&self.heard).trim().parse().expect("a whole answer")),
            Ok(count) => {
                self.heard.extend_from_slice(&buffer[..count]);
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// An address of the machine itself that no other test uses.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)), 8080))
}
