//! A daemon that was killed and does not end, because a thread of it waits for a disk that hangs.
//!
//! The kernel tells of no such thing, so it is looked for. The next daemon is started beside what is left of this one,
//! which goes away when the disk answers. Must never leave a daemon behind of which anything may still run.

use oxherd_os::{clock, doom};

use super::parting::Parting;
use super::run::{Keeper, Stage};

/// Between two looks at a daemon that seems to live.
pub(super) const LOOK_EVERY_MS: u64 = 1000;
/// How long a daemon that was killed may take to end: what ends at all has done so within milliseconds.
const END_TIME_MS: u64 = 1000;

impl Keeper {
    /// Looks whether the daemon was killed and is stuck.
    pub(super) fn look_for_doom(&mut self, now_ms: u64) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        daemon.look_at_ms = now_ms + LOOK_EVERY_MS;
        // One of which nothing is known may live.
        let is_doomed = doom::is_doomed(daemon.child.pid, &daemon.child).unwrap_or(false);
        let since_ms = is_doomed.then(|| daemon.doomed_since_ms.unwrap_or(now_ms));
        daemon.doomed_since_ms = since_ms;
        if since_ms.is_some_and(|since_ms| now_ms >= since_ms + END_TIME_MS) {
            // Its end may have come by now, or its exit stop: then all is as ever.
            self.look_at_daemon();
            if matches!(&self.stage, Stage::Running(daemon) if daemon.doomed_since_ms == since_ms) {
                self.leave_behind();
            }
        }
    }

    /// The daemon is on its way out, with nothing left to be done for it.
    pub(super) fn expect_end(&mut self) {
        let Stage::Running(daemon) = &mut self.stage else { return };
        let now_ms = clock::monotonic_millis();
        daemon.doomed_since_ms = Some(now_ms);
        daemon.look_at_ms = now_ms + END_TIME_MS;
    }

    /// Goes on without waiting for the daemon's end.
    fn leave_behind(&mut self) {
        self.save_what_it_has();
        let Some(daemon) = self.take_daemon() else { return };
        let pid = daemon.child.pid;
        super::say(&format!(
            "the daemon (pid {pid}) was killed and cannot end, as when a disk hangs: going on without it"
        ));
        let exit = doom::fate_of(pid, &daemon.child);
        let started_ms = daemon.started_ms;
        self.held.parting.push(Parting::new(daemon.child, daemon.watch));
        self.after_daemon(pid, started_ms, exit);
    }
}
