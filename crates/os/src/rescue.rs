//! Taking the connections of a process that is about to exit, so that they outlive it.
//!
//! Takes duplicates only and leaves the process's own descriptors as they are. Must never decide what becomes of
//! a connection: whether its client can be served by another worker is for the caller to judge.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::proc::{fd_limit, sockets_of};
use crate::socket::{LocalAddr, local_addr};

/// So many descriptors stay free: whoever saves connections has to start somebody who goes on with them.
const RESERVE: usize = 32;

/// Duplicates, close-on-exec, of every connected stream socket of a process that may be a client's connection;
/// each socket once. About 2 µs for each socket (`pidfd_getfd(2)`).
///
/// Over TCP these are all connections, also those that the process itself has opened to others: only
/// [`local_addr`] tells, by a listener's port. Of Unix sockets those with a name are taken, because an accepted one
/// has that of its listener, but not those with a name in `except` (as it was bound); socket pairs have none.
///
/// Of a process that runs the answer is stale at once: call this at its exit stop, see
/// [`exit_watch`](crate::exit_watch). When this process has but 32 descriptors left, what was had so far is returned.
/// Errors mean that nothing was had: `EPERM` (not allowed to trace it; a container's filter), `ENOSYS`, `ESRCH`
/// and `NotFound` (it has ended), `EACCES` (it may not be looked into), `EMFILE`.
pub fn connections_of(pid: u32, pidfd: impl AsFd, except: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    take(pid, pidfd.as_fd(), |own| match own {
        LocalAddr::Unix(path) => !except.contains(path),
        LocalAddr::Abstract(_) | LocalAddr::Inet(_) => true,
        LocalAddr::Unnamed => false,
    })
}

/// The same, but only of those connections that are excepted there.
pub fn connections_at(pid: u32, pidfd: impl AsFd, paths: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    take(pid, pidfd.as_fd(), |own| matches!(own, LocalAddr::Unix(path) if paths.contains(path)))
}

fn take(pid: u32, pidfd: BorrowedFd<'_>, is_wanted: impl Fn(&LocalAddr) -> bool) -> io::Result<Vec<OwnedFd>> {
    let mut seen = BTreeSet::new();
    let mut connections = Vec::new();
    let mut failure = None;
    let room = room()?;
    for (number, inode) in sockets_of(pid)? {
        if !seen.insert(inode) {
            continue;
        }
        if connections.len() >= room {
            failure = Some(Errno::MFILE);
            break;
        }
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(socket) if is_connection(socket.as_fd()) => {
                connections.extend(local_addr(&socket).is_ok_and(|own| is_wanted(&own)).then_some(socket));
            }
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

/// How many descriptors this process may take.
fn room() -> io::Result<usize> {
    let (limit, _) = fd_limit();
    let in_use = fs::read_dir("/proc/self/fd")?.count() + RESERVE;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(in_use))
}

fn is_connection(socket: BorrowedFd<'_>) -> bool {
    let is_known = matches!(
        sockopt::socket_domain(socket),
        Ok(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX)
    );
    // One that listens has no other end.
    is_known && sockopt::socket_type(socket) == Ok(SocketType::STREAM) && getpeername(socket).is_ok()
}
