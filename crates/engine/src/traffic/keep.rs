//! What of the traffic outlives the primary: listeners, groups, and which worker uses what, as entries of the
//! stash. It writes and reads records; what is done with them is `takeover`.
//!
//! An entry is put before anybody can rely on it, and only then: a listener before a worker is told of it, what a
//! worker uses after it was told.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use oxherd_core::{AppId, InstanceId, Slot};
use oxherd_os::lending::{Call, Trapped};
use oxherd_wire::AddressType;
use serde::{Deserialize, Serialize};

use crate::host::Stash;
use crate::traffic::Traffic;
use crate::traffic::borrower::{Parking, Stage};
use crate::traffic::group::Transport;
use crate::traffic::listener::{Identity, Listener, Socket};
use crate::traffic::worker::Standing;

const LISTENER: &str = "listener/";
const MEMBER: &str = "member/";
const USES: &str = "uses/";
const COUNTERS: &str = "counters/";
const SPOOL: &str = "spool/";
const PAGE: &str = "load/";
const TRAPS: &str = "traps/";
const CALLS: &str = "calls/";
/// A call that is over at once is recorded only so often: whoever comes next looks through as many numbers.
const CALLS_UNRECORDED_MAX: u64 = 64;

/// The record of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListenerRecord {
    pub(super) app: u32,
    pub(super) address_type: Family,
    pub(super) address: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) v6_only: bool,
    pub(super) index: Option<u64>,
    pub(super) key: String,
    pub(super) sockname: Option<SocketAddr>,
    pub(super) shown: String,
    pub(super) data: Option<Vec<u8>>,
    pub(super) kind: Kind,
}

/// What a listener is made of. The descriptor rides on the entry, but for a group, whose members have entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Handoff,
    Shared,
    Udp,
    Kernel {
        address: SocketAddr,
        v6_only: Option<bool>,
        backlog: i32,
        #[serde(default)]
        transport: Transport,
    },
}

/// The address types that can be listened on, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Family {
    V4,
    V6,
    Path,
    Udp4,
    Udp6,
}

/// The record of a group's member. Its place in the kernel's order rides along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    pub(super) slot: Slot,
    pub(super) index: usize,
    pub(super) owner: Option<InstanceId>,
}

/// What a worker uses, and whether it was told to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UsesRecord {
    pub(super) listeners: Vec<usize>,
    pub(super) leaving: bool,
    /// Those that it has bound and does not listen at yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) bound: Vec<usize>,
}

/// The calls of a worker that borrows, as far as they are not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CallsRecord {
    /// The number of the newest that was received.
    pub(super) newest: u64,
    /// Its slot, which may not be the one that it was started for.
    pub(super) slot: Slot,
    /// It is held, or will be.
    pub(super) parks: bool,
    pub(super) calls: Vec<Trapped>,
}

/// Whose record of uses this entry is.
pub(crate) fn uses_of(name: &str) -> Option<&str> {
    name.strip_prefix(USES)
}

/// Whose counters this entry holds.
pub(crate) fn counters_of(name: &str) -> Option<&str> {
    name.strip_prefix(COUNTERS)
}

/// Whose page of figures this entry holds.
pub(crate) fn page_of(name: &str) -> Option<&str> {
    name.strip_prefix(PAGE)
}

/// Whose trapped calls are heard of by way of this entry.
pub(crate) fn traps_of(name: &str) -> Option<&str> {
    name.strip_prefix(TRAPS)
}

/// Whose unanswered calls this entry tells of.
pub(super) fn calls_of(name: &str) -> Option<&str> {
    name.strip_prefix(CALLS)
}

/// Whose unsent rest of a frame this entry holds.
pub(super) fn spool_of(name: &str) -> Option<&str> {
    name.strip_prefix(SPOOL)
}

/// What a worker's record of uses tells of it: whether it was lent a listener, and whether it is leaving.
pub(crate) fn standing_in(meta: &[u8]) -> (bool, bool) {
    let uses = read::<UsesRecord>(meta).unwrap_or_default();
    (!uses.listeners.is_empty(), uses.leaving)
}

/// Whose listener this entry holds, if it is one.
pub(crate) fn listener_of(name: &str, meta: &[u8]) -> Option<AppId> {
    listener_number(name)?;
    Some(AppId(read::<ListenerRecord>(meta)?.app))
}

/// The number in a listener's entry name.
pub(super) fn listener_number(name: &str) -> Option<usize> {
    name.strip_prefix(LISTENER)?.parse().ok()
}

/// The listener's and the member's numbers in a member's entry name.
pub(super) fn member_numbers(name: &str) -> Option<(usize, usize)> {
    let (listener, member) = name.strip_prefix(MEMBER)?.split_once('/')?;
    Some((listener.parse().ok()?, member.parse().ok()?))
}

/// What an entry says, if it is of this build's shape.
pub(super) fn read<T: for<'de> Deserialize<'de>>(meta: &[u8]) -> Option<T> {
    serde_json::from_slice(meta).ok()
}

fn write<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and nothing that fails")
}

impl Traffic {
    /// The listener is there: so it is for whoever comes after.
    pub(super) fn keep_listener(&mut self, number: usize) {
        let Some(listener) = self.listeners.get(number) else { return };
        let Some(record) = ListenerRecord::of(listener) else { return };
        let fd = match &listener.socket {
            Socket::Handoff(source) => Some(source.fd.as_fd()),
            Socket::Shared(fd) | Socket::Udp(fd) => Some(fd.as_fd()),
            Socket::Kernel(_) | Socket::Closed => None,
        };
        self.stash.put(&format!("{LISTENER}{number}"), &write(&record), fd);
        self.keep_group(number);
    }

    /// Puts what has changed of a group's members.
    pub(super) fn keep_group(&mut self, number: usize) {
        let Some(Socket::Kernel(group)) = self.listeners.get_mut(number).map(|it| &mut it.socket) else {
            return;
        };
        for gone in group.take_gone() {
            self.stash.remove(&format!("{MEMBER}{number}/{gone}"));
        }
        for (index, member) in group.members_mut().iter_mut().enumerate() {
            let record = MemberRecord { slot: member.slot, index, owner: member.owner };
            if member.kept.as_ref() != Some(&record) {
                let name = format!("{MEMBER}{number}/{}", member.number);
                self.stash.put(&name, &write(&record), Some(member.source.fd.as_fd()));
                member.kept = Some(record);
            }
        }
    }

    /// The listener is closed for good.
    pub(super) fn unkeep_listener(&mut self, number: usize, members: &[usize]) {
        unkeep(&mut *self.stash, number, members);
    }

    /// What a worker uses has changed.
    pub(super) fn keep_uses(&mut self, worker: usize) {
        let Some(worker) = self.workers.get(worker) else { return };
        let record = UsesRecord {
            listeners: worker.registered.clone(),
            leaving: matches!(worker.standing, Standing::Leaving),
            bound: Vec::new(),
        };
        self.stash.put(&format!("{USES}{}", worker.label), &write(&record), None);
    }

    /// What is counted for a worker goes on being counted.
    pub(super) fn keep_counters(&mut self, worker: usize) {
        let Some(worker) = self.workers.get(worker) else { return };
        if let Some(fd) = &worker.counters_fd {
            self.stash.put(&format!("{COUNTERS}{}", worker.label), b"", Some(fd.as_fd()));
        }
    }

    /// A worker that borrows is there.
    pub(super) fn keep_borrower(&mut self, number: usize) {
        let Some(borrower) = self.borrowers.get(number) else { return };
        if let Some(traps) = &borrower.traps {
            self.stash.put(&format!("{TRAPS}{}", borrower.label), b"", Some(traps.as_fd()));
        }
        if let Some(fd) = &borrower.counters_fd {
            self.stash.put(&format!("{COUNTERS}{}", borrower.label), b"", Some(fd.as_fd()));
        }
    }

    /// Nobody of the worker is left who could call.
    pub(super) fn unkeep_borrower(&mut self, label: &str) {
        self.stash.remove(&format!("{TRAPS}{label}"));
        self.stash.remove(&format!("{CALLS}{label}"));
    }

    /// What a worker uses that borrows has changed.
    pub(super) fn keep_uses_of_borrower(&mut self, number: usize) {
        let Some(borrower) = self.borrowers.get(number) else { return };
        let (listeners, bound) =
            borrower.registered.iter().copied().partition(|it| borrower.listening.contains(it));
        let record = UsesRecord { listeners, leaving: borrower.stage == Stage::Withdrawn, bound };
        self.stash.put(&format!("{USES}{}", borrower.label), &write(&record), None);
    }

    /// A call was received, and is about to be acted upon.
    pub(super) fn keep_call(&mut self, number: usize, trapped: &Trapped) {
        let Some(borrower) = self.borrowers.get(number) else { return };
        match trapped.call {
            Call::Shutdown { .. } if trapped.id < borrower.kept_newest + CALLS_UNRECORDED_MAX => return,
            Call::Shutdown { .. } | Call::Bind { .. } | Call::Listen { .. } => {}
        }
        self.put_calls(number, Some(trapped));
    }

    /// Which calls a worker waits for has changed.
    pub(super) fn keep_calls(&mut self, number: usize) {
        self.put_calls(number, None);
    }

    fn put_calls(&mut self, number: usize, current: Option<&Trapped>) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        borrower.kept_newest = borrower.newest;
        let record = CallsRecord {
            newest: borrower.newest,
            slot: borrower.place.slot,
            parks: borrower.parking != Parking::Off,
            calls: borrower.held.iter().chain(current).copied().collect(),
        };
        self.stash.put(&format!("{CALLS}{}", borrower.label), &write(&record), None);
    }

    /// What the worker counts itself can be read, whoever comes after, and after its death.
    pub(super) fn keep_page(&mut self, worker: usize) {
        let Some(worker) = self.workers.get(worker) else { return };
        if let Some(fd) = &worker.page_fd {
            self.stash.put(&format!("{PAGE}{}", worker.label), b"", Some(fd.as_fd()));
        }
    }

    /// What is sent to a worker by way of the spool is sent to its end, whoever sends it.
    pub(super) fn keep_spool(&mut self, worker: usize) {
        let Some(worker) = self.workers.get(worker) else { return };
        if let Some(spool) = worker.out.spool() {
            self.stash.put(&format!("{SPOOL}{}", worker.label), b"", Some(spool));
        }
    }

    /// Nothing is sent to the worker any more.
    pub(super) fn unkeep_channel(&mut self, worker: usize) {
        let Some(worker) = self.workers.get(worker) else { return };
        self.stash.remove(&format!("channel/{}", worker.label));
        if worker.out.spool().is_some() {
            self.stash.remove(&format!("{SPOOL}{}", worker.label));
        }
    }

    /// The primary's hold on the worker's own end is given up, here and in the stash: while it is open anywhere,
    /// the worker's closing of the channel does not show.
    pub(super) fn drop_worker_end(&mut self, worker: usize) {
        let Some(worker) = self.workers.get_mut(worker) else { return };
        worker.out.forget_reader();
        if worker.worker_end.take().is_some() || worker.is_end_stashed {
            worker.is_end_stashed = false;
            self.stash.remove(&format!("worker-end/{}", worker.label));
        }
    }

    /// Everything again, for a stash that has nothing yet.
    pub(super) fn restash(&mut self, stash: Box<dyn Stash>) {
        self.stash = stash;
        let listeners: Vec<usize> = self.listeners.iter().map(|(number, _)| number).collect();
        for number in listeners {
            if let Some(Socket::Kernel(group)) = self.listeners.get_mut(number).map(|it| &mut it.socket) {
                group.members_mut().iter_mut().for_each(|member| member.kept = None);
            }
            self.keep_listener(number);
        }
        let borrowers: Vec<usize> = self.borrowers.iter().map(|(number, _)| number).collect();
        for number in borrowers {
            self.keep_borrower(number);
            self.keep_uses_of_borrower(number);
            self.keep_calls(number);
        }
        let workers: Vec<usize> = self.workers.iter().map(|(number, _)| number).collect();
        for number in workers {
            self.keep_uses(number);
            self.keep_counters(number);
            self.keep_page(number);
            self.keep_spool(number);
            let Some(worker) = self.workers.get(number) else { continue };
            if worker.is_listening_to_us() {
                self.stash.put(&format!("channel/{}", worker.label), b"", Some(worker.out.socket()));
            }
            if let Some(end) = &worker.worker_end {
                self.stash.put(&format!("worker-end/{}", worker.label), b"", Some(end.as_fd()));
            }
        }
    }
}

fn unkeep(stash: &mut dyn Stash, number: usize, members: &[usize]) {
    stash.remove(&format!("{LISTENER}{number}"));
    members.iter().for_each(|member| stash.remove(&format!("{MEMBER}{number}/{member}")));
}

impl ListenerRecord {
    /// Nothing for one that is closed.
    fn of(listener: &Listener) -> Option<Self> {
        let kind = match &listener.socket {
            Socket::Handoff(_) => Kind::Handoff,
            Socket::Shared(_) => Kind::Shared,
            Socket::Udp(_) => Kind::Udp,
            Socket::Kernel(group) => group.kind(),
            Socket::Closed => return None,
        };
        let Identity { app, address_type, address, port, v6_only, index } = &listener.identity;
        Some(Self {
            app: app.0,
            address_type: Family::of(*address_type)?,
            address: address.clone(),
            port: *port,
            v6_only: *v6_only,
            index: *index,
            key: listener.key.clone(),
            sockname: listener.sockname,
            shown: listener.address.clone(),
            data: listener.data.clone(),
            kind,
        })
    }
}

impl Family {
    fn of(address_type: AddressType) -> Option<Self> {
        match address_type {
            AddressType::V4 => Some(Self::V4),
            AddressType::V6 => Some(Self::V6),
            AddressType::Path => Some(Self::Path),
            AddressType::Udp4 => Some(Self::Udp4),
            AddressType::Udp6 => Some(Self::Udp6),
            AddressType::Fd => None,
        }
    }

    pub(super) fn address_type(self) -> AddressType {
        match self {
            Self::V4 => AddressType::V4,
            Self::V6 => AddressType::V6,
            Self::Path => AddressType::Path,
            Self::Udp4 => AddressType::Udp4,
            Self::Udp6 => AddressType::Udp6,
        }
    }
}
