//! Going on where another primary ended: its listeners, what its workers use, and the connections it held.
//!
//! What the old primary had sent and read is not known. So each worker with a channel is first sent a *fence*, a
//! connection of a listener that it cannot have, which it refuses: its answer comes behind all that it owed the
//! old primary. Until then it is given nothing, and nothing is known of the connections that the old one held.
//! A frame of which the old primary had sent a part is sent to its end before everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use oxherd_core::{AppId, Event, Slot};
use oxherd_os::socket::{self, LocalAddr, StreamState};
use oxherd_os::{Interest, Spool, host, lending, proc};
use oxherd_wire::{self as wire, AddressType, NewConn};

use crate::host::Entry;
use crate::traffic::borrower::Parking;
use crate::traffic::group::{Group, Member};
use crate::traffic::keep::{self, CallsRecord, Kind, ListenerRecord, MemberRecord, UsesRecord};
use crate::traffic::listener::{Identity, Listener, Returned, Socket, Source};
use crate::traffic::orders::{Bequest, News};
use crate::traffic::recall;
use crate::traffic::stall::STALL_MS;
use crate::traffic::worker::{Fence, Standing};
use crate::traffic::{Token, Traffic};

/// No listener has this key.
const FENCE_KEY: &str = "fence";
/// What is put before a fence: together more than a worker reads at once, each so short that it is never cut.
const PADS: usize = 3;
const PAD_BYTES: usize = 22 << 10;
/// How often a fence is sent again to a worker that had no descriptor free for it.
const MAX_FENCE_TRIES: u32 = 50;
/// Numbers of listeners and frames start this far apart from one primary to the next, so that a late frame can
/// never mean another's.
const LISTENERS_PER_START: usize = 1 << 16;
const SEQS_PER_START_BITS: u32 = 32;

/// What is left to be seen to after a takeover.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// What workers use, by their labels, until they are attached.
    uses: BTreeMap<String, UsesRecord>,
    /// What is left of frames that were being sent to workers, likewise.
    spools: BTreeMap<String, OwnedFd>,
    /// Which calls workers wait for, likewise.
    calls: BTreeMap<String, CallsRecord>,
    /// Connections of which it is not known yet whether a worker has them.
    stranded: Vec<Stranded>,
}

#[derive(Debug)]
struct Stranded {
    app: AppId,
    listener: usize,
    connection: OwnedFd,
}

impl Traffic {
    pub(super) fn take_over(&mut self, bequest: Bequest) {
        let Bequest { starts, entries, connections } = bequest;
        self.first_seq = u64::from(starts) << SEQS_PER_START_BITS;
        let mut members = Members::default();
        let entries = self.take_in_entries_of_workers(entries);
        let (groups, others): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| keep::member_numbers(&entry.name).is_some());
        groups.into_iter().for_each(|entry| members.take(entry));
        others.into_iter().for_each(|entry| self.restore_listener(entry, &mut members));
        self.listeners.start_at(starts as usize * LISTENERS_PER_START);
        connections.into_iter().for_each(|connection| self.take_in_connection(connection));
    }

    /// Returns the others.
    fn take_in_entries_of_workers(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut others = Vec::new();
        for entry in entries {
            if let Some(label) = keep::uses_of(&entry.name) {
                let uses = keep::read(&entry.meta).unwrap_or_default();
                self.leftovers.uses.insert(label.to_owned(), uses);
            } else if let Some(label) = keep::calls_of(&entry.name) {
                let calls = keep::read(&entry.meta);
                self.leftovers.calls.extend(calls.map(|it| (label.to_owned(), it)));
            } else if let Some(label) = keep::spool_of(&entry.name) {
                self.leftovers.spools.extend(entry.fd.map(|fd| (label.to_owned(), fd)));
            } else {
                others.push(entry);
            }
        }
        others
    }

    fn restore_listener(&mut self, entry: Entry, members: &mut Members) {
        let Some(number) = keep::listener_number(&entry.name) else { return };
        let Some(record) = keep::read::<ListenerRecord>(&entry.meta) else { return };
        let socket = match (&record.kind, entry.fd) {
            (Kind::Handoff, Some(fd)) => Socket::Handoff(Source::new(fd)),
            (Kind::Shared, Some(fd)) => Socket::Shared(fd),
            (Kind::Udp, Some(fd)) => Socket::Udp(fd),
            (Kind::Kernel { address, v6_only, backlog, transport }, _) => {
                let members = members.of(number);
                Socket::Kernel(Group::restore(members, *address, *v6_only, *backlog, *transport))
            }
            (Kind::Handoff | Kind::Shared | Kind::Udp, None) => return,
        };
        if let Socket::Handoff(source) = &socket {
            let token = Token::Source { listener: number, source: 0 };
            // Without its events it is still emptied whenever a worker has room.
            drop(self.poller.add(&source.fd, token.encode(), Interest::READ | Interest::ONCE));
        }
        self.listeners.restore(number, record.listener(socket));
    }

    /// A connection belongs to the listener that is bound where it came in.
    fn take_in_connection(&mut self, connection: OwnedFd) {
        let Ok(local) = socket::local_addr(&connection) else { return };
        let found = self.listeners.iter().find(|(_, listener)| listener.is_at(&local));
        if let Some((number, listener)) = found {
            let app = listener.identity.app;
            self.leftovers.stranded.push(Stranded { app, listener: number, connection });
        }
    }

    /// A worker that outlived its primary is attached: what it uses is known, what it owed is not.
    pub(super) fn receive_heir(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let uses = self.leftovers.uses.remove(&worker.label).unwrap_or_default();
        if let Some(spool) = self.leftovers.spools.remove(&worker.label) {
            worker.out.go_on(Spool::of(spool));
        }
        let listeners = &self.listeners;
        worker.registered = uses.listeners.into_iter().filter(|it| listeners.get(*it).is_some()).collect();
        worker.is_resynchronising = true;
        worker.decoder.iter_mut().for_each(wire::Decoder::resynchronise);
        let (instance, registered) = (worker.place.instance, worker.registered.clone());
        for listener in registered.iter().filter_map(|it| self.listeners.get(*it)) {
            // A fleet that knows it already takes no notice.
            self.tell(News::Fact(Event::Listening { instance, address: listener.address.clone() }));
        }
        let Some(worker) = self.workers.get_mut(number) else { return };
        if uses.leaving {
            worker.standing = Standing::Leaving;
            // Its word, or the order, may have been lost on the way to control or from it.
            self.tell(News::Fact(Event::Departing { instance }));
            self.drop_worker_end(number);
            return self.flush(number);
        }
        let seq = worker.take_seq();
        worker.fence = Some(Fence { seq, since: self.now, tries: 0 });
        self.keep_distance(number);
        self.send_fence(number);
        self.watch_for_stall(number, self.now + STALL_MS);
    }

    /// A worker that borrows has outlived its primary: what it uses is known, and what it waits for is found out.
    pub(super) fn receive_borrowing_heir(&mut self, number: usize) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        let uses = self.leftovers.uses.remove(&borrower.label).unwrap_or_default();
        let calls = self.leftovers.calls.remove(&borrower.label);
        let listeners = &self.listeners;
        let is_there = |it: &usize| listeners.get(*it).is_some();
        borrower.listening = uses.listeners.into_iter().filter(is_there).collect();
        borrower.registered = uses.bound.into_iter().filter(is_there).collect();
        borrower.registered.extend(&borrower.listening);
        let mut waiting = Vec::new();
        if let Some(calls) = calls {
            borrower.newest = calls.newest;
            borrower.place.slot = calls.slot;
            borrower.parking = if calls.parks { Parking::Due } else { Parking::Off };
            waiting = calls.calls;
        }
        let (instance, listening) = (borrower.place.instance, borrower.listening.clone());
        for listener in listening.iter().filter_map(|it| self.listeners.get(*it)) {
            // A fleet that knows it already takes no notice.
            self.tell(News::Fact(Event::Listening { instance, address: listener.address.clone() }));
        }
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        waiting.retain(|it| borrower.is_pending(it.id));
        // One that was received and not recorded any more.
        let mut pids = host::tree_members(&borrower.label).unwrap_or_default();
        pids.push(borrower.pid);
        let traps = borrower.traps.as_ref();
        let pending = traps.and_then(|it| lending::pending_of(it, borrower.newest, &pids).ok().flatten());
        if let Some(pending) = pending.filter(|it| waiting.iter().all(|other| other.id != it.id)) {
            borrower.newest = borrower.newest.max(pending.id);
            waiting.push(pending);
        }
        waiting.iter().for_each(|trapped| self.carry_out_call(number, trapped));
        self.keep_uses_of_borrower(number);
        self.keep_calls(number);
    }

    /// The worker may have read half of the old primary's last connection, whose descriptor it then holds. Should the
    /// other half come in one read with the fence, the fence's descriptor would take the place of that one.
    fn keep_distance(&mut self, number: usize) {
        let Some(worker) = self.workers.get(number) else { return };
        let unread = worker.worker_end.as_ref().map(socket::unread_bytes);
        if !matches!(unread, Some(Ok(0))) {
            let pad = recall::long_probe(PAD_BYTES);
            (0..PADS).for_each(|_| self.send_to(number, &pad));
        }
    }

    fn send_fence(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let Some(fence) = &mut worker.fence else { return };
        fence.tries += 1;
        let (seq, is_too_often) = (fence.seq, fence.tries > MAX_FENCE_TRIES);
        if is_too_often {
            return self.condemn(number, "it has no file descriptor free for a takeover");
        }
        let mut line = Vec::new();
        NewConn::new(FENCE_KEY).render(seq, &mut line);
        // Any descriptor will do: the worker closes it.
        let sent = UnixStream::pair().and_then(|(end, _)| worker.out.send_handle(&line, end.as_fd(), seq));
        match sent {
            Ok(sent) => self.after_send(number, sent),
            Err(_) => self.condemn(number, "there is no file descriptor free to take it over"),
        }
    }

    /// Whether the answer was that of the fence.
    pub(super) fn on_fence_answer(&mut self, number: usize, seq: u64) -> bool {
        let Some(worker) = self.workers.get_mut(number) else { return false };
        if worker.fence.as_ref().is_none_or(|fence| fence.seq != seq) {
            return false;
        }
        worker.fence = None;
        worker.is_resynchronising = false;
        worker.out.pacing.answered();
        worker.out.ledger.peer_read(seq);
        worker.last_answer = self.now;
        worker.gauge.settled();
        let (place, standing) = (worker.place, worker.standing);
        // Whoever answers speaks, which a fleet without an image may not know.
        self.tell(News::Fact(Event::Online { instance: place.instance }));
        self.check_stall(number);
        // Its page is asked for anew; a program that knows none takes no notice.
        self.greet(number);
        if standing != Standing::Open {
            self.on_all_answered(number);
        }
        self.settle_stranded(place.app);
        self.pump_for(number);
        true
    }

    /// The worker had no descriptor free for the fence: it says so before it could answer.
    pub(super) fn on_fence_refused(&mut self, number: usize) {
        if let Some(worker) = self.workers.get_mut(number) {
            worker.out.pacing.answered();
        }
        self.send_fence(number);
    }

    /// Once no worker of the app can have an unread connection of the old primary, those that it held are told
    /// apart: whoever has one serves it; one that nobody has and nobody has served is offered again.
    pub(super) fn settle_stranded(&mut self, app: AppId) {
        if self.leftovers.stranded.iter().all(|it| it.app != app) {
            return;
        }
        if self.workers.iter().any(|(_, worker)| worker.place.app == app && worker.fence.is_some()) {
            return;
        }
        let (mine, others) =
            std::mem::take(&mut self.leftovers.stranded).into_iter().partition(|it: &Stranded| it.app == app);
        self.leftovers.stranded = others;
        let held = self.sockets_of_workers(app);
        let mut touched = BTreeSet::new();
        for Stranded { listener, connection, .. } in mine {
            let is_held = socket::inode(&connection).is_ok_and(|inode| held.contains(&inode));
            if !is_held
                && is_untouched(&connection)
                && let Some(it) = self.listeners.get_mut(listener)
            {
                it.returned.push_back(Returned::fresh(connection));
                touched.insert(listener);
            }
        }
        touched.into_iter().for_each(|listener| self.pump(listener));
    }

    fn sockets_of_workers(&self, app: AppId) -> BTreeSet<u64> {
        let workers = self.workers.iter().map(|(_, it)| (it.place.app, it.pid));
        let borrowers = self.borrowers.iter().map(|(_, it)| (it.place.app, it.pid));
        let pids = workers.chain(borrowers).filter(|(of, _)| *of == app).map(|(_, pid)| pid);
        // One that has just ended holds nothing.
        pids.flat_map(|pid| proc::socket_inodes_of(pid).unwrap_or_default()).collect()
    }

    /// Closes what no app has, and retires slots that are no more.
    pub(super) fn reconcile(&mut self, wanted: &BTreeMap<AppId, BTreeSet<Slot>>) {
        // Whoever has a channel is attached by now.
        self.leftovers.spools.clear();
        let all: Vec<(usize, AppId)> =
            self.listeners.iter().map(|(number, it)| (number, it.identity.app)).collect();
        for (number, app) in all {
            let Some(slots) = wanted.get(&app) else {
                self.close_listener(number);
                continue;
            };
            let Some(Socket::Kernel(group)) = self.listeners.get(number).map(|it| &it.socket) else {
                continue;
            };
            let gone: BTreeSet<Slot> = group
                .members()
                .iter()
                .map(|member| member.slot)
                .filter(|slot| !slots.contains(slot))
                .collect();
            gone.into_iter().for_each(|slot| self.retire_slot(app, slot));
        }
        let numbers: Vec<usize> = self.listeners.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| self.refresh_group(number));
        // Without a worker nobody owes an answer.
        let apps: BTreeSet<AppId> = self.leftovers.stranded.iter().map(|it| it.app).collect();
        apps.into_iter().for_each(|app| self.settle_stranded(app));
    }
}

/// The members of groups, until their groups are restored.
#[derive(Debug, Default)]
struct Members(BTreeMap<usize, Vec<(usize, Member)>>);

impl Members {
    fn take(&mut self, entry: Entry) {
        let Some((listener, number)) = keep::member_numbers(&entry.name) else { return };
        let (Some(record), Some(fd)) = (keep::read::<MemberRecord>(&entry.meta), entry.fd) else { return };
        let index = record.index;
        self.0.entry(listener).or_default().push((index, Member::restore(number, record, fd)));
    }

    /// A group's members in the kernel's order.
    fn of(&mut self, listener: usize) -> Vec<Member> {
        let mut members = self.0.remove(&listener).unwrap_or_default();
        members.sort_by_key(|(index, _)| *index);
        members.into_iter().map(|(_, member)| member).collect()
    }
}

impl ListenerRecord {
    fn listener(self, socket: Socket) -> Listener {
        Listener {
            identity: Identity {
                app: AppId(self.app),
                address_type: self.address_type.address_type(),
                address: self.address,
                port: self.port,
                v6_only: self.v6_only,
                index: self.index,
            },
            newconn: NewConn::new(&self.key),
            key: self.key,
            sockname: self.sockname,
            address: self.shown,
            data: self.data,
            socket,
            returned: Default::default(),
            paused_until: 0,
        }
    }
}

impl Listener {
    /// Whether a connection that came in at `local` came in here.
    fn is_at(&self, local: &LocalAddr) -> bool {
        match local {
            LocalAddr::Inet(address) => self.sockname.is_some_and(|own| {
                own.port() == address.port()
                    && own.is_ipv4() == address.is_ipv4()
                    && (own.ip().is_unspecified() || own.ip() == address.ip())
            }),
            LocalAddr::Unix(path) => {
                self.identity.address_type == AddressType::Path
                    && self
                        .identity
                        .address
                        .as_deref()
                        .is_some_and(|own| path.ends_with(own) || *own == *path)
            }
            LocalAddr::Abstract(_) | LocalAddr::Unnamed => false,
        }
    }
}

/// Whether nobody has read or answered anything on it, so that anybody may. Of a Unix socket that is not known:
/// what nobody has read shows at least that it is not done.
fn is_untouched(connection: &OwnedFd) -> bool {
    socket::stream_state(connection).is_ok_and(|state| match state {
        StreamState::Tcp(state) => state.is_untouched(),
        StreamState::Other { unread } => unread > 0,
    })
}
