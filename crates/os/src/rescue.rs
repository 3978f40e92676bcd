//! Taking the connections of a process that is about to exit, so that they outlive it.
//!
//! Takes duplicates only and leaves the process's own descriptors as they are. Must never decide what becomes of
//! a connection: whether its client can be served by another worker is for the caller to judge.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::proc::sockets_of;
use crate::socket::{LocalAddr, local_addr};

/// Duplicates, close-on-exec, of every connected stream socket of a process that may be a client's connection;
/// each socket once. About 2 µs for each socket (`pidfd_getfd(2)`).
///
/// Over TCP these are all connections, also those that the process itself has opened to others: only
/// [`local_addr`] tells, by a listener's port. Of Unix sockets those with a name are taken, because an accepted one
/// has that of its listener, but not those with a name in `except` (as it was bound); socket pairs have none.
///
/// Of a process that runs the answer is stale at once: call this at its exit stop, see
/// [`exit_watch`](crate::exit_watch). When this process runs out of descriptors, what was had so far is returned.
/// Errors mean that nothing was had: `EPERM` (not allowed to trace it; a container's filter), `ENOSYS`, `ESRCH`
/// and `NotFound` (it has ended), `EACCES` (it may not be looked into), `EMFILE`.
pub fn connections_of(pid: u32, pidfd: impl AsFd, except: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let mut seen = BTreeSet::new();
    let mut connections = Vec::new();
    let mut failure = None;
    for (number, inode) in sockets_of(pid)? {
        if !seen.insert(inode) {
            continue;
        }
        match pidfd_getfd(pidfd.as_fd(), number, PidfdGetfdFlags::empty()) {
            Ok(socket) if is_connection(socket.as_fd(), except) => connections.push(socket),
            Ok(_other) => {}
            Err(Errno::BADF) => {}
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    match failure {
        Some(error) if connections.is_empty() => Err(error.into()),
        Some(_) | None => Ok(connections),
    }
}

fn is_connection(socket: BorrowedFd<'_>, except: &[PathBuf]) -> bool {
    let is_stream = sockopt::socket_type(socket) == Ok(SocketType::STREAM);
    // One that listens has no other end either.
    if !is_stream || getpeername(socket).is_err() {
        return false;
    }
    match sockopt::socket_domain(socket) {
        Ok(AddressFamily::INET | AddressFamily::INET6) => true,
        Ok(AddressFamily::UNIX) => match local_addr(socket) {
            Ok(LocalAddr::Unix(path)) => !except.contains(&path),
            Ok(LocalAddr::Abstract(_)) => true,
            Ok(LocalAddr::Unnamed | LocalAddr::Inet(_)) | Err(_) => false,
        },
        _ => false,
    }
}
