//! The listeners of the `kernel` distribution: two per slot in one `SO_REUSEPORT` group, for life.
//!
//! Generations of a slot alternate between its two. It keeps the group's index order and steers; who is active
//! is for others to say.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use oxherd_core::{InstanceId, Slot};
use oxherd_os::socket::{self, ListenOptions, LocalAddr};
use oxherd_os::steering::Program;
use oxherd_os::{Poller, foreign, steering};
use serde::{Deserialize, Serialize};

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
    transport: Transport,
    next_number: usize,
    /// The numbers of members that have left since somebody asked.
    gone: Vec<usize>,
}

/// What comes to a group: connections, or packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    #[default]
    Tcp,
    Udp,
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
    /// To whom it was lent last, when nobody has it.
    pub(crate) last_owner: Option<InstanceId>,
    /// Since when nobody has it, in monotonic milliseconds, once that was seen.
    pub(crate) left_since: Option<u64>,
    /// Its slot is no more: until then, in monotonic milliseconds, it stays for handshakes that are under way.
    pub(crate) closes_at: Option<u64>,
    /// The primary accepts from it itself.
    pub(crate) watched: bool,
    /// What was put into the stash of it.
    pub(crate) kept: Option<MemberRecord>,
}

impl Member {
    /// One that another primary had.
    pub(crate) fn restore(number: usize, record: MemberRecord, fd: OwnedFd) -> Self {
        let (slot, owner) = (record.slot, record.owner);
        Self { owner, kept: Some(record), ..Self::new(number, slot, fd) }
    }

    fn new(number: usize, slot: Slot, fd: OwnedFd) -> Self {
        let source = Source::new(fd);
        let (owner, last_owner, left_since, closes_at) = (None, None, None, None);
        Self { number, slot, source, owner, last_owner, left_since, closes_at, watched: false, kept: None }
    }

    /// Whether connections wait in its queue.
    fn has_waiting(&self) -> bool {
        socket::accept_queue_len(&self.source.fd).ok().flatten().is_some_and(|count| count > 0)
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
        let mut group = Self::restore(Vec::new(), address, v6_only, backlog, Transport::Tcp);
        group.open_slot(slot)?;
        Ok(group)
    }

    /// A group to which a program's own socket will be the first to belong.
    pub(super) fn empty(address: SocketAddr, v6_only: Option<bool>, transport: Transport) -> Self {
        Self::restore(Vec::new(), address, v6_only, ListenOptions::default().backlog, transport)
    }

    /// The group that another primary had, its members in the kernel's order.
    pub(crate) fn restore(
        members: Vec<Member>,
        address: SocketAddr,
        v6_only: Option<bool>,
        backlog: i32,
        transport: Transport,
    ) -> Self {
        let next_number = members.iter().map(|member| member.number + 1).max().unwrap_or(0);
        Self { members, address, v6_only, backlog, transport, next_number, gone: Vec::new() }
    }

    /// What is to be known of it to restore it.
    pub(super) fn kind(&self) -> Kind {
        let Self { address, v6_only, backlog, transport, .. } = *self;
        Kind::Kernel { address, v6_only, backlog, transport }
    }

    pub(super) fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }

    /// Whether the slot has a member.
    pub(super) fn has_slot(&self, slot: Slot) -> bool {
        self.members.iter().any(|member| member.slot == slot)
    }

    /// Prepares a program's own socket for the group: it is to be bound next.
    pub(super) fn admit(&self, socket: &OwnedFd) -> io::Result<()> {
        foreign::share_port(socket)?;
        match self.members.first() {
            Some(first) => foreign::belong_with(socket, &first.source.fd),
            None => Ok(()),
        }
    }

    pub(super) fn is_lent_to(&self, instance: InstanceId) -> bool {
        self.members.iter().any(|member| member.owner == Some(instance))
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

    /// The member that `instance` gets for its slot: one that nobody has, else the one whose owner matters least. Of
    /// several that nobody has it is the one where somebody waits, or that was lent last: what comes there is the
    /// slot's.
    pub(crate) fn lend(
        &mut self,
        slot: Slot,
        instance: InstanceId,
        is_leaving: impl Fn(InstanceId) -> bool,
    ) -> io::Result<&mut Member> {
        self.keep_open(slot);
        if let Err(error) = self.open_slot(slot)
            && !self.has_slot(slot)
        {
            return Err(error);
        }
        let rank = |member: &Member| match member.owner {
            None => 0,
            Some(owner) if is_leaving(owner) => 1,
            Some(_) => 2,
        };
        // Asked again, because the first descriptor did not arrive, it is the same one.
        let rank = |member: &Member| if member.owner == Some(instance) { -1 } else { rank(member) };
        let of_slot = self.members.iter_mut().filter(|member| member.slot == slot);
        let preference = |member: &Member| (rank(member), Reverse((member.has_waiting(), member.last_owner)));
        let member = of_slot.min_by_key(|member| preference(member)).expect("the slot's pair is open");
        member.owner = Some(instance);
        Ok(member)
    }

    /// Makes a program's own socket, which is bound and shares its port, the slot's listener: it begins to listen. Where
    /// the slot has its pair already it takes the place of the side that matters least, whose waiting connections are
    /// given out.
    pub(super) fn adopt(
        &mut self,
        slot: Slot,
        instance: InstanceId,
        fd: OwnedFd,
        backlog: i32,
        poller: &Poller,
    ) -> io::Result<Vec<OwnedFd>> {
        self.keep_open(slot);
        if self.transport == Transport::Tcp {
            socket::listen(&fd, backlog)?;
            self.backlog = backlog;
        }
        let number = self.push(slot, fd)?;
        if let Some(member) = self.member_mut(number) {
            member.owner = Some(instance);
        }
        let mut waiting = Vec::new();
        let of_slot = |members: &[Member]| members.iter().filter(|it| it.slot == slot).count();
        while of_slot(&self.members) > SIDES {
            let preference = |it: &Member| (it.has_waiting(), it.last_owner);
            let others = self.members.iter().enumerate();
            // What somebody has is his: a program may have several of its own at one address.
            let others =
                others.filter(|(_, it)| it.slot == slot && it.number != number && it.owner.is_none());
            let Some((at, _)) = others.min_by_key(|(_, it)| preference(it)) else { break };
            waiting.extend(self.close_member(at, poller));
        }
        // Without its other side the slot serves; the next that needs it opens it.
        drop(self.open_slot(slot));
        Ok(waiting)
    }

    /// Nobody has what `instance` had.
    pub(crate) fn give_back(&mut self, instance: InstanceId) {
        for member in self.members.iter_mut().filter(|it| it.owner == Some(instance)) {
            member.last_owner = member.owner.take();
        }
    }

    /// Notes which members nobody has. Returns `now` when there are new ones among them.
    pub(super) fn note_left(&mut self, now: u64) -> Option<u64> {
        let mut is_new = false;
        for member in &mut self.members {
            if member.owner.is_some() {
                // Who has waited since the last owner's end is not to wait as long again if this one ends, too.
                if !member.has_waiting() {
                    member.left_since = None;
                }
            } else if member.left_since.is_none() {
                member.left_since = Some(now);
                is_new = true;
            }
        }
        is_new.then_some(now)
    }

    /// Nobody wants to hear of it any more.
    pub(crate) fn forget(&self, poller: &Poller) {
        for member in self.members.iter().filter(|member| member.watched) {
            drop(poller.remove(&member.source.fd));
        }
    }

    /// A slot is no more. Its pair stays until then for those whose handshake is under way: closed at once, they would be
    /// reset. Not so where nobody else is left to serve them.
    pub(super) fn retire_at(&mut self, slot: Slot, at: u64) -> bool {
        let is_other = |it: &Member| it.slot != slot && it.closes_at.is_none();
        if self.is_udp() || !self.members.iter().any(is_other) {
            return false;
        }
        for member in self.members.iter_mut().filter(|it| it.slot == slot && it.closes_at.is_none()) {
            member.closes_at = Some(at);
        }
        true
    }

    /// The slots whose time is up.
    pub(super) fn due_slots(&self, now: u64) -> BTreeSet<Slot> {
        let is_due = |it: &&Member| it.closes_at.is_some_and(|at| at <= now);
        self.members.iter().filter(is_due).map(|it| it.slot).collect()
    }

    /// The slot is there again.
    fn keep_open(&mut self, slot: Slot) {
        for member in self.members.iter_mut().filter(|it| it.slot == slot) {
            member.closes_at = None;
        }
    }

    /// Closes a slot's pair, and gives out the connections that still wait there.
    pub(crate) fn retire(&mut self, slot: Slot, poller: &Poller) -> Retired {
        let mut waiting = Vec::new();
        while let Some(at) = self.members.iter().rposition(|member| member.slot == slot) {
            waiting.extend(self.close_member(at, poller));
        }
        Retired { waiting, is_empty: self.members.is_empty() }
    }

    /// Closes the member at an index, and gives out the connections that still wait there.
    fn close_member(&mut self, at: usize, poller: &Poller) -> Vec<OwnedFd> {
        let member = self.members.swap_remove(at);
        self.gone.push(member.number);
        if member.watched {
            // A descendant of a worker may hold it open.
            drop(poller.remove(&member.source.fd));
        }
        let mut waiting = Vec::new();
        if self.transport == Transport::Tcp && foreign::set_nonblocking(&member.source.fd).is_ok() {
            waiting.extend(std::iter::from_fn(|| socket::accept(&member.source.fd).ok()));
            socket::stop_listening(&member.source.fd);
        }
        waiting
    }

    /// Lets new connections go where the program says. A group without members has nothing to steer.
    pub(super) fn steer(&self, program: &Program) -> io::Result<()> {
        match self.members.first() {
            Some(first) => steering::attach(&first.source.fd, program),
            None => Ok(()),
        }
    }

    /// Opens what the slot lacks of its pair.
    fn open_slot(&mut self, slot: Slot) -> io::Result<()> {
        while self.members.iter().filter(|member| member.slot == slot).count() < SIDES {
            let fd = self.open_side()?;
            self.push(slot, fd)?;
        }
        Ok(())
    }

    /// A socket of the group. What a program has set on the ones that were adopted holds for it too.
    fn open_side(&self) -> io::Result<OwnedFd> {
        let (address, v6_only, backlog) = (self.address, self.v6_only, self.backlog);
        let is_tcp = self.transport == Transport::Tcp;
        let fd = match self.members.first() {
            Some(first) => foreign::beside(&first.source.fd, address)?,
            None if is_tcp => {
                let options = ListenOptions { backlog, v6_only, reuse_port: true, listen_now: false };
                socket::listen_tcp(address, &options)?
            }
            None => socket::bind_udp(address, v6_only, false, true)?,
        };
        if is_tcp {
            socket::listen(&fd, backlog)?;
        }
        Ok(fd)
    }

    /// A socket has joined the group in the kernel: it is the last now.
    fn push(&mut self, slot: Slot, fd: OwnedFd) -> io::Result<usize> {
        if self.members.is_empty() {
            // The program must be there before a second member: without it the kernel spreads by its hash.
            steering::steer(&fd, &[0])?;
            if let LocalAddr::Inet(address) = socket::local_addr(&fd)? {
                self.address = address;
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        self.members.push(Member::new(number, slot, fd));
        Ok(number)
    }
}
