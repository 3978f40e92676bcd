//! Whether a process that was told to end can still run code of its own.
//!
//! The kernel ends a process thread by thread. One that waits for a disk that hangs stays for as long as the disk
//! does, and the process with it, descriptors and all; but nothing of it runs any more. Only looks (`/proc/PID/task`,
//! see proc(5)). Must never call a process doomed of which a thread may go on.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use crate::ExitStatus;
use crate::host::ended::{decode, status_of_unreaped};
use crate::sys;

/// Flag in `/proc/PID/stat`: the thread is beyond its exit stop, and beyond user space.
const PF_EXITING: u32 = 4;
/// Place of the flags among the fields of that file that follow the name.
const STAT_FLAGS_FIELD: usize = 6;

/// Whether no thread of the process comes back to user space: each exits already, or has its own `SIGKILL` pending,
/// which the kernel gives to all threads in one step, never takes back, and has obeyed before a thread returns from
/// a system call, a fault, or a wait for the CPU. A process that dumps core is doomed too. One that has ended is,
/// and its pidfd says more.
///
/// A thread that runs in user space at this very moment is interrupted some microseconds later: who starts something
/// in its place asks twice, with time in between. `false` while threads come and go. Errors: `EMFILE`, `EACCES`;
/// `ENOENT` and `ESRCH` when its exit was taken.
pub fn is_doomed(pid: u32, pidfd: impl AsFd) -> io::Result<bool> {
    // The leader first: of a process that lives nothing more is read.
    let doomed = thread_is_doomed(pid, pid)? && others_are_doomed(pid)?;
    // While the pidfd answers the number is its own.
    sys::pidfd_send_signal(pidfd.as_fd(), 0, 0)?;
    Ok(doomed)
}

/// How a doomed process will have ended, if its leader thread has come that far and this may be known.
pub fn fate_of(pid: u32, pidfd: impl AsFd) -> Option<ExitStatus> {
    status_of_unreaped(pid, pidfd.as_fd()).map(decode)
}

fn others_are_doomed(pid: u32) -> io::Result<bool> {
    let threads = threads_of(pid)?;
    for thread in &threads {
        if !thread_is_doomed(pid, *thread)? {
            return Ok(false);
        }
    }
    // A list that is read while threads end may lack some of those that stay.
    let count = number(&status_of(pid, pid)?, "Threads:", 10);
    Ok(count == Some(threads.len() as u64))
}

/// The numbers of all threads that are there.
pub(crate) fn threads_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(threads)
}

/// Whether a thread is gone, exits, or has been told to and obeys before it does anything else.
pub(crate) fn thread_is_doomed(pid: u32, thread: u32) -> io::Result<bool> {
    match (status_of(pid, thread), stat_of(pid, thread)) {
        (Ok(status), Ok(stat)) => {
            let pending = number(&status, "SigPnd:", 16).unwrap_or(0);
            let dumps_core = number(&status, "CoreDumping:", 10) == Some(1);
            let was_killed = pending & 1 << (libc::SIGKILL - 1) != 0;
            Ok(was_killed || dumps_core || flags_in(&stat) & PF_EXITING != 0)
        }
        (Err(error), _) | (_, Err(error)) if is_gone(&error) => Ok(true),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn status_of(pid: u32, thread: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"))
}

fn stat_of(pid: u32, thread: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn flags_in(stat: &str) -> u32 {
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    fields.and_then(|mut fields| fields.nth(STAT_FLAGS_FIELD)?.parse().ok()).unwrap_or(0)
}

fn number(status: &str, name: &str, radix: u32) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, radix).ok()
}

/// The value of a field of a `status` file.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detach::own_pidfd;

    #[test]
    fn who_runs_is_not_doomed() {
        let pid = std::process::id();
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(!thread_is_doomed(pid, thread).unwrap());
        assert!(!is_doomed(pid, own_pidfd().unwrap()).unwrap());
        assert!(threads_of(pid).unwrap().contains(&thread));
        assert_eq!(fate_of(pid, own_pidfd().unwrap()), None);
    }

    #[test]
    fn flags_are_found_behind_any_name() {
        assert_eq!(flags_in("7 (a) b) R 1 2 3 4 5 4194564 8 9"), 4_194_564);
        assert_eq!(flags_in("garbage"), 0);
        assert_eq!(number("SigPnd:\t0000000000000100\nThreads:\t3\n", "SigPnd:", 16), Some(0x100));
        assert_eq!(number("SigPnd:\t0\nThreads:\t3\n", "Threads:", 10), Some(3));
    }
}
