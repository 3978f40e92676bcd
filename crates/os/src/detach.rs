//! What a program does that goes on when whoever started it has ended: a session of its own, a standard input that
//! brought a descriptor along, and a descriptor of itself for somebody else.
//!
//! Must never be used by a process that serves a terminal.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// Takes over what stands at standard input, close-on-exec, and puts `/dev/null` there.
///
/// The way to hand one descriptor to a program that is started with the standard library.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let taken = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), rustix::stdio::raw_stderr() + 1)?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(taken)
}

/// A pidfd of this process, for one that is to watch it. `EMFILE`, `ENOSYS`.
pub fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// A session without a terminal (`setsid(2)`): signals of the one before no longer come. `EPERM` for the leader
/// of a process group.
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
