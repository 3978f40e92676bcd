//! A worker that borrows binds: which listener it means, and whether its own socket is taken in (*adopted*) or that of
//! its slot put in its place (*swapped*).
//!
//! What the program's memory said is read once, and the address that was read is the one that is bound: whatever
//! another thread of it writes there meanwhile counts for nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use oxherd_core::{Distribution, Place};
use oxherd_os::foreign::{self, Kind, Nature};
use oxherd_os::lending::{self, Answer, Trapped};
use oxherd_os::socket::{self, ListenOptions, LocalAddr};
use oxherd_wire::{AddressType, NewConn};

use crate::traffic::Traffic;
use crate::traffic::group::{Group, Transport};
use crate::traffic::listener::{Identity, Listener, Socket};
use crate::traffic::query::EMFILE;
use crate::traffic::traps::Verdict;

const EFAULT: i32 = 14;
const EADDRINUSE: i32 = 98;
/// So many listeners one worker may use at most: half of what its app may have.
const LISTENERS_OF_ONE_MAX: usize = 256;

/// A program's socket with what it would be the listener of.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) identity: Identity,
    pub(super) address: SocketAddr,
    pub(super) nature: Nature,
    /// A duplicate of it.
    pub(super) socket: OwnedFd,
    /// The program polls it already: another in its place would not be noticed.
    pub(super) is_watched: bool,
}

impl Wish {
    fn is_udp(&self) -> bool {
        self.nature.kind == Kind::Udp
    }
}

impl Traffic {
    pub(super) fn on_trapped_bind(&mut self, number: usize, trapped: &Trapped, fd: RawFd) -> Verdict {
        let address = match self.address_of(number, trapped) {
            Ok(address) => address,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Verdict::Answer(Answer::Failed(EFAULT));
            }
            Err(_) => return Verdict::CONTINUE,
        };
        let LocalAddr::Inet(address) = address else {
            return self.on_trapped_bind_of_path(number, trapped, fd, address);
        };
        let Some(wish) = self.wish_of(number, trapped, fd, address) else { return Verdict::CONTINUE };
        let is_real = self.borrowers.get(number).is_some_and(|it| it.is_pending(trapped.id));
        if !is_real {
            // What was read may have been another's; nobody waits for an answer.
            return Verdict::CONTINUE;
        }
        if self.is_held(number) {
            return Verdict::Hold;
        }
        if let Ok(LocalAddr::Inet(bound)) = socket::local_addr(&wish.socket)
            && bound.port() != 0
        {
            // A call that was broken off by a signal comes again, and so does one that another primary was amid.
            return if bound == address { Verdict::DONE } else { Verdict::CONTINUE };
        }
        self.bind_wish(number, trapped, fd, wish).unwrap_or_else(|error| Verdict::failed(&error))
    }

    /// A program whose memory did not come once is not waited for again: everybody else waits meanwhile.
    fn address_of(&mut self, number: usize, trapped: &Trapped) -> io::Result<LocalAddr> {
        let Some(borrower) = self.borrowers.get_mut(number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if borrower.is_opaque {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let address = lending::address_of(trapped);
        borrower.is_opaque = address.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        address
    }

    /// What a socket at this address would be, if that is a listener that is lent.
    pub(super) fn wish_of(
        &self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        address: SocketAddr,
    ) -> Option<Wish> {
        let borrower = self.borrowers.get(number)?;
        let socket = lending::socket_of(trapped).ok()?;
        let nature = foreign::nature_of(&socket).ok()?;
        let of_family = nature.v6_only.is_some() == address.is_ipv6();
        if !of_family || !borrower.spec.ports.contains(address.port()) {
            return None;
        }
        let address_type = match (nature.kind, address.is_ipv6()) {
            (Kind::Tcp | Kind::Mptcp, false) => AddressType::V4,
            (Kind::Tcp | Kind::Mptcp, true) => AddressType::V6,
            (Kind::Udp, false) => AddressType::Udp4,
            (Kind::Udp, true) => AddressType::Udp6,
            (Kind::UnixStream | Kind::Other, _) => return None,
        };
        let is_watched = lending::is_watched(trapped.thread, fd).unwrap_or(false);
        if is_watched && nature.kind == Kind::Mptcp {
            // It can neither be in a group nor be replaced.
            return None;
        }
        let identity = Identity {
            app: borrower.place.app,
            address_type,
            address: Some(host_of(address)),
            port: Some(address.port()),
            v6_only: nature.v6_only.unwrap_or(false),
            index: None,
        };
        Some(Wish { identity, address, nature, socket, is_watched })
    }

    fn bind_wish(&mut self, number: usize, trapped: &Trapped, fd: RawFd, wish: Wish) -> io::Result<Verdict> {
        let Some(place) = self.borrowers.get(number).map(|it| it.place) else { return Ok(Verdict::CONTINUE) };
        self.take_back_closed(number);
        let has_all =
            self.borrowers.get(number).is_some_and(|it| it.registered.len() >= LISTENERS_OF_ONE_MAX);
        let listener = match self.listeners.find(&wish.identity) {
            Some(listener) => listener,
            None if has_all => return Err(io::Error::from_raw_os_error(EMFILE)),
            None => self.open_for(place, &wish)?,
        };
        self.register(number, listener);
        let bound = self.lend_or_adopt(number, trapped, fd, listener, wish);
        if bound.is_err() {
            self.unregister(number, listener);
        }
        bound
    }

    fn lend_or_adopt(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        listener: usize,
        wish: Wish,
    ) -> io::Result<Verdict> {
        let Some(place) = self.borrowers.get(number).map(|it| it.place) else { return Ok(Verdict::CONTINUE) };
        let Some(it) = self.listeners.get_mut(listener) else { return Ok(Verdict::CONTINUE) };
        let must_swap = match &it.socket {
            Socket::Kernel(group) => wish.nature.kind == Kind::Mptcp || group.has_slot(place.slot),
            Socket::Shared(fd) | Socket::Udp(fd) => {
                // The one that was bound when it was opened is the program's own.
                let is_own = socket::inode(fd)? == socket::inode(&wish.socket)?;
                if is_own {
                    self.say_if_ready(number, listener, &wish);
                    return Ok(Verdict::DONE);
                }
                if wish.is_watched {
                    return Ok(Verdict::Answer(Answer::Failed(EADDRINUSE)));
                }
                true
            }
            Socket::Handoff(_) | Socket::Closed => return Ok(Verdict::Answer(Answer::Failed(EADDRINUSE))),
        };
        if must_swap && !wish.is_watched {
            let verdict = self.swap(number, trapped, fd, listener, &wish.socket)?;
            self.say_if_ready(number, listener, &wish);
            return Ok(verdict);
        }
        if let Socket::Kernel(group) = &it.socket {
            group.admit(&wish.socket)?;
        }
        foreign::bind_to(&wish.socket, wish.address)?;
        if wish.is_udp() {
            self.make_member(number, listener, wish.socket.as_fd().try_clone_to_owned()?, 0)?;
            self.say_if_ready(number, listener, &wish);
        }
        Ok(Verdict::DONE)
    }

    /// A UDP socket is ready once it is bound.
    fn say_if_ready(&mut self, number: usize, listener: usize, wish: &Wish) {
        if wish.is_udp() {
            self.tell_listening(number, listener);
        }
    }

    /// Puts the listener of the worker's slot in place of its own socket.
    pub(super) fn swap(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        listener: usize,
        own: &OwnedFd,
    ) -> io::Result<Verdict> {
        let Some(lent) = self.socket_for_borrower(number, listener)? else { return Ok(Verdict::CONTINUE) };
        let close_on_exec = lending::descriptor_of(trapped.thread, fd).is_ok_and(|it| it.close_on_exec);
        let Some(traps) = self.borrowers.get(number).and_then(|it| it.traps.as_ref()) else {
            return Ok(Verdict::CONTINUE);
        };
        match traps.put(trapped.id, &lent, fd, close_on_exec) {
            // Whoever called is gone, or calls again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        // The caller sleeps until it is answered: it never sees the socket as it was.
        lending::carry_options(own, &lent);
        self.expect_listen(number, listener, &lent);
        self.refresh_group(listener);
        Ok(Verdict::DONE)
    }

    /// A copy of what this worker is to have.
    fn socket_for_borrower(&mut self, number: usize, listener: usize) -> io::Result<Option<OwnedFd>> {
        let holders = crate::traffic::holder::Holders { workers: &self.workers, borrowers: &self.borrowers };
        let (Some(place), Some(it)) =
            (self.borrowers.get(number).map(|it| it.place), self.listeners.get_mut(listener))
        else {
            return Ok(None);
        };
        match &mut it.socket {
            Socket::Shared(fd) | Socket::Udp(fd) => fd.try_clone().map(Some),
            Socket::Kernel(group) => {
                let is_leaving = |instance| holders.is_leaving(instance);
                let member = group.lend(place.slot, place.instance, is_leaving)?;
                member.source.fd.try_clone().map(Some)
            }
            Socket::Handoff(_) | Socket::Closed => Ok(None),
        }
    }

    /// Makes the listener that a program is the first to want. A first try without `SO_REUSEPORT` shows whether the
    /// address is free: with it the kernel would let two primaries of one user share a port without a word.
    fn open_for(&mut self, place: Place, wish: &Wish) -> io::Result<usize> {
        self.make_room(place.app)?;
        let distribution = self.apps.get(&place.app).map_or(Distribution::Kernel, |app| app.distribution);
        let (address, v6_only) = (wish.address, wish.nature.v6_only);
        let socket = match (distribution, wish.is_udp()) {
            (Distribution::Shared, is_udp) => {
                foreign::bind_to(&wish.socket, address)?;
                let fd = wish.socket.try_clone()?;
                if is_udp { Socket::Udp(fd) } else { Socket::Shared(fd) }
            }
            (Distribution::Kernel | Distribution::Handoff, true) => {
                drop(socket::bind_udp(address, v6_only, wish.nature.reuses_address, false)?);
                Socket::Kernel(Group::empty(address, v6_only, Transport::Udp))
            }
            (Distribution::Kernel | Distribution::Handoff, false) => {
                let probe = ListenOptions { v6_only, listen_now: false, ..ListenOptions::default() };
                drop(socket::listen_tcp(address, &probe)?);
                Socket::Kernel(Group::empty(address, v6_only, Transport::Tcp))
            }
        };
        let number = self.listeners.vacant();
        let key = format!("L{number}");
        let shown = if wish.is_udp() { format!("udp {address}") } else { address.to_string() };
        self.listeners.push(Listener {
            newconn: NewConn::new(&key),
            key,
            sockname: Some(address),
            address: shown,
            data: None,
            socket,
            returned: Default::default(),
            paused_until: 0,
            identity: wish.identity.clone(),
        });
        self.keep_listener(number);
        Ok(number)
    }

    pub(super) fn register(&mut self, number: usize, listener: usize) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        if !borrower.registered.contains(&listener) {
            borrower.registered.push(listener);
            self.keep_uses_of_borrower(number);
        }
    }

    /// The worker could not be given the listener after all; one that it has stays.
    fn unregister(&mut self, number: usize, listener: usize) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        if borrower.listening.contains(&listener) {
            return;
        }
        borrower.registered.retain(|it| *it != listener);
        let instance = borrower.place.instance;
        self.keep_uses_of_borrower(number);
        self.release(instance, listener);
    }
}

/// An address as it is written, its scope included.
fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address.ip().to_string(),
    }
}
