//! Who holds the processes and what must outlive the primary: this process itself, or a keeper.
//!
//! The engine only ever speaks to these two traits; there is no second code path.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use oxherd_core::{Image, ImageRef, SpawnFailure};
use oxherd_os::{CgroupChoice, Child, ExitStatus, Host, HostOptions, SpawnSpec, Spawned, proc};

use crate::Alert;

/// Starts processes, takes their exits and kills their trees. Called on the control thread.
pub trait ProcessHost {
    /// The first part of every label: it tells this primary's workers from those of any other.
    fn primary(&self) -> &str;

    /// Whether workers are to die with the primary.
    fn ties_workers(&self) -> bool;

    /// The soft limit of open descriptors that workers are to start with; the one who holds them knows best when `None`.
    fn workers_nofile(&self) -> Option<u64> {
        None
    }

    /// Starts a process, which finds `handed` as its descriptors 3, 4 and so on, behind its channel if it has one.
    ///
    /// # Errors
    /// It could not be started; the failure says whether trying again may help.
    fn spawn(&mut self, spec: &SpawnSpec, handed: &[BorrowedFd<'_>]) -> Result<Spawned, SpawnFailure>;

    /// How the process ended, once its pidfd is readable; asking again gives the same answer.
    ///
    /// # Errors
    /// Nobody knows how it ended.
    fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>>;

    /// Sends a signal to the process itself.
    ///
    /// # Errors
    /// `ESRCH` when it has ended and its exit was taken.
    fn signal(&mut self, child: &Child, signal: i32) -> io::Result<()> {
        child.signal(signal)
    }

    /// The process that takes in the orphans of all workers.
    fn reaper(&self) -> u32 {
        std::process::id()
    }

    /// What is to be told of processes since this was asked last.
    fn alerts(&mut self) -> Vec<Alert> {
        Vec::new()
    }

    /// Kills the process and all its descendants.
    fn kill_tree(&mut self, child: &Child);

    /// The end of the process is known and its tree swept: nothing of it needs to be held any longer.
    fn forget(&mut self, child: &Child);

    /// Takes the exits of orphans.
    fn reap_strangers(&mut self);

    /// Members of killed trees that are still dying.
    fn dying(&mut self) -> usize;

    /// Keeps the fleet's state for whoever comes after this primary.
    fn keep_image(&mut self, image: ImageRef<'_>);

    /// Keeps a few bytes under a name, as the stash does.
    fn keep_note(&mut self, name: &str, bytes: &[u8]) {
        let _ = (name, bytes);
    }

    /// Becomes readable when the one who holds the processes is gone.
    fn loss(&self) -> Option<BorrowedFd<'_>>;

    /// Has the one who holds the processes, and with it this primary, replaced by `program`, or by the program that
    /// stands where the running one came from.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    fn upgrade(&mut self, program: Option<&str>) -> Result<(), String> {
        let _ = program;
        Err("there is no keeper to be upgraded: only a daemon has one".into())
    }

    /// This primary ends on purpose, with this exit code: nobody is to come after it.
    fn farewell(&mut self, code: u8) {
        let _ = code;
    }

    /// The one who held the processes is gone: finds another and gives it these. What traffic had in the stash is
    /// for traffic to put into the new one.
    ///
    /// # Errors
    /// There is no other for now; it can be tried again.
    fn renew(&mut self, heirs: &[HeirRef<'_>]) -> io::Result<Box<dyn Stash>>;
}

/// What control holds of a process.
#[derive(Clone, Copy, Debug)]
pub struct HeirRef<'a> {
    /// The process.
    pub child: &'a Child,
    /// Writing end of its standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Reading end of its standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Reading end of its standard error.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Keeps named descriptors, with a few bytes each, for whoever comes after this primary. Called on the traffic
/// thread; must not wait for an answer.
pub trait Stash: Send {
    /// Keeps an entry, in place of the one with the same name.
    fn put(&mut self, name: &str, meta: &[u8], fd: Option<BorrowedFd<'_>>);

    /// Forgets an entry, if there is one.
    fn remove(&mut self, name: &str);
}

/// What a new primary takes over from one that ended.
#[derive(Debug, Default)]
pub struct Estate {
    /// How many primaries there were before this one: the first part of every new instance's id.
    pub starts: u32,
    /// The state of the fleet, possibly a little stale. Without one, `desired` and the children count.
    pub image: Option<Image>,
    /// What was wanted, for when there is no image to be trusted.
    pub desired: Option<oxherd_core::Desired>,
    /// The processes that live, and those whose exit nobody has taken note of.
    pub children: Vec<Heir>,
    /// What traffic had put into the stash.
    pub entries: Vec<Entry>,
    /// Connections that the old primary held when it ended.
    pub connections: Vec<OwnedFd>,
}

/// A process that outlived its primary.
#[derive(Debug)]
pub struct Heir {
    /// The process; its label names its place.
    pub child: Child,
    /// The channel, if it has one. The duplicate of the worker's end may be gone.
    pub channel: Option<OwnedFd>,
    /// The duplicate of the worker's end.
    pub worker_end: Option<OwnedFd>,
    /// Writing end of its standard input.
    pub stdin: Option<OwnedFd>,
    /// Reading end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Reading end of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// An entry of the stash.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub meta: Vec<u8>,
    /// Its descriptor.
    pub fd: Option<OwnedFd>,
}

/// Processes in the primary's own hands, which end with it. Nothing is kept.
#[derive(Debug)]
pub struct LocalHost {
    host: Host,
    primary: String,
    workers_nofile: Option<u64>,
}

impl LocalHost {
    /// Supervises from this process. With `reap_strangers` the exits of all its children are taken.
    ///
    /// # Errors
    /// The kernel refuses to make this process a child subreaper.
    pub fn new(reap_strangers: bool) -> io::Result<Self> {
        let host = Host::new(HostOptions { reap_strangers, cgroups: CgroupChoice::Detect })?;
        // The standard library's hasher has random keys.
        let primary = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        // Workers get the limit back that this process had.
        Ok(Self { host, primary, workers_nofile: proc::raise_fd_limit().ok() })
    }
}

impl ProcessHost for LocalHost {
    fn primary(&self) -> &str {
        &self.primary
    }

    fn ties_workers(&self) -> bool {
        true
    }

    fn workers_nofile(&self) -> Option<u64> {
        self.workers_nofile
    }

    fn spawn(&mut self, spec: &SpawnSpec, handed: &[BorrowedFd<'_>]) -> Result<Spawned, SpawnFailure> {
        let failure = |error: oxherd_os::SpawnError| SpawnFailure {
            message: error.to_string(),
            lasting: !error.is_transient(),
        };
        self.host.spawn_with(spec, handed).map_err(failure)
    }

    fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        self.host.try_wait(child)
    }

    fn kill_tree(&mut self, child: &Child) {
        // The process group and the cgroup are killed even when the search for descendants fails.
        drop(self.host.kill_tree(child));
    }

    fn forget(&mut self, _: &Child) {}

    fn reap_strangers(&mut self) {
        // What cannot be taken now is asked about again.
        drop(self.host.reap_strangers());
    }

    fn dying(&mut self) -> usize {
        self.host.dying()
    }

    fn keep_image(&mut self, _: ImageRef<'_>) {}

    fn loss(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn renew(&mut self, _: &[HeirRef<'_>]) -> io::Result<Box<dyn Stash>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A stash that keeps nothing: there is nobody who comes after.
#[derive(Clone, Copy, Debug)]
pub struct NoStash;

impl Stash for NoStash {
    fn put(&mut self, _: &str, _: &[u8], _: Option<BorrowedFd<'_>>) {}

    fn remove(&mut self, _: &str) {}
}
