//! The floor: the least that anybody can do who hands accepted connections to Node workers by Node's own protocol.
//! accept4, sendmsg, recv of the answer, close; round-robin over the workers with room; no allocation and no parsing
//! once it serves. It is the denominator of the budgets, so it must stay honest: nothing that makes it slower, and
//! nothing that a correct primary could not do.

use std::io;
use std::mem::zeroed;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use crate::args::FloorOptions;
use crate::floor_worker::{ACCEPTED, FloorWorker, NEW_CONNECTION, REJECTED};
use crate::sys;

pub(crate) const WINDOW_MAX: usize = 64;
const WORKERS: usize = 2;
const BACKLOG: libc::c_int = 511;
/// How late a stop request may be seen by an idle loop.
const WAIT_MS: libc::c_int = 200;
/// Answers to a full window fit many times over.
const ANSWERS_BYTES: usize = 16 * 1024;

/// Serves `$PORT` until SIGTERM, then prints what it did.
pub(crate) fn run(options: &FloorOptions) -> Result<(), String> {
    let port =
        std::env::var("PORT").ok().and_then(|port| port.parse().ok()).ok_or("PORT is not a port number")?;
    let listener = listen(port).map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let mut workers: Vec<FloorWorker> =
        (1..=WORKERS).map(|id| FloorWorker::start(&options.node, id)).collect::<Result<_, _>>()?;
    for worker in &mut workers {
        worker.await_listening(port)?;
    }
    println!("READY");
    let mut lanes = [0, 1].map(|at: usize| Lane::new(workers[at].channel.as_raw_fd(), options.window));
    let (user_start, system_start) = sys::own_cpu_us();
    let connections = serve(listener.as_raw_fd(), &mut lanes).map_err(|error| format!("floor: {error}"))?;
    let (user, system) = sys::own_cpu_us();
    println!(
        "floor: {connections} connections, {} us user, {} us system",
        user - user_start,
        system - system_start
    );
    Ok(())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    // SAFETY: no pointers; listening again only changes the backlog.
    sys::check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

/// One worker's channel and the connections it has not answered for, oldest first.
struct Lane {
    channel: RawFd,
    window: usize,
    held: [RawFd; WINDOW_MAX],
    oldest: usize,
    count: usize,
}

impl Lane {
    fn new(channel: RawFd, window: usize) -> Self {
        Self { channel, window, held: [-1; WINDOW_MAX], oldest: 0, count: 0 }
    }

    fn has_room(&self) -> bool {
        self.count < self.window
    }

    fn hold(&mut self, connection: RawFd) {
        self.held[(self.oldest + self.count) % WINDOW_MAX] = connection;
        self.count += 1;
    }

    fn release_oldest(&mut self) -> io::Result<()> {
        if self.count == 0 {
            return Err(io::Error::other("a worker answered more often than it was asked"));
        }
        // SAFETY: `hold` put a descriptor here that nothing else owns, and it leaves the ring with this call.
        unsafe { libc::close(self.held[self.oldest]) };
        self.oldest = (self.oldest + 1) % WINDOW_MAX;
        self.count -= 1;
        Ok(())
    }
}

fn serve(listener: RawFd, lanes: &mut [Lane; WORKERS]) -> io::Result<u64> {
    let mut connections = 0;
    let mut turn = 0;
    let mut answers = [0; ANSWERS_BYTES];
    let poll_for = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled = [poll_for(listener), poll_for(lanes[0].channel), poll_for(lanes[1].channel)];
    while !sys::stop_requested() {
        // Without room the listener is not asked for: waiting connections stay in the kernel's queue.
        let asked = lanes.iter().any(Lane::has_room);
        polled[0].fd = if asked { listener } else { -1 };
        wait(&mut polled)?;
        for (lane, poll) in lanes.iter_mut().zip(&polled[1..]) {
            if poll.revents != 0 {
                connections += collect_answers(lane, &mut answers)?;
            }
        }
        if asked && polled[0].revents == 0 {
            continue;
        }
        while let Some(lane) = next_with_room(lanes, &mut turn) {
            let Some(connection) = accept(listener)? else { break };
            hand_over(lane, connection)?;
        }
    }
    Ok(connections)
}

fn next_with_room<'a>(lanes: &'a mut [Lane; WORKERS], turn: &mut usize) -> Option<&'a mut Lane> {
    let at = (0..WORKERS).map(|step| (*turn + step) % WORKERS).find(|&at| lanes[at].has_room())?;
    *turn = (at + 1) % WORKERS;
    Some(&mut lanes[at])
}

fn wait(polled: &mut [libc::pollfd]) -> io::Result<()> {
    // SAFETY: the slice is valid for reading and writing and its length is the one given.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, WAIT_MS) };
    match sys::check(ready) {
        Ok(0) => polled.iter_mut().for_each(|poll| poll.revents = 0),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            polled.iter_mut().for_each(|poll| poll.revents = 0);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn accept(listener: RawFd) -> io::Result<Option<RawFd>> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null address pointers are allowed and mean that the peer's address is not wanted.
    match sys::check(unsafe { libc::accept4(listener, ptr::null_mut(), ptr::null_mut(), flags) }) {
        Ok(connection) => Ok(Some(connection)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR) => Ok(None),
            Some(_) | None => Err(error),
        },
    }
}

/// Room for one descriptor as ancillary data, aligned as a `cmsghdr` must be.
#[repr(C)]
struct OneDescriptor {
    header: libc::cmsghdr,
    fd: RawFd,
    padding: u32,
}

fn hand_over(lane: &mut Lane, connection: RawFd) -> io::Result<()> {
    let mut bytes =
        libc::iovec { iov_base: NEW_CONNECTION.as_ptr().cast_mut().cast(), iov_len: NEW_CONNECTION.len() };
    // SAFETY: both structures are plain data for which zero is valid (some libcs have private padding in them).
    // The lengths set are those of `OneDescriptor`, whose layout is that of one SCM_RIGHTS message; every pointer
    // outlives the call, and the kernel only reads through them.
    let sent = unsafe {
        let mut control = OneDescriptor { header: zeroed(), fd: connection, padding: 0 };
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        control.header.cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut bytes;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<OneDescriptor>();
        libc::sendmsg(lane.channel, &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    // A window's frames are far from filling the channel, so a refusal or a partial write is a broken worker.
    if sys::check_size(sent)? != NEW_CONNECTION.len() {
        return Err(io::Error::other("the channel took half a frame"));
    }
    lane.hold(connection);
    Ok(())
}

/// Reads what the worker said and lets go of the connections that it has taken.
fn collect_answers(lane: &mut Lane, answers: &mut [u8; ANSWERS_BYTES]) -> io::Result<u64> {
    // SAFETY: the buffer is valid for writing and its length is the one given.
    let got =
        unsafe { libc::recv(lane.channel, answers.as_mut_ptr().cast(), ANSWERS_BYTES, libc::MSG_DONTWAIT) };
    let got = sys::check_size(got)?;
    if got == 0 {
        return Err(io::Error::other("a worker has ended"));
    }
    let answers = &answers[..got];
    let accepted = count(answers, ACCEPTED);
    for _ in 0..accepted {
        lane.release_oldest()?;
    }
    if accepted == 0 && count(answers, REJECTED) > 0 {
        return Err(io::Error::other("a worker refused a connection"));
    }
    Ok(accepted)
}

fn count(mut text: &[u8], wanted: &[u8]) -> u64 {
    let mut found = 0;
    loop {
        // SAFETY: both slices are valid for reading over the lengths given.
        let at =
            unsafe { libc::memmem(text.as_ptr().cast(), text.len(), wanted.as_ptr().cast(), wanted.len()) };
        if at.is_null() {
            return found;
        }
        found += 1;
        let past = at.addr() - text.as_ptr().addr() + wanted.len();
        text = &text[past..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_in_one_read_is_counted() {
        let text = br#"{"cmd":"NODE_HANDLE_ACK"}
{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}
{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":4}
"#;
        assert_eq!(count(text, ACCEPTED), 2);
        assert_eq!(count(text, REJECTED), 0);
    }

    #[test]
    fn the_turn_passes_over_a_worker_without_room() {
        let mut lanes = [Lane::new(10, 1), Lane::new(11, 1)];
        let mut turn = 0;
        next_with_room(&mut lanes, &mut turn).expect("both have room").hold(-1);
        assert_eq!(turn, 1);
        turn = 0;
        assert_eq!(next_with_room(&mut lanes, &mut turn).map(|lane| lane.channel), Some(11));
        lanes[1].hold(-1);
        assert!(next_with_room(&mut lanes, &mut turn).is_none());
    }

    #[test]
    fn an_answer_nobody_asked_for_is_an_error() {
        assert!(Lane::new(10, 2).release_oldest().is_err());
    }
}
