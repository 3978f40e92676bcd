//! Whole messages with descriptors.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::is_readable;
use oxherd_os::io_errno;
use oxherd_os::memfd::{BYTES_MAX, memfd, read_memfd};
use oxherd_os::packet::{FDS_MAX, Wait, pair, receive, send};
use rustix::io::FdFlags;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn messages_of_any_size_arrive_whole_and_in_order() {
    let (ours, theirs) = pair().unwrap();
    for size in [0, 1, 32 * 1024, 32 * 1024 + 1, 3_000_000] {
        let body = pattern(size);
        for attached in [0, 2] {
            let files: Vec<_> = (0..attached).map(|n| memfd("x", &[n]).unwrap()).collect();
            let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            send(&ours, &body, &borrowed).unwrap();
            let message = receive(&theirs, Wait::Block).unwrap().unwrap();
            assert!(message.bytes == body && !message.truncated, "{size}");
            let contents: Vec<_> = message.fds.iter().map(|fd| read_memfd(fd).unwrap()).collect();
            assert_eq!(contents, (0..attached).map(|n| vec![n]).collect::<Vec<_>>());
            let cloexec = |fd: &OwnedFd| rustix::io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC);
            assert!(message.fds.iter().all(cloexec));
        }
    }
}

#[test]
fn as_many_descriptors_as_promised_go_with_a_large_body() {
    let (ours, theirs) = pair().unwrap();
    let file = memfd("one", b"1").unwrap();
    let body = pattern(100_000);
    send(&ours, &body, &[file.as_fd(); FDS_MAX]).unwrap();
    let message = receive(&theirs, Wait::Not).unwrap().unwrap();
    assert_eq!((message.bytes == body, message.fds.len()), (true, FDS_MAX));
    let error = send(&ours, b"", &[file.as_fd(); FDS_MAX + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = send(&ours, &vec![0; BYTES_MAX + 1], &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn emptiness_and_the_end_are_told_apart() {
    let (ours, theirs) = pair().unwrap();
    assert_eq!(receive(&theirs, Wait::Not).unwrap_err().kind(), ErrorKind::WouldBlock);
    send(&ours, b"last", &[]).unwrap();
    drop(ours);
    assert_eq!(receive(&theirs, Wait::Not).unwrap().unwrap().bytes, b"last");
    assert!(receive(&theirs, Wait::Block).unwrap().is_none());
    assert_eq!(io_errno(&send(&theirs, b"x", &[]).unwrap_err()), libc::EPIPE, "and no SIGPIPE");
}

#[test]
fn what_was_sent_survives_a_reset() {
    let (ours, theirs) = pair().unwrap();
    send(&ours, b"answer", &[]).unwrap();
    send(&theirs, b"never read", &[]).unwrap();
    drop(ours);
    assert_eq!(receive(&theirs, Wait::Block).unwrap().unwrap().bytes, b"answer");
    assert!(receive(&theirs, Wait::Block).unwrap().is_none());
}

#[test]
fn a_sender_waits_for_a_slow_reader() {
    const MESSAGES: usize = 200;
    let (ours, theirs) = pair().unwrap();
    let file = memfd("file", b"").unwrap();
    let sender = std::thread::spawn(move || {
        for n in 0..MESSAGES {
            send(&ours, &pattern(20_000 + n), &[file.as_fd(); 20]).unwrap();
        }
    });
    for n in 0..MESSAGES {
        let message = receive(&theirs, Wait::Block).unwrap().unwrap();
        assert_eq!((message.bytes.len(), message.fds.len()), (20_000 + n, 20));
    }
    sender.join().unwrap();
    assert!(receive(&theirs, Wait::Block).unwrap().is_none());
}

#[test]
fn strangers_on_the_socket_do_no_harm() {
    let (ours, theirs) = pair().unwrap();
    for noise in [&[7][..], &[1], &[1, 2], &[0; 40_000]] {
        rustix::net::send(&ours, noise, rustix::net::SendFlags::empty()).unwrap();
        assert_eq!(receive(&theirs, Wait::Not).unwrap_err().kind(), ErrorKind::InvalidData);
    }
    assert!(!is_readable(&theirs) && theirs.as_raw_fd() > 2);
}
