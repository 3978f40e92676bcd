//! Turns the wheel: facts of the OS into the core, the core's actions into the OS.
//!
//! Two threads over [`oxherd_os`]'s `Poller`: *control* (the caller's: core, processes, timers, output) and
//! *traffic* (listeners and channels). There is no async runtime here, and no decision either: what is to be
//! done is decided in [`core`].

#![warn(missing_docs)]

mod control;
mod counters;
mod handle;
pub mod host;
mod link;
mod observer;
mod page;
mod report;
mod settings;
mod traffic;

use host::{Estate, LocalHost, NoStash, ProcessHost, Stash};

/// The types that the engine speaks: specs, notices, outcomes.
pub use oxherd_core as core;
/// What this machine allows of lending sockets.
pub use oxherd_os::lending::probe;

#[cfg(debug_assertions)]
pub use handle::Culprit;
pub use handle::{Handle, InputError, SendError, Survey};
pub use link::Permit;
pub use observer::{Alert, Bulletin, Ear, Observer, OutputLine, Stream, WorkerMessage};
pub use report::{AppReport, Report, WorkerReport};
pub use settings::{EngineError, Settings};

/// Runs apps in the foreground until none of them has anything left to run, or until a signal ends them
/// (`SIGTERM`/`SIGINT` drain, a second one kills, `SIGHUP` reloads, `SIGTTIN`/`SIGTTOU` scale by one).
///
/// The calling thread becomes the control thread; workers die with it.
///
/// # Errors
/// The kernel refuses what the engine itself needs (epoll, signalfd, threads), or a spec is not valid.
pub fn run(
    specs: Vec<core::AppSpec>,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Result<core::Outcome, EngineError> {
    let host = LocalHost::new(settings.signals)
        .map_err(|cause| EngineError::Os { what: "supervise processes", cause })?;
    let mut primary = Primary::new(&settings, Box::new(host), Box::new(NoStash), observer)?;
    primary.run(specs, Estate::default())
}

/// Holds the signals that a primary turns into requests back in this thread, and in the threads that it starts,
/// until a [`Primary`] takes them: for a program that has something to do before.
///
/// # Errors
/// The kernel refuses a signalfd.
pub fn block_signals() -> std::io::Result<()> {
    control::block_signals()
}

/// A primary that is not left alone: its processes may be held by somebody else, other threads have wishes, and it
/// may go on where another ended.
pub struct Primary<'a> {
    control: control::Control<'a>,
}

impl<'a> Primary<'a> {
    /// Prepares the two threads. The calling one is to become the control thread.
    ///
    /// # Errors
    /// The kernel refuses what the engine itself needs (epoll, signalfd, threads).
    pub fn new(
        settings: &Settings,
        host: Box<dyn ProcessHost>,
        stash: Box<dyn Stash>,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, EngineError> {
        Ok(Self { control: control::Control::new(settings, host, stash, observer)? })
    }

    /// How other threads reach it.
    pub fn handle(&self) -> Handle {
        self.control.handle()
    }

    /// Takes over what another primary left, starts `specs`, and runs until the end.
    ///
    /// # Errors
    /// The kernel refuses what the engine needs, or a spec is not valid.
    pub fn run(&mut self, specs: Vec<core::AppSpec>, estate: Estate) -> Result<core::Outcome, EngineError> {
        self.control.run(specs, estate)
    }

    /// How the apps' own work ended, as far as any has: see [`core::Fleet::verdict`].
    pub fn verdict(&self) -> Option<core::Exit> {
        self.control.verdict()
    }

    /// Ends both threads' work; who holds the processes is left, to be told that nobody is to come after this primary.
    pub fn into_host(self) -> Box<dyn ProcessHost> {
        self.control.into_host()
    }
}
