//! Looking at the caller of a trapped call: its memory, its descriptors, its sockets.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use super::{Trapped, Traps};
use crate::socket::LocalAddr;

/// What a descriptor of a program is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// It is closed at exec.
    pub close_on_exec: bool,
    /// Its open file does not block.
    pub nonblocking: bool,
}

/// The address that a trapped `bind` names. `InvalidInput` for one that makes no sense, which the kernel may judge;
/// `Unsupported` for a family that is neither IP nor Unix.
pub fn address_of(trapped: &Trapped) -> io::Result<LocalAddr> {
    let _ = trapped;
    Err(io::ErrorKind::Unsupported.into())
}

/// A duplicate of the socket that a trapped call is about: the same open file (`pidfd_getfd`).
pub fn socket_of(trapped: &Trapped) -> io::Result<OwnedFd> {
    let _ = trapped;
    Err(io::ErrorKind::Unsupported.into())
}

/// The caller's descriptor, by `/proc/PID/fdinfo`.
pub fn descriptor_of(thread: u32, fd: RawFd) -> io::Result<Descriptor> {
    let _ = (thread, fd);
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the caller has the descriptor in an epoll set: another socket in its place would not be watched.
pub fn is_watched(thread: u32, fd: RawFd) -> io::Result<bool> {
    let _ = (thread, fd);
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets on `to` what a program has set on `from` before it was bound: blocking mode, buffers, keep-alive, `TCP_NODELAY`,
/// `TCP_DEFER_ACCEPT`, `TCP_FASTOPEN` and the like. What cannot be set is left.
pub fn carry_options(from: impl AsFd, to: impl AsFd) {
    let _ = (from.as_fd(), to.as_fd());
}

/// The call that was received and not answered by a primary that is gone, where no record of it was kept: it is newer
/// than `last`, the newest that was, and its caller is one of `pids` or a thread of one. `None` when there is none, or
/// when callers cannot be told apart.
pub fn pending_of(traps: &Traps, last: u64, pids: &[u32]) -> io::Result<Option<Trapped>> {
    let _ = (traps, last, pids);
    Ok(None)
}
