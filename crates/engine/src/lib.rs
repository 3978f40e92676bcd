//! Turns the wheel: facts of the OS into the core, the core's actions into the OS.
//!
//! Two threads over [`oxherd_os`]'s `Poller`: *control* (the caller's: core, processes, timers, output) and
//! *traffic* (listeners and channels). There is no async runtime here, and no decision either: what is to be
//! done is decided in [`core`].

#![warn(missing_docs)]

mod control;
pub mod host;
mod link;
mod observer;
mod report;
mod settings;
mod traffic;

/// The types that the engine speaks: specs, notices, outcomes.
pub use oxherd_core as core;

pub use observer::{Alert, Bulletin, Observer, OutputLine, Stream};
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
    control::Control::new(&settings, observer)?.run(specs)
}
