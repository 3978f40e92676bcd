//! Making the new process: `clone3` with a pidfd, straight into its cgroup; plain `fork` where that is
//! refused.
//!
//! Must never return in the new process.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::child::{self, Plan};
use crate::cgroup::Group;
use crate::sys;

/// Flags of `clone3` from `linux/sched.h`; the C library's headers do not agree on their type.
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A new process.
pub(super) struct Created {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// Whether it is in the group that was asked for, as far as can be known.
    pub(super) in_group: bool,
}

/// Creates a process that carries out `plan`.
pub(super) fn create(mut plan: Plan, group: Option<&Group>) -> io::Result<Created> {
    let mask = SignalsHeld::all()?;
    let directory = group.map(Group::directory);
    let result = match clone3(&plan, directory) {
        // The group is a bonus: without it the tree is still found by its process group and label.
        Err(error) if group.is_some() && !is_unknown_call(&error) => clone3(&plan, None),
        result => result,
    };
    let result = match result {
        Err(error) if is_unknown_call(&error) => {
            let procs = group.and_then(|group| group.open_procs().ok());
            plan.cgroup_procs = procs.as_ref().map(AsRawFd::as_raw_fd);
            fork(&plan)
        }
        result => result,
    };
    drop(mask);
    result
}

/// Old kernels and some containers' filters do not have `clone3` (`EPERM` is what the latter may say).
fn is_unknown_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

fn clone3(plan: &Plan, directory: Option<RawFd>) -> io::Result<Created> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeroes is a valid `clone_args`: no flags, no stack of its own.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_PIDFD;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = directory {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = directory as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the new process has a copy of this stack and all memory.
    let pid =
        sys::check(unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of_val(&args)) })?;
    if pid == 0 {
        // SAFETY: this is the new process; signals are held, the plan was prepared for it.
        unsafe { child::run(plan) }
    }
    // SAFETY: the kernel has stored a new descriptor, close-on-exec, that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Created { pid: pid as u32, pidfd, in_group: directory.is_some() })
}

fn fork(plan: &Plan) -> io::Result<Created> {
    // SAFETY: the new process calls nothing but async-signal-safe functions.
    let pid = sys::check(unsafe { libc::fork() }.into())? as libc::pid_t;
    if pid == 0 {
        // SAFETY: as in `clone3`.
        unsafe { child::run(plan) }
    }
    // Nobody but the Host waits for it, so its number cannot have been given away yet.
    let known = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    match pidfd_open(known, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Created { pid: pid as u32, pidfd, in_group: plan.cgroup_procs.is_some() }),
        Err(error) => {
            let _ended_already = kill_process(known, Signal::KILL);
            while let Err(Errno::INTR) = waitpid(Some(known), WaitOptions::empty()) {}
            Err(error.into())
        }
    }
}

/// Holds all signals of this thread while it lives, so that the new process starts with them held.
struct SignalsHeld {
    before: libc::sigset_t,
}

impl SignalsHeld {
    fn all() -> io::Result<Self> {
        // SAFETY: both sets are plain memory; `sigfillset` and the call below initialise them.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: the sets are valid for the duration of the calls.
        let refused = unsafe {
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before)
        };
        if refused == 0 { Ok(Self { before }) } else { Err(io::Error::from_raw_os_error(refused)) }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

const _: () = assert!(size_of::<libc::clone_args>() >= 88, "clone_args must have its cgroup field");

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn both_ways_lead_to_the_program() {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let null = rustix::io::fcntl_dupfd_cloexec(&null, Plan::safe_fd_min(0)).unwrap();
        let program = c"/bin/sh";
        let script = [program.as_ptr(), c"-c".as_ptr(), c"test $X = 1 && exit 7".as_ptr(), ptr::null()];
        let plan = Plan {
            candidates: vec![c"/no/such/folder/sh".to_owned(), program.to_owned()],
            argv: script.to_vec(),
            envp: vec![c"X=1".as_ptr(), ptr::null()],
            cwd: Some(c"/".to_owned()),
            stdio: [null.as_raw_fd(); 3],
            handed: Vec::new(),
            report: null.as_raw_fd(),
            cgroup_procs: None,
            lending: None,
            listen_pid: None,
            nofile_soft: None,
            owner: None,
            parent_death_signal: true,
            host_pid: rustix::process::getpid().as_raw_pid(),
        };
        for way in [|plan: &Plan| clone3(plan, None), fork] {
            let held = SignalsHeld::all().unwrap();
            let created = way(&plan).unwrap();
            drop(held);
            let exit = waitid(WaitId::PidFd(created.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
            assert_eq!(exit.exit_status(), Some(7));
        }
    }
}
