//! The listeners of the `kernel` distribution: two per slot in one `SO_REUSEPORT` group, for life.
//!
//! Generations of a slot alternate between its two. It keeps the group's index order and steers; who is active
//! is for others to say.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use oxherd_core::{InstanceId, Slot};
use oxherd_os::socket::{self, ListenOptions, LocalAddr};
use oxherd_os::{Poller, steering};

use crate::traffic::keep::{Kind, MemberRecord};
use crate::traffic::listener::Source;

const SIDES: usize = 2;

/// All listeners of one address.
#[derive(Debug)]
pub(crate) struct Group {
    /// In the order of the kernel's indices: that of their `listen` calls, the last moving into a hole.
    members: Vec<Member>,
    address: SocketAddr,
    v6_only: Option<bool>,
    backlog: i32,
    next_number: usize,
    /// The numbers of members that have left since somebody asked.
    gone: Vec<usize>,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its number as a source, which stays when indices change.
    pub(crate) number: usize,
    pub(crate) slot: Slot,
    pub(crate) source: Source,
    /// To whom it is lent.
    pub(crate) owner: Option<InstanceId>,
    /// The primary accepts from it itself.
    pub(crate) watched: bool,
    /// What was put into the stash of it.
    pub(crate) kept: Option<MemberRecord>,
}

impl Member {
    /// One that another primary had.
    pub(crate) fn restore(number: usize, record: MemberRecord, fd: OwnedFd) -> Self {
        let (slot, owner) = (record.slot, record.owner);
        Self { number, slot, source: Source::new(fd), owner, watched: false, kept: Some(record) }
    }
}

/// What a retired slot leaves behind.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) waiting: Vec<OwnedFd>,
    /// No slot is left.
    pub(crate) is_empty: bool,
}

impl Group {
    /// Opens the group with the first slot's pair.
    ///
    /// A first try without `SO_REUSEPORT` shows whether the address is free: with it the kernel would let two
    /// primaries of one user share a port without a word.
    pub(crate) fn open(
        address: SocketAddr,
        v6_only: Option<bool>,
        backlog: i32,
        slot: Slot,
    ) -> io::Result<Self> {
        if address.port() != 0 {
            let probe = ListenOptions { backlog, v6_only, reuse_port: false, listen_now: false };
            drop(socket::listen_tcp(address, &probe)?);
        }
        let mut group = Self::restore(Vec::new(), address, v6_only, backlog);
        group.open_slot(slot)?;
        Ok(group)
    }

    /// The group that another primary had, its members in the kernel's order.
    pub(crate) fn restore(
        members: Vec<Member>,
        address: SocketAddr,
        v6_only: Option<bool>,
        backlog: i32,
    ) -> Self {
        let next_number = members.iter().map(|member| member.number + 1).max().unwrap_or(0);
        Self { members, address, v6_only, backlog, next_number, gone: Vec::new() }
    }

    /// What is to be known of it to restore it.
    pub(super) fn kind(&self) -> Kind {
        Kind::Kernel { address: self.address, v6_only: self.v6_only, backlog: self.backlog }
    }

    /// The numbers of members that have left since this was asked last.
    pub(super) fn take_gone(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.gone)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    pub(crate) fn member_mut(&mut self, number: usize) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.number == number)
    }

    pub(crate) fn source(&mut self, number: usize) -> Option<&mut Source> {
        self.member_mut(number).map(|member| &mut member.source)
    }

    pub(crate) fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        self.members.iter_mut().map(|member| &mut member.source)
    }

    pub(crate) fn pending_source(&self) -> Option<usize> {
        let waiting = self.members.iter().find(|member| member.watched && member.source.pending);
        waiting.map(|member| member.number)
    }

    /// The member that `instance` gets for its slot: one that nobody has, else the one whose owner matters least.
    pub(crate) fn lend(
        &mut self,
        slot: Slot,
        instance: InstanceId,
        is_leaving: impl Fn(InstanceId) -> bool,
    ) -> io::Result<&mut Member> {
        if !self.members.iter().any(|member| member.slot == slot) {
            self.open_slot(slot)?;
        }
        let rank = |member: &Member| match member.owner {
            None => 0,
            Some(owner) if is_leaving(owner) => 1,
            Some(_) => 2,
        };
        // Asked again, because the first descriptor did not arrive, it is the same one.
        let rank = |member: &Member| if member.owner == Some(instance) { -1 } else { rank(member) };
        let of_slot = self.members.iter_mut().filter(|member| member.slot == slot);
        let member = of_slot.min_by_key(|member| rank(member)).expect("the slot's pair is open");
        member.owner = Some(instance);
        Ok(member)
    }

    /// Nobody has what `instance` had.
    pub(crate) fn give_back(&mut self, instance: InstanceId) {
        self.members.iter_mut().filter(|it| it.owner == Some(instance)).for_each(|it| it.owner = None);
    }

    /// Nobody wants to hear of it any more.
    pub(crate) fn forget(&self, poller: &Poller) {
        for member in self.members.iter().filter(|member| member.watched) {
            drop(poller.remove(&member.source.fd));
        }
    }

    /// Closes a slot's pair, and gives out the connections that still wait there.
    pub(crate) fn retire(&mut self, slot: Slot, poller: &Poller) -> Retired {
        let mut waiting = Vec::new();
        while let Some(at) = self.members.iter().rposition(|member| member.slot == slot) {
            let member = self.members.swap_remove(at);
            self.gone.push(member.number);
            if member.watched {
                // A descendant of a worker may hold it open.
                drop(poller.remove(&member.source.fd));
            }
            while let Ok(connection) = socket::accept(&member.source.fd) {
                waiting.push(connection);
            }
            socket::stop_listening(&member.source.fd);
        }
        Retired { waiting, is_empty: self.members.is_empty() }
    }

    /// Lets new connections go to the `active` members; to the first where there is none.
    pub(crate) fn steer(&self, active: impl Fn(&Member) -> bool) -> io::Result<()> {
        let indices =
            (0_u32..).zip(&self.members).filter(|(_, member)| active(member)).map(|(index, _)| index);
        let mut indices: Vec<u32> = indices.take(steering::ACTIVE_MAX).collect();
        if indices.is_empty() {
            indices.push(0);
        }
        match self.members.first() {
            Some(first) => steering::steer(&first.source.fd, &indices),
            None => Ok(()),
        }
    }

    fn open_slot(&mut self, slot: Slot) -> io::Result<()> {
        for _ in 0..SIDES {
            let options = ListenOptions {
                backlog: self.backlog,
                v6_only: self.v6_only,
                reuse_port: true,
                listen_now: true,
            };
            let fd = socket::listen_tcp(self.address, &options)?;
            if self.members.is_empty() {
                // The program must be there before a second member: without it the kernel spreads by its hash.
                steering::steer(&fd, &[0])?;
                if let LocalAddr::Inet(address) = socket::local_addr(&fd)? {
                    self.address = address;
                }
            }
            let number = self.next_number;
            self.next_number += 1;
            let source = Source::new(fd);
            self.members.push(Member { number, slot, source, owner: None, watched: false, kept: None });
        }
        Ok(())
    }
}
