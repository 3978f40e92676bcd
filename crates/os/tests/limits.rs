//! Out of descriptors. One test only: it changes the limit of this process and counts its descriptors.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use common::{exit_of, open_fds, program, shell, wait_readable};
use oxherd_os::fdpass::{receive, send};
use oxherd_os::socket::{self, ListenOptions, LocalAddr};
use oxherd_os::{CgroupChoice, Host, HostOptions, Output, SpawnError, detach, io_errno, proc, rescue};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::process::{Resource, Rlimit, setrlimit};

fn set_soft_limit(soft: u64) {
    let (_, hard) = proc::fd_limit();
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(hard) }).unwrap();
}

/// Runs `attempt` with room for `spare` more descriptors.
fn with_spare<T>(spare: u64, attempt: impl FnOnce() -> T) -> T {
    let highest = open_fds(std::process::id()).into_iter().max().unwrap();
    let mut filler = Vec::new();
    let last = loop {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd() as u32;
        filler.push(file);
        if number > highest {
            break number;
        }
    };
    let before = proc::fd_limit().0;
    set_soft_limit(u64::from(last) + 1 + spare);
    let result = attempt();
    set_soft_limit(before);
    result
}

fn count() -> usize {
    open_fds(std::process::id()).len()
}

#[test]
fn out_of_descriptors_and_no_leaks() {
    let original = proc::raise_fd_limit().unwrap();
    assert_eq!(proc::fd_limit().0, proc::fd_limit().1);
    set_soft_limit(original.min(512));
    let before = count();
    truncated_control_data_is_reported();
    assert_eq!(count(), before);
    accept_fails_and_the_connection_waits();
    assert_eq!(count(), before);
    spawning_leaks_nothing();
    assert_eq!(count(), before);
    a_rescue_leaves_some();
    assert_eq!(count(), before);
}

fn a_rescue_leaves_some() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ends: Vec<_> = (0..40)
        .flat_map(|_| {
            [TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap().0]
        })
        .collect();
    let own = detach::own_pidfd().unwrap();
    let rescue = || rescue::connections_of(std::process::id(), &own, &[]);
    assert_eq!(rescue().unwrap().len(), ends.len());
    // The list of what is open is one of them, too.
    assert_eq!(with_spare(32 + 10, rescue).unwrap().len(), 9);
    assert_eq!(io_errno(&with_spare(32, rescue).unwrap_err()), libc::EMFILE);
}

fn truncated_control_data_is_reported() {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let many = [ours.as_fd(); 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
    sendmsg(&ours, &[IoSlice::new(b"frame")], &mut control, SendFlags::empty()).unwrap();
    send(&ours, b"next", Some(ours.as_fd())).unwrap();
    let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
    let received = with_spare(2, || receive(&theirs, &mut buffer, &mut fds)).unwrap();
    assert!(received.truncated);
    assert_eq!((received.bytes, received.fds, fds.len()), (5, 2, 2));
    fds.clear();
    let received = receive(&theirs, &mut buffer, &mut fds).unwrap();
    assert_eq!((received.bytes, received.fds, received.truncated), (4, 1, false), "the stream goes on");
}

fn accept_fails_and_the_connection_waits() {
    let listener = socket::listen_tcp("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let LocalAddr::Inet(address) = socket::local_addr(&listener).unwrap() else {
        panic!("not an IP address")
    };
    let _client = TcpStream::connect(address).unwrap();
    wait_readable(&listener);
    let error = with_spare(0, || socket::accept(&listener)).unwrap_err();
    assert_eq!(io_errno(&error), libc::EMFILE);
    assert_eq!(socket::accept_queue_len(&listener).unwrap(), Some(1));
    socket::accept(&listener).unwrap();
    assert_eq!(socket::accept_queue_len(&listener).unwrap(), Some(0));
}

fn spawning_leaks_nothing() {
    let options = HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() };
    let mut host = Host::new(options).unwrap();
    let with_all = |mut spec: oxherd_os::SpawnSpec| {
        spec.channel = true;
        (spec.stdout, spec.stderr) = (Output::Pipe, Output::Pipe);
        spec
    };
    let before = count();
    assert!(host.spawn(&with_all(program("no-such-program", &[]))).is_err());
    assert_eq!(count(), before);
    for spare in 0..10 {
        let result = with_spare(spare, || host.spawn(&with_all(shell("exit 0"))));
        assert!(matches!(result, Err(SpawnError::Limit { .. })), "{spare}: {result:?}");
        assert_eq!(count(), before, "{spare}");
    }
    let mut spawned = host.spawn(&with_all(shell("exit 0"))).unwrap();
    exit_of(&mut host, &mut spawned.child);
    drop(spawned);
    assert_eq!(count(), before);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
    let nobody = rustix::process::waitid(rustix::process::WaitId::All, options);
    assert_eq!(nobody.unwrap_err(), rustix::io::Errno::CHILD, "failed starts leave no zombies");
}
