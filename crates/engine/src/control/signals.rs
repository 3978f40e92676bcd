//! Signals become wishes. Nothing is done in a handler: they arrive over a descriptor, one at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use oxherd_core::Request;
use oxherd_os::{Signals, TerminalWatch};

use crate::control::Control;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGQUIT: i32 = 3;
const SIGPIPE: i32 = 13;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// The signals of a primary in the foreground.
#[derive(Debug)]
pub(super) struct SignalSource {
    signals: Signals,
    terminal: TerminalWatch,
}

impl SignalSource {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = TerminalWatch::new();
        let watched =
            [SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGCHLD, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2];
        Ok(Self { signals: Signals::block(&watched)?, terminal })
    }
}

/// Holds the signals of a primary back in this thread, and in those that it starts, until a primary takes them.
pub(crate) fn block_signals() -> io::Result<()> {
    SignalSource::open().map(drop)
}

impl AsFd for SignalSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Control<'_> {
    pub(super) fn on_signals(&mut self) {
        while let Some(signal) = self.next_signal() {
            match signal {
                SIGTERM | SIGINT | SIGQUIT => self.on_stop_signal(),
                SIGHUP => self.on_hangup(),
                SIGTTIN => self.scale_by(1),
                SIGTTOU => self.scale_by(-1),
                SIGUSR2 => self.observer.reopen_logs(),
                SIGCHLD => self.host.reap_strangers(),
                _ => {}
            }
        }
    }

    fn next_signal(&self) -> Option<i32> {
        let received = self.signals.as_ref()?.signals.next().ok()??;
        Some(received.signal)
    }

    /// The first drains, the second kills, whichever primary had the first.
    fn on_stop_signal(&mut self) {
        if self.fleet.is_ending() {
            self.ask("kill", Request::Kill);
        } else {
            self.ask("stop", Request::Shutdown);
        }
    }

    /// A reload, unless the terminal is gone: then nobody is left to run for.
    fn on_hangup(&mut self) {
        let Some(source) = &self.signals else { return };
        if source.terminal.is_gone() {
            if !self.fleet.is_ending() {
                self.on_stop_signal();
            }
            return;
        }
        for app in self.fleet.status(super::now()).apps {
            self.ask("reload", Request::Reload { app: app.app, spec: None });
        }
    }

    fn scale_by(&mut self, step: i64) {
        for app in self.fleet.status(super::now()).apps {
            let instances = (i64::from(app.instances) + step).clamp(1, i64::from(u32::MAX)) as u32;
            if instances != app.instances {
                self.ask("scale", Request::Scale { app: app.app, instances });
            }
        }
    }
}
