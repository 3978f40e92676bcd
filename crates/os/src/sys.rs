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

/// `ptrace(2)` for requests whose `data` is a number.
pub(crate) fn ptrace(request: u32, pid: u32, data: u32) -> io::Result<()> {
    let (address, data) = (0 as libc::c_ulong, libc::c_ulong::from(data));
    // SAFETY: the requests of this crate take numbers here and touch no memory of this process.
    check(unsafe { libc::syscall(libc::SYS_ptrace, libc::c_ulong::from(request), pid, address, data) })?;
    Ok(())
}

/// `PTRACE_GETSIGINFO`: what the traced process is stopped for, as `waitid` would report it. `ESRCH` while it
/// runs.
pub(crate) fn ptrace_stop_code(pid: u32) -> io::Result<i32> {
    const PTRACE_GETSIGINFO: libc::c_ulong = 0x4202;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let (address, data) = (0 as libc::c_ulong, info.as_mut_ptr());
    // SAFETY: the structure is valid for the kernel to fill.
    check(unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_GETSIGINFO, pid, address, data) })?;
    // SAFETY: it was zeroed, and then filled.
    Ok(unsafe { info.assume_init() }.si_code)
}

/// `waitid(2)` for one process by its pidfd, without waiting: why it was reported (`CLD_EXITED` and so on) and
/// its status, or `None` when there is nothing to report.
pub(crate) fn waitid_pidfd(pidfd: BorrowedFd<'_>, options: i32) -> io::Result<Option<(i32, i32)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let (which, id) = (libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t);
    let options = options | libc::WNOHANG;
    // SAFETY: the structure is valid for the kernel to fill.
    match check(unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) }.into()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => return Ok(None),
        result => result?,
    };
    // SAFETY: it was zeroed, and filled as for a child if there is something to report; the pid is then set.
    let (info, pid, status) = unsafe {
        let info = info.assume_init();
        (info, info.si_pid(), info.si_status())
    };
    Ok((pid != 0).then_some((info.si_code, status)))
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
