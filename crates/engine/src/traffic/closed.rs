//! Listeners that a worker was lent and has closed while it lives. Nobody tells, so it is looked for, and only among very
//! many: a look at all descriptors of a worker's tree is dear.

use std::collections::BTreeSet;

use oxherd_os::{host, proc, socket};

use crate::traffic::Traffic;
use crate::traffic::borrower::{Borrower, MANY};
use crate::traffic::listener::Socket;

impl Traffic {
    /// Called before a worker is lent one more. What it has closed and nobody else uses is closed.
    pub(super) fn take_back_closed(&mut self, number: usize) {
        let Some(borrower) = self.borrowers.get(number).filter(|it| it.listening.len() >= it.many) else {
            return;
        };
        let Some(held) = sockets_of_tree(borrower) else { return };
        let instance = borrower.place.instance;
        let is_closed = |listener: &&usize| {
            let socket = self.listeners.get(**listener).map(|it| &it.socket);
            socket.is_some_and(|socket| {
                let mut own = match socket {
                    Socket::Kernel(group) => {
                        let mine = group.members().iter().filter(|it| it.owner == Some(instance));
                        mine.map(|member| socket::inode(&member.source.fd)).collect()
                    }
                    Socket::Shared(fd) | Socket::Udp(fd) => vec![socket::inode(fd)],
                    Socket::Handoff(_) | Socket::Closed => Vec::new(),
                }
                .into_iter();
                // What cannot be told stays.
                own.all(|inode| inode.is_ok_and(|inode| !held.contains(&inode)))
            })
        };
        let closed: Vec<usize> = borrower.listening.iter().filter(is_closed).copied().collect();
        for listener in closed {
            self.give_back_closed(number, listener);
        }
        if let Some(borrower) = self.borrowers.get_mut(number) {
            // Each further look is paid for by as many binds as it looks at.
            borrower.many = MANY.max(2 * borrower.listening.len());
        }
    }

    fn give_back_closed(&mut self, number: usize, listener: usize) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        borrower.registered.retain(|it| *it != listener);
        borrower.listening.retain(|it| *it != listener);
        let instance = borrower.place.instance;
        self.keep_uses_of_borrower(number);
        if self.borrowers.iter().any(|(_, it)| it.registered.contains(&listener)) {
            self.release(instance, listener);
        } else {
            self.close_listener(listener);
        }
    }
}

/// The sockets that a worker and its descendants have; nothing where one may not be looked into.
fn sockets_of_tree(borrower: &Borrower) -> Option<BTreeSet<u64>> {
    let mut all = proc::socket_inodes_of(borrower.pid).ok()?;
    for pid in host::tree_members(&borrower.label).ok()?.into_iter().filter(|pid| *pid != borrower.pid) {
        match proc::socket_inodes_of(pid) {
            Ok(sockets) => all.extend(sockets),
            // It has ended meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(all)
}
