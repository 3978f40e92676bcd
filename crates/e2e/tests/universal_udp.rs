//! UDP servers: a flow stays with its worker, and no datagram waits in vain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use oxherd_e2e::{Address, Event, Herd, Program, eventually, ports, procs};
use rustix::process::Signal;

const WORKERS: u32 = 3;
const FLOWS: usize = 30;
/// A datagram to a worker that boots waits in its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client with its own port.
struct Flow(UdpSocket);

impl Flow {
    fn to(address: &Address) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))).expect("loopback is there");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout may be set");
        Self(socket)
    }

    fn send(&self, text: &str) {
        self.0.send(text.as_bytes()).expect("somebody has the port");
    }

    fn receive(&self, text: &str) -> u32 {
        let mut buffer = [0; 64];
        let length =
            self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("no answer to {text:?}: {error}"));
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (pid, echo) = answer.split_once(' ').expect("it tells its process");
        assert_eq!(echo, text);
        pid.parse().expect("it tells its process")
    }

    fn ask(&self, text: &str) -> u32 {
        self.send(text);
        self.receive(text)
    }
}

fn flows(address: &Address) -> Vec<Flow> {
    (0..FLOWS).map(|_| Flow::to(address)).collect()
}

fn start() -> (Herd, Address) {
    let port = ports::free();
    let herd = Program::python_script("echo.py", port).herd(WORKERS).start();
    let address = Address::v4(port);
    eventually("all listen", || (herd.serving().len() == WORKERS as usize).then_some(()));
    (herd, address)
}

#[test]
fn a_flow_stays_with_its_worker() {
    let (herd, address) = start();
    let flows = flows(&address);
    let first: Vec<u32> = flows.iter().map(|flow| flow.ask("hello")).collect();
    assert_eq!(BTreeSet::from_iter(&first).len(), WORKERS as usize, "they are spread: {first:?}");
    for round in 0..5 {
        let again: Vec<u32> = flows.iter().map(|flow| flow.ask(&format!("round {round}"))).collect();
        assert_eq!(again, first);
    }
    let by_pid = first.iter().fold(BTreeMap::<u32, usize>::new(), |mut all, pid| {
        *all.entry(*pid).or_default() += 1;
        all
    });
    println!("UDP: {FLOWS} flows over {WORKERS} workers: {by_pid:?}");
    herd.stop();
}

#[test]
fn a_killed_worker_leaves_its_datagrams_to_the_next() {
    let (herd, address) = start();
    let flows = flows(&address);
    let first: Vec<u32> = flows.iter().map(|flow| flow.ask("hello")).collect();
    let victim = herd.serving()[&1];
    procs::stop(victim);
    flows.iter().for_each(|flow| flow.send("in the queue"));
    let mark = herd.mark();
    procs::kill(victim, Signal::KILL);
    let (successor, _) = herd.wait_event(mark, Event::Ready);
    let second: Vec<u32> = flows.iter().map(|flow| flow.receive("in the queue")).collect();
    for (before, after) in first.iter().zip(&second) {
        let expected = if *before == victim { successor.pid } else { *before };
        assert_eq!(*after, expected, "others keep their worker");
    }
    let inherited = first.iter().filter(|pid| **pid == victim).count();
    println!("UDP: {inherited} datagrams waited for a killed worker, and were answered by the next");
    assert!(inherited > 0);
    herd.stop();
}

#[test]
fn reloads_lose_no_datagram() {
    let (herd, address) = start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let clients = flows(&address);
    let clients = clients.into_iter().take(4);
    let asked: usize = std::thread::scope(|scope| {
        let ask = |flow: Flow| {
            let stop = &stop;
            scope.spawn(move || {
                let mut count = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    flow.ask(&count.to_string());
                    count += 1;
                }
                count
            })
        };
        let clients: Vec<_> = clients.map(ask).collect();
        for _ in 0..10 {
            herd.reload();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("every datagram is answered")).sum()
    });
    println!("UDP: 10 reloads: {asked} datagrams, each answered");
    herd.stop();
}
