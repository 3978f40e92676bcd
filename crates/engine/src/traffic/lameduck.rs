//! Withdrawn workers that borrow and know nothing of it: they are out of the steering, and are left alone until their
//! queues are empty and their connections closed or idle. Then control hears, and sends the signal.
//!
//! It looks and reports. How long all this may take at most is for the core to say.

use std::collections::BTreeSet;

use oxherd_core::{Event, InstanceId};
use oxherd_os::sockdiag::{self, Connection, ConnectionState};
use oxherd_os::{clock, host, proc, socket};

use crate::traffic::Traffic;
use crate::traffic::borrower::{Borrower, Stage};
use crate::traffic::listener::Socket;
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;

/// Between two looks while nothing is seen, and while something is, in milliseconds.
const LOOK_EVERY_MS: u64 = 15;
const LOOK_AT_BUSY_EVERY_MS: u64 = 40;
/// A look at connections is dear where a machine has many, or thousands of processes: then the next comes so many times
/// as much later as it took of a CPU.
const PAUSE_PER_COST: u32 = 10;
/// So often in a row nothing must be seen: the last step of a handshake may still be on its way, and so may what a
/// worker is about to accept.
const QUIET_LOOKS: u32 = 4;
/// The first of them are at the queue alone, which costs next to nothing.
const QUIET_LOOKS_AT_QUEUE: u32 = 2;
/// A connection is idle when its worker was the last to send, and that was so long ago, in milliseconds: a pause within
/// an answer that is streamed is shorter as a rule, and the next request would begin with bytes that came.
const IDLE_MS: u32 = 1000;

impl Traffic {
    pub(super) fn on_lame_duck_timer(&mut self, instance: InstanceId) {
        let Some(number) = self.borrowers.find(instance) else { return };
        let Some(Stage::Withdrawing { quiet_looks }) = self.borrowers.get(number).map(|it| it.stage) else {
            return;
        };
        let before = clock::thread_cpu();
        let is_quiet = self.borrowers.get(number).is_none_or(|it| {
            !self.is_anybody_waiting_for(it)
                && (quiet_looks < QUIET_LOOKS_AT_QUEUE || self.has_nothing_in_hand(it))
        });
        let cost = clock::thread_cpu().saturating_sub(before);
        let quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
        if quiet_looks >= QUIET_LOOKS {
            self.set_stage(number, Stage::Withdrawn);
            self.keep_uses_of_borrower(number);
            self.timers.set(self.now, Timer::PutBack(instance));
            return self.tell(News::Fact(Event::Withdrawn { instance }));
        }
        if let Some(borrower) = self.borrowers.get_mut(number) {
            borrower.stage = Stage::Withdrawing { quiet_looks };
        }
        let pause = if is_quiet { LOOK_EVERY_MS } else { LOOK_AT_BUSY_EVERY_MS };
        let pause = pause.max((cost * PAUSE_PER_COST).as_millis() as u64);
        self.timers.set(self.now + pause, Timer::LameDuck(instance));
    }

    fn is_anybody_waiting_for(&self, borrower: &Borrower) -> bool {
        let used = borrower.registered.iter().filter_map(|it| self.listeners.get(*it));
        let groups = used.filter_map(|listener| match &listener.socket {
            Socket::Kernel(group) if !group.is_udp() => Some(group),
            // Others take from the same queue, or there is none.
            Socket::Kernel(_) | Socket::Shared(_) | Socket::Handoff(_) | Socket::Udp(_) | Socket::Closed => {
                None
            }
        });
        let mut members = groups.flat_map(|group| group.members());
        members.any(|it| it.owner == Some(borrower.place.instance) && is_anybody_waiting(&it.source.fd))
    }

    fn has_nothing_in_hand(&self, borrower: &Borrower) -> bool {
        let used = borrower.registered.iter().filter_map(|it| self.listeners.get(*it));
        let streams = used.filter(|listener| match &listener.socket {
            Socket::Kernel(group) => !group.is_udp(),
            Socket::Shared(_) => true,
            Socket::Handoff(_) | Socket::Udp(_) | Socket::Closed => false,
        });
        let ports: BTreeSet<u16> = streams.filter_map(|it| it.sockname.map(|at| at.port())).collect();
        // Where the kernel does not tell, the drain is as long as the queue.
        let connections = ports.into_iter().flat_map(|port| sockdiag::connections(port).unwrap_or_default());
        let busy: BTreeSet<u64> = connections.filter(is_busy).map(|it| it.inode).collect();
        busy.is_empty() || !has_any(borrower, &busy)
    }
}

fn is_anybody_waiting(fd: &std::os::fd::OwnedFd) -> bool {
    socket::accept_queue_len(fd).ok().flatten().is_some_and(|count| count > 0)
}

/// Whether a connection may still be owed something.
fn is_busy(connection: &Connection) -> bool {
    let is_open = match connection.state {
        ConnectionState::Established | ConnectionState::CloseWait => true,
        // The worker has said all that it will say.
        ConnectionState::FinWait | ConnectionState::Closing => false,
    };
    // Without a number it waits, which the queue shows, or nobody has it.
    is_open && connection.inode != 0 && !is_idle(connection)
}

fn is_idle(connection: &Connection) -> bool {
    let Connection { unread, unsent, last_sent_ms: sent, last_received_ms: received, .. } = *connection;
    let is_unanswered = connection.bytes_received > 0 && connection.bytes_acknowledged == 0;
    !is_unanswered && unread == 0 && unsent == 0 && sent <= received && sent >= IDLE_MS
}

/// Whether one of the sockets is of the worker or of a descendant. A process that may not be looked into counts as one
/// without sockets: its drain ends early rather than never.
fn has_any(borrower: &Borrower, sockets: &BTreeSet<u64>) -> bool {
    let has = |pid: u32| proc::socket_inodes_of(pid).is_ok_and(|own| !own.is_disjoint(sockets));
    has(borrower.pid) || host::tree_members(&borrower.label).unwrap_or_default().into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(unread: u32, unsent: u32, last_sent_ms: u32, last_received_ms: u32) -> Connection {
        let at = "127.0.0.1:80".parse().unwrap();
        let state = ConnectionState::Established;
        Connection {
            inode: 7,
            state,
            unread,
            unsent,
            bytes_received: 100,
            bytes_acknowledged: 100,
            last_sent_ms,
            last_received_ms,
            local: at,
            peer: at,
        }
    }

    #[test]
    fn only_one_that_was_answered_a_while_ago_is_idle() {
        assert!(is_idle(&connection(0, 0, 1000, 2000)));
        for busy in [
            // Within a pause of what it sends.
            connection(0, 0, 999, 2000),
            connection(1, 0, 1000, 2000),
            connection(0, 1, 1000, 2000),
            // A request came since.
            connection(0, 0, 3000, 2000),
            // In the same tick: it may be a request that came since.
            connection(0, 0, 999, 999),
        ] {
            assert!(!is_idle(&busy), "{busy:?}");
        }
        let in_one_tick = connection(0, 0, 1000, 1000);
        assert!(is_idle(&in_one_tick));
        assert!(!is_idle(&Connection { bytes_acknowledged: 0, ..in_one_tick }), "the first question");
        assert!(is_idle(&Connection { bytes_acknowledged: 0, bytes_received: 0, ..in_one_tick }));
    }

    #[test]
    fn what_nobody_has_or_is_being_closed_is_not_waited_for() {
        let asked = connection(1, 0, 500, 1);
        assert!(is_busy(&asked));
        assert!(!is_busy(&Connection { inode: 0, ..asked }));
        assert!(!is_busy(&Connection { state: ConnectionState::FinWait, ..asked }));
    }
}
