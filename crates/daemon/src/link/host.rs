//! The Host as control sees it when a keeper holds the processes.
//!
//! Each method is one question. Must never panic or hang when the keeper is gone: then a process is not started,
//! an exit is looked for without it, and the rest is done anew by the next keeper.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use oxherd_core::{ImageRef, SpawnFailure};
use oxherd_engine::host::{HeirRef, ProcessHost, Stash};
use oxherd_os::{
    CgroupChoice, ChannelEnds, Child, ExitStatus, Host, HostOptions, Lending, SpawnSpec, Spawned,
};

use super::message::{Answer, Ask, Greeting, Traps};
use super::{Link, LinkError, Notes, Reply};

/// The word that the daemon serves.
#[derive(Debug)]
pub struct Readiness(Link);

impl Readiness {
    /// Says it: whoever started the keeper waits for it.
    pub fn tell(self) {
        // Without a keeper nobody waits.
        drop(self.0.tell(&Ask::Ready { failure: None }, &[]));
    }
}

/// Processes in the hands of a keeper.
#[derive(Debug)]
pub struct KeeperHost {
    pub(super) link: Link,
    pub(super) greeting: Greeting,
    /// Of the home, for the next keeper.
    pub(super) lock: Option<OwnedFd>,
    pub(super) notes: Notes,
    /// The keeper's process, for other threads.
    pub(super) keeper: Arc<AtomicU32>,
    /// How large the last image was: the next is about as large.
    pub(super) image_bytes: usize,
}

impl KeeperHost {
    /// Says that the daemon cannot serve, and why: whoever started the keeper waits for it.
    pub fn refuse(&self, why: String) {
        // Without a keeper nobody waits.
        drop(self.link.tell(&Ask::Ready { failure: Some(why) }, &[]));
    }

    /// For saying that the daemon serves once it does, when control has this host.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn readiness(&self) -> io::Result<Readiness> {
        Ok(Readiness(self.link.try_clone()?))
    }

    /// What is to outlive the daemon besides processes and listeners, for any thread.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The number of the keeper's process, also when another one has taken over.
    pub fn keeper(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.keeper)
    }

    /// The home's lock, as far as the keeper has one.
    pub fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(OwnedFd::as_fd)
    }

    fn ask(&self, ask: &Ask) -> Result<Reply, LinkError> {
        self.link.ask(ask, &[])
    }

    fn spawned(&self, label: &str, pid: u32, reply: Reply) -> Result<Spawned, SpawnFailure> {
        let Answer::Spawned { stdin, stdout, stderr, channel, traps, .. } = reply.answer else {
            return Err(passing("the keeper's answer is not about a process"));
        };
        let mut fds = reply.fds.into_iter();
        let has_traps = traps == Traps::On;
        let parts = [stdout, stderr, channel, channel, has_traps, stdin];
        let expected = 1 + parts.into_iter().filter(|has| *has).count();
        if reply.truncated || fds.len() != expected {
            self.abandon(label);
            return Err(passing("too many open files in the daemon; see ulimit -n"));
        }
        let missing = || passing("the keeper sent no pidfd");
        let child = Child::adopt(pid, fds.next().ok_or_else(missing)?, label);
        let stdout = if stdout { fds.next() } else { None };
        let stderr = if stderr { fds.next() } else { None };
        let ends = if channel { fds.next().zip(fds.next()) } else { None };
        let channel = ends.map(|(primary, worker)| ChannelEnds { primary, worker });
        let lending = match traps {
            Traps::Impossible(why) => Lending::Impossible(why),
            Traps::On => fds.next().map_or(Lending::Off, Lending::On),
            Traps::Off => Lending::Off,
        };
        let stdin = if stdin { fds.next() } else { None };
        Ok(Spawned { child, channel, lending, stdin, stdout, stderr })
    }

    /// Ends a process whose descriptors could not be taken over.
    fn abandon(&self, label: &str) {
        for ask in [Ask::KillTree { label: label.into() }, Ask::Forget { label: label.into() }] {
            drop(self.ask(&ask));
        }
    }
}

impl ProcessHost for KeeperHost {
    fn primary(&self) -> &str {
        &self.greeting.primary
    }

    fn ties_workers(&self) -> bool {
        false
    }

    fn reaper(&self) -> u32 {
        self.keeper.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn spawn(&mut self, spec: &SpawnSpec, handed: &[BorrowedFd<'_>]) -> Result<Spawned, SpawnFailure> {
        let reply = self.link.ask(&Ask::Spawn { spec: Box::new(spec.clone()) }, handed);
        let reply = reply.map_err(|error| passing(&error.to_string()))?;
        match reply.answer {
            Answer::Spawned { pid, .. } => self.spawned(&spec.label, pid, reply),
            Answer::SpawnFailed { message, lasting } => Err(SpawnFailure { message, lasting }),
            other => Err(passing(&LinkError::unexpected(&other).to_string())),
        }
    }

    fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        match self.ask(&Ask::TakeExit { label: child.label().into() }).map(|reply| reply.answer) {
            Ok(Answer::Exit { status }) => Ok(status),
            Ok(Answer::UnknownExit) => Err(io::Error::other("nobody knows how it ended")),
            // Without a keeper it is nobody's child whom we know; the kernel may tell nevertheless.
            Ok(_) | Err(_) => alone()?.try_wait(child),
        }
    }

    fn kill_tree(&mut self, child: &Child) {
        let label = child.label().to_owned();
        if self.ask(&Ask::KillTree { label }).is_err() {
            // What cannot be reached now is killed when the next keeper is asked to.
            drop(alone().and_then(|mut host| host.kill_tree(child)));
        }
    }

    fn forget(&mut self, child: &Child) {
        drop(self.ask(&Ask::Forget { label: child.label().into() }));
    }

    fn reap_strangers(&mut self) {
        drop(self.ask(&Ask::Reap));
    }

    fn dying(&mut self) -> usize {
        match self.ask(&Ask::Dying).map(|reply| reply.answer) {
            Ok(Answer::Dying { count }) => count as usize,
            Ok(_) | Err(_) => 0,
        }
    }

    fn keep_image(&mut self, image: ImageRef<'_>) {
        let sent = self.link.tell_json(&Ask::KeepImage, &image, self.image_bytes);
        self.image_bytes = sent.unwrap_or(self.image_bytes);
    }

    fn keep_note(&mut self, name: &str, bytes: &[u8]) {
        self.notes.put(name, bytes);
    }

    fn loss(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    fn upgrade(&mut self, program: Option<&str>) -> Result<(), String> {
        let asked = self.ask(&Ask::Upgrade { program: program.map(str::to_owned) });
        match asked.map_err(|error| error.to_string())?.answer {
            Answer::Done => Ok(()),
            Answer::Refused { message } => Err(message),
            other => Err(LinkError::unexpected(&other).to_string()),
        }
    }

    fn farewell(&mut self, code: u8) {
        drop(self.ask(&Ask::Farewell { code }));
    }

    fn renew(&mut self, heirs: &[HeirRef<'_>]) -> io::Result<Box<dyn Stash>> {
        let stash = super::renew::renew(self, heirs)?;
        self.notes.move_to(stash.try_clone()?);
        Ok(Box::new(stash))
    }
}

/// A Host for a moment, while there is no keeper: orphans do not become ours for longer than that.
fn alone() -> io::Result<Host> {
    Host::new(HostOptions { reap_strangers: false, cgroups: CgroupChoice::Off })
}

/// A failure that may be gone at the next try.
fn passing(message: &str) -> SpawnFailure {
    SpawnFailure { message: message.to_owned(), lasting: false }
}
