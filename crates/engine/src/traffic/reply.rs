//! Replies to a worker that wants a socket: one connection after the other, the socket itself, or a failure.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oxherd_os::io_errno;
use oxherd_wire::{self as wire, HandleKind, Query};

use crate::traffic::Traffic;
use crate::traffic::listener::Socket;
use crate::traffic::worker::{HandleFrame, Standing};

/// How often a socket is sent again to a worker that has no descriptor free for it.
const MAX_SOCKET_TRIES: u32 = 3;
const EMFILE: i32 = 24;

impl Traffic {
    /// Replies to a query with a listener that is there.
    pub(super) fn lend(&mut self, number: usize, listener: usize, query: Query) {
        let Some(it) = self.listeners.get_mut(listener) else { return };
        if it.data.is_none() && query.data.is_some() {
            it.data = query.data;
            self.keep_listener(listener);
        }
        let Some(it) = self.listeners.get_mut(listener) else { return };
        let is_lent = if it.is_handoff() {
            self.reply_round_robin(number, listener, query.seq);
            true
        } else {
            self.reply_with_socket(number, listener, query.seq, 1)
        };
        if !is_lent {
            return;
        }
        if let Some(worker) = self.workers.get_mut(number)
            && !worker.registered.contains(&listener)
        {
            worker.registered.push(listener);
        }
        self.keep_uses(number);
        self.refresh_group(listener);
        self.pump(listener);
    }

    pub(super) fn reply_error(&mut self, number: usize, query: &Query, errno: i32) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let seq = worker.take_seq();
        let key = format!("E{}", query.seq);
        self.reply(number, |out| {
            wire::reply_error(out, seq, query.seq, &key, query.data.as_deref(), errno);
        });
    }

    fn reply_round_robin(&mut self, number: usize, listener: usize, ack: u64) {
        let (Some(worker), Some(it)) = (self.workers.get_mut(number), self.listeners.get(listener)) else {
            return;
        };
        let mut line = Vec::new();
        wire::reply_round_robin(&mut line, worker.take_seq(), ack, &it.key, it.data.as_deref(), it.sockname);
        self.send_to(number, &line);
    }

    /// Whether the socket is on its way; else the failure is.
    fn reply_with_socket(&mut self, number: usize, listener: usize, ack: u64, tries: u32) -> bool {
        match self.send_socket(number, listener, ack, tries) {
            Ok(()) => true,
            Err(error) => {
                self.take_listener(number, listener);
                self.reply_failed_socket(number, listener, ack, io_errno(&error));
                false
            }
        }
    }

    fn send_socket(&mut self, number: usize, listener: usize, ack: u64, tries: u32) -> io::Result<()> {
        let (kind, fd) = self.socket_for(number, listener)?;
        let (Some(worker), Some(it)) = (self.workers.get_mut(number), self.listeners.get(listener)) else {
            return Ok(());
        };
        let seq = worker.take_seq();
        let mut line = Vec::new();
        wire::reply_shared(&mut line, kind, seq, ack, &it.key, it.data.as_deref());
        let sent = worker.out.send_handle(&line, fd.as_fd(), seq)?;
        worker.handles.push_back(HandleFrame::Socket { seq, ack, listener, tries });
        self.after_send(number, sent);
        Ok(())
    }

    /// A copy of what this worker is to have.
    fn socket_for(&mut self, number: usize, listener: usize) -> io::Result<(HandleKind, OwnedFd)> {
        let workers = &self.workers;
        let is_leaving =
            |instance| workers.by_instance(instance).is_none_or(|it| it.standing != Standing::Open);
        let (Some(worker), Some(it)) = (workers.get(number), self.listeners.get_mut(listener)) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let place = worker.place;
        match &mut it.socket {
            Socket::Handoff(source) => Ok((HandleKind::NetNative, source.fd.try_clone()?)),
            Socket::Shared(fd) => Ok((HandleKind::NetNative, fd.try_clone()?)),
            Socket::Udp(fd) => Ok((HandleKind::DgramNative, fd.try_clone()?)),
            Socket::Kernel(group) => {
                let member = group.lend(place.slot, place.instance, is_leaving)?;
                Ok((HandleKind::NetNative, member.source.fd.try_clone()?))
            }
            Socket::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The worker had no descriptor free for the socket.
    pub(super) fn on_socket_refused(&mut self, number: usize, ack: u64, listener: usize, tries: u32) {
        if tries < MAX_SOCKET_TRIES {
            self.reply_with_socket(number, listener, ack, tries + 1);
        } else {
            self.take_listener(number, listener);
            self.reply_failed_socket(number, listener, ack, EMFILE);
        }
    }

    fn reply_failed_socket(&mut self, number: usize, listener: usize, ack: u64, errno: i32) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let seq = worker.take_seq();
        let data = self.listeners.get(listener).and_then(|it| it.data.clone());
        self.reply(number, |out| wire::reply_error(out, seq, ack, "none", data.as_deref(), errno));
    }

    /// The worker does not use the listener any more.
    pub(super) fn take_listener(&mut self, number: usize, listener: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.registered.retain(|it| *it != listener);
        let instance = worker.place.instance;
        if let Some(Socket::Kernel(group)) = self.listeners.get_mut(listener).map(|it| &mut it.socket) {
            group.give_back(instance);
        }
        self.keep_uses(number);
        self.refresh_group(listener);
    }
}
