//! Holding a process for a moment when it is about to exit, whatever makes it exit, with its descriptors open.
//!
//! By tracing its leader thread with nothing but `PTRACE_O_TRACEEXIT` (see ptrace(2)): its system calls run at
//! full speed. Tracing must never show: every other stop is passed on at once, and when the tracer dies the
//! process goes on. A process has one tracer at a time, so a debugger has to come first or stay away.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::ExitStatus;
use crate::doom::{self, thread_is_doomed};
use crate::host::ended::{decode, exit_of, has_ended};
use crate::sys;

const PTRACE_CONT: u32 = 7;
const PTRACE_DETACH: u32 = 17;
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_LISTEN: u32 = 0x4208;
const PTRACE_O_TRACEEXIT: u32 = 0x40;
const PTRACE_EVENT_EXIT: i32 = 6;
const PTRACE_EVENT_STOP: i32 = 128;

/// Stops that one poll passes on; a later one comes with a `SIGCHLD` of its own.
const STOPS_PER_POLL_MAX: usize = 16;
/// For how long the exit stop waits for the other threads to be gone.
const OTHERS_WAIT_MAX: Duration = Duration::from_millis(500);
/// Between two looks at them: the kernel reports no event for it. Doubled each time up to the second.
const OTHERS_PAUSE_MIN: Duration = Duration::from_micros(50);
const OTHERS_PAUSE_MAX: Duration = Duration::from_millis(5);
/// For how long dropping a watch waits for its process to stop, which takes some microseconds.
const DETACH_WAIT_MAX: Duration = Duration::from_millis(100);

/// A process that is watched for its exit. Belongs to the thread that made it: the kernel takes orders from no
/// other. Dropping it lets the process go, exit stop included. One that was released or lost must be polled until
/// it has ended: it shows to its own parent only then.
#[derive(Debug)]
pub struct ExitWatch {
    pid: u32,
    pidfd: OwnedFd,
    state: State,
    _of_one_thread: PhantomData<*const ()>,
}

/// What became of a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// It goes on.
    Nothing,
    /// It is about to exit and waits for [`ExitWatch::release`]; its other threads are gone, or stuck in the
    /// kernel. `SIGKILL` does not end the wait (before Linux 5.17 a second one does).
    AtExit,
    /// Its leader thread ended alone, or another thread of it became another program: it lives, and is not watched
    /// for its exit any more. [`ExitWatch::seize`] may work again, at once or never.
    Lost,
    /// It has ended. If it is a child of this process, its exit is taken hereby; if not, its parent can take it
    /// now.
    Ended(ExitStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    AtExit,
    Released,
    Lost,
    Ended(ExitStatus),
}

/// What to do with a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Exit,
    /// Stopped by this job-control signal: it stays so until it is continued.
    Group,
    /// About to be told of this signal, 0 for none.
    Signal(u32),
}

impl ExitWatch {
    /// Watches a process; one that this thread watches already, from before an exec, is watched on.
    ///
    /// `EPERM` where this is not allowed (Yama, seccomp, a setuid program, another user's) or another tracer is
    /// there already; `ESRCH` when it has ended.
    pub fn seize(pid: u32, pidfd: impl AsFd) -> io::Result<Self> {
        let pidfd = pidfd.as_fd().try_clone_to_owned()?;
        let state = match sys::ptrace(PTRACE_SEIZE, pid, PTRACE_O_TRACEEXIT) {
            Ok(()) => State::Running,
            Err(_) if is_traced_by_us(pid) && is_at_exit(pid) => State::AtExit,
            Err(_) if is_traced_by_us(pid) => State::Running,
            Err(error) => return Err(error),
        };
        let watch = Self { pid, pidfd, state, _of_one_thread: PhantomData };
        // While the pidfd answers the number is its own; else dropping the watch lets the other one go.
        sys::pidfd_send_signal(watch.pidfd.as_fd(), 0, 0)?;
        Ok(watch)
    }

    /// Watches on a process that this thread watched before an exec; nothing if it did not.
    pub fn resume(pid: u32, pidfd: impl AsFd) -> Option<Self> {
        is_traced_by_us(pid).then(|| Self::seize(pid, pidfd).ok()).flatten()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What became of the process; to be called after each `SIGCHLD`, and when its pidfd is readable. Never waits,
    /// but up to 500 ms at the exit stop for threads that are still on their way out of a system call.
    ///
    /// `NotFound`: it has ended, somebody else took its exit, and nobody can say how it ended.
    pub fn poll(&mut self) -> io::Result<Watched> {
        if let State::Ended(status) = self.state {
            return Ok(Watched::Ended(status));
        }
        for _stop in 0..STOPS_PER_POLL_MAX {
            // Stops of a traced process are reported whatever is asked for.
            let reported = sys::waitid_pidfd(self.pidfd.as_fd(), libc::WEXITED | libc::__WALL);
            match reported {
                Ok(None) => break,
                Ok(Some((libc::CLD_EXITED, code))) => return Ok(self.end(ExitStatus::Code(code))),
                Ok(Some((libc::CLD_KILLED, signal))) => return Ok(self.end(decode(signal))),
                Ok(Some((libc::CLD_DUMPED, signal))) => return Ok(self.end(decode(signal | 0x80))),
                Ok(Some((_trapped, status))) => self.on_stop(stop_of(status))?,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return self.on_not_ours(),
                Err(error) => return Err(error),
            }
        }
        Ok(match self.state {
            State::Running | State::Released => Watched::Nothing,
            State::AtExit => Watched::AtExit,
            State::Lost => Watched::Lost,
            State::Ended(status) => Watched::Ended(status),
        })
    }

    /// Lets a process that waits at its exit go on to end. Nothing happens in any other state.
    pub fn release(&mut self) -> io::Result<()> {
        if self.state == State::AtExit {
            self.order(PTRACE_CONT, 0)?;
            self.state = State::Released;
        }
        Ok(())
    }

    fn end(&mut self, status: ExitStatus) -> Watched {
        self.state = State::Ended(status);
        Watched::Ended(status)
    }

    fn on_stop(&mut self, stop: Stop) -> io::Result<()> {
        match stop {
            Stop::Group => self.order(PTRACE_LISTEN, 0),
            Stop::Signal(signal) => self.order(PTRACE_CONT, signal),
            Stop::Exit if others_are_gone(self.pid) => {
                self.state = State::AtExit;
                Ok(())
            }
            Stop::Exit => {
                self.state = State::Lost;
                self.order(PTRACE_CONT, 0)
            }
        }
    }

    /// Neither our child nor traced by us any more.
    fn on_not_ours(&mut self) -> io::Result<Watched> {
        match exit_of(self.pid, self.pidfd.as_fd())? {
            Some(status) => Ok(self.end(status)),
            None => {
                self.state = State::Lost;
                Ok(Watched::Lost)
            }
        }
    }

    /// An order to the stopped process; that it was killed meanwhile shows at the next poll.
    fn order(&self, request: u32, data: u32) -> io::Result<()> {
        match sys::ptrace(request, self.pid, data) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Stops the process, because only then it can be let go, and lets it go as it was.
    fn detach(&self) -> io::Result<()> {
        let give_up_at = Instant::now() + DETACH_WAIT_MAX;
        self.order(PTRACE_INTERRUPT, 0)?;
        while !has_ended(self.pidfd.as_fd())? && Instant::now() < give_up_at {
            match sys::waitid_pidfd(self.pidfd.as_fd(), libc::WEXITED | libc::__WALL)? {
                None => thread::sleep(OTHERS_PAUSE_MIN),
                Some((libc::CLD_TRAPPED | libc::CLD_STOPPED, status)) => {
                    let signal = if let Stop::Signal(signal) = stop_of(status) { signal } else { 0 };
                    return self.order(PTRACE_DETACH, signal);
                }
                Some(_ended) => break,
            }
        }
        Ok(())
    }
}

impl Drop for ExitWatch {
    fn drop(&mut self) {
        let _gone_already = match self.state {
            State::AtExit => self.order(PTRACE_DETACH, 0),
            State::Running => self.detach(),
            State::Released | State::Lost | State::Ended(_) => Ok(()),
        };
    }
}

/// Lets a process trace this one (`PR_SET_PTRACER`), which systems with Yama otherwise grant to ancestors only. On
/// systems without, nothing needs to be done; they cannot be told from those that do not know the process.
pub fn allow_tracer(pid: u32) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(pid), 0, 0, 0) };
    match sys::check(result.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
        _ => Ok(()),
    }
}

/// What kind of stop a status means: a signal, and above it the event.
fn stop_of(status: i32) -> Stop {
    let (event, signal) = (status >> 8, status & 0x7f);
    match event {
        0 => Stop::Signal(signal as u32),
        PTRACE_EVENT_EXIT => Stop::Exit,
        PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Stop::Group,
        // The end of a group stop, or an interruption.
        _ => Stop::Signal(0),
    }
}

/// Waits, within a bound, until no other thread can use the descriptors; false when one lives on, or nobody knows.
fn others_are_gone(pid: u32) -> bool {
    let give_up_at = Instant::now() + OTHERS_WAIT_MAX;
    let mut pause = OTHERS_PAUSE_MIN;
    loop {
        let threads = doom::threads_of(pid);
        let mut others = threads.iter().flatten().filter(|thread| **thread != pid).peekable();
        if threads.is_ok() && others.peek().is_none() {
            return true;
        }
        if Instant::now() >= give_up_at {
            return threads.is_ok() && others.all(|thread| thread_is_doomed(pid, *thread).unwrap_or(false));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(OTHERS_PAUSE_MAX);
    }
}

fn is_traced_by_us(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let us = rustix::thread::gettid().as_raw_nonzero().to_string();
    doom::field(&status, "TracerPid:") == Some(&us)
}

/// Whether a process that this thread traces waits at its exit already.
fn is_at_exit(pid: u32) -> bool {
    sys::ptrace_stop_code(pid).is_ok_and(|code| stop_of(code) == Stop::Exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        let trap = libc::SIGTRAP;
        assert_eq!(stop_of(PTRACE_EVENT_EXIT << 8 | trap), Stop::Exit);
        assert_eq!(stop_of(PTRACE_EVENT_STOP << 8 | libc::SIGSTOP), Stop::Group);
        assert_eq!(stop_of(PTRACE_EVENT_STOP << 8 | trap), Stop::Signal(0));
        assert_eq!(stop_of(libc::SIGTERM), Stop::Signal(libc::SIGTERM as u32));
        assert_eq!(stop_of(trap), Stop::Signal(trap as u32), "a breakpoint of the program's own");
    }

    #[test]
    fn this_process_is_not_traced_by_itself() {
        assert!(!is_traced_by_us(std::process::id()));
    }
}
