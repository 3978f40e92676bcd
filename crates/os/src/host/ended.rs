//! How a process ended whose exit is not ours to take.
//!
//! Only looks. Must never wait, and never believe a number once its pidfd does not answer.

use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::ExitStatus;
use crate::sys;

/// `struct pidfd_info` of `linux/pidfd.h` in its first version, which later kernels go on to accept.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PidfdInfo {
    /// What is asked for, then what was filled in.
    mask: u64,
    cgroup_id: u64,
    /// The numbers of the process, its parent, its users and groups.
    ids: [u32; 11],
    /// As `wait(2)` encodes it.
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`, since Linux 6.15.
const INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`, which is `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl =
    (3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11) as libc::Ioctl;
/// Place of the status among the fields of `/proc/PID/stat` that follow the name.
const STAT_EXIT_FIELD: usize = 49;

const _: () = assert!(size_of::<PidfdInfo>() == 64, "the size is part of the request's number");

/// How the process ended, `None` while it runs, `NotFound` when it has ended and nobody can say how.
pub(crate) fn exit_of(pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    if !has_ended(pidfd)? {
        return Ok(None);
    }
    // The kernel tells it once the exit was taken, the other files before; it may be taken in between.
    let status = exit_info(pidfd).or_else(|| status_of_unreaped(pid, pidfd)).or_else(|| exit_info(pidfd));
    match status {
        Some(status) => Ok(Some(decode(status))),
        None => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("nobody can say how process {pid} ended")))
        }
    }
}

/// Whether the process has ended, all threads of it.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the kernel keeps with the pidfd of a process whose exit was taken.
fn exit_info(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the structure is valid for the kernel to fill, and its size is in the request's number.
    sys::check(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) }.into()).ok()?;
    (info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

/// What `/proc` says of a process whose exit was not taken yet.
pub(crate) fn status_of_unreaped(pid: u32, pidfd: BorrowedFd<'_>) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The status reads as 0 for those who may not look into the process; this link tells whether we may.
    fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    let status = status_in(&stat)?;
    // While the pidfd answers the number is its own.
    sys::pidfd_send_signal(pidfd, 0, 0).is_ok().then_some(status)
}

/// The last field, of a process that has ended.
fn status_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let status = fields.nth(STAT_EXIT_FIELD - 1)?;
    matches!(state, "Z" | "X").then(|| status.parse().ok()).flatten()
}

/// The encoding of `wait(2)`.
pub(crate) fn decode(status: i32) -> ExitStatus {
    match status & 0x7f {
        0 => ExitStatus::Code(status >> 8 & 0xff),
        signal => ExitStatus::Signal { signal, core_dumped: status & 0x80 != 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_decoded() {
        assert_eq!(decode(7 << 8), ExitStatus::Code(7));
        assert_eq!(decode(libc::SIGKILL), ExitStatus::Signal { signal: 9, core_dumped: false });
        assert_eq!(decode(libc::SIGSEGV | 0x80), ExitStatus::Signal { signal: 11, core_dumped: true });
    }

    #[test]
    fn the_status_is_the_last_field_and_counts_after_the_end_only() {
        let line = |state: &str| format!("7 (a) b) {state} {}1792\n", "1 ".repeat(48));
        assert_eq!(status_in(&line("Z")), Some(1792));
        assert_eq!(status_in(&line("R")), None);
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(own.rsplit_once(')').unwrap().1.split_whitespace().count(), STAT_EXIT_FIELD + 1);
    }
}
