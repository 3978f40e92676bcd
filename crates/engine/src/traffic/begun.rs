//! Paths that a worker has bound and does not listen at yet. Another worker of the app that binds there meanwhile waits,
//! or the kernel would tell it that the address is in use.
//!
//! Nobody waits for longer than [`BEGUN_MS`]: a program may bind and never listen.

use oxherd_core::{AppId, InstanceId};
use oxherd_os::lending::Trapped;

use crate::traffic::Traffic;
use crate::traffic::borrower::Parking;
use crate::traffic::listener::Identity;
use crate::traffic::timers::Timer;
use crate::traffic::traps::Verdict;

/// Programs listen right after they have bound.
const BEGUN_MS: u64 = 5000;
/// So many calls of one worker wait at most: each is a thread of it.
const WAITING_MAX: usize = 64;

/// A path that somebody has begun to serve.
#[derive(Debug)]
pub(super) struct Begun {
    identity: Identity,
    by: InstanceId,
    until: u64,
    /// Another has taken the file away before it listened, and is about to bind: it is the one who begins.
    is_lost: bool,
}

impl Traffic {
    /// A worker binds where nobody of its app listens: it is the first, or waits for the one who is.
    pub(super) fn begin_path(&mut self, number: usize, identity: Identity) -> Verdict {
        let Some(by) = self.borrowers.get(number).map(|it| it.place.instance) else {
            return Verdict::CONTINUE;
        };
        self.forget_old_beginnings();
        let until = self.now + BEGUN_MS;
        match self.begun.iter_mut().find(|it| it.identity == identity) {
            Some(begun) if begun.by != by && !begun.is_lost => return Verdict::Wait,
            Some(begun) => (begun.by, begun.until, begun.is_lost) = (by, until, false),
            None => {
                self.timers.set(until, Timer::Begun(identity.app));
                self.begun.push(Begun { identity, by, until, is_lost: false });
            }
        }
        Verdict::CONTINUE
    }

    /// A worker listens at a path whose file another has taken away: true when that other is given the time to bind.
    pub(super) fn gives_way_at(&mut self, number: usize, identity: &Identity) -> bool {
        self.forget_old_beginnings();
        let by = self.borrowers.get(number).map(|it| it.place.instance);
        let Some(begun) = self.begun.iter_mut().find(|it| it.identity == *identity) else { return false };
        begun.is_lost |= Some(begun.by) == by;
        self.resume_calls(identity.app);
        true
    }

    /// Somebody listens there now: whoever waits shares its socket.
    pub(super) fn finish_path(&mut self, identity: &Identity) {
        self.begun.retain(|it| it.identity != *identity);
        self.resume_calls(identity.app);
    }

    pub(super) fn on_begun_timer(&mut self, app: AppId) {
        self.forget_old_beginnings();
        self.resume_calls(app);
        let next = self.begun.iter().filter(|it| it.identity.app == app).map(|it| it.until).min();
        if let Some(until) = next {
            self.timers.set(until, Timer::Begun(app));
        }
    }

    pub(super) fn let_wait(&mut self, number: usize, trapped: &Trapped) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        if borrower.held.len() >= WAITING_MAX {
            return self.answer_call(number, trapped.id, oxherd_os::lending::Answer::Continue);
        }
        borrower.held.push(*trapped);
        self.keep_calls(number);
    }

    /// Beginners that are gone, or have had their time.
    fn forget_old_beginnings(&mut self) {
        let (now, borrowers) = (self.now, &self.borrowers);
        self.begun.retain(|it| it.until > now && borrowers.find(it.by).is_some());
    }

    /// Those that wait look again.
    pub(super) fn resume_calls(&mut self, app: AppId) {
        let waiting = self
            .borrowers
            .iter()
            .filter(|(_, it)| it.place.app == app && it.parking == Parking::Off && !it.held.is_empty());
        let waiting: Vec<usize> = waiting.map(|(number, _)| number).collect();
        for number in waiting {
            let Some(borrower) = self.borrowers.get_mut(number) else { continue };
            let held = std::mem::take(&mut borrower.held);
            held.iter().for_each(|trapped| self.carry_out_call(number, trapped));
            self.keep_calls(number);
        }
    }
}
