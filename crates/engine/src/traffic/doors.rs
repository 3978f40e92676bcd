//! Closing time: nobody new gets in, and those who wait are still handed over. When nobody waits, control hears.

use std::os::fd::OwnedFd;

use oxherd_core::{AppId, Event};
use oxherd_os::{Poller, socket, steering};

use crate::traffic::Traffic;
use crate::traffic::acceptor::is_shortage;
use crate::traffic::apps::Doors;
use crate::traffic::listener::{Listener, Returned, Socket};
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;

/// Between two looks at the queues, in milliseconds.
const LOOK_EVERY_MS: u64 = 10;
/// So often in a row nobody must be waiting where new clients are kept out: the last step of a handshake may
/// still be on its way.
const QUIET_LOOKS: u32 = 3;

impl Traffic {
    pub(super) fn close_doors(&mut self, app: AppId) {
        let Some(it) = self.apps.get_mut(&app) else {
            return self.tell(News::Fact(Event::DoorsClosed { app }));
        };
        it.doors = Doors::Closing { quiet_looks: 0 };
        self.keep_new_clients_out(app);
        self.timers.set(self.now, Timer::Doors(app));
    }

    pub(super) fn check_doors(&mut self, app: AppId) {
        let Some(Doors::Closing { quiet_looks }) = self.apps.get(&app).map(|it| it.doors) else { return };
        self.keep_new_clients_out(app);
        let quiet_looks = if self.is_quiet(app) { quiet_looks + 1 } else { 0 };
        if quiet_looks < QUIET_LOOKS {
            return self.look_again(app, quiet_looks);
        }
        for number in self.listeners.of_app(app) {
            self.empty_and_close(number);
            self.pump(number);
        }
        // The last look may have brought somebody in.
        if !self.is_quiet(app) {
            return self.look_again(app, 0);
        }
        if let Some(it) = self.apps.get_mut(&app) {
            it.doors = Doors::Closed;
        }
        self.tell(News::Fact(Event::DoorsClosed { app }));
    }

    fn look_again(&mut self, app: AppId, quiet_looks: u32) {
        if let Some(it) = self.apps.get_mut(&app) {
            it.doors = Doors::Closing { quiet_looks };
        }
        self.timers.set(self.now + LOOK_EVERY_MS, Timer::Doors(app));
    }

    fn keep_new_clients_out(&mut self, app: AppId) {
        for number in self.listeners.of_app(app) {
            let Some(listener) = self.listeners.get_mut(number) else { continue };
            if !listener.keep_new_clients_out() {
                // Clients come all the time and none can be kept out: those who are there are let in at once.
                self.empty_and_close(number);
            }
            self.pump(number);
        }
    }

    fn empty_and_close(&mut self, number: usize) {
        let Some(listener) = self.listeners.get_mut(number) else { return };
        listener.empty_and_close(&self.poller);
        if matches!(listener.socket, Socket::Closed) {
            self.unkeep_listener(number, &[]);
        }
    }

    fn is_quiet(&self, app: AppId) -> bool {
        let is_empty = |number: usize, listener: &Listener| {
            // Where a worker has died and only others without a channel are left, nobody can be given who waits.
            let may_be_given = self.holders().are_handed(number) || !self.holders().are_lent(number);
            (!may_be_given || listener.returned.is_empty()) && !listener.is_anybody_waiting(may_be_given)
        };
        let numbers = self.listeners.of_app(app).into_iter();
        numbers
            .filter_map(|number| Some((number, self.listeners.get(number)?)))
            .all(|(it, listener)| is_empty(it, listener))
    }
}

impl Listener {
    /// Makes the kernel refuse new clients, where that is possible: TCP, from Linux 5.7 on for everybody. Returns
    /// whether nothing more is to be done now.
    fn keep_new_clients_out(&mut self) -> bool {
        // A Unix socket has no interface to be cut off from.
        let is_tcp = self.sockname.is_some();
        match &mut self.socket {
            Socket::Handoff(source) => {
                source.pending = true;
                is_tcp && steering::close_doors(&source.fd).is_ok()
            }
            Socket::Shared(fd) => {
                // Workers accept from it until they are told to leave, whatever is done here.
                drop(steering::close_doors(&*fd));
                true
            }
            Socket::Kernel(group) => {
                // A UDP socket that is cut off would leave its group, and the steering with it.
                if !group.is_udp() {
                    group.sources().for_each(|source| drop(steering::close_doors(&source.fd)));
                }
                true
            }
            Socket::Udp(_) | Socket::Closed => true,
        }
    }

    /// Takes everybody who waits in, and closes the primary's own listener right behind the last one. For want of
    /// descriptors it stays open: to close it would turn away those who wait.
    fn empty_and_close(&mut self, poller: &Poller) {
        let Socket::Handoff(source) = &self.socket else { return };
        loop {
            match socket::accept(&source.fd) {
                Ok(connection) => self.returned.push_back(Returned::fresh(connection)),
                Err(error) if is_shortage(&error) => return,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(_) => break,
            }
        }
        self.shut(poller);
    }

    /// Whether somebody waits, `anywhere` or where a worker accepts.
    fn is_anybody_waiting(&self, anywhere: bool) -> bool {
        let waits = |fd: &OwnedFd| socket::accept_queue_len(fd).ok().flatten().is_some_and(|count| count > 0);
        match &self.socket {
            Socket::Handoff(source) => waits(&source.fd),
            Socket::Shared(fd) => waits(fd),
            Socket::Kernel(group) => {
                let mut members = group.members().iter().filter(|it| anywhere || it.owner.is_some());
                members.any(|it| waits(&it.source.fd))
            }
            Socket::Udp(_) | Socket::Closed => false,
        }
    }
}
