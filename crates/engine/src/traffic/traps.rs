//! The trapped calls of workers that borrow: received one at a time, carried out or held, and answered.
//!
//! Nothing here waits: a call is received only when the kernel says that there is one, and whoever it is for may be
//! gone at any moment.

use oxherd_core::{Event, InstanceId};
use oxherd_os::lending::{self, Answer, Call, Trapped, Traps};
use oxherd_os::{Interest, io_errno, socket};

use crate::traffic::apps::App;
use crate::traffic::borrower::{Borrower, Stage};
use crate::traffic::listener::Socket;
use crate::traffic::orders::{Borrowing, News};
use crate::traffic::timers::Timer;
use crate::traffic::{Token, Traffic};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered now.
    Answer(Answer),
    /// It waits until its worker gets its slot.
    Hold,
    /// It waits until another worker of its app listens there.
    Wait,
}

impl Verdict {
    pub(super) const DONE: Self = Self::Answer(Answer::Done);
    /// It is none of ours.
    pub(super) const CONTINUE: Self = Self::Answer(Answer::Continue);

    pub(super) fn failed(error: &std::io::Error) -> Self {
        Self::Answer(Answer::Failed(io_errno(error)))
    }
}

impl Traffic {
    /// A worker exists that is to be lent its listeners.
    pub(super) fn borrow(&mut self, borrowing: Borrowing) {
        let app = borrowing.place.app;
        let seed = self.now;
        self.apps.entry(app).or_insert_with(|| App::new(&borrowing.spec, seed));
        let number = self.borrowers.vacant();
        let is_heir = borrowing.is_heir;
        let mut borrower = Borrower::new(borrowing);
        let token = Token::Traps(number).encode();
        // For want of memory alone: its calls would hang, so it is left to be killed by its listen timeout.
        borrower.watched = borrower
            .traps
            .as_ref()
            .is_some_and(|traps| self.poller.add(traps, token, Interest::READ).is_ok());
        // One that was started with its listeners uses them from the first.
        borrower.registered = self.opened.remove(&borrower.place.instance).unwrap_or_default();
        borrower.listening = borrower.registered.clone();
        self.borrowers.push(borrower);
        self.keep_borrower(number);
        if !is_heir {
            self.keep_uses_of_borrower(number);
        }
        if is_heir {
            self.receive_borrowing_heir(number);
        }
    }

    /// A worker that borrows has called, or nobody of it is left who could.
    pub(super) fn on_traps(&mut self, number: usize, hangup: bool) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        if hangup {
            borrower.watched = false;
            borrower.traps.iter().for_each(|traps| drop(self.poller.remove(traps)));
            return;
        }
        // An error is that of a call whose caller is gone.
        if let Some(Ok(Some(trapped))) = borrower.traps.as_ref().map(Traps::receive) {
            borrower.newest = borrower.newest.max(trapped.id);
            self.keep_call(number, &trapped);
            self.carry_out_call(number, &trapped);
        }
    }

    /// Does what a call asks for and answers it, or holds it.
    pub(super) fn carry_out_call(&mut self, number: usize, trapped: &Trapped) {
        let verdict = match trapped.call {
            Call::Bind { fd, .. } => self.on_trapped_bind(number, trapped, fd),
            Call::Listen { fd, backlog } => self.on_trapped_listen(number, trapped, fd, backlog),
            Call::Shutdown { .. } => self.on_trapped_shutdown(number, trapped),
        };
        match verdict {
            Verdict::Answer(answer) => self.answer_call(number, trapped.id, answer),
            Verdict::Hold => self.hold_call(number, *trapped),
            Verdict::Wait => self.let_wait(number, trapped),
        }
    }

    pub(super) fn answer_call(&mut self, number: usize, id: u64, answer: Answer) {
        if let Some(traps) = self.borrowers.get(number).and_then(|it| it.traps.as_ref()) {
            // Whoever called may be gone, or was broken off by a signal and calls again.
            drop(traps.answer(id, answer));
        }
    }

    /// A listener that is lent is everybody's: whoever shuts it down would end it for all. Its own sockets are the
    /// program's affair.
    fn on_trapped_shutdown(&mut self, number: usize, trapped: &Trapped) -> Verdict {
        let Some(borrower) = self.borrowers.get(number) else { return Verdict::CONTINUE };
        let Ok(inode) = lending::socket_of(trapped).and_then(socket::inode) else {
            return Verdict::CONTINUE;
        };
        let is_lent = |listener: &usize| {
            let socket = self.listeners.get(*listener).map(|it| &it.socket);
            socket.is_some_and(|it| it.has_inode(inode))
        };
        if borrower.registered.iter().any(is_lent) { Verdict::DONE } else { Verdict::CONTINUE }
    }

    pub(super) fn admit_borrower(&mut self, instance: InstanceId) {
        let Some(number) = self.borrowers.find(instance) else { return };
        self.set_stage(number, Stage::Admitted);
        // One that was started with its listeners listens as soon as it is ready, which nobody sees.
        let Some(borrower) = self.borrowers.get(number).filter(|it| it.traps.is_none()) else { return };
        for listener in borrower.registered.iter().filter_map(|it| self.listeners.get(*it)) {
            self.tell(News::Fact(Event::Listening { instance, address: listener.address.clone() }));
        }
    }

    pub(super) fn withdraw_borrower(&mut self, instance: InstanceId) {
        let Some(number) = self.borrowers.find(instance) else {
            return self.tell(News::Fact(Event::Withdrawn { instance }));
        };
        self.set_stage(number, Stage::Withdrawing { quiet_looks: 0 });
        self.timers.set(self.now, Timer::LameDuck(instance));
    }

    /// How far a worker is has changed: its listeners are steered anew, and whoever waits there is offered.
    pub(super) fn set_stage(&mut self, number: usize, stage: Stage) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        borrower.stage = stage;
        for listener in borrower.registered.clone() {
            self.refresh_group(listener);
            self.pump(listener);
        }
    }

    /// The process has ended: what it was lent is free for the next.
    pub(super) fn detach_borrower(&mut self, instance: InstanceId) {
        if let Some(borrower) = self.borrowers.find(instance).and_then(|it| self.borrowers.remove(it)) {
            if borrower.watched {
                borrower.traps.iter().for_each(|traps| drop(self.poller.remove(traps)));
            }
            self.unkeep_borrower(&borrower.label);
            self.put_paths_back(borrower.place.app, &borrower.registered);
            for listener in borrower.registered {
                self.release(instance, listener);
            }
            self.settle_stranded(borrower.place.app);
            self.on_begun_timer(borrower.place.app);
            self.look_for_unused(borrower.place);
        }
        // It was to be started with its listeners, and could not be.
        for listener in self.opened.remove(&instance).unwrap_or_default() {
            self.release(instance, listener);
        }
        self.tell(News::Detached(instance));
    }

    /// A worker does not use a listener any more. One that nobody has ever listened on goes with its last user.
    pub(super) fn release(&mut self, instance: InstanceId, listener: usize) {
        if let Some(Socket::Kernel(group)) = self.listeners.get_mut(listener).map(|it| &mut it.socket) {
            group.give_back(instance);
            if group.members().is_empty() && !self.holders().are_lent(listener) {
                return self.close_listener(listener);
            }
        }
        self.refresh_group(listener);
        self.pump(listener);
    }

    /// A listener is no more.
    pub(super) fn forget_lent(&mut self, listener: usize) {
        let users = self.borrowers.iter().filter(|(_, it)| it.registered.contains(&listener));
        let users: Vec<usize> = users.map(|(user, _)| user).collect();
        for user in users {
            if let Some(borrower) = self.borrowers.get_mut(user) {
                borrower.registered.retain(|it| *it != listener);
                borrower.listening.retain(|it| *it != listener);
            }
            self.keep_uses_of_borrower(user);
        }
    }
}
