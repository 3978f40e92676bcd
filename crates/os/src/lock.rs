//! A file that one process at a time holds: two daemons must not serve one home.
//!
//! The lock belongs to the open file, so it is handed on with the descriptor, also through an exec, and ends
//! when the last copy is closed. Must never remove the file: whoever waits for it would then hold another one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

/// Locks the file at `path`, which is made (mode 0600) if it is not there; `None` while another open file holds
/// the lock (`flock(2)`). The descriptor is close-on-exec.
///
/// Errors are those of `open(2)`: `ENOENT` and `EACCES` for the folder, `ELOOP` for a symbolic link; and `ENOLCK`
/// from file systems that cannot lock.
pub fn try_lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::RUSR | Mode::WUSR)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
