//! Accepting and handing over. It accepts only when an admitted worker has room, so that waiting connections
//! stay in the kernel's queue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oxherd_core::{InstanceId, Load, Stance};
use oxherd_os::{Interest, fdpass, foreign, proc, socket};

use crate::Alert;
use crate::traffic::holder::{HEIR_WAIT_MS, Holders};
use crate::traffic::listener::{Listener, Returned, Socket};
use crate::traffic::orders::News;
use crate::traffic::stall::STALL_MS;
use crate::traffic::timers::Timer;
use crate::traffic::worker::{Handed, HandleFrame, Seat, Standing, Worker};
use crate::traffic::{Token, Traffic};

/// When to try to accept again after running out of descriptors, in milliseconds.
const RETRY_ACCEPT_MS: u64 = 100;
/// So long nothing may be lacking before the shortage counts as over, in milliseconds: at the limit each closed
/// connection makes room for just one more.
const ENOUGH_FOR_MS: u64 = 1000;
/// So many answered connections a worker may leave without an acknowledgement; Node sends that first.
const MAX_UNACKNOWLEDGED: usize = 1024;
/// How long a listener rests when every worker has refused a connection, in milliseconds.
const REFUSED_PAUSE_MS: u64 = 10;

impl Traffic {
    pub(super) fn on_source(&mut self, listener: usize, source: usize) {
        if let Some(source) = self.listeners.get_mut(listener).and_then(|it| it.source(source)) {
            source.pending = true;
            self.pump(listener);
        }
    }

    /// Hands waiting connections over as long as somebody has room.
    pub(super) fn pump(&mut self, listener: usize) {
        if self.listeners.get(listener).is_none_or(|it| it.paused_until > self.now) {
            return;
        }
        while !self.out_of_fds && self.has_waiting(listener) {
            let seat = self.choose(listener);
            if seat.is_none() && !self.may_relay(listener) {
                return;
            }
            let Some(next) = self.next_connection(listener) else { continue };
            match seat {
                Some(seat) => self.hand_over(seat, listener, next),
                None => self.relay(listener, next),
            }
        }
    }

    /// Hands over on all listeners of the app that this worker belongs to.
    pub(super) fn pump_for(&mut self, number: usize) {
        let Some(worker) = self.workers.get(number) else { return };
        match worker.registered[..] {
            [] => {}
            [only] => self.pump(only),
            _ => worker.registered.clone().into_iter().for_each(|listener| self.pump(listener)),
        }
    }

    /// A worker has room again after a connection of the listener `after`. All its listeners share that room, and
    /// the others come first: a busy one must not starve them.
    fn pump_in_turn(&mut self, number: usize, after: usize) {
        let registered = |it: &Self, at: usize| it.workers.get(number)?.registered.get(at).copied();
        let count = self.workers.get(number).map_or(0, |worker| worker.registered.len());
        let own = (0..count).find(|at| registered(self, *at) == Some(after));
        let start = own.map_or(0, |own| own + 1);
        for step in 0..count - usize::from(own.is_some()) {
            if let Some(other) = registered(self, (start + step) % count) {
                self.pump(other);
            }
        }
        // A refused connection waits there for others, even if this worker does not use it any more.
        self.pump(after);
    }

    /// Takes connections that a worker will not serve back, to offer them to others, oldest first.
    fn take_back(&mut self, handed: impl DoubleEndedIterator<Item = Handed>) -> Vec<usize> {
        let mut touched = Vec::new();
        for Handed { listener, connection, refusals, .. } in handed.rev() {
            if let Some(it) = self.listeners.get_mut(listener) {
                it.returned.push_front(Returned { connection, refusals });
                touched.push(listener);
            }
        }
        touched
    }

    /// Takes everything back that the worker has not answered for.
    pub(super) fn take_all_back(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let handed = std::mem::take(&mut worker.unanswered);
        let place = worker.place;
        if let Some(app) = self.apps.get_mut(&place.app) {
            let seat = Seat { instance: place.instance, number };
            handed.iter().for_each(|_| app.balancer.returned(seat));
        }
        self.offer_again(handed.into_iter());
    }

    /// Takes connections back and gives them to whoever has room.
    pub(super) fn offer_again(&mut self, handed: impl DoubleEndedIterator<Item = Handed>) {
        let mut touched = self.take_back(handed);
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|listener| self.pump(listener));
    }

    pub(super) fn on_answer(&mut self, number: usize, seq: u64, accepted: bool) {
        if self.on_fence_answer(number, seq) {
            return;
        }
        let Some(worker) = self.workers.get_mut(number) else { return };
        let Some(at) = worker.unanswered.iter().position(|handed| handed.seq == seq) else { return };
        let Some(handed) = worker.unanswered.remove(at) else { return };
        worker.last_answer = self.now;
        let faded = worker.answer_delay - worker.answer_delay.div_ceil(16);
        worker.answer_delay = self.now.saturating_sub(handed.at).max(faded);
        worker.out.ledger.peer_read(seq);
        let (place, standing, settled) = (worker.place, worker.standing, worker.unanswered.is_empty());
        let told_stalled = worker.told_stalled;
        let is_unacknowledged = worker.handles.len() > worker.unanswered.len() + MAX_UNACKNOWLEDGED;
        if accepted {
            worker.counters.count_accepted();
        } else {
            worker.gauge.came_back();
        }
        if settled {
            worker.gauge.settled();
        }
        let listener = handed.listener;
        let seat = Seat { instance: place.instance, number };
        if let Some(app) = self.apps.get_mut(&place.app) {
            if accepted {
                app.balancer.answered(seat);
            } else {
                app.balancer.returned(seat);
            }
        }
        if accepted {
            fdpass::close(handed.connection);
            // One descriptor is free for certain, so there is no need to wait for the retry.
            self.out_of_fds = false;
        } else {
            self.on_refused(handed);
        }
        if is_unacknowledged {
            return self.condemn(number, "it does not acknowledge what it gets");
        }
        if told_stalled {
            self.check_stall(number);
        }
        if settled && standing != Standing::Open {
            self.on_all_answered(number);
        }
        self.pump_in_turn(number, listener);
    }

    /// The worker is at its own limit, or has closed its server: another may take it. When all have refused,
    /// offering it again at once would spin.
    fn on_refused(&mut self, handed: Handed) {
        let listener = handed.listener;
        let users = self.workers.iter().filter(|(_, worker)| worker.may_take(listener)).count() as u32;
        let refusals = handed.refusals + 1;
        if refusals > users {
            if let Some(it) = self.listeners.get_mut(listener) {
                it.paused_until = self.now + REFUSED_PAUSE_MS;
            }
            self.timers.set(self.now + REFUSED_PAUSE_MS, Timer::RetryListener(listener));
        }
        let refusals = if refusals > users { 0 } else { refusals };
        self.take_back(std::iter::once(Handed { refusals, ..handed }));
    }

    pub(super) fn on_retry_listener(&mut self, listener: usize) {
        self.pump(listener);
    }

    pub(super) fn on_retry_accept(&mut self) {
        self.out_of_fds = false;
        let all: Vec<usize> = self.listeners.iter().map(|(number, _)| number).collect();
        for listener in all {
            self.pump(listener);
        }
        if let (false, Some(last)) = (self.out_of_fds, self.last_shortage) {
            if last + ENOUGH_FOR_MS <= self.now {
                self.last_shortage = None;
                self.tell(News::Alert(Alert::FdsFree));
            } else {
                self.timers.set(last + ENOUGH_FOR_MS, Timer::RetryAccept);
            }
        }
    }

    /// Steers a `kernel` listener to the workers that are admitted and use it, and watches the rest itself: a
    /// handshake may still complete there.
    pub(super) fn refresh_group(&mut self, listener: usize) {
        self.steer(listener);
        let now = self.now;
        let holders = Holders { workers: &self.workers, borrowers: &self.borrowers };
        let Some(it) = self.listeners.get_mut(listener) else { return };
        let Some(app) = self.apps.get(&it.identity.app) else { return };
        let Socket::Kernel(group) = &mut it.socket else { return };
        if let Some(look_at) = group.note_left(now) {
            self.timers.set(look_at + HEIR_WAIT_MS, Timer::Left(listener));
        }
        let changes: Vec<(usize, bool)> = group
            .members()
            .iter()
            .map(|member| (member.number, holders.is_left(app, group, member, listener, now), member.watched))
            .filter(|(_, wanted, watched)| wanted != watched)
            .map(|(number, wanted, _)| (number, wanted))
            .collect();
        for (number, wanted) in changes {
            let Some(member) = group.member_mut(number) else { continue };
            let token = Token::Source { listener, source: number }.encode();
            let done = if wanted {
                self.poller.add(&member.source.fd, token, Interest::READ | Interest::ONCE)
            } else {
                self.poller.remove(&member.source.fd)
            };
            member.watched = if done.is_ok() { wanted } else { member.watched };
            member.source.pending &= member.watched;
        }
        self.keep_group(listener);
    }

    /// Members that nobody had a while ago may wait for nobody any more.
    pub(super) fn on_left_timer(&mut self, listener: usize) {
        self.refresh_group(listener);
        self.pump(listener);
    }

    pub(super) fn holders(&self) -> Holders<'_> {
        Holders { workers: &self.workers, borrowers: &self.borrowers }
    }

    fn has_waiting(&self, listener: usize) -> bool {
        let waiting = |it: &Listener| !it.returned.is_empty() || it.pending_source().is_some();
        self.listeners.get(listener).is_some_and(waiting)
    }

    fn choose(&self, listener: usize) -> Option<Seat> {
        let it = self.listeners.get(listener)?;
        if let Socket::Kernel(group) = &it.socket
            && let Some(heir) = self.heir_of_what_waits(listener, group)
        {
            return Some(heir);
        }
        let app = self.apps.get(&it.identity.app)?;
        let wants_loads = app.balancer.wants_loads();
        let load = |worker: &Worker| if wants_loads { worker.load(self.now) } else { Load::default() };
        app.balancer.choose(|seat| match self.workers.get(seat.number) {
            Some(worker) if worker.may_take(listener) => Stance::Takes(load(worker)),
            Some(worker) if worker.registered.contains(&listener) => Stance::Waits,
            Some(_) | None => Stance::Declines,
        })
    }

    fn next_connection(&mut self, listener: usize) -> Option<Returned> {
        let it = self.listeners.get_mut(listener)?;
        if let Some(returned) = it.returned.pop_front() {
            return Some(returned);
        }
        let number = it.pending_source()?;
        let was_lent = matches!(it.socket, Socket::Kernel(_));
        let source = it.source(number)?;
        // Blocking or not is up to whoever had it last, and an `accept` that waits would stop everybody.
        let is_safe = if was_lent { foreign::set_nonblocking(&source.fd) } else { Ok(()) };
        match is_safe.and_then(|()| socket::accept(&source.fd)) {
            Ok(connection) => Some(Returned::fresh(connection)),
            Err(error) if is_shortage(&error) => {
                self.on_shortage();
                None
            }
            Err(error) => {
                source.pending = false;
                if !is_final(&error) {
                    let token = Token::Source { listener, source: number }.encode();
                    // It was added when it was opened; a member that was left alone since is not watched.
                    drop(self.poller.modify(&source.fd, token, Interest::READ | Interest::ONCE));
                }
                None
            }
        }
    }

    pub(super) fn on_shortage(&mut self) {
        self.out_of_fds = true;
        self.timers.set(self.now + RETRY_ACCEPT_MS, Timer::RetryAccept);
        if self.last_shortage.replace(self.now).is_none() {
            self.tell(News::Alert(Alert::OutOfFds { limit: proc::fd_limit().0 }));
        }
    }

    /// Hands a worker a connection that did not come to its listener, whether it is admitted or not. Without a listener
    /// that is handed over it is closed, and whoever made it sees that.
    pub(super) fn visit(&mut self, instance: InstanceId, port: u16, connection: OwnedFd) {
        let Some(number) = self.workers.find(instance) else { return };
        let Some(worker) = self.workers.get(number) else { return };
        let handed = worker.registered.iter().copied().filter(|listener| {
            self.listeners.get(*listener).is_some_and(|it| matches!(it.socket, Socket::Handoff(_)))
        });
        let has_port = |listener: &usize| {
            let listener = self.listeners.get(*listener);
            listener.and_then(|it| it.sockname).is_some_and(|name| name.port() == port)
        };
        let handed: Vec<usize> = handed.collect();
        let listener = handed.iter().find(|it| has_port(it)).or_else(|| handed.first()).copied();
        if let Some(listener) = listener {
            self.hand_over(Seat { instance, number }, listener, Returned { connection, refusals: 0 });
        }
    }

    fn hand_over(&mut self, seat: Seat, listener: usize, next: Returned) {
        let number = seat.number;
        let (Some(worker), Some(it)) = (self.workers.get_mut(number), self.listeners.get(listener)) else {
            return;
        };
        let Returned { connection, refusals } = next;
        let seq = worker.take_seq();
        self.scratch.clear();
        it.newconn.frame(worker.out.serialization(), seq, &mut self.scratch);
        let Ok(sent) = worker.out.send_handle_frame(&self.scratch, connection.as_fd(), seq) else {
            // It could not even be queued. It keeps its place, and is offered again.
            if let Some(it) = self.listeners.get_mut(listener) {
                it.returned.push_front(Returned { connection, refusals });
            }
            return self.on_shortage();
        };
        worker.handles.push_back(HandleFrame::Connection(seq));
        worker.gauge.handed();
        let first = worker.unanswered.is_empty();
        worker.unanswered.push_back(Handed { seq, listener, connection, at: self.now, refusals });
        if let Some(app) = self.apps.get_mut(&worker.place.app) {
            app.balancer.handed(seat);
        }
        if first {
            self.watch_for_recall();
            self.watch_for_stall(number, self.now + STALL_MS);
        }
        self.after_send(number, sent);
    }
}

/// The kernel has no descriptor or no memory for us; the connection stays where it is.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

/// The listener was shut down by somebody who had it: nobody will ever wait there. Any other error is "nobody
/// waits" or the loss of one connection before it was accepted (`accept(2)`); the next may be sound.
fn is_final(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    matches!(error.raw_os_error(), Some(EBADF | EINVAL))
}
