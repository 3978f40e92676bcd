//! Puts descriptors on channel frames in ways that no Node does. A worker starts it with its channel as stdin.
//!
//! It does one trick, tells what came of it on stdout, and ends. It checks nothing: the test does.

#![allow(clippy::unwrap_used, reason = "a test program that cannot go on should say where")]

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// `SCM_MAX_FD`: the most that Linux puts on one message.
const FDS_MAX: usize = 253;
const HANDLE: &[u8] = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"fd\":1}}\n";
const PLAIN: &[u8] = b"{\"plain\":true}\n";

fn main() {
    let trick = std::env::args().nth(1).unwrap();
    let channel = io::stdin().as_fd().try_clone_to_owned().unwrap();
    match trick.as_str() {
        "two-on-one-frame" => send(&channel, HANDLE, 2),
        "without-a-handle-frame" => send(&channel, PLAIN, 1),
        "on-the-end-of-a-frame" => {
            send(&channel, b"{\"cmd\":\"NODE_HAN", 0);
            send(&channel, b"DLE\",\"type\":\"net.Native\",\"msg\":1}\n", 1);
        }
        "thousands" => (0..40).for_each(|_| send(&channel, PLAIN, FDS_MAX)),
        "one" => one(&channel),
        "none" => {
            send(&channel, HANDLE, 0);
            println!("answered {}", answer(&channel));
        }
        other => panic!("there is no trick {other}"),
    }
}

/// Sends a sound frame with one end of a connection, and waits until that end is closed on the other side.
fn one(channel: &OwnedFd) {
    let (mut kept, sent) = UnixStream::pair().unwrap();
    send_these(channel, HANDLE, &[sent.as_fd()]);
    drop(sent);
    println!("answered {}", answer(channel));
    let count = kept.read(&mut [0]).unwrap();
    println!("closed {}", count == 0);
}

fn send(channel: &OwnedFd, bytes: &[u8], count: usize) {
    let null = std::fs::File::open("/dev/null").unwrap();
    send_these(channel, bytes, &vec![null.as_fd(); count]);
}

fn send_these(channel: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        match sendmsg(channel, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => return assert_eq!(count, bytes.len()),
            Err(Errno::AGAIN | Errno::INTR) => wait(channel, PollFlags::OUT),
            // Too many in flight, or the channel is closed already: that is what was asked for.
            Err(error) => return println!("refused {}", io::Error::from(error)),
        }
    }
}

/// One line that the primary writes; nobody else reads meanwhile.
fn answer(channel: &OwnedFd) -> String {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match rustix::io::read(channel, &mut byte) {
            Ok(0) => return "nothing".into(),
            Ok(_) if byte == *b"\n" => return String::from_utf8(line).unwrap(),
            Ok(_) => line.extend(byte),
            Err(Errno::AGAIN | Errno::INTR) => wait(channel, PollFlags::IN),
            Err(error) => panic!("cannot read the channel: {error}"),
        }
    }
}

fn wait(channel: &OwnedFd, what: PollFlags) {
    poll(&mut [PollFd::new(channel, what)], None).unwrap();
}
