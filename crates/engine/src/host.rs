//! Who holds the processes and what must outlive the primary: this process itself, or a keeper.
//!
//! The engine only ever speaks to these two traits; there is no second code path.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use oxherd_core::{Image, SpawnFailure};
use oxherd_os::{Child, ExitStatus, Host, SpawnSpec, Spawned};

/// Starts processes, takes their exits and kills their trees. Called on the control thread.
pub trait ProcessHost {
    /// The first part of every label: it tells this primary's workers from those of any other.
    fn primary(&self) -> &str;

    /// Whether workers are to die with the primary.
    fn ties_workers(&self) -> bool;

    /// Starts a process.
    ///
    /// # Errors
    /// It could not be started; the failure says whether trying again may help.
    fn spawn(&mut self, spec: &SpawnSpec) -> Result<Spawned, SpawnFailure>;

    /// How the process ended, once its pidfd is readable; asking again gives the same answer.
    ///
    /// # Errors
    /// Nobody knows how it ended.
    fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>>;

    /// Kills the process and all its descendants.
    fn kill_tree(&mut self, child: &Child);

    /// The end of the process is known and its tree swept: nothing of it needs to be held any longer.
    fn forget(&mut self, child: &Child);

    /// Takes the exits of orphans.
    fn reap_strangers(&mut self);

    /// Members of killed trees that are still dying.
    fn dying(&mut self) -> usize;

    /// Keeps the fleet's state for whoever comes after this primary.
    fn keep_image(&mut self, image: &Image);

    /// Becomes readable when the one who holds the processes is gone.
    fn loss(&self) -> Option<BorrowedFd<'_>>;
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
