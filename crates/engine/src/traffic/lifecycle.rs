//! Workers come, are admitted, withdrawn, told to leave, and go. Orders are carried out; nothing is decided.

use oxherd_core::{AppId, Event, InstanceId, Parting, Slot};
use oxherd_os::{Interest, socket};
use oxherd_wire as wire;

use crate::traffic::apps::App;
use crate::traffic::group::Retired;
use crate::traffic::listener::{Returned, Socket};
use crate::traffic::orders::{Attachment, News, Order};
use crate::traffic::timers::Timer;
use crate::traffic::worker::{Seat, Standing, Worker};
use crate::traffic::{Token, Traffic};

/// Between a worker's last answer and the word that it is withdrawn, in milliseconds: Node 26 drops connections
/// whose request it has not parsed when it is told to leave right after its answer.
const WITHDRAW_GRACE_MS: u64 = 50;
/// Where answers take long the machine is busy, and so are the clients whose requests are still to come: the
/// grace is so many times the worker's slowest recent answer then, up to a bound in milliseconds.
const GRACE_PER_DELAY: u64 = 4;
const WITHDRAW_GRACE_MAX_MS: u64 = 1000;
/// How long the listeners of a slot that is no more stay, in milliseconds: enough for a handshake whose last step was lost
/// twice (RFC 6298: after 1 s, then 2 s).
pub(super) const HANDSHAKE_GRACE_MS: u64 = 5000;

impl Traffic {
    pub(super) fn on_orders(&mut self) {
        for order in self.orders.take() {
            match order {
                Order::Attach(attachment) => self.attach(attachment),
                Order::Borrow(borrowing) => self.borrow(borrowing),
                Order::Open(opening) => self.open_for_start(opening),
                Order::Unpark(instance, slot) => self.unpark(instance, slot),
                Order::Interrupt(instance) => self.interrupt(instance),
                Order::Admit(instance) => self.admit(instance),
                Order::Withdraw(instance) => self.withdraw(instance),
                Order::Disconnect(instance, parting) => self.disconnect(instance, parting),
                Order::Detach(instance) => self.detach(instance),
                Order::Send(parcel) => self.send_parcel(parcel),
                Order::Visit(instance, port, connection) => self.visit(instance, port, connection),
                Order::CloseDoors(app) => self.close_doors(app),
                Order::CountWaiting(app) => self.count_waiting(app),
                Order::CloseListeners(app) => self.close_listeners(app),
                Order::RetireSlot(app, slot) => self.retire_slot(app, slot),
                Order::TakeOver(bequest) => self.take_over(bequest),
                Order::Reconcile(wanted) => self.reconcile(&wanted),
                Order::Restash(stash) => self.restash(stash.0),
                Order::Stop => self.stopping = true,
                #[cfg(debug_assertions)]
                Order::Panic => panic!("planted on the traffic thread"),
            }
        }
        self.release_gathered();
    }

    fn attach(&mut self, attachment: Attachment) {
        let app = attachment.place.app;
        let seed = self.now;
        self.apps.entry(app).or_insert_with(|| App::new(&attachment.spec, seed));
        let number = self.workers.vacant();
        let is_heir = attachment.is_heir;
        let worker = Worker::new(attachment, self.first_seq);
        let added = self.poller.add(worker.out.socket(), Token::Channel(number).encode(), Interest::READ);
        self.workers.insert(number, worker);
        if let Err(error) = added {
            return self.condemn(number, &format!("its channel cannot be watched: {error}"));
        }
        self.keep_counters(number);
        if !self.recall {
            self.drop_worker_end(number);
        }
        if is_heir {
            self.receive_heir(number);
        }
    }

    fn admit(&mut self, instance: InstanceId) {
        let Some(number) = self.worker_of(instance) else { return self.admit_borrower(instance) };
        let Some(worker) = self.workers.get_mut(number) else { return };
        match worker.standing {
            Standing::Open | Standing::Withdrawing | Standing::Withdrawn => worker.standing = Standing::Open,
            Standing::Leaving | Standing::Condemned | Standing::Ended => return,
        }
        let (app, terms, unanswered) = (worker.place.app, worker.terms, worker.unanswered.len() as u32);
        if let Some(app) = self.apps.get_mut(&app) {
            app.balancer.admit(Seat { instance, number }, terms, unanswered);
        }
        self.share_out_anew(number);
    }

    fn withdraw(&mut self, instance: InstanceId) {
        let Some(number) = self.worker_of(instance) else { return self.withdraw_borrower(instance) };
        self.exclude(number);
        let Some(worker) = self.workers.get_mut(number) else { return };
        match worker.standing {
            Standing::Open | Standing::Withdrawing => worker.standing = Standing::Withdrawing,
            Standing::Withdrawn | Standing::Leaving | Standing::Condemned | Standing::Ended => {}
        }
        self.share_out_anew(number);
        self.watch_for_recall();
        self.on_all_answered(number);
    }

    /// The balancer forgets the worker.
    pub(super) fn exclude(&mut self, number: usize) {
        let Some(place) = self.workers.get(number).map(|worker| worker.place) else { return };
        if let Some(app) = self.apps.get_mut(&place.app) {
            app.balancer.withdraw(Seat { instance: place.instance, number });
        }
    }

    /// Called when a worker has nothing in hand any more; for a withdrawn one the grace begins.
    pub(super) fn on_all_answered(&mut self, number: usize) {
        let Some(worker) = self.workers.get(number) else { return };
        let instance = worker.place.instance;
        if worker.unanswered.is_empty() && worker.fence.is_none() && worker.standing != Standing::Open {
            // Without a connection in its life there is nothing to be gracious about, unless it accepts itself.
            let accepts_itself = worker.registered.iter().any(|it| self.is_lent(*it));
            let since = if accepts_itself { self.now } else { worker.last_answer };
            let slow = worker.answer_delay.saturating_mul(GRACE_PER_DELAY).min(WITHDRAW_GRACE_MAX_MS);
            let until = since + WITHDRAW_GRACE_MS.max(slow);
            if let Some(worker) = self.workers.get_mut(number) {
                worker.grace_until = until;
            }
            self.timers.set(until, Timer::Withdrawn(instance));
        }
    }

    fn is_lent(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(|it| !it.is_handoff())
    }

    pub(super) fn on_grace_over(&mut self, instance: InstanceId) {
        let Some(number) = self.worker_of(instance) else { return };
        let Some(worker) = self.workers.get_mut(number) else { return };
        // The timer may be left from an earlier withdrawal that was taken back.
        let owes = !worker.unanswered.is_empty() || worker.fence.is_some();
        if owes || worker.standing == Standing::Open || worker.grace_until > self.now {
            return;
        }
        if worker.standing == Standing::Withdrawing {
            worker.standing = Standing::Withdrawn;
        }
        self.tell(News::Fact(Event::Withdrawn { instance }));
    }

    fn disconnect(&mut self, instance: InstanceId, parting: Parting) {
        let Some(number) = self.worker_of(instance) else { return };
        let mut lines = match parting {
            Parting::Object => wire::SHUTDOWN_OBJECT.to_vec(),
            Parting::Text => wire::SHUTDOWN_STRING.to_vec(),
        };
        let Some(worker) = self.workers.get_mut(number) else { return };
        match worker.standing {
            Standing::Open | Standing::Withdrawing | Standing::Withdrawn => {
                worker.standing = Standing::Leaving
            }
            Standing::Leaving | Standing::Condemned | Standing::Ended => return,
        }
        let seq = worker.take_seq();
        wire::disconnect(&mut lines, seq);
        self.drop_worker_end(number);
        self.exclude(number);
        // It must not be told twice: Node fails at the second time.
        self.keep_uses(number);
        self.send_to(number, &lines);
    }

    pub(super) fn on_departing(&mut self, number: usize, seq: u64) {
        self.exclude(number);
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.standing = Standing::Leaving;
        let instance = worker.place.instance;
        let own = worker.take_seq();
        let mut line = Vec::new();
        wire::ack(&mut line, own, seq);
        self.drop_worker_end(number);
        self.keep_uses(number);
        self.send_to(number, &line);
        self.refresh_all_of(number);
        self.tell_from(number, News::Fact(Event::Departing { instance }));
    }

    /// The process has ended: what it wrote is read to the end, what it did not answer goes to others.
    fn detach(&mut self, instance: InstanceId) {
        let Some(number) = self.worker_of(instance) else { return self.detach_borrower(instance) };
        self.drop_worker_end(number);
        self.read_what_is_left(number);
        self.tell_lost(number);
        self.exclude(number);
        // Nothing is given to it any more: it is at its end for all that look.
        if let Some(worker) = self.workers.get_mut(number) {
            worker.standing = Standing::Ended;
            worker.fence = None;
        }
        self.take_all_back(number);
        let Some(worker) = self.workers.remove(number) else { return };
        // It is not watched any more when the channel ended before.
        drop(self.poller.remove(worker.out.socket()));
        for listener in worker.registered.iter().copied() {
            if let Some(Socket::Kernel(group)) = self.listeners.get_mut(listener).map(|it| &mut it.socket) {
                group.give_back(instance);
            }
            self.refresh_group(listener);
        }
        self.settle_stranded(worker.place.app);
        self.look_for_unused(worker.place);
        self.tell(News::Detached(instance));
    }

    /// Reads what lies in the channel now, and no more: a descendant may hold it open and write for ever.
    fn read_what_is_left(&mut self, number: usize) {
        let Some(worker) = self.workers.get(number) else { return };
        let Ok(unread) = socket::unread_bytes(worker.out.socket()) else { return };
        let mut left = usize::try_from(unread).unwrap_or(usize::MAX);
        while left > 0 {
            match self.read_channel(number) {
                0 => return,
                count => left = left.saturating_sub(count),
            }
        }
    }

    /// Who is admitted has changed: the worker's listeners are steered anew, and whoever waits there is offered.
    fn share_out_anew(&mut self, number: usize) {
        self.refresh_all_of(number);
        self.pump_for(number);
    }

    fn refresh_all_of(&mut self, number: usize) {
        let Some(registered) = self.workers.get(number).map(|worker| worker.registered.clone()) else {
            return;
        };
        registered.into_iter().for_each(|listener| self.refresh_group(listener));
    }

    fn close_listeners(&mut self, app: AppId) {
        for listener in self.listeners.of_app(app) {
            self.close_listener(listener);
        }
        self.apps.remove(&app);
    }

    pub(super) fn retire_slot(&mut self, app: AppId, slot: Slot) {
        let closes_at = self.now + HANDSHAKE_GRACE_MS;
        for number in self.listeners.of_app(app) {
            let Some(Socket::Kernel(group)) = self.listeners.get_mut(number).map(|it| &mut it.socket) else {
                continue;
            };
            if !group.has_slot(slot) {
                continue;
            }
            if group.retire_at(slot, closes_at) {
                self.timers.set(closes_at, Timer::Retire(number));
                self.refresh_group(number);
                self.pump(number);
            } else {
                self.close_slot(number, slot);
            }
        }
    }

    /// Handshakes that were under way when slots were retired are through.
    pub(super) fn on_retire_timer(&mut self, listener: usize) {
        let now = self.now;
        let Some(Socket::Kernel(group)) = self.listeners.get(listener).map(|it| &it.socket) else { return };
        group.due_slots(now).into_iter().for_each(|slot| self.close_slot(listener, slot));
    }

    fn close_slot(&mut self, number: usize, slot: Slot) {
        let Some(listener) = self.listeners.get_mut(number) else { return };
        let Socket::Kernel(group) = &mut listener.socket else { return };
        let Retired { waiting, is_empty } = group.retire(slot, &self.poller);
        listener.returned.extend(waiting.into_iter().map(Returned::fresh));
        if is_empty && listener.returned.is_empty() {
            self.close_listener(number);
        } else {
            self.keep_group(number);
            self.refresh_group(number);
            self.pump(number);
        }
    }
}
