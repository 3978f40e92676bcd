//! Descriptors and identity through an exec, and descriptors handed down at a start.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::path::Path;

use common::{am_helper, exit_of, helper, open_fds, read_all, read_line, shell};
use oxherd_os::memfd::{memfd, read_memfd};
use oxherd_os::{CgroupChoice, ExitStatus, Host, HostOptions, Output, io_errno, packet, reexec};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}

#[test]
fn descriptors_are_handed_down_in_order_and_no_others() {
    let mut host = host();
    let files = [b"a", b"b", b"c"].map(|text| memfd("handed", text).unwrap());
    let handed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    for channel in [false, true] {
        // A Linux path to an open file opens it anew, from its beginning.
        let first = if channel { 4 } else { 3 };
        let list = (first..first + 3).map(|fd| format!("/proc/self/fd/{fd} ")).collect::<String>();
        let mut spec = shell(&format!("cat {list}; echo; kill -STOP $$"));
        (spec.channel, spec.stdout) = (channel, Output::Pipe);
        let mut spawned = host.spawn_with(&spec, &handed).unwrap();
        assert_eq!(read_line(spawned.stdout.as_ref().unwrap()), "abc");
        assert_eq!(open_fds(spawned.child.pid), (0..first + 3).collect::<Vec<u32>>());
        host.kill_tree(&spawned.child).unwrap();
        exit_of(&mut host, &mut spawned.child);
    }
    assert!(files.iter().all(|fd| fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)));
}

#[test]
fn only_inherited_descriptors_can_be_taken_and_only_once() {
    let refused = |number| reexec::inherit(number).unwrap_err();
    assert_eq!(refused(1).kind(), ErrorKind::InvalidInput);
    assert_eq!(refused(-1).kind(), ErrorKind::InvalidInput);
    assert_eq!(io_errno(&refused(1_000_000)), libc::EBADF);
    let file = memfd("mine", b"").unwrap();
    assert_eq!(refused(file.as_raw_fd()).kind(), ErrorKind::InvalidInput);
    // As if this program had been started with it.
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let taken = reexec::inherit(file.into_raw_fd()).unwrap();
    assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(refused(taken.as_raw_fd()).kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_failed_exec_leaves_all_as_it_was() {
    let file = memfd("kept", b"").unwrap();
    let none: [&str; 0] = [];
    let error = reexec::exec(Path::new("/no/such/program"), &none, &[file.as_fd()]);
    assert_eq!(io_errno(&error), libc::ENOENT);
    assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
    let error = reexec::exec(Path::new("/bin/true"), &["a\0b"], &[file.as_fd()]);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_exec_keeps_the_process_its_child_and_what_was_named() {
    let mut host = host();
    let (ours, theirs) = packet::pair().unwrap();
    let mut spec = helper("helper_that_execs");
    spec.stdout = Output::Pipe;
    let mut spawned = host.spawn_with(&spec, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let hear = || packet::receive(&ours, packet::Wait::Block).unwrap().unwrap();
    let pid = spawned.child.pid.to_string();
    assert_eq!(String::from_utf8(hear().bytes).unwrap(), format!("first {pid}"));
    let second = hear();
    assert_eq!(String::from_utf8(second.bytes).unwrap(), format!("second {pid} state Code(7)"));
    let output = read_all(spawned.stdout.take().unwrap());
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0), "{output}");
}

/// Started by the test above with one end of a pair as descriptor 3; becomes itself once more.
#[test]
fn helper_that_execs() {
    if !am_helper("helper_that_execs") {
        return;
    }
    let last = std::env::args().next_back().unwrap();
    let numbers: Vec<i32> = last.split(',').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [socket, state, pidfd] => second_life([socket, state, pidfd].map(|fd| reexec::inherit(fd).unwrap())),
        _ => first_life(),
    }
}

fn first_life() {
    let socket = reexec::inherit(3).unwrap();
    let mut host = host();
    let mut spec = shell("read line <&3; exit 7");
    (spec.channel, spec.label, spec.parent_death_signal) = (true, common::unique("execs"), false);
    let mut spawned = host.spawn(&spec).unwrap();
    assert_eq!(host.try_wait(&mut spawned.child).unwrap(), None);
    packet::send(&socket, format!("first {}", std::process::id()).as_bytes(), &[]).unwrap();
    let state =
        memfd("state", serde_json::to_string(&spawned.child.to_record()).unwrap().as_bytes()).unwrap();
    let keep = [socket.as_fd(), state.as_fd(), spawned.child.as_fd()];
    let numbers = keep.map(|fd| fd.as_raw_fd().to_string()).join(",");
    let args = ["--exact", "helper_that_execs", "--nocapture", &numbers];
    // The channel is not kept: that it closes lets the child exit.
    let error = reexec::exec(&std::env::current_exe().unwrap(), &args, &keep);
    panic!("{error}");
}

fn second_life([socket, state, pidfd]: [std::os::fd::OwnedFd; 3]) {
    let record = serde_json::from_slice(&read_memfd(&state).unwrap()).unwrap();
    let mut host = host();
    let mut child = host.resume_child(record, pidfd);
    assert_eq!(host.living(), 1);
    let exit = exit_of(&mut host, &mut child);
    assert_eq!(host.living(), 0);
    packet::send(&socket, format!("second {} state {exit:?}", std::process::id()).as_bytes(), &[]).unwrap();
}
