//! Long messages survive whoever sends them; short ones are whole or not there.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use common::{am_helper, exit_of, helper, wait_for};
use oxherd_os::fdpass::{self, WHOLE_BYTES_MAX};
use oxherd_os::{CgroupChoice, Host, HostOptions, Output, Spool, reexec, socket};
use rustix::event::PollFlags;
use rustix::net::sockopt;

/// More than any socket here holds.
const LONG_BYTES: usize = 5_000_001;
const HELPER: &str = "helper_that_sends_and_is_killed";

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251 + n / 65_537) as u8).collect()
}

/// Deterministic, so that a failure comes again.
struct Chance(u32);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn spool_of(file: &impl AsFd) -> Spool {
    Spool::of(file.as_fd().try_clone_to_owned().unwrap())
}

#[test]
fn short_messages_go_whole_or_not_at_all() {
    let mut chance = Chance(1);
    let file = std::fs::File::open("/dev/null").unwrap();
    for room in [None, Some(1), Some(5000), Some(20_000), Some(65_000), Some(200_000)] {
        let (ours, mut theirs) = pair();
        if let Some(room) = room {
            sockopt::set_socket_send_buffer_size(&ours, room).unwrap();
        }
        let limit = fdpass::whole_bytes(&ours).unwrap();
        assert!((2000..=WHOLE_BYTES_MAX).contains(&limit), "{limit}");
        let (message, mut buffer) = (pattern(limit), vec![0; 100_000]);
        let (mut went, mut refused) = (0, 0);
        for n in 0..3000 {
            // Short ones fill the last gaps; the longest is what may go.
            let length = if n % 3 == 0 { limit - chance.below(3) } else { 1 + chance.below(limit.min(300)) };
            let fd = (n % 7 == 0).then(|| file.as_fd());
            match fdpass::send(&ours, &message[..length], fd) {
                Ok(sent) => {
                    assert_eq!(sent, length, "cut with a send buffer of {room:?}");
                    went += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    refused += 1;
                    let some = 1 + chance.below(buffer.len());
                    assert!(theirs.read(&mut buffer[..some]).unwrap() > 0);
                }
            }
        }
        assert!(went > 100 && refused > 100, "{went} went, {refused} were refused");
    }
}

#[test]
fn another_holder_goes_on_where_the_first_stopped() {
    let (ours, mut theirs) = pair();
    let first = Spool::new("test").unwrap();
    let second = spool_of(&first);
    let mut buffer = vec![0; LONG_BYTES];
    for round in 0..3 {
        let bytes = &pattern(LONG_BYTES)[round..];
        assert_eq!(second.left().unwrap(), 0);
        first.load(bytes).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            let count = [&first, &second][sent % 2].send(&ours).unwrap();
            assert_eq!(socket::unread_bytes(&theirs).unwrap(), count as u64);
            assert_eq!(second.left().unwrap(), (bytes.len() - sent - count) as u64);
            theirs.read_exact(&mut buffer[..count]).unwrap();
            assert!(buffer[..count] == bytes[sent..sent + count], "what came is not what was sent");
            sent += count;
        }
        assert_eq!(second.send(&ours).unwrap(), 0);
    }
}

#[test]
fn what_went_is_not_changed_by_what_follows() {
    let (ours, mut theirs) = pair();
    let spool = Spool::new("test").unwrap();
    let (first, second) = (pattern(50_000), vec![b'x'; 50_000]);
    for bytes in [&first, &second] {
        spool.load(bytes).unwrap();
        assert_eq!(spool.send(&ours).unwrap(), bytes.len());
        spool.clear().unwrap();
        assert_eq!(spool.left().unwrap(), 0);
    }
    let mut came = vec![0; 100_000];
    theirs.read_exact(&mut came).unwrap();
    assert!(came == [first, second].concat());
}

#[test]
fn errors_leave_everything_to_be_sent() {
    let (ours, theirs) = pair();
    let spool = Spool::new("test").unwrap();
    spool.load(&pattern(LONG_BYTES)).unwrap();
    spool.send(&ours).unwrap();
    let left = spool.left().unwrap();
    assert_eq!(spool.send(&ours).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(theirs);
    assert_eq!(spool.send(&ours).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(spool.left().unwrap(), left);
}

/// Sends what is in a spool; both the socket and the spool were handed down to it.
#[test]
fn helper_that_sends_and_is_killed() {
    if !am_helper(HELPER) {
        return;
    }
    let [socket, spool] = [3, 4].map(|number| reexec::inherit(number).unwrap());
    let spool = Spool::of(spool);
    while spool.left().unwrap() > 0 {
        wait_for(&socket, PollFlags::OUT);
        drop(spool.send(&socket));
    }
}

#[test]
fn a_kill_at_any_moment_loses_and_doubles_nothing() {
    let mut chance = Chance(2);
    let mut host = Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
    let mut spec = helper(HELPER);
    spec.stdout = Output::Null;
    let (ours, theirs) = pair();
    let spool = Spool::new("test").unwrap();
    let (bytes, mut came) = (pattern(LONG_BYTES), Vec::new());
    let mut buffer = vec![0; 300_000];
    let mut deaths = 0;
    for _message in 0..3 {
        came.clear();
        spool.load(&bytes).unwrap();
        while came.len() < bytes.len() {
            let handed = [ours.as_fd(), spool.as_fd()];
            let mut sender = host.spawn_with(&spec, &handed).unwrap().child;
            // So much comes before the kill, and the sender is in the middle of more.
            let until = (came.len() + 1 + chance.below(1_000_000)).min(bytes.len());
            while came.len() < until {
                wait_for(&theirs, PollFlags::IN);
                let count = fdpass::receive(&theirs, &mut buffer, &mut VecDeque::new()).unwrap().bytes;
                came.extend_from_slice(&buffer[..count]);
            }
            host.kill_tree(&sender).unwrap();
            exit_of(&mut host, &mut sender);
            deaths += 1;
        }
        assert!(came == bytes, "what came is not what was sent");
        assert_eq!((spool.left().unwrap(), socket::unread_bytes(&theirs).unwrap()), (0, 0));
    }
    assert!(deaths > 15, "{deaths}");
}
