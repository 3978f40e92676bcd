//! A keeper that takes over from a daemon whose keeper has died.
//!
//! The daemon runs, and is not our child; nor are its workers. Must never disturb either.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use oxherd_os::host::find_labelled;
use oxherd_os::packet::{self, Received, Wait};
use oxherd_os::{Child, ChildRecord, Events, Interest, Poller, clock, detach};

use super::daemon::{Daemon, Progress, own_program, unblocked};
use super::deaths::{Deaths, LONGEST_DELAY_MS};
use super::entry::Starter;
use super::run::{FAILURE, Keeper, Settings, Stage};
use super::service;
use crate::link::message::{self, Answer, Ask, Greeting, PROTOCOL, Succession};
use crate::link::{LOCK, STDERR, STDIN, STDOUT, of_child};

/// How long after its sockets were closed a process that ends may take to show it.
const END_TIME: Duration = Duration::from_secs(1);

/// `keeper --successor`: leaves the daemon's session, and starts the keeper proper, which is nobody's child once
/// this process has ended.
pub(super) fn step_aside() -> io::Result<()> {
    detach::leave_session()?;
    let mut order = Command::new(own_program());
    order.args(["keeper", "--successor-proper"]).stdin(Stdio::inherit());
    order.spawn().map(drop)
}

/// `keeper --successor-proper`: the keeper of the daemon at the other end of standard input.
pub(super) fn take_over() -> io::Result<Keeper> {
    let link = detach::take_stdin()?;
    let unexpected =
        || io::Error::new(io::ErrorKind::InvalidData, "the daemon does not say what is to be kept");
    let first = packet::receive(&link, Wait::Block)?.ok_or_else(unexpected)?;
    let (ask, _) = message::decode(&first.bytes).map_err(io::Error::other)?;
    let Ask::Succeed(succession) = ask else { return Err(unexpected()) };
    if succession.greeting.protocol != PROTOCOL {
        return Err(unexpected());
    }
    let Fds { stash, pidfd, lock } = Fds::of(first, succession.lock).ok_or_else(unexpected)?;
    let Succession { daemon_pid, greeting, .. } = *succession;
    let mut keeper = keeper_of(greeting)?;
    if lock.is_some() {
        keeper.held.stash.put(LOCK.into(), Vec::new(), lock);
    }
    let record = ChildRecord { pid: daemon_pid, label: String::new(), exit: None, cgroup: None };
    let child = keeper.host.resume_child(record, pidfd);
    let now_ms = clock::monotonic_millis();
    let daemon = Daemon::new(child, unblocked(link)?, stash, Progress::HandingOver, now_ms);
    keeper.listen_to(Box::new(daemon)).map_err(|(error, _)| error)?;
    keeper.answer(&Answer::Greeting(Box::new(keeper.greeting())));
    Ok(keeper)
}

fn keeper_of(greeting: Greeting) -> io::Result<Keeper> {
    let Greeting { home, foreground, daemon_args, nofile, primary, .. } = greeting;
    let settings = Settings { home, foreground, daemon_args, nofile, primary };
    // It starts with the daemon's limit, which is not more than a keeper's.
    drop(oxherd_os::proc::raise_fd_limit());
    let mut keeper = Keeper::new(settings, Deaths::new(LONGEST_DELAY_MS), Starter::new(None))?;
    keeper.starts = greeting.starts.saturating_add(1);
    keeper.greeted = true;
    keeper.upgrades = greeting.upgrades;
    Ok(keeper)
}

/// Whether a process whose sockets are closed ends, which shows a little later.
fn ends_now(pidfd: &OwnedFd) -> io::Result<bool> {
    let poller = Poller::new()?;
    poller.add(pidfd, 0, Interest::READ)?;
    Ok(poller.wait(&mut Events::with_capacity(1), Some(END_TIME))? > 0)
}

/// What comes along with a succession.
struct Fds {
    stash: OwnedFd,
    pidfd: OwnedFd,
    lock: Option<OwnedFd>,
}

impl Fds {
    fn of(received: Received, has_lock: bool) -> Option<Self> {
        let mut fds = received.fds.into_iter();
        let (stash, pidfd) = (fds.next()?, fds.next()?);
        let lock = fds.next();
        (lock.is_some() == has_lock).then_some(Self { stash, pidfd, lock })
    }
}

impl Keeper {
    pub(super) fn on_adopt(&mut self, label: String, pid: u32, parts: [bool; 3], fds: Vec<OwnedFd>) {
        if !self.is_being_told() {
            return self.refuse("only a new keeper adopts");
        }
        let expected = 1 + parts.iter().filter(|part| **part).count();
        if fds.len() != expected {
            return self.refuse(&format!("{label}: {} descriptors instead of {expected}", fds.len()));
        }
        let mut fds = fds.into_iter();
        let Some(pidfd) = fds.next() else { return };
        let record = ChildRecord { pid, label: label.clone(), exit: None, cgroup: None };
        self.held.children.insert(label.clone(), self.host.resume_child(record, pidfd));
        for (kind, is_there) in [STDOUT, STDERR, STDIN].into_iter().zip(parts) {
            if is_there {
                self.held.stash.put(of_child(kind, &label), Vec::new(), fds.next());
            }
        }
        self.answer(&Answer::Done);
    }

    pub(super) fn on_settled(&mut self) {
        if !self.is_being_told() {
            return self.refuse("only a new keeper is told what there is");
        }
        self.trace_daemon();
        self.end_unknown();
        self.answer(&Answer::Done);
        service::tell_successor();
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.speak_as_successor();
        }
        self.has_taken_over();
    }

    /// What the keeper before had started when it was killed, and the daemon has not heard of, is nobody's.
    fn end_unknown(&mut self) {
        let found = match find_labelled(&format!("{}/", self.settings.primary)) {
            Ok(found) => found,
            Err(error) => return super::say(&format!("cannot look for unknown workers: {error}")),
        };
        let labels: BTreeSet<&str> = found.iter().map(Child::label).collect();
        for label in labels.into_iter().filter(|label| !self.held.children.contains_key(*label)) {
            super::say(&format!("a worker that nobody knows is ended: {label}"));
            if let Err(error) = self.host.kill_label(label) {
                super::say(&format!("cannot kill {label}: {error}"));
            }
        }
    }

    /// A daemon that stops telling and lives looks for another keeper: two must not start daemons when it ends. With
    /// one that ends here and now nobody else is left.
    pub(super) fn on_link_closed(&mut self) {
        let Stage::Running(daemon) = &self.stage else { return };
        if self.is_being_told() && !ends_now(&daemon.child.pidfd).unwrap_or(false) {
            super::say("the daemon has not told this keeper everything, and has to find another");
            self.stage = Stage::Over(FAILURE);
        }
    }

    fn is_being_told(&self) -> bool {
        matches!(&self.stage, Stage::Running(daemon) if matches!(daemon.progress, Progress::HandingOver))
    }
}
