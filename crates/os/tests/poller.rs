//! Readiness: level and edge, wake-ups, exits, hang-ups.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{DEADLINE, exit_of, shell};
use oxherd_os::{CgroupChoice, Event, Events, Host, HostOptions, Interest, Poller, Waker, io_errno};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn only(poller: &Poller, timeout: Option<Duration>) -> Option<Event> {
    let mut events = Events::with_capacity(8);
    let count = poller.wait(&mut events, timeout).unwrap();
    assert!(count <= 1 && count == events.len() && events.is_empty() == (count == 0));
    events.iter().next()
}

fn readable(token: u64) -> Option<Event> {
    Some(Event { token, readable: true, writable: false, hangup: false })
}

#[test]
fn level_repeats_and_edge_does_not() {
    let poller = Poller::new().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    poller.add(&reader, u64::MAX, Interest::READ).unwrap();
    assert_eq!(io_errno(&poller.add(&reader, 1, Interest::READ).unwrap_err()), libc::EEXIST);
    assert_eq!(only(&poller, NOW), None);
    rustix::io::write(&writer, b"x").unwrap();
    assert_eq!(only(&poller, Some(DEADLINE)), readable(u64::MAX));
    assert_eq!(only(&poller, Some(DEADLINE)), readable(u64::MAX));
    poller.modify(&reader, 2, Interest::READ | Interest::EDGE).unwrap();
    assert_eq!(only(&poller, Some(DEADLINE)), readable(2));
    assert_eq!(only(&poller, NOW), None);
    rustix::io::write(&writer, b"y").unwrap();
    assert_eq!(only(&poller, Some(DEADLINE)), readable(2));
    poller.modify(&reader, 2, Interest::NONE).unwrap();
    assert_eq!(only(&poller, NOW), None);
    poller.remove(&reader).unwrap();
    assert_eq!(io_errno(&poller.remove(&reader).unwrap_err()), libc::ENOENT);
}

#[test]
fn writability_and_hangup() {
    let poller = Poller::new().unwrap();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    poller.add(&ours, 1, Interest::READ | Interest::WRITE).unwrap();
    let event = only(&poller, Some(DEADLINE)).unwrap();
    assert_eq!(event, Event { token: 1, readable: false, writable: true, hangup: false });
    drop(theirs);
    let event = only(&poller, Some(DEADLINE)).unwrap();
    assert!(event.hangup && event.readable);
}

#[test]
fn a_closed_pipe_reads_as_readable() {
    let poller = Poller::new().unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    poller.add(&reader, 1, Interest::READ).unwrap();
    drop(writer);
    let event = only(&poller, Some(DEADLINE)).unwrap();
    assert!(event.hangup && event.readable && !event.writable);
}

#[test]
fn a_waker_wakes_from_another_thread() {
    let poller = Poller::new().unwrap();
    let waker = Waker::new().unwrap();
    poller.add(&waker, 7, Interest::READ).unwrap();
    let remote = waker.clone();
    let thread = std::thread::spawn(move || (0..3).for_each(|_| remote.wake()));
    assert_eq!(only(&poller, Some(DEADLINE)), readable(7));
    thread.join().unwrap();
    waker.drain();
    assert_eq!(only(&poller, NOW), None);
    waker.drain();
}

#[test]
fn timeouts_are_not_cut_short() {
    let poller = Poller::new().unwrap();
    let start = Instant::now();
    let timeout = Duration::from_micros(2_300);
    assert_eq!(only(&poller, Some(timeout)), None);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn an_exit_makes_the_pidfd_readable() {
    let mut host = Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
    let mut spec = shell("read line <&3");
    spec.channel = true;
    let mut spawned = host.spawn(&spec).unwrap();
    let poller = Poller::new().unwrap();
    poller.add(&spawned.child, 5, Interest::READ).unwrap();
    assert_eq!(only(&poller, NOW), None);
    drop(spawned.channel.take());
    let event = only(&poller, Some(DEADLINE)).unwrap();
    assert!(event.readable && event.token == 5);
    poller.remove(&spawned.child).unwrap();
    exit_of(&mut host, &mut spawned.child);
}

#[test]
fn events_beyond_the_capacity_come_later() {
    let poller = Poller::new().unwrap();
    let wakers: Vec<Waker> = (0..5).map(|_| Waker::new().unwrap()).collect();
    for (token, waker) in wakers.iter().enumerate() {
        poller.add(waker, token as u64, Interest::READ | Interest::EDGE).unwrap();
        waker.wake();
    }
    let mut events = Events::with_capacity(2);
    let mut seen = Vec::new();
    while poller.wait(&mut events, NOW).unwrap() > 0 {
        seen.extend(events.iter().map(|event| event.token));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}
