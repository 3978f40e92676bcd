//! The primary's listeners: which there are, what each is known by, and what it is made of. Binding is `query`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use oxherd_core::AppId;
use oxherd_os::{Poller, socket};
use oxherd_wire::{AddressType, NewConn};

use crate::traffic::group::Group;
use crate::traffic::paths;

/// What makes two wishes the same listener: as newer Node primaries have it, the worker's own index counts only
/// where the port is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) app: AppId,
    pub(crate) address_type: AddressType,
    pub(crate) address: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) v6_only: bool,
    pub(crate) index: Option<u64>,
}

/// One listener of an app.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) identity: Identity,
    /// What workers know it by.
    pub(crate) key: String,
    pub(crate) newconn: NewConn,
    /// Where it really listens, if on IP.
    pub(crate) sockname: Option<SocketAddr>,
    /// As people write it.
    pub(crate) address: String,
    /// The first ticket keys that a worker of this listener had.
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) socket: Socket,
    /// Connections that came back and wait for another worker.
    pub(crate) returned: VecDeque<Returned>,
    /// All workers refused: nothing is offered before this moment.
    pub(crate) paused_until: u64,
}

/// A connection that came back.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) connection: OwnedFd,
    pub(crate) refusals: u32,
}

/// What a listener is made of.
#[derive(Debug)]
pub(crate) enum Socket {
    /// The primary accepts and hands over.
    Handoff(Source),
    /// Lent to all workers, who accept; the primary only keeps it.
    Shared(OwnedFd),
    /// A UDP socket, always lent to all.
    Udp(OwnedFd),
    /// A pair of listeners for each slot.
    Kernel(Group),
    /// It was the primary's own and is closed: what waited is in `returned`.
    Closed,
}

/// A socket that the primary itself accepts from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) fd: OwnedFd,
    /// It was reported ready and not emptied since. Only when it is empty the kernel is asked to report again:
    /// while nobody has room, news of more clients would only cost wake-ups.
    pub(crate) pending: bool,
}

impl Returned {
    /// A connection that nobody was offered yet.
    pub(crate) fn fresh(connection: OwnedFd) -> Self {
        Self { connection, refusals: 0 }
    }
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, pending: false }
    }
}

impl Socket {
    /// Whether it is this socket, by its number, or has it as a member.
    pub(crate) fn has_inode(&self, inode: u64) -> bool {
        let is_it = |fd: &OwnedFd| socket::inode(fd).is_ok_and(|own| own == inode);
        match self {
            Self::Handoff(source) => is_it(&source.fd),
            Self::Shared(fd) | Self::Udp(fd) => is_it(fd),
            Self::Kernel(group) => group.members().iter().any(|member| is_it(&member.source.fd)),
            Self::Closed => false,
        }
    }
}

impl Listener {
    /// The sources that the primary accepts from now: numbers for [`Listener::source`].
    pub(crate) fn pending_source(&self) -> Option<usize> {
        match &self.socket {
            Socket::Handoff(source) => source.pending.then_some(0),
            Socket::Shared(_) | Socket::Udp(_) | Socket::Closed => None,
            Socket::Kernel(group) => group.pending_source(),
        }
    }

    pub(crate) fn source(&mut self, number: usize) -> Option<&mut Source> {
        match &mut self.socket {
            Socket::Handoff(source) => Some(source),
            Socket::Shared(_) | Socket::Udp(_) | Socket::Closed => None,
            Socket::Kernel(group) => group.source(number),
        }
    }

    /// Closes the socket, and takes a socket's file away. Idempotent, so that nobody else's file is taken.
    pub(crate) fn shut(&mut self, poller: &Poller) {
        let closing = std::mem::replace(&mut self.socket, Socket::Closed);
        match &closing {
            // A descendant of a worker may hold a copy open, which would be reported for ever.
            Socket::Kernel(group) => {
                group.forget(poller);
                group.members().iter().for_each(|member| socket::stop_listening(&member.source.fd));
            }
            // Whoever else holds a copy, nobody gets in from here on, and the address is free.
            Socket::Handoff(source) => socket::stop_listening(&source.fd),
            Socket::Shared(fd) => socket::stop_listening(fd),
            Socket::Udp(_) => {}
            Socket::Closed => return,
        }
        if self.identity.address_type == AddressType::Path
            && let Some(path) = self.identity.address.as_deref().filter(|path| !path.contains('\0'))
        {
            // The program's folder may be gone by now, and with it the file.
            paths::remove_both_names(Path::new(path));
        }
    }

    /// Whether connections are given to workers by the primary as a rule.
    pub(crate) fn is_handoff(&self) -> bool {
        match self.socket {
            Socket::Handoff(_) | Socket::Closed => true,
            Socket::Shared(_) | Socket::Udp(_) | Socket::Kernel(_) => false,
        }
    }
}

/// All listeners, under small numbers that tokens and keys carry.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    places: BTreeMap<usize, Listener>,
    next: usize,
}

impl Listeners {
    pub(crate) fn find(&self, identity: &Identity) -> Option<usize> {
        self.iter().find(|(_, it)| it.identity == *identity).map(|(number, _)| number)
    }

    /// The number that the next listener will get. Numbers are not used again while the primary lives, so that
    /// a late frame can never mean another listener.
    pub(crate) fn vacant(&self) -> usize {
        self.next
    }

    pub(crate) fn push(&mut self, listener: Listener) {
        self.places.insert(self.next, listener);
        self.next += 1;
    }

    /// One that another primary had under this number.
    pub(crate) fn restore(&mut self, number: usize, listener: Listener) {
        self.places.insert(number, listener);
        self.next = self.next.max(number + 1);
    }

    /// New ones get this number at least.
    pub(crate) fn start_at(&mut self, number: usize) {
        self.next = self.next.max(number);
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Listener> {
        self.places.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Listener> {
        self.places.get_mut(&number)
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<Listener> {
        self.places.remove(&number)
    }

    /// All of them with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Listener)> {
        self.places.iter().map(|(number, it)| (*number, it))
    }

    /// The numbers of an app's listeners.
    pub(crate) fn of_app(&self, app: AppId) -> Vec<usize> {
        self.iter().filter(|(_, it)| it.identity.app == app).map(|(number, _)| number).collect()
    }
}
