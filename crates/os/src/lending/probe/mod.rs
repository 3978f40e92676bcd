//! What this kernel, user and container allow of lending sockets, found out by trying it with a process that is made
//! for it and ends right after.
//!
//! It tries and reports; what follows from that is for others to say. Leaves nothing behind, and changes nothing of
//! this process.

mod binary;
mod trial;

use std::io;
use std::path::PathBuf;
use std::ptr;

use crate::cgroup::Cgroups;
use crate::steering::steer;
use crate::{proc, socket, sys};

pub use self::binary::{Binary, Format};
pub use self::trial::{Listener, Trial};

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// The kernel's release.
    pub kernel: String,
    /// This is root, or another user with its powers.
    pub is_root: bool,
    /// What became of a process whose calls were to be trapped.
    pub trial: Trial,
    /// The kernel lets the caller of a trapped call sleep through signals (Linux 5.19): otherwise it leaves the call,
    /// and comes again.
    pub sleeps_soundly: bool,
    /// Yama's restriction of tracing, where the kernel has it: 0 none, 1 only ancestors and those who were named,
    /// 2 only the privileged, 3 nobody.
    pub tracing_scope: Option<u8>,
    /// Connections can be steered between the listeners of one port.
    pub steering: io::Result<()>,
    /// Programs may use `io_uring`, whose calls no filter sees.
    pub has_io_uring: bool,
    /// Where each worker gets a cgroup of its own.
    pub cgroups: Option<PathBuf>,
    /// Soft and hard limit of open descriptors.
    pub fd_limit: (u64, u64),
}

impl Findings {
    /// Tries everything. Takes some milliseconds, and 5 s if the process that is made for it is stopped by somebody.
    pub fn collect() -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            is_root: rustix::process::geteuid().is_root(),
            trial: Trial::run(),
            sleeps_soundly: knows_flag(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
            tracing_scope: tracing_scope(),
            steering: try_steering(),
            has_io_uring: has_io_uring(),
            cgroups: Cgroups::detect().map(|cgroups| cgroups.root().to_owned()),
            fd_limit: proc::fd_limit(),
        }
    }

    /// Whether sockets can be lent.
    pub fn can_lend(&self) -> bool {
        let Trial { listener, memory, duplicate, put } = &self.trial;
        listener.is_ok() && memory.is_ok() && duplicate.is_ok() && put.is_ok()
    }
}

/// Whether `seccomp(2)` knows a flag: then only the missing filter is wrong.
fn knows_flag(flag: libc::c_ulong) -> bool {
    let operation = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    let flags = flag | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: without a filter nothing is set; the kernel refuses the null pointer.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, ptr::null::<libc::sock_fprog>()) };
    sys::check(result).is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT))
}

fn tracing_scope() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

fn try_steering() -> io::Result<()> {
    let options = socket::ListenOptions { reuse_port: true, ..socket::ListenOptions::default() };
    let listener = socket::listen_tcp(([127, 0, 0, 1], 0).into(), &options)?;
    steer(&listener, &[0])
}

fn has_io_uring() -> bool {
    // `struct io_uring_params`, which is smaller.
    let mut parameters = [0_u64; 32];
    // SAFETY: the parameters are valid for the kernel to read and write.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if ring >= 0 {
        // SAFETY: it is a new descriptor that nobody else knows of.
        unsafe { libc::close(ring as libc::c_int) };
    }
    ring >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_allows_is_tried() {
        let findings = Findings::collect();
        assert!(findings.kernel.contains('.') && findings.fd_limit.0 > 0);
        assert!(findings.steering.is_ok(), "{findings:?}");
        // Under another supervisor, or in a container, the reason is told in words.
        match &findings.trial.listener {
            Ok(listener) => assert!(listener.no_new_privs || findings.is_root, "{findings:?}"),
            Err(why) => assert!(why.len() > 40, "{why}"),
        }
        let tried_all = findings.trial.listener.is_ok() && findings.trial.duplicate.is_ok();
        assert_eq!(findings.can_lend(), tried_all, "{findings:?}");
    }

    #[test]
    fn unknown_flags_are_told_from_known_ones() {
        assert!(knows_flag(libc::SECCOMP_FILTER_FLAG_LOG));
        assert!(!knows_flag(1 << 31));
    }
}
