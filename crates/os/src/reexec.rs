//! Becoming another program without ending, and taking over what was handed down at a start.
//!
//! An exec keeps the process's number, its children, its signal mask and which signals it ignores; all memory is
//! lost, and of the descriptors all but those named. Must never run with other threads that matter: they end.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::sys;

/// Descriptors below are the standard streams, which stay where they are.
const FIRST_INHERITED_FD: RawFd = 3;

/// Becomes the program at `program` (a path, not searched for) with this environment and the descriptors in
/// `keep`, at the numbers they have, beside the standard streams. Its own name as it sees it is `program`.
///
/// Returns only when that fails, with all as it was: `ENOENT`, `EACCES`, `ENOEXEC`, `ETXTBSY` of `execve(2)`;
/// `E2BIG`, `ENOMEM`; `InvalidInput` for a zero byte in an argument.
pub fn exec<S: AsRef<OsStr>>(program: &Path, args: &[S], keep: &[BorrowedFd<'_>]) -> io::Error {
    let argv = std::iter::once(program.as_os_str()).chain(args.iter().map(AsRef::as_ref));
    let argv = match argv.map(|arg| CString::new(arg.as_bytes())).collect::<Result<Vec<_>, _>>() {
        Ok(argv) => argv,
        Err(error) => return error.into(),
    };
    let mut kept = Vec::with_capacity(keep.len());
    let error = match keep.iter().try_for_each(|fd| keep_open(*fd, &mut kept)) {
        Ok(()) => execute(&argv),
        Err(error) => error,
    };
    for (fd, flags) in kept {
        let _open_until_now = fcntl_setfd(fd, flags);
    }
    error
}

/// Takes over a descriptor that this program was started with, and makes it close-on-exec.
///
/// Each number can be taken once, and none that this program has opened itself: those are close-on-exec already.
/// Errors: `EBADF` (not open), `InvalidInput` (a standard stream, or taken already).
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    let refused =
        |why| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} {why}")));
    if number < FIRST_INHERITED_FD {
        return refused("is no inherited one");
    }
    // SAFETY: no memory is involved; a number that is not open is answered with `EBADF`.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if sys::check(flags.into())? as i32 & libc::FD_CLOEXEC != 0 {
        return refused("is in use in this program");
    }
    // SAFETY: it is open, and nobody in this program owns it: what we open is close-on-exec from birth.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Lets the descriptor through an exec, and remembers what to set back.
fn keep_open<'a>(fd: BorrowedFd<'a>, kept: &mut Vec<(BorrowedFd<'a>, FdFlags)>) -> io::Result<()> {
    let flags = fcntl_getfd(fd)?;
    fcntl_setfd(fd, flags - FdFlags::CLOEXEC)?;
    kept.push((fd, flags));
    Ok(())
}

fn execute(argv: &[CString]) -> io::Error {
    let pointers: Vec<_> = argv.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the list is null-terminated and its strings outlive the call; it has at least the program's name.
    unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}
