//! The end of a daemon: what it still held is saved while it dies, then the next one is due.
//!
//! `SIGKILL`, a panic and an upgrade are one path. Must never wait for a daemon, nor let one wait that waits for its
//! end to be seen.

use std::env;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use oxherd_os::socket::{LocalAddr, local_addr};
use oxherd_os::{ExitStatus, ExitWatch, Watched, clock, rescue};

use super::daemon::{Daemon, Progress};
use super::run::{After, Keeper, Stage};

/// The entry with the listener of the control API, whose clients ask again by themselves.
const API: &str = "api";
/// `off` in this variable leaves the daemon to another tracer: a process has one at a time.
const TRACE: &str = "OXHERD_TRACE";

impl Keeper {
    /// Asks to be shown the daemon's exit before it happens. Where that is refused its connections are lost when
    /// it dies, which is told once.
    pub(super) fn trace_daemon(&mut self) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        let seized = match env::var_os(TRACE) {
            Some(choice) if choice == "off" => Err(format!("the daemon is not traced ({TRACE}=off)")),
            _ => ExitWatch::seize(daemon.child.pid, &daemon.child.pidfd)
                .map_err(|error| format!("cannot trace the daemon: {error}")),
        };
        match seized {
            Ok(watch) => {
                daemon.watch = Some(watch);
                self.untraced = None;
            }
            Err(why) => {
                let why = format!("{why}; connections it holds are lost if it dies");
                if self.untraced.as_ref() != Some(&why) {
                    super::say(&why);
                }
                self.untraced = Some(why);
            }
        }
    }

    /// Finds out what became of the daemon; to be called whenever something may have.
    pub(super) fn look_at_daemon(&mut self) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        match daemon.watch.as_mut().map(ExitWatch::poll) {
            Some(Ok(Watched::Nothing)) => return,
            Some(Ok(Watched::AtExit)) => return self.on_exit_stop(),
            Some(Ok(Watched::Ended(status))) => {
                // The Host is to know that it has ended.
                drop(self.host.try_wait(&mut daemon.child));
                return self.on_daemon_end(Some(status));
            }
            Some(Ok(Watched::Lost)) => {
                daemon.watch = None;
                return self.trace_daemon();
            }
            Some(Err(_)) => daemon.watch = None,
            None => {}
        }
        match self.host.try_wait(&mut daemon.child) {
            Ok(None) => {}
            Ok(exit) => self.on_daemon_end(exit),
            // It has ended, and nobody knows how.
            Err(_) => self.on_daemon_end(None),
        }
    }

    /// The daemon stands still, about to end, with all descriptors open.
    fn on_exit_stop(&mut self) {
        self.save_what_it_has();
        let Stage::Running(daemon) = &mut self.stage else { return };
        if let Some(watch) = &mut daemon.watch
            && let Err(error) = watch.release()
        {
            // Without its tracer it goes on by itself.
            super::say(&format!("cannot let the daemon end: {error}"));
            daemon.watch = None;
        }
        self.expect_end();
    }

    /// Takes from a daemon that runs no more what its successor needs; once.
    pub(super) fn save_what_it_has(&mut self) {
        self.hear_last_words();
        let is_followed = !matches!(self.after, After::Nothing(_));
        let except = self.control_sockets();
        let Stage::Running(daemon) = &mut self.stage else { return };
        if matches!(daemon.progress, Progress::Dying) {
            return;
        }
        daemon.progress = Progress::Dying;
        for signal in daemon.unread_signals() {
            self.remembered.add(signal);
        }
        if is_followed {
            match rescue::connections_of(daemon.child.pid, &daemon.child.pidfd, &except) {
                Ok(connections) => self.held.save(connections),
                Err(error) => super::say(&format!("cannot save the daemon's connections: {error}")),
            }
        }
        // Should it be long in ending, its own clients do not wait for it: they ask the next one.
        let clients = rescue::connections_at(daemon.child.pid, &daemon.child.pidfd, &except);
        clients
            .into_iter()
            .flatten()
            .for_each(|client| drop(UnixStream::from(client).shutdown(Shutdown::Both)));
    }

    /// What the control API is bound to.
    fn control_sockets(&self) -> Vec<PathBuf> {
        let listener = self.held.stash.get(API).and_then(|kept| kept.fd.as_ref());
        match listener.map(local_addr) {
            Some(Ok(LocalAddr::Unix(path))) => vec![path],
            _ => Vec::new(),
        }
    }

    fn on_daemon_end(&mut self, exit: Option<ExitStatus>) {
        self.hear_last_words();
        if let Some(daemon) = self.take_daemon() {
            self.after_daemon(daemon.child.pid, daemon.started_ms, exit);
        }
    }

    /// Stops listening to the daemon. What it says from now on is not heard.
    pub(super) fn take_daemon(&mut self) -> Option<Box<Daemon>> {
        if !matches!(self.stage, Stage::Running(_)) {
            return None;
        }
        let Stage::Running(daemon) = std::mem::replace(&mut self.stage, Stage::Due(0)) else { return None };
        for fd in [&daemon.link, &daemon.stash, &daemon.child.pidfd] {
            // A socket may have been removed when it came to its end.
            drop(self.poller.remove(fd));
        }
        Some(daemon)
    }

    /// Begins what comes after a daemon that runs no more.
    pub(super) fn after_daemon(&mut self, pid: u32, started_ms: u64, exit: Option<ExitStatus>) {
        match std::mem::replace(&mut self.after, After::Another) {
            After::Nothing(code) => self.end(code),
            After::Program(program) => self.become_program(&program),
            After::Another => self.on_death(pid, started_ms, exit),
        }
    }

    fn on_death(&mut self, pid: u32, started_ms: u64, exit: Option<ExitStatus>) {
        self.last_exit = exit;
        if let Some(ExitStatus::Code(code)) = exit
            && !self.greeted
        {
            self.starter.tell(Err(format!("the daemon has ended with code {code} before it was ready")));
            self.stage = Stage::Over(code as u8);
            return;
        }
        let now_ms = clock::monotonic_millis();
        let next_ms = self.deaths.record(started_ms, now_ms);
        let after = next_ms - now_ms;
        super::say(&format!("the daemon (pid {pid}) has ended ({}), next start in {after} ms", words(exit)));
        if !self.deaths.trust_image() {
            self.starter.tell(Err(format!("the daemon ends again and again ({})", words(exit))));
        }
        self.stage = Stage::Due(next_ms);
        self.obey_who_insists();
    }
}

fn words(exit: Option<ExitStatus>) -> String {
    match exit {
        Some(exit) => exit.to_string(),
        None => "nobody knows how".to_owned(),
    }
}
