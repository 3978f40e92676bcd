//! The keeper's loop: signals, the two sockets, the daemon's end, and the time to start the next one.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use oxherd_os::{
    CgroupChoice, Event, Events, ExitStatus, Host, HostOptions, Interest, Poller, Signals, clock,
};

use super::daemon::{Daemon, Progress};
use super::deaths::Deaths;
use super::entry::Starter;
use super::held::Held;
use super::service::Watchdog;
use super::signals::{self, Remembered, SIGCHLD};

const SIGNALS: u64 = 0;
const LINK: u64 = 1;
const STASH: u64 = 2;
const DAEMON: u64 = 3;
const EVENTS_PER_WAIT: usize = 8;
/// The code of a keeper that cannot do its work, or was told twice to end.
pub(super) const FAILURE: u8 = 1;

/// What a keeper knows from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) home: OsString,
    pub(super) foreground: bool,
    pub(super) daemon_args: Vec<OsString>,
    /// The soft limit of descriptors that workers get.
    pub(super) nofile: Option<u64>,
    /// What tells this primary's workers from those of any other.
    pub(super) primary: String,
}

/// Where the keeper stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// No daemon; the next one is to be started then, in milliseconds of the monotonic clock.
    Due(u64),
    Running(Box<Daemon>),
    /// Nothing is left to be done; this is the exit code.
    Over(u8),
}

/// What comes after the daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Another one.
    Another,
    /// Another one, once this process runs that program.
    Program(PathBuf),
    /// Nothing: it has said farewell.
    Nothing(u8),
}

/// The keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) poller: Poller,
    pub(super) signals: Signals,
    pub(super) host: Host,
    pub(super) settings: Settings,
    pub(super) held: Held,
    pub(super) stage: Stage,
    pub(super) after: After,
    /// How many daemons were started.
    pub(super) starts: u32,
    pub(super) deaths: Deaths,
    pub(super) last_exit: Option<ExitStatus>,
    /// Some daemon has come as far as to greet.
    pub(super) greeted: bool,
    pub(super) remembered: Remembered,
    pub(super) starter: Starter,
    pub(super) untraced: Option<String>,
    pub(super) upgrade_failure: Option<String>,
    /// How often this process has become another program.
    pub(super) upgrades: u32,
    pub(super) watchdog: Option<Watchdog>,
}

impl Keeper {
    /// A keeper without a daemon.
    pub(super) fn new(settings: Settings, deaths: Deaths, starter: Starter) -> io::Result<Self> {
        let signals = signals::block()?;
        let poller = Poller::new()?;
        poller.add(&signals, SIGNALS, Interest::READ)?;
        let options = HostOptions { reap_strangers: true, cgroups: CgroupChoice::Detect };
        Ok(Self {
            poller,
            signals,
            host: Host::new(options)?,
            settings,
            held: Held::default(),
            stage: Stage::Due(0),
            after: After::Another,
            starts: 0,
            deaths,
            last_exit: None,
            greeted: false,
            remembered: Remembered::default(),
            starter,
            untraced: None,
            upgrade_failure: None,
            upgrades: 0,
            watchdog: Watchdog::of_environment(),
        })
    }

    /// Keeps until a daemon says farewell; returns the exit code.
    pub(super) fn run(mut self) -> u8 {
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        loop {
            let wake_ms = match &self.stage {
                Stage::Over(code) => return *code,
                Stage::Running(daemon) => daemon.look_at_ms,
                Stage::Due(at_ms) => *at_ms,
            };
            let wake_ms = self.watchdog.as_ref().map_or(wake_ms, |watchdog| wake_ms.min(watchdog.due_ms));
            let timeout = Duration::from_millis(wake_ms.saturating_sub(clock::monotonic_millis()));
            if let Err(error) = self.poller.wait(&mut events, Some(timeout)) {
                super::say(&format!("cannot wait for events: {error}"));
                return FAILURE;
            }
            events.iter().for_each(|event| self.on_event(event));
            self.on_time();
        }
    }

    fn on_event(&mut self, event: Event) {
        match event.token {
            SIGNALS => self.on_signals(),
            LINK => self.on_link(),
            STASH => self.on_stash(),
            _ => self.look_at_daemon(),
        }
    }

    fn on_time(&mut self) {
        let now_ms = clock::monotonic_millis();
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.look(now_ms);
        }
        match &self.stage {
            Stage::Due(at_ms) if *at_ms <= now_ms => self.start_daemon(),
            Stage::Running(daemon) if daemon.look_at_ms <= now_ms => self.look_for_doom(now_ms),
            Stage::Due(_) | Stage::Running(_) | Stage::Over(_) => {}
        }
    }

    fn start_daemon(&mut self) {
        let now_ms = clock::monotonic_millis();
        let settings = &self.settings;
        let started = Daemon::start(&mut self.host, &settings.daemon_args, now_ms);
        match started.and_then(|daemon| self.listen_or_kill(daemon)) {
            Ok(()) => {
                self.starts = self.starts.saturating_add(1);
                self.trace_daemon();
            }
            Err(error) if self.starts == 0 => {
                super::say(&format!("cannot start the daemon: {error}"));
                self.starter.tell(Err(format!("cannot start the daemon: {error}")));
                self.stage = Stage::Over(FAILURE);
            }
            Err(error) => {
                super::say(&format!("cannot start the daemon, trying again: {error}"));
                self.stage = Stage::Due(self.deaths.record(now_ms, now_ms));
            }
        }
    }

    /// Begins to listen to a daemon.
    pub(super) fn listen_to(&mut self, daemon: Box<Daemon>) -> Result<(), (io::Error, Box<Daemon>)> {
        let fds = [(&daemon.link, LINK), (&daemon.stash, STASH), (&daemon.child.pidfd, DAEMON)];
        let added = fds.iter().try_for_each(|(fd, token)| self.poller.add(fd, *token, Interest::READ));
        if let Err(error) = added {
            return Err((error, daemon));
        }
        self.after = After::Another;
        self.stage = Stage::Running(daemon);
        Ok(())
    }

    /// One that nobody listens to is of no use.
    fn listen_or_kill(&mut self, daemon: Daemon) -> io::Result<()> {
        self.listen_to(Box::new(daemon)).map_err(|(error, daemon)| {
            daemon.kill();
            self.held.parting.push(daemon.child.into());
            error
        })
    }

    fn on_signals(&mut self) {
        while let Ok(Some(received)) = self.signals.next() {
            match received.signal {
                SIGCHLD => self.on_children(),
                signal if signals::is_forwarded(signal) => self.forward(signal),
                _ => {}
            }
        }
    }

    /// To a daemon that is ready for it; one that starts would die of it.
    fn forward(&mut self, signal: i32) {
        match &self.stage {
            Stage::Running(daemon) if matches!(daemon.progress, Progress::TakenOver) => {
                drop(daemon.child.signal(signal));
            }
            Stage::Running(_) => self.remembered.add(signal),
            Stage::Due(_) => {
                self.remembered.add(signal);
                self.obey_who_insists();
            }
            Stage::Over(_) => {}
        }
    }

    /// No daemon is there that could.
    pub(super) fn obey_who_insists(&mut self) {
        if self.remembered.insists() {
            super::say("told twice to end while no daemon comes up: ending all workers");
            self.end(FAILURE);
        }
    }

    /// The daemon comes first: what it waits with is waited for by its successor.
    fn on_children(&mut self) {
        self.look_at_daemon();
        self.reap();
    }

    /// Takes the exits of orphans, and of processes that nobody asks about any more.
    pub(super) fn reap(&mut self) {
        self.held.take_exits(&mut self.host);
        if let Err(error) = self.host.reap_strangers() {
            super::say(&format!("cannot take the exits of orphans: {error}"));
        }
    }

    /// Ends all that is left, and then itself.
    pub(super) fn end(&mut self, code: u8) {
        for child in self.held.children.values_mut() {
            if matches!(self.host.try_wait(child), Ok(None)) {
                drop(self.host.kill_tree(child));
            }
        }
        self.stage = Stage::Over(code);
    }
}
