//! What happens in the new process between its creation and its program.
//!
//! The new process is a copy of one thread of a possibly multi-threaded program: locks may be held for ever.
//! So nothing here may allocate, panic, unwind, or call anything but async-signal-safe functions; all strings
//! and pointers are prepared beforehand in a [`Plan`].

use std::ffi::CString;
use std::os::fd::RawFd;
use std::ptr;

use super::spec::Identity;
use crate::lending::install;

/// The descriptors that are handed down become this one and the next.
pub(super) const FIRST_HANDED_FD: RawFd = 3;

/// Digits of the largest number of a process, and more.
pub(super) const PID_DIGITS_MAX: usize = 10;

/// Highest signal number of Linux on the supported machines.
const SIGNAL_MAX: i32 = 64;
/// Status of a process that could not become its program; nobody but the Host sees it.
const NEVER_STARTED: i32 = 127;

/// Everything the new process needs, prepared by the Host.
pub(super) struct Plan {
    /// Paths to try in order.
    pub(super) candidates: Vec<CString>,
    /// Null-terminated; the strings live in the Host's [`Strings`](super::spawn::Strings) meanwhile.
    pub(super) argv: Vec<*const libc::c_char>,
    /// Null-terminated, likewise.
    pub(super) envp: Vec<*const libc::c_char>,
    pub(super) cwd: Option<CString>,
    /// What becomes descriptors 0, 1 and 2.
    pub(super) stdio: [RawFd; 3],
    /// What becomes descriptors 3, 4 and so on: the worker's end of the channel, then the others.
    pub(super) handed: Vec<RawFd>,
    /// Where a failure is written to; close-on-exec, so that success reads as the end.
    pub(super) report: RawFd,
    /// `cgroup.procs` to enter by hand, where the kernel could not do it at creation.
    pub(super) cgroup_procs: Option<RawFd>,
    /// The filter that traps calls, and where its listening end goes.
    pub(super) lending: Option<install::Plan>,
    /// Where the process's number goes, in its environment.
    pub(super) listen_pid: Option<*mut u8>,
    pub(super) nofile_soft: Option<u64>,
    /// Whom to become.
    pub(super) owner: Option<Identity>,
    pub(super) parent_death_signal: bool,
    pub(super) host_pid: libc::pid_t,
}

impl Plan {
    /// Descriptors in a plan that hands down so many are at least this, so that none is overwritten before it is
    /// used.
    pub(super) fn safe_fd_min(handed: usize) -> RawFd {
        FIRST_HANDED_FD + handed as RawFd
    }
}

/// Which step failed. The numbers travel in a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Group = 1,
    Cwd = 2,
    Descriptors = 3,
    Limit = 4,
    DeathSignal = 5,
    Exec = 6,
    Lending = 7,
    Owner = 8,
}

/// The report of a new process that could not become its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
    /// Index of the candidate concerned.
    pub(super) candidate: u32,
}

impl Failure {
    pub(super) const BYTES: usize = 12;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = (self.step as u32).to_ne_bytes();
        let [e, f, g, h] = self.errno.to_ne_bytes();
        let [i, j, k, l] = self.candidate.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    pub(super) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let step = match u32::from_ne_bytes([a, b, c, d]) {
            1 => Step::Group,
            2 => Step::Cwd,
            3 => Step::Descriptors,
            4 => Step::Limit,
            5 => Step::DeathSignal,
            7 => Step::Lending,
            8 => Step::Owner,
            _ => Step::Exec,
        };
        let errno = i32::from_ne_bytes([e, f, g, h]);
        Self { step, errno, candidate: u32::from_ne_bytes([i, j, k, l]) }
    }
}

/// Becomes the program, or reports why not and exits.
///
/// # Safety
/// Only in a new process that shares no memory with the Host, with all signals blocked, and with a plan whose
/// pointers are valid and null-terminated and whose descriptors are open and at least [`Plan::safe_fd_min`].
pub(super) unsafe fn run(plan: &Plan) -> ! {
    // SAFETY: the caller's promises are those of `become_program`.
    let failure = unsafe { become_program(plan) };
    let bytes = failure.encode();
    // SAFETY: the buffer is valid; `_exit` runs no destructors, which belong to the Host.
    unsafe {
        libc::write(plan.report, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(NEVER_STARTED)
    }
}

/// # Safety
/// As for [`run`].
unsafe fn become_program(plan: &Plan) -> Failure {
    // SAFETY: each call below is async-signal-safe and gets valid pointers from the plan or the stack.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return failed(Step::Group);
        }
        reset_dispositions();
        if let Some(cwd) = &plan.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            return failed(Step::Cwd);
        }
        if let Some(procs) = plan.cgroup_procs {
            libc::write(procs, c"0".as_ptr().cast(), 1);
        }
        if !arrange_descriptors(plan) {
            return failed(Step::Descriptors);
        }
        // Until exec all of the Host's descriptors are open here, of which there may be more than the limit.
        if plan.lending.as_ref().is_some_and(|plan| !install::install(plan)) {
            return failed(Step::Lending);
        }
        if !set_descriptor_limit(plan.nofile_soft) {
            return failed(Step::Limit);
        }
        // Only some kernels know it, and none needs to obey.
        libc::prctl(libc::PR_SET_PTRACER, plan.host_pid as libc::c_ulong, 0, 0, 0);
        unblock_signals();
        if plan.owner.as_ref().is_some_and(|owner| !become_owner(owner)) {
            return failed(Step::Owner);
        }
        // After the change of user, which takes it back.
        if plan.parent_death_signal && !bind_to_parent(plan.host_pid) {
            return failed(Step::DeathSignal);
        }
        if let Some(room) = plan.listen_pid {
            write_pid(room);
        }
        try_candidates(plan)
    }
}

/// Writes this process's number in digits.
///
/// # Safety
/// There is room for [`PID_DIGITS_MAX`] of them and a zero behind.
unsafe fn write_pid(room: *mut u8) {
    let mut digits = [0_u8; PID_DIGITS_MAX];
    // SAFETY: it cannot fail.
    let mut rest = unsafe { libc::getpid() }.unsigned_abs();
    let mut count = 0;
    while rest > 0 && count < PID_DIGITS_MAX {
        digits[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    for place in 0..count {
        // SAFETY: `count` is at most what there is room for.
        unsafe { room.add(place).write(digits[count - 1 - place]) };
    }
}

fn failed(step: Step) -> Failure {
    Failure { step, errno: last_errno(), candidate: 0 }
}

fn last_errno() -> i32 {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

/// Default actions for all signals, the ignored ones included (Rust programs ignore `SIGPIPE`). Must come
/// before signals are unblocked, lest a handler of the Host runs here. The C library's `sigaction` would
/// refuse the two signals that it keeps for itself, but those too may have been inherited as ignored.
///
/// # Safety
/// Only in the new process.
unsafe fn reset_dispositions() {
    // The kernel's own structure: handler, flags, restorer, mask; all zeroes is the default action.
    let action = [0_u64; 4];
    let no_old = ptr::null_mut::<u64>();
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: the structure is as the kernel reads it on 64-bit machines. SIGKILL and SIGSTOP are
        // refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), no_old, size_of::<u64>()) };
    }
}

/// Puts the streams and what is handed down in their places and closes everything else at exec.
///
/// # Safety
/// Only in the new process; the plan's descriptors are open and at least [`Plan::safe_fd_min`].
unsafe fn arrange_descriptors(plan: &Plan) -> bool {
    // SAFETY: plain descriptor calls; `close_range` marks, it does not close, so the report survives until
    // exec.
    unsafe {
        let mut place = 0;
        for source in plan.stdio.iter().chain(&plan.handed) {
            if libc::dup2(*source, place) < 0 {
                return false;
            }
            place += 1;
        }
        // For descriptors that this program was started with; ours are all born close-on-exec. Kernels before
        // 5.11 lack the flag, and then the inherited ones stay.
        libc::syscall(libc::SYS_close_range, place, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    true
}

/// # Safety
/// Only in the new process.
unsafe fn set_descriptor_limit(soft: Option<u64>) -> bool {
    let Some(soft) = soft else {
        return true;
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return false;
        }
        limit.rlim_cur = soft.min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
    }
}

/// # Safety
/// Only in the new process, after the dispositions were reset.
unsafe fn unblock_signals() {
    // SAFETY: `sigemptyset` initialises the set before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Groups first: whoever has become the user may not change them. The calls of the C library would have all threads
/// of the Host follow.
///
/// # Safety
/// Only in the new process.
unsafe fn become_owner(owner: &Identity) -> bool {
    let (uid, gid, groups) = (owner.uid, owner.gid, &owner.groups);
    // SAFETY: the list is valid for as long as it says; the others are numbers only.
    unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    }
}

/// Asks to be killed with the parent, and exits when it is too late to ask.
///
/// # Safety
/// Only in the new process.
unsafe fn bind_to_parent(host_pid: libc::pid_t) -> bool {
    // SAFETY: plain calls without pointers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) != 0 {
            return false;
        }
        if libc::getppid() != host_pid {
            libc::_exit(NEVER_STARTED);
        }
    }
    true
}

/// The search of `execvp`: a missing file is passed over, a forbidden one remembered.
///
/// # Safety
/// The plan's pointers are valid and null-terminated.
unsafe fn try_candidates(plan: &Plan) -> Failure {
    let mut failure = Failure { step: Step::Exec, errno: libc::ENOENT, candidate: 0 };
    for (index, path) in plan.candidates.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { libc::execve(path.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        let here = Failure { step: Step::Exec, errno: last_errno(), candidate: index as u32 };
        match here.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => failure = here,
            _ => return here,
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_the_pipe() {
        let failure = Failure { step: Step::Cwd, errno: libc::ENOTDIR, candidate: 7 };
        assert_eq!(Failure::decode(failure.encode()), failure);
    }
}
