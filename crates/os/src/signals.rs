//! Signals as readable events, and the question whether the terminal is still there.
//!
//! There are no signal handlers here and there must never be any: signals are blocked and read from a
//! signalfd by the loop, one at a time.
//!
//! `SIGTTIN` and `SIGTTOU` double as requests to scale up and down, so they belong in the blocked set. A
//! blocked `SIGTTOU` has a welcome side effect: the kernel lets a background process write to its terminal
//! and change its settings instead of stopping it. With a blocked `SIGTTIN` a background read of the terminal
//! fails with `EIO`, which [`TerminalWatch`] therefore does not take for a hang-up.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::sys;

/// A signal that was taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number, such as `libc::SIGHUP`.
    pub signal: i32,
    /// Who sent it; 0 when the kernel did, or when the sender's pid means nothing here. For `SIGCHLD` the
    /// child.
    pub sender_pid: u32,
    /// The kernel sent it of its own accord (Ctrl-C, a vanished terminal, a child's exit), not a process.
    pub from_kernel: bool,
}

/// A set of blocked signals and the signalfd that yields them.
#[derive(Debug)]
pub struct Signals {
    signalfd: OwnedFd,
}

impl Signals {
    /// Blocks `signals` in the calling thread and opens a nonblocking signalfd for them.
    ///
    /// Call it before other threads are spawned, which inherit the mask; a thread without it would take the
    /// signal and die of it. They stay blocked when the value is dropped. `EINVAL` for a number that is no
    /// signal.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set it is given.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in signals {
            // SAFETY: the set is initialised; a bad number is an error, nothing worse.
            sys::check(unsafe { libc::sigaddset(&mut set, *signal) }.into())?;
        }
        // SAFETY: the set is initialised and the old mask is not asked for.
        let refused = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd =
            sys::check(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into())?;
        // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
        Ok(Self { signalfd: unsafe { OwnedFd::from_raw_fd(fd as i32) } })
    }

    /// The next signal, or `None` when no more are pending. Equal signals that came in a burst are one.
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut raw = [0_u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.signalfd, &mut raw) {
                Ok(_whole) => break,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // SAFETY: the buffer is as large as the structure, which consists of integers; alignment is not
        // assumed.
        let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(raw.as_ptr().cast()) };
        Ok(Some(Received {
            signal: info.ssi_signo as i32,
            sender_pid: info.ssi_pid,
            from_kernel: info.ssi_code > 0,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signalfd.as_fd()
    }
}

/// Remembers the terminal a program was started on, to tell a `SIGHUP` for a vanished terminal from a
/// request to reload.
#[derive(Debug)]
pub struct TerminalWatch {
    terminals: Vec<OwnedFd>,
}

impl TerminalWatch {
    /// Looks at descriptors 0, 1 and 2 and keeps a duplicate of those that are terminals.
    pub fn new() -> Self {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        Self::over(&[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    }

    /// The same for other descriptors.
    pub fn over(candidates: &[BorrowedFd<'_>]) -> Self {
        let terminals = candidates
            .iter()
            .filter(|fd| rustix::termios::isatty(fd))
            .filter_map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE_FD).ok())
            .collect();
        Self { terminals }
    }

    /// Whether there was a terminal at all.
    pub fn had_terminal(&self) -> bool {
        !self.terminals.is_empty()
    }

    /// Whether a remembered terminal has hung up (window closed, connection lost). False without a terminal.
    pub fn is_gone(&self) -> bool {
        self.terminals.iter().any(|fd| hung_up(fd.as_fd()))
    }
}

impl Default for TerminalWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Duplicates stay clear of the standard streams.
const FIRST_FREE_FD: i32 = 3;

fn hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP);
    polled || matches!(rustix::termios::tcgetattr(fd), Err(Errno::IO))
}
