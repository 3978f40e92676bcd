//! What the daemon asks for, one method each.
//!
//! Must never fail for anything that a daemon may say: what makes no sense is refused in words.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oxherd_os::packet::{self, Received, Wait};
use oxherd_os::{Lending, SpawnSpec, Spawned, clock};

use super::daemon::Progress;
use super::estate::Pieces;
use super::run::{After, Keeper, Stage};
use super::service;
use crate::link::message::{self, Answer, Ask, Greeting, PROTOCOL, Traps};
use crate::link::{CHANNEL, STDERR, STDIN, STDOUT, TRAPS, WORKER_END, of_child};

/// Messages of one socket at a time, so that neither socket starves the rest.
const MESSAGES_PER_TURN: usize = 64;
/// Orders that are taken before each message of the link: more than a socket's queue holds, so that all are among
/// them that were given before.
const ORDERS_PER_MESSAGE_MAX: usize = 16_384;

/// One of the two sockets to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Link,
    Stash,
}

impl Keeper {
    /// Orders on the stash come first: traffic gave them before control said what is on the link now.
    pub(super) fn on_link(&mut self) {
        for _message in 0..MESSAGES_PER_TURN {
            self.take_orders(ORDERS_PER_MESSAGE_MAX);
            let Some(received) = self.receive(Socket::Link) else { return };
            match message::decode(&received.bytes) {
                Ok((ask, body)) => self.on_ask(ask, body, received.fds, received.truncated),
                Err(garbled) => self.answer(&Answer::Refused { message: garbled.to_string() }),
            }
        }
    }

    pub(super) fn on_stash(&mut self) {
        self.take_orders(MESSAGES_PER_TURN);
    }

    fn take_orders(&mut self, max: usize) {
        for _order in 0..max {
            let Some(received) = self.receive(Socket::Stash) else { return };
            self.on_order(received);
        }
    }

    /// Takes what a dying daemon has said and nobody has heard. What it would have liked to begin is not begun.
    pub(super) fn hear_last_words(&mut self) {
        while let Some(received) = self.receive(Socket::Stash) {
            self.on_order(received);
        }
        while let Some(received) = self.receive(Socket::Link) {
            if let Ok((ask, body)) = message::decode(&received.bytes)
                && counts_after_death(&ask)
            {
                self.on_ask(ask, body, received.fds, received.truncated);
            }
        }
    }

    /// The next message that makes sense as one, if there is any.
    fn receive(&mut self, socket: Socket) -> Option<Received> {
        loop {
            let Stage::Running(daemon) = &self.stage else { return None };
            let (fd, is_link) = match socket {
                Socket::Link => (&daemon.link, true),
                Socket::Stash => (&daemon.stash, false),
            };
            match packet::receive(fd, Wait::Not) {
                Ok(Some(received)) => return Some(received),
                Ok(None) => {
                    // It stays readable for ever; the daemon's end is told by its pidfd.
                    drop(self.poller.remove(fd));
                    if is_link {
                        self.on_link_closed();
                    }
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_link => {
                    daemon.answer(&Answer::Refused { message: error.to_string() }, &[], &[])
                }
                Err(error) => super::say(&format!("cannot read what the daemon gave to keep: {error}")),
            }
        }
    }

    fn on_order(&mut self, received: Received) {
        match message::decode(&received.bytes) {
            Ok((ask @ (Ask::Put { .. } | Ask::Remove { .. }), body)) => {
                self.on_ask(ask, body, received.fds, received.truncated);
            }
            Ok((_, _)) => super::say("the daemon asked something where nothing is answered"),
            Err(garbled) => super::say(&garbled.to_string()),
        }
    }

    fn on_ask(&mut self, ask: Ask, body: &[u8], fds: Vec<OwnedFd>, truncated: bool) {
        match ask {
            Ask::Hello { protocol } => self.on_hello(protocol),
            Ask::Next => self.on_next(),
            Ask::Ready { failure } => self.on_ready(failure),
            Ask::Spawn { spec } => self.on_spawn(*spec, &fds, truncated),
            Ask::TakeExit { label } => self.on_take_exit(&label),
            Ask::KillTree { label } => self.on_kill_tree(&label),
            Ask::Forget { label } => self.on_forget(&label),
            Ask::Reap => self.on_reap(),
            Ask::Dying => self.on_dying(),
            Ask::KeepImage => self.held.image = Some(body.to_vec()),
            Ask::Put { name } => self.on_put(name, body, fds, truncated),
            Ask::Remove { name } => self.held.stash.remove(&name),
            Ask::Farewell { code } => self.on_farewell(code),
            Ask::Upgrade { program } => self.on_upgrade(program),
            Ask::Succeed(_) => self.refuse("this keeper has a daemon already"),
            Ask::Adopt { label, pid, stdout, stderr, stdin } => {
                self.on_adopt(label, pid, [stdout, stderr, stdin], fds);
            }
            Ask::Settled => self.on_settled(),
        }
    }

    pub(super) fn answer(&self, answer: &Answer) {
        if let Stage::Running(daemon) = &self.stage {
            daemon.answer(answer, &[], &[]);
        }
    }

    pub(super) fn refuse(&self, why: &str) {
        self.answer(&Answer::Refused { message: why.to_owned() });
    }

    fn on_hello(&mut self, protocol: u32) {
        if protocol != PROTOCOL {
            return self
                .refuse(&format!("this keeper speaks version {PROTOCOL} of the protocol, not {protocol}"));
        }
        self.greeted = true;
        self.answer(&Answer::Greeting(Box::new(self.greeting())));
        let pieces = Pieces::of(&self.held);
        if let Stage::Running(daemon) = &mut self.stage {
            daemon.progress = Progress::TakingOver(pieces);
        }
    }

    pub(super) fn greeting(&self) -> Greeting {
        let settings = &self.settings;
        Greeting {
            protocol: PROTOCOL,
            keeper_pid: std::process::id(),
            starts: self.starts.saturating_sub(1),
            boot_id: clock::boot_id(),
            primary: settings.primary.clone(),
            home: settings.home.clone(),
            foreground: settings.foreground,
            daemon_args: settings.daemon_args.clone(),
            nofile: settings.nofile,
            trust_image: self.deaths.trust_image(),
            deaths: self.deaths.row(),
            last_exit: self.last_exit,
            untraced: self.untraced.clone(),
            upgrade_failure: self.upgrade_failure.clone(),
            upgrades: self.upgrades,
        }
    }

    fn on_next(&mut self) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        let progress = std::mem::replace(&mut daemon.progress, Progress::TakenOver);
        let Progress::TakingOver(mut pieces) = progress else {
            daemon.progress = progress;
            return self.refuse("there is nothing to be taken over");
        };
        if pieces.give(&mut self.held, daemon) {
            daemon.progress = Progress::TakingOver(pieces);
            return;
        }
        self.upgrade_failure = None;
        self.has_taken_over();
    }

    /// From now on the daemon hears of signals.
    pub(super) fn has_taken_over(&mut self) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        daemon.progress = Progress::TakenOver;
        for signal in self.remembered.take() {
            drop(daemon.child.signal(signal));
        }
    }

    fn on_ready(&mut self, failure: Option<String>) {
        if failure.is_none() {
            service::tell_ready();
        }
        self.starter.tell(failure.map_or(Ok(()), Err));
    }

    fn on_spawn(&mut self, mut spec: SpawnSpec, handed: &[OwnedFd], truncated: bool) {
        if truncated {
            let message = "too many open files in the keeper; see ulimit -n".to_owned();
            return self.answer(&Answer::SpawnFailed { message, lasting: false });
        }
        if spec.label.is_empty() || self.held.children.contains_key(&spec.label) {
            let message = format!("the label {:?} is empty or in use", spec.label);
            return self.answer(&Answer::SpawnFailed { message, lasting: true });
        }
        // Workers outlive the daemon, and this keeper.
        spec.parent_death_signal = false;
        spec.nofile_soft = spec.nofile_soft.or(self.settings.nofile);
        let handed: Vec<_> = handed.iter().map(AsFd::as_fd).collect();
        match self.host.spawn_with(&spec, &handed) {
            Ok(spawned) => self.on_spawned(spec.label, spawned),
            Err(error) => {
                let (message, lasting) = (error.to_string(), !error.is_transient());
                self.answer(&Answer::SpawnFailed { message, lasting });
            }
        }
    }

    /// All is kept before the daemon hears of it: it may be dead by then.
    fn on_spawned(&mut self, label: String, spawned: Spawned) {
        let Spawned { child, channel, lending, stdin, stdout, stderr } = spawned;
        let (traps, traps_end) = match lending {
            Lending::Off => (Traps::Off, None),
            Lending::On(end) => (Traps::On, Some(end)),
            Lending::Impossible(why) => (Traps::Impossible(why), None),
        };
        let answer = Answer::Spawned {
            pid: child.pid,
            stdout: stdout.is_some(),
            stderr: stderr.is_some(),
            channel: channel.is_some(),
            traps,
            stdin: stdin.is_some(),
        };
        let (primary, worker) = channel.map(|ends| (ends.primary, ends.worker)).unzip();
        let parts = [
            (STDOUT, stdout),
            (STDERR, stderr),
            (CHANNEL, primary),
            (WORKER_END, worker),
            (TRAPS, traps_end),
            (STDIN, stdin),
        ];
        self.held.children.insert(label.clone(), child);
        let names = parts.map(|(kind, fd)| {
            let name = of_child(kind, &label);
            if fd.is_some() {
                self.held.stash.put(name.clone(), Vec::new(), fd);
            }
            name
        });
        let pidfd = self.held.children.get(&label).map(AsFd::as_fd);
        let kept = names.iter().filter_map(|name| self.held.stash.get(name)?.fd.as_ref());
        let fds: Vec<_> = pidfd.into_iter().chain(kept.map(AsFd::as_fd)).collect();
        if let Stage::Running(daemon) = &self.stage {
            daemon.answer(&answer, &[], &fds);
        }
    }

    fn on_take_exit(&mut self, label: &str) {
        let exit = self.held.children.get_mut(label).map(|child| self.host.try_wait(child));
        let answer = match exit {
            Some(Ok(status)) => Answer::Exit { status },
            Some(Err(_)) | None => Answer::UnknownExit,
        };
        self.answer(&answer);
    }

    fn on_kill_tree(&mut self, label: &str) {
        let killed = match self.held.children.get(label) {
            Some(child) => self.host.kill_tree(child),
            None => self.host.kill_label(label),
        };
        match killed {
            Ok(()) => self.answer(&Answer::Done),
            Err(error) => self.refuse(&format!("cannot look for descendants: {error}")),
        }
    }

    fn on_forget(&mut self, label: &str) {
        self.held.forget(label, &mut self.host);
        self.answer(&Answer::Done);
    }

    fn on_reap(&mut self) {
        self.reap();
        self.answer(&Answer::Done);
    }

    fn on_dying(&mut self) {
        self.reap();
        self.answer(&Answer::Dying { count: self.host.dying() as u64 });
    }

    fn on_put(&mut self, name: String, body: &[u8], fds: Vec<OwnedFd>, truncated: bool) {
        if truncated {
            return super::say(&format!("too many open files: {name} cannot be kept; see ulimit -n"));
        }
        self.held.stash.put(name, body.to_vec(), fds.into_iter().next());
    }

    fn on_farewell(&mut self, code: u8) {
        self.after = After::Nothing(code);
        self.answer(&Answer::Done);
    }
}

/// Whether a wish is carried out for a daemon that is dead by now: it cleans up or keeps, and begins nothing.
fn counts_after_death(ask: &Ask) -> bool {
    match ask {
        Ask::Ready { .. }
        | Ask::KillTree { .. }
        | Ask::Forget { .. }
        | Ask::KeepImage
        | Ask::Put { .. }
        | Ask::Remove { .. }
        | Ask::Farewell { .. } => true,
        Ask::Hello { .. }
        | Ask::Next
        | Ask::Spawn { .. }
        | Ask::TakeExit { .. }
        | Ask::Reap
        | Ask::Dying
        | Ask::Upgrade { .. }
        | Ask::Succeed(_)
        | Ask::Adopt { .. }
        | Ask::Settled => false,
    }
}
