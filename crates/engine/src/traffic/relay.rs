//! Connections that completed where nobody accepts any more, and whose workers cannot be handed any: the primary
//! accepts them and copies what comes, both ways, over a new connection to the same address, which the kernel gives to a
//! worker that serves.
//!
//! The worker sees the primary as its client. Memory and number are bounded; who finds no place waits in the queue.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

use oxherd_os::socket::{self, LocalAddr};
use oxherd_os::{Interest, foreign};

use crate::traffic::apps::Doors;
use crate::traffic::listener::{Returned, Socket};
use crate::traffic::timers::Timer;
use crate::traffic::{Token, Traffic};

/// So many are copied at a time at most; each has two descriptors and two buffers.
const RELAYS_MAX: usize = 256;
const BUFFER_BYTES: usize = 16 << 10;
/// So often in a row one connection's bytes are moved before others have their turn.
const MOVES_PER_TURN: u32 = 8;
/// How long a listener rests when its address could not be reached, in milliseconds.
const PAUSE_MS: u64 = 20;

/// All connections that are copied now.
#[derive(Debug, Default)]
pub(super) struct Relays {
    places: BTreeMap<usize, Relay>,
    next: usize,
}

#[derive(Debug)]
struct Relay {
    listener: usize,
    client: TcpStream,
    worker: TcpStream,
    is_connected: bool,
    /// From the client to the worker, and back.
    there: Pipe,
    back: Pipe,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    buffer: Vec<u8>,
    written: usize,
    flow: Flow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    /// The sender has finished; what is left in the buffer is still to be written.
    Ending,
    /// The receiver knows that the sender has finished.
    Ended,
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    /// There is more to move.
    Busy,
    Over,
    Unreachable,
}

impl Traffic {
    /// Whether a connection that waits at a listener may be relayed now: nobody can be handed it, and somebody serves.
    pub(super) fn may_relay(&self, listener: usize) -> bool {
        let holders = self.holders();
        let Some(it) = self.listeners.get(listener) else { return false };
        let Some(app) = self.apps.get(&it.identity.app) else { return false };
        let Socket::Kernel(group) = &it.socket else { return false };
        let is_active = |owner| holders.is_active(app, owner, listener);
        self.relays.places.len() < RELAYS_MAX
            && app.doors == Doors::Open
            && !holders.are_handed(listener)
            && group.members().iter().any(|member| member.owner.is_some_and(is_active))
    }

    pub(super) fn relay(&mut self, listener: usize, next: Returned) {
        match self.begin_relay(listener, &next.connection) {
            Ok(()) => {}
            Err(error) if crate::traffic::acceptor::is_shortage(&error) => {
                self.give_back_to(listener, next);
                self.on_shortage();
            }
            // Its client is gone.
            Err(_) => {}
        }
    }

    fn begin_relay(&mut self, listener: usize, connection: &OwnedFd) -> io::Result<()> {
        let LocalAddr::Inet(address) = socket::local_addr(connection)? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let client = TcpStream::from(connection.try_clone()?);
        let worker = TcpStream::from(foreign::connect_to(address)?);
        drop((client.set_nodelay(true), worker.set_nodelay(true)));
        let number = self.relays.next;
        self.relays.next += 1;
        let token = Token::Relay(number).encode();
        let interest = Interest::READ | Interest::WRITE | Interest::EDGE;
        self.poller.add(&client, token, interest)?;
        self.poller.add(&worker, token, interest)?;
        let (there, back) = (Pipe::default(), Pipe::default());
        let relay = Relay { listener, client, worker, is_connected: false, there, back };
        self.relays.places.insert(number, relay);
        Ok(())
    }

    /// It keeps its place, and is tried again.
    fn give_back_to(&mut self, listener: usize, next: Returned) {
        if let Some(it) = self.listeners.get_mut(listener) {
            it.returned.push_front(next);
        }
    }

    pub(super) fn on_relay(&mut self, number: usize) {
        let Some(relay) = self.relays.places.get_mut(&number) else { return };
        let listener = relay.listener;
        match relay.turn() {
            Progress::Waiting => return,
            Progress::Busy => {
                // A change of the interest makes the poller tell again.
                let token = Token::Relay(number).encode();
                let interest = Interest::READ | Interest::WRITE | Interest::EDGE;
                drop(self.poller.modify(&relay.client, token, interest));
                return;
            }
            Progress::Over => drop(self.relays.places.remove(&number)),
            Progress::Unreachable => {
                if let Some(relay) = self.relays.places.remove(&number) {
                    drop(self.poller.remove(&relay.client));
                    self.give_back_to(listener, Returned::fresh(relay.client.into()));
                }
                if let Some(it) = self.listeners.get_mut(listener) {
                    it.paused_until = self.now + PAUSE_MS;
                }
                self.timers.set(self.now + PAUSE_MS, Timer::RetryListener(listener));
            }
        }
        self.pump(listener);
    }
}

#[cfg(test)]
impl Relays {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

impl Relay {
    fn turn(&mut self) -> Progress {
        if !self.is_connected {
            if foreign::failure_of(&self.worker).is_err() {
                return Progress::Unreachable;
            }
            if self.worker.peer_addr().is_err() {
                return Progress::Waiting;
            }
            self.is_connected = true;
        }
        for _ in 0..MOVES_PER_TURN {
            let there = self.there.shift(&self.client, &self.worker);
            let back = self.back.shift(&self.worker, &self.client);
            match (there, back) {
                (Ok(false), Ok(false)) => return self.rest(),
                (Ok(_), Ok(_)) => {}
                (Err(_), _) | (_, Err(_)) => return Progress::Over,
            }
        }
        Progress::Busy
    }

    fn rest(&self) -> Progress {
        let is_over = self.there.flow == Flow::Ended && self.back.flow == Flow::Ended;
        if is_over { Progress::Over } else { Progress::Waiting }
    }
}

impl Pipe {
    /// Moves what can be moved without waiting. Returns whether anything was.
    fn shift(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<bool> {
        let mut has_moved = false;
        if self.written == self.buffer.len() && self.flow == Flow::Open {
            self.written = 0;
            self.buffer.resize(BUFFER_BYTES, 0);
            let read = now_or_none(from.read(&mut self.buffer));
            self.buffer.truncate(read.as_ref().map_or(0, |count| count.unwrap_or(0)));
            match read? {
                Some(0) => self.flow = Flow::Ending,
                Some(_) => has_moved = true,
                None => {}
            }
        }
        let rest = self.buffer.get(self.written..).unwrap_or_default();
        if !rest.is_empty()
            && let Some(count) = now_or_none(to.write(rest))?
        {
            self.written += count;
            has_moved |= count > 0;
        }
        if self.flow == Flow::Ending && self.written == self.buffer.len() {
            to.shutdown(Shutdown::Write)?;
            self.flow = Flow::Ended;
            has_moved = true;
        }
        Ok(has_moved)
    }
}

/// `None` for what would have to wait.
fn now_or_none(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
