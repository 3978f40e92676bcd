//! Thin wrappers of the system calls that rustix lacks.
//!
//! One `unsafe` call each, results as `io::Result`. Nothing here may keep state or own a policy.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Turns the C convention (negative: look at `errno`) into a result.
pub(crate) fn check(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// `pidfd_send_signal(2)`; `signal` 0 only asks whether the process is there.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32, flags: u32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed and open; a null siginfo asks the kernel to fill in its own.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) })?;
    Ok(())
}

/// `setsockopt(2)` with a plain value.
pub(crate) fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let (fd, length) = (fd.as_raw_fd(), size_of::<T>() as libc::socklen_t);
    // SAFETY: `value` is valid for `length` bytes for the duration of the call, which only reads it.
    let result = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) };
    check(result.into())?;
    Ok(())
}

/// `getsockopt(2)` into a plain C structure; a kernel that knows fewer fields leaves the rest zero.
pub(crate) fn get_option<T: PlainData>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let (fd, mut length) = (fd.as_raw_fd(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`.
    let result = unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut length) };
    check(result.into())?;
    // SAFETY: the value was zeroed first and every bit pattern is valid for `PlainData`.
    Ok(unsafe { value.assume_init() })
}

/// Types of which every bit pattern, all zeroes included, is a value.
///
/// # Safety
/// The implementor promises just that.
pub(crate) unsafe trait PlainData: Copy {}

// SAFETY: `tcp_info` consists of integers only.
unsafe impl PlainData for libc::tcp_info {}
// SAFETY: every bit pattern is an integer.
unsafe impl PlainData for i32 {}
// SAFETY: `ucred` consists of integers only.
unsafe impl PlainData for libc::ucred {}
