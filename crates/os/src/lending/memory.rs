//! Reading another process's memory (`process_vm_readv(2)`).

use std::io;

use crate::sys;

/// Reads at most as much as the buffer holds, and returns how much that was: less where the memory ends. `EFAULT`
/// where there is none, `EPERM`, `ESRCH`. `pid` may be a thread.
pub(super) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the kernel writes into the buffer, which is borrowed for the call; the other address is only looked up
    // in the other process.
    let result = unsafe { libc::process_vm_readv(pid as libc::pid_t, &local, 1, &remote, 1, 0) };
    Ok(sys::check(result as libc::c_long)? as usize)
}
