//! Whole messages with descriptors between two processes of ours: the keeper and its daemon.
//!
//! A message arrives whole or not at all, whatever its size: a large body rides as a descriptor of its own,
//! which neither side sees. Must never interpret a body, nor drop a received descriptor on the floor.
//!
//! On the wire, a `SOCK_SEQPACKET` socket, a message is one byte that tells where the body is, then the body,
//! unless that is the first descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::fdpass;
use crate::memfd::{memfd, read_memfd};

/// The most descriptors that a message takes; the kernel's limit, less the one of a large body.
pub const FDS_MAX: usize = fdpass::FDS_PER_MESSAGE_MAX - 1;

/// Bodies up to this size, in bytes, are in the message itself; far below any buffer of a socket.
const INLINE_MAX: usize = 32 * 1024;
/// The body follows this byte.
const INLINE: u8 = 0;
/// The body is in the first descriptor.
const ATTACHED: u8 = 1;
/// For how long a sender waits, all in all, while too many descriptors are in flight.
const IN_FLIGHT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two looks at that: the kernel reports no event for it.
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(1);

/// Whether [`receive`] waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until one is there or the other side is gone.
    Block,
    /// Not at all: `WouldBlock` when none is there.
    Not,
}

/// A message.
#[derive(Debug)]
pub struct Received {
    /// Its body.
    pub bytes: Vec<u8>,
    /// Its descriptors in order, all close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The last of its descriptors could not be delivered and are closed, usually because this process has no
    /// room for more (`EMFILE`).
    pub truncated: bool,
}

/// Two connected sockets, close-on-exec and blocking. `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message; waits while the socket's buffer is full, and up to 5 s while more descriptors are in flight
/// than this process may have open, without `SIGPIPE`.
///
/// Errors: `InvalidInput` (a body of more than 64 MiB, more than [`FDS_MAX`] descriptors), `EPIPE` and
/// `ECONNRESET` (the other side is gone), `ETOOMANYREFS` (it does not read), `EMFILE` (for a large body), and
/// `EAGAIN` from a socket that was made nonblocking. Nothing was sent then.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        let text = format!("{} descriptors are more than the {FDS_MAX} that a message takes", fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if bytes.len() <= INLINE_MAX {
        return send_message(socket.as_fd(), &[IoSlice::new(&[INLINE]), IoSlice::new(bytes)], fds);
    }
    let body = memfd("oxherd-message", bytes)?;
    let attached: Vec<_> = std::iter::once(body.as_fd()).chain(fds.iter().copied()).collect();
    send_message(socket.as_fd(), &[IoSlice::new(&[ATTACHED])], &attached)
}

/// The next message, or `None` when the other side is gone and all that it sent has been read.
///
/// Errors: `WouldBlock` (see [`Wait`]); `InvalidData` (what came is no message of [`send`]); `EMFILE` (the body
/// itself could not be delivered: this message is lost, the next one is not).
pub fn receive(socket: impl AsFd, wait: Wait) -> io::Result<Option<Received>> {
    let mut buffer = [0; INLINE_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fdpass::FDS_PER_MESSAGE_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = match wait {
        Wait::Block => RecvFlags::CMSG_CLOEXEC,
        Wait::Not => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    };
    let message = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            // The other side closed with messages unread; this is said once, before the messages that it sent.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            message => break message?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    let truncated = message.flags.contains(ReturnFlags::CTRUNC);
    let whole = !message.flags.contains(ReturnFlags::TRUNC);
    match buffer.get(..message.bytes).unwrap_or_default() {
        [] => Ok(None),
        [INLINE, body @ ..] if whole => Ok(Some(Received { bytes: body.to_vec(), fds, truncated })),
        [ATTACHED] if !fds.is_empty() => {
            let bytes = read_memfd(fds.remove(0))?;
            Ok(Some(Received { bytes, fds, truncated }))
        }
        [ATTACHED] if truncated => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of this program")),
    }
}

fn send_message(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fdpass::FDS_PER_MESSAGE_MAX))];
    let mut give_up_at = None;
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
        debug_assert!(fits, "the number was checked");
        match sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL) {
            // A message goes whole.
            Ok(_all) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::TOOMANYREFS) => {
                let now = Instant::now();
                if now >= *give_up_at.get_or_insert(now + IN_FLIGHT_WAIT_MAX) {
                    return Err(Errno::TOOMANYREFS.into());
                }
                thread::sleep(IN_FLIGHT_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
