//! Descriptors over a channel, and taking back what the worker has not read.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use oxherd_os::fdpass::{FDS_PER_MESSAGE_MAX, Received, receive, send};
use oxherd_os::{io_errno, socket};
use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

fn whole(bytes: usize, fds: usize) -> Received {
    Received { bytes, fds, truncated: false }
}

#[test]
fn a_connection_travels_with_its_frame() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    let (ours, theirs) = pair();
    assert_eq!(send(&ours, b"plain\n", None).unwrap(), 6);
    assert_eq!(send(&ours, b"frame\n", Some(accepted.as_fd())).unwrap(), 6);
    drop(accepted);

    let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
    assert_eq!(receive(&theirs, &mut buffer, &mut fds).unwrap(), whole(12, 1));
    assert_eq!(&buffer[..12], b"plain\nframe\n");
    let received = fds.pop_front().unwrap();
    assert!(rustix::io::fcntl_getfd(&received).unwrap().contains(FdFlags::CLOEXEC));
    TcpStream::from(received).write_all(b"hi").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
}

#[test]
fn ends_and_emptiness_are_told_apart() {
    let (ours, theirs) = pair();
    let (mut buffer, mut fds) = ([0; 8], VecDeque::new());
    let error = receive(&theirs, &mut buffer, &mut fds).unwrap_err();
    assert_eq!(io_errno(&error), libc::EAGAIN);
    assert!(socket::is_transient(&error));
    drop(ours);
    assert_eq!(receive(&theirs, &mut buffer, &mut fds).unwrap(), whole(0, 0));
    let error = send(&theirs, b"x", None).unwrap_err();
    assert_eq!(io_errno(&error), libc::EPIPE, "and no SIGPIPE");
    assert!(!socket::is_transient(&error));
}

#[test]
fn a_full_socket_takes_nothing_more() {
    let (ours, _theirs) = pair();
    let file = std::fs::File::open("/dev/null").unwrap();
    let error =
        std::iter::repeat_with(|| send(&ours, b"frame", Some(file.as_fd()))).find_map(Result::err).unwrap();
    assert!(socket::is_transient(&error), "{error}");
}

#[test]
fn as_many_descriptors_as_the_kernel_allows_on_one_message() {
    let (ours, theirs) = pair();
    let file = std::fs::File::open("/dev/null").unwrap();
    for count in [3, FDS_PER_MESSAGE_MAX] {
        let many = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(&ours, &[IoSlice::new(b"many")], &mut control, SendFlags::empty()).unwrap();
        let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
        assert_eq!(receive(&theirs, &mut buffer, &mut fds).unwrap(), whole(4, count));
        assert_eq!(fds.len(), count);
    }
}

#[test]
fn one_read_ends_after_the_frame_with_a_descriptor() {
    let (ours, theirs) = pair();
    let file = std::fs::File::open("/dev/null").unwrap();
    for frame in [&b"one"[..], b"two", b"three"] {
        send(&ours, frame, Some(file.as_fd())).unwrap();
    }
    let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
    for length in [3, 3, 5] {
        assert_eq!(receive(&theirs, &mut buffer, &mut fds).unwrap(), whole(length, 1));
    }
    assert_eq!(fds.len(), 3);
}

#[test]
fn unread_bytes_are_counted_across_frames() {
    let (ours, theirs) = pair();
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(socket::unread_bytes(&theirs).unwrap(), 0);
    send(&ours, b"12345", Some(file.as_fd())).unwrap();
    send(&ours, b"678", None).unwrap();
    send(&ours, b"90", Some(file.as_fd())).unwrap();
    assert_eq!(socket::unread_bytes(&theirs).unwrap(), 10);
    let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
    assert_eq!(receive(&theirs, &mut buffer, &mut fds).unwrap(), whole(5, 1));
    assert_eq!(socket::unread_bytes(&theirs).unwrap(), 5);
}

#[test]
fn the_duplicate_end_takes_back_what_the_worker_left() {
    let (ours, worker) = pair();
    let duplicate = worker.try_clone().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    for (frame, listener) in [&b"first"[..], b"second"].into_iter().zip(&listeners) {
        send(&ours, frame, Some(listener.as_fd())).unwrap();
    }
    let (mut buffer, mut fds) = ([0; 64], VecDeque::new());
    assert_eq!(receive(&worker, &mut buffer, &mut fds).unwrap(), whole(5, 1));
    assert_eq!(socket::unread_bytes(&duplicate).unwrap(), 6);
    assert_eq!(receive(&duplicate, &mut buffer, &mut fds).unwrap(), whole(6, 1));
    assert_eq!(&buffer[..6], b"second");
    for (fd, listener) in fds.iter().zip(&listeners) {
        let expected = socket::LocalAddr::Inet(listener.local_addr().unwrap());
        assert_eq!(socket::local_addr(fd).unwrap(), expected);
    }
    let error = receive(&duplicate, &mut buffer, &mut fds).unwrap_err();
    assert_eq!(io_errno(&error), libc::EAGAIN, "even though the worker's end blocks");
    // The worker's death does not show while the duplicate is open.
    drop(worker);
    assert_eq!(receive(&ours, &mut buffer, &mut fds).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(duplicate);
    assert_eq!(receive(&ours, &mut buffer, &mut fds).unwrap(), whole(0, 0));
}
