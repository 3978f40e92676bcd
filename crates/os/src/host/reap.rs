//! Orphans: being the one they are handed to, and taking the exits of those that are not the Host's own.
//!
//! Must never take the exit of a child of an embedding program, which waits for it itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, child_subreaper, getpid, set_child_subreaper, waitid, waitpid,
};

use super::ended;
use crate::sys;

/// How many Hosts of this process want to be subreaper, and what it was before the first.
static WANTED: Mutex<(usize, bool)> = Mutex::new((0, false));

/// Makes this process the parent of its descendants' orphans while it lives; the last one dropped restores
/// what was before.
#[derive(Debug)]
pub(super) struct Subreaper(());

impl Subreaper {
    pub(super) fn acquire() -> io::Result<Self> {
        let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.0 == 0 {
            wanted.1 = child_subreaper()?.is_some();
            set_child_subreaper(Some(getpid()))?;
        }
        wanted.0 += 1;
        Ok(Self(()))
    }
}

impl Drop for Subreaper {
    fn drop(&mut self) {
        let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.0 -= 1;
        if wanted.0 == 0 && !wanted.1 {
            let _kept_on = set_child_subreaper(None);
        }
    }
}

/// A program started with `SIGCHLD` ignored would never learn how its children end: the kernel throws the
/// statuses away.
pub(super) fn insist_on_exits() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the structure is valid for the kernel to fill; no new action is given.
    sys::check(unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr()) }.into())?;
    // SAFETY: it was zeroed and then filled.
    let mut action = unsafe { action.assume_init() };
    if action.sa_sigaction == libc::SIG_IGN {
        action.sa_sigaction = libc::SIG_DFL;
        // SAFETY: the structure is a valid action without a handler.
        sys::check(unsafe { libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()) }.into())?;
    }
    Ok(())
}

/// Takes the exits of all ended children whose pid is not in `own`; returns how many.
pub(super) fn reap_strangers(own: &BTreeSet<u32>) -> io::Result<usize> {
    let mut reaped = 0;
    while let Some((pid, has_ended)) = peek(libc::P_ALL, 0)? {
        if own.contains(&pid) || !has_ended {
            // It hides those behind it until the Host takes its exit, or its tracer its stop.
            return Ok(reaped + reap_listed(own));
        }
        reaped += usize::from(reap(pid));
    }
    Ok(reaped)
}

/// The process that a wait would report, left in place, and whether it has ended: a wait for exits reports the
/// stops of traced processes too.
fn peek(which: libc::idtype_t, id: u32) -> io::Result<Option<(u32, bool)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: the structure is valid for the kernel to fill.
        let result = sys::check(unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) }.into());
        match result {
            Ok(_) => break,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // SAFETY: it was zeroed, and filled if there is something to report; the pid is then set, else zero.
    let (info, pid) = unsafe {
        let info = info.assume_init();
        (info, info.si_pid())
    };
    let has_ended = matches!(info.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED);
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0).map(|pid| (pid, has_ended)))
}

/// The slower way, by the kernel's lists of children (absent from some kernels; then another time will do).
fn reap_listed(own: &BTreeSet<u32>) -> usize {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let listed = lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let strangers = listed.filter_map(|pid| pid.parse().ok()).filter(|pid| !own.contains(pid));
    strangers.filter(|pid| reap(*pid)).count()
}

/// Takes the exit of this child if it has ended.
fn reap(pid: u32) -> bool {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    matches!(peek(libc::P_PID, pid), Ok(Some((_, true))))
        && known.is_some_and(|pid| matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))))
}

/// Takes the exit of a process by its pidfd; true when that is done, or somebody else has done it. A process
/// whose parent still lives is not our child yet.
pub(super) fn settle(pidfd: &OwnedFd) -> bool {
    if !matches!(ended::has_ended(pidfd.as_fd()), Ok(true)) {
        return false;
    }
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(exit) => exit.is_some(),
        Err(Errno::CHILD) => sys::pidfd_send_signal(pidfd.as_fd(), 0, 0).is_err(),
        Err(_) => false,
    }
}
