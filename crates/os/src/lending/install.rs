//! Putting the filter on a new process, and taking its listening end over into the Host.
//!
//! What is done in the new process must not allocate, panic, or call anything but async-signal-safe functions.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::filter::{Architecture, Program, program};
use super::memory;

/// What the new process needs, prepared by the Host.
pub(crate) struct Plan {
    program: Program,
    /// Where the listening end goes; a socket, close-on-exec.
    pub(crate) socket: RawFd,
}

impl Plan {
    pub(crate) fn new(socket: RawFd) -> Self {
        Self { program: program(Architecture::OWN), socket }
    }
}

/// Traps the calls of this process and sends the listening end away, or says in its place why that cannot be. The
/// process goes on as if nothing had happened in either case. False when the end could not be sent: then the trapped
/// calls would fail, and the process must not become its program.
///
/// # Safety
/// Only in a new process of one thread, whose plan's socket is open.
pub(crate) unsafe fn install(plan: &Plan) -> bool {
    // SAFETY: the caller's promise.
    match unsafe { set_filter(&plan.program) } {
        // SAFETY: likewise; the listening end is open.
        Ok(listener) => unsafe { send(plan.socket, 0, Some(listener)) },
        Err(errno) => {
            // SAFETY: likewise. Whoever hears nothing knows as much.
            unsafe { send(plan.socket, errno, None) };
            true
        }
    }
}

/// Sets the filter: without `no_new_privs` where that is allowed, because with it setuid programs lose their meaning
/// for the process and its descendants. Returns the listening end, close-on-exec, or why not.
///
/// # Safety
/// Only in a process that may be changed so.
pub(super) unsafe fn set_filter(program: &Program) -> Result<RawFd, i32> {
    let mut flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        // Linux before 5.16 takes whoever has a filter for a prisoner, and slows all of it down.
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mut may_gain_privileges = true;
    loop {
        // SAFETY: the caller's promise.
        match unsafe { seccomp(program, flags) } {
            // Linux before 5.19.
            Err(libc::EINVAL) if flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 => {
                flags &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
            }
            Err(libc::EACCES) if may_gain_privileges => {
                may_gain_privileges = false;
                // SAFETY: numbers only.
                if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) } != 0 {
                    return Err(last_errno());
                }
            }
            result => return result,
        }
    }
}

/// `seccomp(2)`: the descriptor of the listening end if the flags ask for one.
///
/// # Safety
/// As for [`set_filter`].
pub(super) unsafe fn seccomp(program: &Program, flags: libc::c_ulong) -> Result<RawFd, i32> {
    let length = program.len() as libc::c_ushort;
    // The kernel only reads the filter.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let operation = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the program is valid for the duration of the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, ptr::from_ref(&program)) };
    if result < 0 { Err(last_errno()) } else { Ok(result as RawFd) }
}

/// Sends a number, and a descriptor with it.
///
/// # Safety
/// Both descriptors are open.
unsafe fn send(socket: RawFd, errno: i32, listener: Option<RawFd>) -> bool {
    let mut bytes = errno.to_ne_bytes();
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // Room for one descriptor behind a header, aligned as the header wants it.
    let mut control = [0_u64; 3];
    // SAFETY: all zeroes is a valid empty message; the pointers are valid until the call returns, and the control
    // buffer is as large as one descriptor needs.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if let Some(listener) = listener {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(listener);
        }
        libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) == bytes.len() as isize
    }
}

fn last_errno() -> i32 {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

/// What a new process has said of its filter.
pub(crate) enum Installed {
    /// It has one.
    On(OwnedFd),
    /// It has none, and why, in a sentence.
    Not(String),
}

/// Reads what the new process has said, once it has become its program. `EMFILE` when there is no room for the
/// listening end: then the trapped calls of the process fail, and it must be ended.
pub(crate) fn installed(socket: BorrowedFd<'_>) -> io::Result<Installed> {
    let mut bytes = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            message => break message?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    match (message.bytes, fds.pop(), i32::from_ne_bytes(bytes)) {
        (4, Some(listener), 0) => Ok(Installed::On(listener)),
        (4, None, 0) => {
            debug_assert!(message.flags.contains(ReturnFlags::CTRUNC), "it was sent");
            Err(Errno::MFILE.into())
        }
        (4, _, errno) => Ok(Installed::Not(explain(errno))),
        // It was killed before it could say anything, which its exit will tell.
        _ => Ok(Installed::Not("the process ended before it could be watched".into())),
    }
}

/// What stands in the way of lending before any process is started: what a kernel or a container's filter lacks, in a
/// sentence. A few microseconds.
pub fn obstacle() -> Option<String> {
    let needs = |what: &str, error: io::Error| {
        let cause = match error.raw_os_error() {
            Some(libc::ENOSYS) => "this kernel has none (Linux 5.9 or later is needed)".to_owned(),
            Some(libc::EPERM | libc::EACCES) => {
                format!("the container's filter forbids it; {ALLOW_IN_CONTAINER}")
            }
            _ => error.to_string(),
        };
        format!("{what} is needed: {cause}")
    };
    if let Some((major, minor)) = kernel_version().filter(|version| *version < OLDEST_KERNEL) {
        let (needed, since) = OLDEST_KERNEL;
        return Some(format!(
            "Linux {major}.{minor} cannot lend sockets: {needed}.{since} or later is needed"
        ));
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    let own = match own.and_then(|pidfd| pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty())) {
        // This process has no descriptor 0.
        Ok(_) | Err(Errno::BADF) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = own {
        return Some(needs("pidfd_getfd", error.into()));
    }
    let word = [7_u8];
    memory::read(std::process::id(), word.as_ptr() as u64, &mut [0])
        .err()
        .map(|error| needs("process_vm_readv", error))
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`.
const OLDEST_KERNEL: (u32, u32) = (5, 9);
const ALLOW_IN_CONTAINER: &str = "allow seccomp, pidfd_getfd and process_vm_readv in its profile (as `--cap-add SYS_PTRACE` does with Docker)";

/// The version of the running kernel.
pub(super) fn kernel_version() -> Option<(u32, u32)> {
    let uname = rustix::system::uname();
    parse_version(uname.release().to_str().ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Why a filter was refused.
pub(super) fn explain(errno: i32) -> String {
    match errno {
        libc::EBUSY => {
            "the calls of this process are trapped already, as by LXD or by an Oxherd around this one, and \
                        the kernel allows that once: start Oxherd outside of it"
                .into()
        }
        libc::EINVAL | libc::ENOSYS => {
            "this kernel knows no seccomp notifications (Linux 5.9 or later, built with \
                                        CONFIG_SECCOMP_FILTER, is needed)"
                .into()
        }
        libc::EPERM | libc::EACCES => {
            format!("the container's filter forbids seccomp notifications; {ALLOW_IN_CONTAINER}")
        }
        _ => format!("cannot trap the process's calls: {}", io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_any_release() {
        assert_eq!(parse_version("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(parse_version("5.4.0-150-generic"), Some((5, 4)));
        assert_eq!(parse_version("4.4"), Some((4, 4)));
        assert_eq!(parse_version("strange"), None);
        assert!((5, 10) > OLDEST_KERNEL && (5, 8) < OLDEST_KERNEL && (4, 19) < OLDEST_KERNEL);
    }

    #[test]
    fn each_reason_names_the_way_out() {
        for (errno, word) in [(libc::EBUSY, "outside"), (libc::EINVAL, "5.9"), (libc::EPERM, "--cap-add")] {
            assert!(explain(errno).contains(word), "{}", explain(errno));
        }
    }
}
