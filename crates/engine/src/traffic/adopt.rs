//! A worker that borrows listens: its own socket becomes its slot's listener, or it has that already.
//!
//! The primary itself calls `listen` on its duplicate, so that the kernel's order of listeners is exactly the order in
//! which it did.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use oxherd_core::{Event, InstanceId};
use oxherd_os::foreign;
use oxherd_os::lending::{self, Trapped};
use oxherd_os::socket::{self, LocalAddr};
use oxherd_os::steering;

use crate::traffic::Traffic;
use crate::traffic::apps::Doors;
use crate::traffic::bind::Wish;
use crate::traffic::listener::{Returned, Socket};
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;
use crate::traffic::traps::Verdict;

/// Programs call `listen` right after `bind`, unless they never do.
const LISTEN_AFTER_MS: u64 = 250;

impl Traffic {
    pub(super) fn on_trapped_listen(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        backlog: i32,
    ) -> Verdict {
        let Ok(own) = lending::socket_of(trapped) else { return Verdict::CONTINUE };
        let address = match socket::local_addr(&own) {
            Ok(LocalAddr::Inet(address)) if address.port() != 0 => address,
            Ok(LocalAddr::Unix(path)) => {
                return self.on_trapped_listen_at_path(number, trapped, fd, own, path, backlog);
            }
            Ok(_) | Err(_) => return Verdict::CONTINUE,
        };
        let is_real = self.borrowers.get(number).is_some_and(|it| it.is_pending(trapped.id));
        if !is_real {
            return Verdict::CONTINUE;
        }
        if let Some(listener) = self.lent_to(number, &own) {
            return match socket::listen(&own, backlog) {
                Ok(()) => {
                    self.tell_listening(number, listener);
                    Verdict::DONE
                }
                Err(error) => Verdict::failed(&error),
            };
        }
        // A socket that cannot share its port was bound before there was anybody to see it.
        match self.wish_of(number, trapped, fd, address) {
            Some(wish) if wish.nature.shares_port && self.listeners.find(&wish.identity).is_some() => {
                let heard = self.take_in_wish(number, trapped, fd, backlog, wish);
                heard.unwrap_or_else(|error| Verdict::failed(&error))
            }
            Some(_) | None => Verdict::CONTINUE,
        }
    }

    /// The listener that this socket is, or is a member of, among those that the worker uses.
    pub(super) fn lent_to(&self, number: usize, own: &OwnedFd) -> Option<usize> {
        let inode = socket::inode(own).ok()?;
        let is_it =
            |listener: &usize| self.listeners.get(*listener).is_some_and(|it| it.socket.has_inode(inode));
        self.borrowers.get(number)?.registered.iter().copied().find(is_it)
    }

    /// The worker's own socket, bound and about to listen, becomes its slot's listener.
    fn take_in_wish(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        backlog: i32,
        wish: Wish,
    ) -> io::Result<Verdict> {
        if self.is_held(number) {
            return Ok(Verdict::Hold);
        }
        let Some(listener) = self.listeners.find(&wish.identity) else { return Ok(Verdict::CONTINUE) };
        self.register(number, listener);
        let has_one = self.borrowers.get(number).is_some_and(|borrower| {
            let socket = self.listeners.get(listener).map(|it| &it.socket);
            matches!(socket, Some(Socket::Kernel(group)) if group.is_lent_to(borrower.place.instance))
        });
        if has_one && !wish.is_watched {
            // It has bound several sockets there, which share what comes; they are all one now.
            let verdict = self.swap(number, trapped, fd, listener, &wish.socket)?;
            self.tell_listening(number, listener);
            return Ok(verdict);
        }
        self.make_member(number, listener, wish.socket, backlog)?;
        self.tell_listening(number, listener);
        Ok(Verdict::DONE)
    }

    /// Makes a worker's socket its slot's listener.
    pub(super) fn make_member(
        &mut self,
        number: usize,
        listener: usize,
        socket: OwnedFd,
        backlog: i32,
    ) -> io::Result<()> {
        let Some(place) = self.borrowers.get(number).map(|it| it.place) else { return Ok(()) };
        let doors = self.apps.get(&place.app).map(|it| it.doors);
        let Some(it) = self.listeners.get_mut(listener) else { return Ok(()) };
        let Socket::Kernel(group) = &mut it.socket else { return Ok(()) };
        let waiting = group.adopt(place.slot, place.instance, socket, backlog, &self.poller)?;
        it.returned.extend(waiting.into_iter().map(Returned::fresh));
        if !group.is_udp() && doors.is_some_and(|doors| doors != Doors::Open) {
            group.sources().for_each(|source| drop(steering::close_doors(&source.fd)));
        }
        self.keep_listener(listener);
        self.refresh_group(listener);
        self.pump(listener);
        Ok(())
    }

    /// A program may look whether its socket listens already, as if it had inherited it (gunicorn does), and then never
    /// calls `listen`: what it was lent does, so it counts as one that listens after a while.
    pub(super) fn expect_listen(&mut self, number: usize, listener: usize, lent: &OwnedFd) {
        let Some(instance) = self.borrowers.get(number).map(|it| it.place.instance) else { return };
        if foreign::nature_of(lent).is_ok_and(|it| it.listens) {
            self.timers.set(self.now + LISTEN_AFTER_MS, Timer::Listens(instance, listener));
        }
    }

    pub(super) fn on_listens_timer(&mut self, instance: InstanceId, listener: usize) {
        let Some(number) = self.borrowers.find(instance) else { return };
        if self.borrowers.get(number).is_some_and(|it| it.registered.contains(&listener)) {
            self.tell_listening(number, listener);
        }
    }

    /// Control hears once that a worker listens somewhere.
    pub(super) fn tell_listening(&mut self, number: usize, listener: usize) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        let Some(address) = self.listeners.get(listener).map(|it| it.address.clone()) else { return };
        if !borrower.listening.contains(&listener) {
            borrower.listening.push(listener);
            let instance = borrower.place.instance;
            self.keep_uses_of_borrower(number);
            self.tell(News::Fact(Event::Listening { instance, address }));
        }
    }
}
