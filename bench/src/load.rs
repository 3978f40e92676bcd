//! The clients: each connects, asks, reads to the end of file, and starts again, all on one thread and one epoll set.
//! Must cost little, since it shares the cores with the servers: a client is woken once per connection, when the
//! answer is complete (`SO_RCVLOWAT` beyond its size leaves only the end of file), and its reset at the close (after
//! the end of file) leaves no port in TIME_WAIT.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::sys::{self, check, check_size};
use crate::tally::{Failure, Tally, served_by};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// Larger than any answer of the server, which has about 150 bytes.
const ANSWER_MAX_BYTES: usize = 4096;
/// A connection without an end after this long counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);
const STUCK_CHECK_EVERY: Duration = Duration::from_millis(500);
const WAIT_MS: libc::c_int = 100;
/// After a failure a client pauses, so that a dead server is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Interrupted;

/// Clients at work. Dropping it closes their connections.
pub(crate) struct Load {
    port: u16,
    epoll: OwnedFd,
    clients: Vec<Client>,
    buffer: Box<[u8; ANSWER_MAX_BYTES]>,
}

struct Client {
    socket: Option<OwnedFd>,
    asked: bool,
    started: Instant,
}

impl Load {
    pub(crate) fn new(port: u16, clients: usize) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let idle = || Client { socket: None, asked: false, started: Instant::now() };
        let clients = std::iter::repeat_with(idle).take(clients).collect();
        Ok(Self { port, epoll, clients, buffer: Box::new([0; ANSWER_MAX_BYTES]) })
    }

    /// Keeps every client busy for `duration`; connections in hand at its end go on into the next call.
    pub(crate) fn run_for(&mut self, duration: Duration) -> Result<Tally, Interrupted> {
        let mut tally = Tally::default();
        let start = Instant::now();
        for at in 0..self.clients.len() {
            if self.clients[at].socket.is_none() {
                self.begin(at, start, &mut tally);
            }
        }
        let (mut now, mut checked) = (start, start);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        while now - start < duration {
            if sys::stop_requested() {
                return Err(Interrupted);
            }
            let ready = self.wait(&mut events);
            now = Instant::now();
            for event in &events[..ready] {
                self.on_ready(event.u64 as usize, now, &mut tally);
            }
            if now - checked > STUCK_CHECK_EVERY {
                checked = now;
                self.replace_stuck(now, &mut tally);
            }
        }
        tally.elapsed = now - start;
        Ok(tally)
    }

    fn wait(&self, events: &mut [libc::epoll_event; 64]) -> usize {
        // SAFETY: the array is valid for writing and its length is the one given.
        let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, WAIT_MS) };
        // A negative result is an interruption by a signal, which the caller's loop looks at.
        usize::try_from(ready).unwrap_or(0)
    }

    fn begin(&mut self, at: usize, now: Instant, tally: &mut Tally) {
        match self.open(at) {
            Ok(asked) => self.clients[at].asked = asked,
            Err(error) => {
                self.clients[at].socket = None;
                tally.fail(Failure::of(&error));
                std::thread::sleep(PAUSE_AFTER_FAILURE);
            }
        }
        self.clients[at].started = now;
    }

    /// Opens a connection and asks. A handshake over loopback is complete when `connect` returns although the socket
    /// does not block, so the request usually leaves at once; when the accept queue is full it has to wait.
    fn open(&mut self, at: usize) -> io::Result<bool> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked before it is owned.
        let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?) };
        let fd = socket.as_raw_fd();
        self.clients[at].socket = Some(socket);
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &(ANSWER_MAX_BYTES as libc::c_int))?;
        let reset_on_close = libc::linger { l_onoff: 1, l_linger: 0 };
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &reset_on_close)?;
        let address = sys::loopback(self.port);
        // SAFETY: `address` is a sockaddr_in of the length given.
        match check(unsafe { libc::connect(fd, (&raw const address).cast(), sys::address_length()) }) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let asked = ask(fd)?;
        let wanted = if asked { libc::EPOLLIN | libc::EPOLLRDHUP } else { libc::EPOLLOUT };
        self.watch(libc::EPOLL_CTL_ADD, fd, at, wanted)?;
        Ok(asked)
    }

    fn watch(&self, operation: libc::c_int, fd: RawFd, at: usize, wanted: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: wanted.cast_unsigned(), u64: at as u64 };
        // SAFETY: `event` is valid for reading during the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }

    fn on_ready(&mut self, at: usize, now: Instant, tally: &mut Tally) {
        let Some(fd) = self.clients[at].socket.as_ref().map(AsRawFd::as_raw_fd) else { return };
        let outcome = if self.clients[at].asked { self.finish(fd) } else { self.ask_late(fd, at) };
        match outcome {
            Ok(None) => return,
            Ok(Some(pid)) => tally.serve(pid, now - self.clients[at].started),
            Err(failure) => {
                tally.fail(failure);
                std::thread::sleep(PAUSE_AFTER_FAILURE);
            }
        }
        self.clients[at].socket = None;
        self.begin(at, now, tally);
    }

    fn ask_late(&mut self, fd: RawFd, at: usize) -> Result<Option<u32>, Failure> {
        let asked = ask(fd).map_err(|error| Failure::of(&error))?;
        if asked {
            self.watch(libc::EPOLL_CTL_MOD, fd, at, libc::EPOLLIN | libc::EPOLLRDHUP)
                .map_err(|error| Failure::of(&error))?;
            self.clients[at].asked = true;
        }
        Ok(None)
    }

    /// Reads the answer to its end. The wake-up came with the end of file, so that nothing is left to wait for.
    fn finish(&mut self, fd: RawFd) -> Result<Option<u32>, Failure> {
        let mut got = 0;
        loop {
            let rest = &mut self.buffer[got..];
            // SAFETY: `rest` is valid for writing and its length is the one given.
            match check_size(unsafe { libc::recv(fd, rest.as_mut_ptr().cast(), rest.len(), 0) }) {
                Ok(0) => return served_by(&self.buffer[..got]).map(Some),
                Ok(more) => got += more,
                // Some bytes and then neither more nor an end: too short, since the wake-up waits for the end.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got == 0 => return Ok(None),
                Err(error) => return Err(Failure::of(&error)),
            }
        }
    }

    fn replace_stuck(&mut self, now: Instant, tally: &mut Tally) {
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            let stuck = client.socket.is_some() && now - client.started > STUCK_AFTER;
            if stuck {
                client.socket = None;
                tally.fail(Failure::Stuck);
            }
            if self.clients[at].socket.is_none() {
                self.begin(at, now, tally);
            }
        }
    }
}

/// Sends the request; `false` means that the handshake is not complete yet.
fn ask(fd: RawFd) -> io::Result<bool> {
    // SAFETY: the request is valid for reading over its length.
    let sent = unsafe { libc::send(fd, REQUEST.as_ptr().cast(), REQUEST.len(), libc::MSG_NOSIGNAL) };
    match check_size(sent) {
        Ok(length) if length == REQUEST.len() => Ok(true),
        Ok(_) => Err(io::Error::other("half a request was sent")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
