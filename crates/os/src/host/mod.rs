//! Processes: the Host starts them, signals them, takes their exits, and kills their trees.
//!
//! It waits only by pidfd, for its own children and those it was asked to adopt, because an embedding program has
//! others. It must never
//! decide whether a process should be started, restarted or stopped, and never block but in [`Host::spawn`].

mod adopt;
mod census;
mod child;
mod create;
pub(crate) mod ended;
mod error;
mod reap;
mod spawn;
mod spec;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use serde::{Deserialize, Serialize};

pub use self::adopt::ChildRecord;
pub use self::census::Census;
pub use self::error::SpawnError;
pub use self::spawn::ChannelEnds;
pub use self::spec::{Identity, Input, LABEL_VARIABLE, LISTEN_PID_VARIABLE, Output, SpawnSpec};
use self::tree::{Place, kill_in};
pub use self::tree::{find_labelled, kill_labelled, tree_members};
use crate::cgroup::{Cgroups, Group};
use crate::{proc, sys};

/// `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9.
const TO_PROCESS_GROUP: u32 = 4;
/// Killed processes whose exits are still to be taken; beyond that the oldest are forgotten.
const DYING_MAX: usize = 4096;

/// What a Host may do beyond starting processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Take the exits of all children, not only the Host's own. Only for a program without children of its
    /// own, such as one that runs as PID 1.
    pub reap_strangers: bool,
    /// Whether each process gets a cgroup of its own.
    pub cgroups: CgroupChoice,
}

/// Where the cgroups of workers are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Below the Host's own cgroup if that is writable, else nowhere.
    #[default]
    Detect,
    /// Below this folder of a cgroup2 file system.
    At(PathBuf),
    /// Nowhere.
    Off,
}

/// How a process ended. A signal is never a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited by itself with this code, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal { signal, .. } => write!(f, "signal {signal}"),
        }
    }
}

/// A process that the Host has started, or that was started by another and is looked after here. It must be
/// waited for with [`Host::try_wait`] until that yields its end, also after a kill; dropping it does not end it.
#[derive(Debug)]
pub struct Child {
    /// Its number, and that of its process group. For display; signals go by the pidfd.
    pub pid: u32,
    /// Becomes readable when the process has ended.
    pub pidfd: OwnedFd,
    label: String,
    exit: Option<ExitStatus>,
    group: Option<Group>,
    /// Its orphans have become children of this process, and will: it was started here.
    ours: bool,
}

impl Child {
    /// The label it was started with.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How it ended, once that was found out.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.exit
    }

    /// Whether it has ended, whoever has taken its exit. Only looks.
    pub fn has_ended(&self) -> bool {
        // A pidfd that is open can be asked.
        self.exit.is_some() || ended::has_ended(self.pidfd.as_fd()).unwrap_or(false)
    }

    /// How long ago it was started; see [`proc::age_millis_of`]. `ESRCH` when its exit was taken.
    pub fn age_millis(&self) -> io::Result<u64> {
        let age = proc::age_millis_of(self.pid);
        // While the pidfd answers the number is its own.
        self.signal(0)?;
        age
    }

    /// Sends a signal to the process itself, from whichever process holds this. `ESRCH` when it has ended and its
    /// exit was taken.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal, 0)
    }

    /// Whether it lives in a cgroup of its own.
    pub fn has_cgroup(&self) -> bool {
        self.group.is_some()
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A started process with our ends of what connects us to it.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// The channel, if one was asked for.
    pub channel: Option<ChannelEnds>,
    /// Where its trapped calls are heard of, if it is to be lent sockets; or why this cannot be.
    pub lending: Lending,
    /// Writing end of its standard input, nonblocking, if that is a pipe.
    pub stdin: Option<OwnedFd>,
    /// Reading end of its standard output, nonblocking, if that is a pipe.
    pub stdout: Option<OwnedFd>,
    /// Reading end of its standard error, likewise.
    pub stderr: Option<OwnedFd>,
}

/// Whether a process can be lent sockets.
#[derive(Debug)]
pub enum Lending {
    /// It was not asked for.
    Off,
    /// Its calls are trapped; they are read with [`Traps`](crate::lending::Traps).
    On(OwnedFd),
    /// The kernel or the container does not allow it: the process runs without.
    Impossible(String),
}

/// Starts processes and answers for them.
#[derive(Debug)]
pub struct Host {
    reap_strangers: bool,
    cgroups: Option<Cgroups>,
    /// Pids of processes whose exit was not yet taken.
    own: BTreeSet<u32>,
    /// Members of killed trees, which become our children when their parents die.
    dying: Vec<OwnedFd>,
    _subreaper: reap::Subreaper,
}

impl Host {
    /// Makes this process a child subreaper (until the last Host in it is dropped) and sees to it that exits
    /// are reported: an inherited "ignore" for `SIGCHLD` is set back to the default.
    pub fn new(options: HostOptions) -> io::Result<Self> {
        reap::insist_on_exits()?;
        let cgroups = match options.cgroups {
            CgroupChoice::Detect => Cgroups::detect(),
            CgroupChoice::At(root) => Some(Cgroups::at(root)),
            CgroupChoice::Off => None,
        };
        Ok(Self {
            reap_strangers: options.reap_strangers,
            cgroups,
            own: BTreeSet::new(),
            dying: Vec::new(),
            _subreaper: reap::Subreaper::acquire()?,
        })
    }

    /// Starts a process and returns once it runs its program, which takes a fork and an exec (milliseconds).
    ///
    /// The process leads its own process group; its signals are unblocked and default; descriptors 0 to 2,
    /// and 3 with a channel, are all it has. It names this process its tracer, for systems that restrict
    /// tracing.
    ///
    /// With [`SpawnSpec::parent_death_signal`] call this from a thread that lives as long as the primary: the
    /// kernel kills the process when the *thread* that started it ends. The kernel forgets the wish when the
    /// program is setuid or has file capabilities.
    pub fn spawn(&mut self, spec: &SpawnSpec) -> Result<Spawned, SpawnError> {
        self.spawn_with(spec, &[])
    }

    /// The same for a process that is given more descriptors: it finds them as 3, 4 and so on, behind its channel
    /// if it has one, and takes them over with [`reexec::inherit`](crate::reexec::inherit).
    pub fn spawn_with(&mut self, spec: &SpawnSpec, handed: &[BorrowedFd<'_>]) -> Result<Spawned, SpawnError> {
        let group = match &mut self.cgroups {
            Some(cgroups) if !spec.label.is_empty() => cgroups.make(&spec.label),
            Some(_) | None => None,
        };
        let started = spawn::spawn(spec, handed, group.as_ref())?;
        let created = started.created;
        self.own.insert(created.pid);
        let child = Child {
            pid: created.pid,
            pidfd: created.pidfd,
            label: spec.label.clone(),
            exit: None,
            group: group.filter(|_| created.in_group),
            ours: true,
        };
        Ok(Spawned {
            child,
            channel: started.channel,
            lending: started.lending,
            stdin: started.stdin,
            stdout: started.stdout,
            stderr: started.stderr,
        })
    }

    /// How the process ended, or `None` while it runs; asking again gives the same answer. The exit is taken,
    /// so the pid may be given to another process from then on.
    ///
    /// Of a process that is not our child, and of one that somebody else in this program has waited for, the
    /// kernel tells it to all who hold a pidfd (since Linux 6.15, `PIDFD_GET_INFO`), and before only for as long
    /// as nobody has taken the exit. `NotFound` means that it has ended and nobody can say how any more.
    pub fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        if child.exit.is_some() {
            return Ok(child.exit);
        }
        if !ended::has_ended(child.pidfd.as_fd())? {
            // A wait would take the stops of a process that is watched, see `exit_watch`.
            return Ok(None);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match waitid(WaitId::PidFd(child.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.map(|status| exit_status(&status))),
            Err(Errno::INTR) => Ok(None),
            Err(Errno::CHILD) => ended::exit_of(child.pid, child.pidfd.as_fd()),
            Err(error) => return Err(error.into()),
        };
        if !matches!(exit, Ok(None)) {
            self.own.remove(&child.pid);
        }
        child.exit = exit?;
        Ok(child.exit)
    }

    /// Notes how a process ended of which an [`ExitWatch`](crate::ExitWatch) has taken the exit, before
    /// [`try_wait`](Self::try_wait) asks in vain. What was found out earlier stays.
    pub fn note_exit(&mut self, child: &mut Child, exit: ExitStatus) {
        self.own.remove(&child.pid);
        child.exit.get_or_insert(exit);
    }

    /// Sends a signal to the process itself. `ESRCH` when it has ended and its exit was taken.
    pub fn signal(&self, child: &Child, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(child.pidfd.as_fd(), signal, 0)
    }

    /// Sends a signal to the process's group. `ESRCH` when nobody is left in it. On kernels before 6.9 also
    /// when the process's exit was taken, because its number may then be another's.
    pub fn signal_group(&self, child: &Child, signal: i32) -> io::Result<()> {
        match sys::pidfd_send_signal(child.pidfd.as_fd(), signal, TO_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => return result,
        }
        let unreaped = child.exit.is_none() && self.signal(child, 0).is_ok();
        let group = i32::try_from(child.pid).ok().filter(|pid| unreaped && *pid > 1);
        let Some(group) = group else {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        };
        // SAFETY: no memory is involved; the group is that of an unreaped process, so the number is still its
        // own.
        sys::check(unsafe { libc::kill(-group, signal) }.into())?;
        Ok(())
    }

    /// `SIGKILL` for the process and all its descendants: every process that carries its label, its cgroup,
    /// and its process group. Of a process that was started here only descendants of this process are looked at,
    /// which all of its tree are. Works also after its exit was taken. Never hits this process. They end a moment
    /// later; the exits of descendants that became our children are taken by
    /// [`reap_strangers`](Self::reap_strangers).
    ///
    /// Takes a fraction of a millisecond for a process that was started here, and a few milliseconds for another on a
    /// machine with hundreds of processes. An error means that `/proc` could
    /// not be searched; the cgroup and the process group were killed nevertheless.
    pub fn kill_tree(&mut self, child: &Child) -> io::Result<()> {
        // The search comes first: what the group kill hits loses its environment, and then it could not be
        // told whose exits are ours to take.
        let place =
            if child.ours { Place::Below { root: child.pid, own: &self.own } } else { Place::Anywhere };
        let found = kill_in(place, &child.label);
        match &child.group {
            Some(group) => drop(group.kill()),
            None => self.kill_groups(&child.label),
        }
        let _nobody_left = self.signal_group(child, libc::SIGKILL);
        self.bury_later(found?);
        Ok(())
    }

    /// The pids of all processes that carry the label, this one left out; see [`tree_members`].
    pub fn tree_members(&self, label: &str) -> io::Result<Vec<u32>> {
        tree_members(label)
    }

    /// Takes the exits of orphans that were handed to this process: always those of killed trees, and where
    /// [`HostOptions::reap_strangers`] says so all that are not the Host's own. Call it after `SIGCHLD`, when
    /// the Host's own exits have been taken. Returns how many were taken.
    pub fn reap_strangers(&mut self) -> io::Result<usize> {
        let before = self.dying.len();
        self.dying.retain(|pidfd| !reap::settle(pidfd));
        let settled = before - self.dying.len();
        if !self.reap_strangers {
            return Ok(settled);
        }
        Ok(settled + reap::reap_strangers(&self.own)?)
    }

    /// Members of killed trees that were still there when [`reap_strangers`](Self::reap_strangers) looked last.
    pub fn dying(&self) -> usize {
        self.dying.len()
    }

    /// Processes that were started or resumed and whose exit was not taken yet.
    pub fn living(&self) -> usize {
        self.own.len()
    }

    /// Remembers whose exits to take, but for the Host's own children, which `try_wait` is asked about.
    fn bury_later(&mut self, found: Vec<(u32, OwnedFd)>) {
        let strangers = found.into_iter().filter(|(pid, _)| !self.own.contains(pid));
        self.dying.extend(strangers.map(|(_, pidfd)| pidfd));
        let surplus = self.dying.len().saturating_sub(DYING_MAX);
        self.dying.drain(..surplus);
    }
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    match status.exit_status() {
        Some(code) => ExitStatus::Code(code),
        None => {
            let signal = status.terminating_signal().unwrap_or(0);
            ExitStatus::Signal { signal, core_dumped: status.dumped() }
        }
    }
}
