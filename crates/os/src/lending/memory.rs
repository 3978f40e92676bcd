//! Reading another process's memory (`process_vm_readv(2)`).

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::sys;

/// Memory that is there is read in microseconds. Only where somebody else has to bring it (`userfaultfd`, a file of a
/// file system that does not answer) it can take for ever.
const PATIENCE: Duration = Duration::from_millis(200);

/// Reads at most as much as the buffer holds, and returns how much that was: less where the memory ends. `EFAULT`
/// where there is none, `EPERM`, `ESRCH`. `pid` may be a thread. `TimedOut` for memory that does not come: a thread goes
/// on waiting for it, as long as the process lives.
pub(super) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let (teller, told) = mpsc::sync_channel(1);
    let length = buffer.len();
    let look = move || {
        let mut bytes = vec![0; length];
        let count = read_now(pid, address, &mut bytes);
        // Nobody listens any more when it took too long.
        drop(teller.send(count.map(|count| (count, bytes))));
    };
    drop(thread::Builder::new().name("look".into()).spawn(look)?);
    match told.recv_timeout(PATIENCE) {
        Ok(Ok((count, bytes))) => {
            buffer.copy_from_slice(&bytes);
            Ok(count)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn read_now(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the kernel writes into the buffer, which is borrowed for the call; the other address is only looked up
    // in the other process.
    let result = unsafe { libc::process_vm_readv(pid as libc::pid_t, &local, 1, &remote, 1, 0) };
    Ok(sys::check(result as libc::c_long)? as usize)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    const PAGE: usize = 4096;
    /// From `linux/userfaultfd.h`.
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
    const API: u64 = 0xaa;
    const MISSING: u64 = 1;

    /// A page that nobody brings until the descriptor is closed; none where this is forbidden.
    fn page_that_does_not_come() -> Option<(u64, OwnedFd)> {
        // SAFETY: numbers only; a new descriptor is nobody else's.
        let fault = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))?
        };
        // SAFETY: a new mapping, of which nothing else depends.
        let page = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        } as u64;
        let mut api = [API, 0, 0];
        let mut range = [page, PAGE as u64, MISSING, 0];
        // SAFETY: both arguments are of the size and shape that the kernel reads and writes.
        let refused = unsafe {
            libc::ioctl(fault.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) != 0
                || libc::ioctl(fault.as_raw_fd(), UFFDIO_REGISTER, range.as_mut_ptr()) != 0
        };
        (!refused).then_some((page, fault))
    }

    #[test]
    fn memory_that_does_not_come_is_not_waited_for() {
        let own = std::process::id();
        let mut buffer = [0; 8];
        let there = *b"is there";
        assert_eq!(read(own, there.as_ptr() as u64, &mut buffer).unwrap(), 8);
        assert_eq!(buffer, there);
        assert_eq!(read(own, 8, &mut buffer).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        let Some((page, fault)) = page_that_does_not_come() else {
            return println!("skipped: userfaultfd is not allowed here");
        };
        assert_eq!(read(own, page, &mut buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(fault);
        assert_eq!(read(own, page, &mut buffer).unwrap(), 8, "nobody keeps it back any more");
    }
}
