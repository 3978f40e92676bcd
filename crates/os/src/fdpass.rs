//! Bytes with descriptors over a Unix stream socket: the hot path of every handed-over connection.
//!
//! One system call each, no heap allocation here (the queue of received descriptors is the caller's and
//! keeps its room). Must never interpret the bytes, nor drop a received descriptor on the floor.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send as send_bytes, sendmsg, sockopt,
};

/// Linux puts at most this many descriptors on one message (`SCM_MAX_FD`).
pub const FDS_PER_MESSAGE_MAX: usize = 253;

/// What one [`receive`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes written to the front of the buffer; 0 is the end of the stream (for a non-empty buffer).
    pub bytes: usize,
    /// Descriptors appended to the queue. They belong to the first byte of their sender's message, which need
    /// not be the first byte of this read.
    pub fds: usize,
    /// The kernel could not deliver all control data, usually because this process is out of descriptors
    /// (`EMFILE`): the missing ones are lost and closed, those that came are in the queue.
    pub truncated: bool,
}

/// A send buffer of usual size takes messages up to this whole or not at all.
pub const WHOLE_BYTES_MAX: usize = 32 << 10;

/// How many bytes [`send`] sends whole or not at all on this socket, whatever becomes of this process meanwhile.
///
/// The kernel makes one buffer of them: of at most 32 KiB and half of what the socket may hold
/// (`unix_stream_sendmsg`), and while anything less than all of that is used there is room for it.
pub fn whole_bytes(socket: impl AsFd) -> io::Result<usize> {
    let room = sockopt::socket_send_buffer_size(socket)?;
    Ok((room / 2).saturating_sub(64).min(WHOLE_BYTES_MAX))
}

/// Sends `bytes`, with at most one descriptor on the first of them, without blocking and without `SIGPIPE`.
///
/// Returns how many bytes went; when that is fewer, the rest follows *without* the descriptor, which is on
/// its way. `bytes` must not be empty when there is a descriptor. Errors: `EAGAIN` (full; nothing went),
/// `ETOOMANYREFS` (too many descriptors in flight; wait as for `EAGAIN`), `EPIPE`, `ECONNRESET` (peer gone).
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let Some(fd) = fd else {
        return Ok(send_bytes(socket, bytes, flags)?);
    };
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(fits, "the space is made for one descriptor");
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Closes a descriptor by the bare system call. What dropping it does goes through the C library's `close`, which
/// is a cancellation point and costs a thread among others some tens of nanoseconds more.
#[inline]
pub fn close(fd: OwnedFd) {
    // SAFETY: the descriptor is owned, so nobody else uses its number, and it is given up here.
    unsafe { rustix::io::close(fd.into_raw_fd()) };
}

/// Receives bytes into `buffer` and descriptors, all close-on-exec, on to the back of `fds`, without
/// blocking.
///
/// The kernel ends a read after the message that carries descriptors, so one call brings those of one message
/// at most. Errors: `EAGAIN` (nothing there), `ECONNRESET` (peer gone with unread bytes; treat as the end).
#[inline]
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let before = fds.len();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(Received {
        bytes: message.bytes,
        fds: fds.len() - before,
        truncated: message.flags.contains(ReturnFlags::CTRUNC),
    })
}
