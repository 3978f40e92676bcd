//! Clients that keep their connections: each asks, reads the answer, and asks again, all on one thread and one epoll
//! set. Must cost little, since it shares the cores with the servers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::load::Interrupted;
use crate::sys::{self, check};
use crate::tally::{Failure, Tally, served_by};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// Larger than any answer of the server, which has about 150 bytes.
const ANSWER_MAX_BYTES: usize = 4096;
const WAIT_MS: libc::c_int = 100;
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Clients at work. Dropping it closes their connections.
pub(crate) struct Load {
    epoll: OwnedFd,
    clients: Vec<Client>,
}

struct Client {
    /// Closed once the client is lost, which also takes it out of the set.
    stream: Option<TcpStream>,
    answer: Vec<u8>,
    asked: Instant,
}

impl Load {
    pub(crate) fn new(port: u16, clients: usize) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let mut load = Self { epoll, clients: Vec::new() };
        for at in 0..clients {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: at as u64 };
            let (epoll, fd) = (load.epoll.as_raw_fd(), stream.as_raw_fd());
            // SAFETY: `event` is valid for reading during the call.
            check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
            let answer = Vec::with_capacity(ANSWER_MAX_BYTES);
            let mut client = Client { stream: Some(stream), answer, asked: Instant::now() };
            client.ask(Instant::now())?;
            load.clients.push(client);
        }
        Ok(load)
    }

    /// Keeps every client busy for `duration`; requests in hand at its end go on into the next call.
    pub(crate) fn run_for(&mut self, duration: Duration) -> Result<Tally, Interrupted> {
        let mut tally = Tally::default();
        let start = Instant::now();
        let mut now = start;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        while now - start < duration {
            if sys::stop_requested() {
                return Err(Interrupted);
            }
            // SAFETY: the array is valid for writing and its length is the one given.
            let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, WAIT_MS) };
            now = Instant::now();
            // A negative result is an interruption by a signal, which the loop looks at.
            for event in &events[..usize::try_from(ready).unwrap_or(0)] {
                self.clients[event.u64 as usize].on_ready(now, &mut tally);
            }
        }
        for client in self.clients.iter_mut().filter(|it| it.stream.is_some() && now - it.asked > STUCK_AFTER)
        {
            client.lose(Failure::Stuck, &mut tally);
        }
        tally.elapsed = now - start;
        Ok(tally)
    }
}

impl Client {
    fn ask(&mut self, now: Instant) -> io::Result<()> {
        self.answer.clear();
        self.asked = now;
        // One small request always fits into the empty buffer of a socket.
        self.stream.as_mut().map_or(Ok(()), |stream| stream.write_all(REQUEST))
    }

    fn on_ready(&mut self, now: Instant, tally: &mut Tally) {
        let mut piece = [0; ANSWER_MAX_BYTES];
        let Some(stream) = &mut self.stream else { return };
        match stream.read(&mut piece) {
            Ok(0) => self.lose(Failure::Short, tally),
            Ok(count) => {
                self.answer.extend_from_slice(&piece[..count]);
                self.on_answer(now, tally);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.lose(Failure::of(&error), tally),
        }
    }

    fn on_answer(&mut self, now: Instant, tally: &mut Tally) {
        match served_by(&self.answer) {
            Ok(pid) => {
                tally.serve(pid, now - self.asked);
                if let Err(error) = self.ask(now) {
                    self.lose(Failure::of(&error), tally);
                }
            }
            // The rest is on its way.
            Err(Failure::Short) => {}
            Err(failure) => self.lose(failure, tally),
        }
    }

    /// A lost client is out: the server had no reason to end its connection.
    fn lose(&mut self, failure: Failure, tally: &mut Tally) {
        tally.fail(failure);
        self.stream = None;
    }
}
