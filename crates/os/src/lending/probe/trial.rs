//! One process that binds a socket, and is lent another: all that lending takes, once.
//!
//! The process is a copy of one thread of this program: what it does must be async-signal-safe.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::super::install::{self, Installed, Plan};
use super::super::{Answer, Traps, address_of, memory, socket_of};
use crate::socket::{LocalAddr, inode};
use crate::{packet, sys};

/// Far longer than any of it takes.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// What the process finds when it has been lent the socket that was put in place of its own.
const IS_LENT: i32 = 0;
const IS_NOT_LENT: i32 = 1;

/// How each step went.
#[derive(Debug)]
pub struct Trial {
    /// Trapping calls; a sentence where it cannot be.
    pub listener: Result<Listener, String>,
    /// Reading the process's memory (`process_vm_readv`).
    pub memory: io::Result<()>,
    /// Taking a duplicate of its socket (`pidfd_getfd`).
    pub duplicate: io::Result<()>,
    /// Putting another socket in its place. Not tried where calls are not trapped.
    pub put: io::Result<()>,
}

/// How calls are trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The process cannot gain privileges any more, by setuid programs for instance.
    pub no_new_privs: bool,
}

impl Trial {
    pub(super) fn run() -> Self {
        Self::try_run().unwrap_or_else(|error| Self {
            listener: Err(format!("cannot try it: {error}")),
            memory: Err(io::Error::from(error.kind())),
            duplicate: Err(io::Error::from(error.kind())),
            put: Err(error),
        })
    }

    fn try_run() -> io::Result<Self> {
        let own = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (ours, theirs) = packet::pair()?;
        // It is never bound by the process itself.
        let script = Script::new(own.as_fd(), theirs.as_fd(), listener.local_addr()?.port());
        let process = Process::start(&script)?;
        drop(theirs);
        wait_for(&ours)?;
        match install::installed(ours.as_fd())? {
            Installed::On(fd) => {
                // Before the process goes on and ends.
                let no_new_privs = process.has_no_new_privs();
                let traps = Traps::of(fd);
                let mut trial = Self::of_trapped(&traps, &script, &listener)?;
                trial.listener = Ok(Listener { no_new_privs });
                drop(traps);
                if trial.put.is_ok() && process.end()? != IS_LENT {
                    trial.put = Err(io::ErrorKind::InvalidData.into());
                }
                Ok(trial)
            }
            Installed::Not(why) => Ok(Self::without_traps(why, &process, &script)),
        }
    }

    fn of_trapped(traps: &Traps, script: &Script, listener: &TcpListener) -> io::Result<Self> {
        wait_for(traps)?;
        let bind = traps.receive()?.ok_or(io::ErrorKind::BrokenPipe)?;
        let memory = address_of(&bind).and_then(|address| {
            let is_it = address == LocalAddr::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, script.port)));
            if is_it { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
        let duplicate = socket_of(&bind).and_then(inode).map(drop);
        let put = traps.put(bind.id, listener, script.own, true);
        traps.answer(bind.id, Answer::Done)?;
        Ok(Self { listener: Err(String::new()), memory, duplicate, put })
    }

    /// The process waits to be killed.
    fn without_traps(why: String, process: &Process, script: &Script) -> Self {
        let mut read = [0; size_of::<libc::sockaddr_in>()];
        let address = (&raw const script.address) as u64;
        let memory = memory::read(process.pid.as_raw_pid().cast_unsigned(), address, &mut read).map(drop);
        let duplicate = pidfd_getfd(&process.pidfd, script.own, PidfdGetfdFlags::empty());
        Self {
            listener: Err(why),
            memory,
            duplicate: duplicate.map(drop).map_err(io::Error::from),
            put: Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn wait_for(fd: impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    if poll(&mut fds, Some(&PATIENCE))? == 0 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
}

/// What the process does.
struct Script {
    plan: Plan,
    own: RawFd,
    address: libc::sockaddr_in,
    port: u16,
}

impl Script {
    fn new(own: BorrowedFd<'_>, report: BorrowedFd<'_>, port: u16) -> Self {
        // SAFETY: all zeroes is an address.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        Self { plan: Plan::new(report.as_raw_fd()), own: own.as_raw_fd(), address, port }
    }

    /// # Safety
    /// Only in a new process of one thread.
    unsafe fn play(&self) -> i32 {
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        // SAFETY: async-signal-safe calls with pointers into this script or the stack.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
            // Only some kernels know it, and none needs to obey.
            libc::prctl(libc::PR_SET_PTRACER, libc::getppid() as libc::c_ulong, 0, 0, 0);
            if !install::install(&self.plan) {
                return IS_NOT_LENT;
            }
            let mode = libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0);
            if mode != libc::SECCOMP_MODE_FILTER as i32 {
                // It is looked into, and killed.
                libc::pause();
            }
            libc::bind(self.own, (&raw const self.address).cast(), length);
            let mut found = MaybeUninit::<libc::sockaddr_in>::zeroed();
            let mut length = length;
            libc::getsockname(self.own, found.as_mut_ptr().cast(), &mut length);
            if found.assume_init().sin_port == self.address.sin_port { IS_LENT } else { IS_NOT_LENT }
        }
    }
}

/// The process, killed when it is no longer needed.
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    fn start(script: &Script) -> io::Result<Self> {
        // SAFETY: the new process calls nothing but async-signal-safe functions, and ends.
        let pid = sys::check(unsafe { libc::fork() }.into())?;
        if pid == 0 {
            // SAFETY: this is the new process; `_exit` runs no destructors, which belong to this one.
            unsafe { libc::_exit(script.play()) }
        }
        let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
        // Nobody but us waits for it, so its number is its own.
        Ok(Self { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    fn has_no_new_privs(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_pid()));
        status
            .unwrap_or_default()
            .lines()
            .any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|it| it.trim() == "1"))
    }

    /// The code that it ends with by itself.
    fn end(self) -> io::Result<i32> {
        wait_for(&self.pidfd)?;
        let exit = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        exit.and_then(|exit| exit.exit_status()).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        {}
    }
}
