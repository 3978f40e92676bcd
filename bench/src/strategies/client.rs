//! Clients that ask when it is time, whether or not earlier answers have come: an open loop, each request on a
//! connection of its own. What a request waits because everybody is busy counts, from the moment it was due.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::strategies::workload::Request;
use crate::sys;

/// So many requests can be under way; more are late, and wait for a client.
const CLIENTS: usize = 256;
const STACK_BYTES: usize = 64 << 10;
/// A request that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until all clients are there.
const HEAD_START: Duration = Duration::from_millis(200);
/// The machine, or the number of clients, was too small for what was asked.
const LATE_AFTER: Duration = Duration::from_millis(5);

/// What came of the requests.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Of those that were due after the warm-up, in microseconds.
    pub(crate) times: Vec<u32>,
    pub(crate) failed: usize,
    pub(crate) late: usize,
}

/// Sends all requests to a port of this machine, and awaits the answers.
pub(crate) fn drive(port: u16, requests: &[Request], warm_up: Duration) -> Result<Outcome, String> {
    let (start, next) = (Instant::now() + HEAD_START, AtomicUsize::new(0));
    let one = || {
        let mut outcome = Outcome::default();
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            if sys::stop_requested() {
                break;
            }
            send_when_due(port, request, start, warm_up, &mut outcome);
        }
        outcome
    };
    let outcomes = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, one))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("cannot start clients: {error}"))?;
        let joined =
            clients.into_iter().map(|client| client.join().map_err(|_| "a client panicked".to_owned()));
        joined.collect::<Result<Vec<Outcome>, String>>()
    })?;
    if sys::stop_requested() {
        return Err("interrupted".into());
    }
    Ok(outcomes.into_iter().fold(Outcome::default(), Outcome::with))
}

fn send_when_due(port: u16, request: &Request, start: Instant, warm_up: Duration, outcome: &mut Outcome) {
    let since_start = Duration::from_micros(request.arrives);
    let due = start + since_start;
    thread::sleep(due.saturating_duration_since(Instant::now()));
    outcome.late += usize::from(due.elapsed() > LATE_AFTER);
    match ask(port, request.work) {
        Ok(()) if since_start < warm_up => {}
        Ok(()) => outcome.times.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX)),
        Err(()) => outcome.failed += 1,
    }
}

fn ask(port: u16, work_us: u64) -> Result<(), ()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(drop)?;
    let reset_on_close = libc::linger { l_onoff: 1, l_linger: 0 };
    sys::set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &reset_on_close).map_err(drop)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(drop)?;
    let request = format!("GET /{work_us} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(drop)?;
    let mut answer = Vec::with_capacity(256);
    stream.read_to_end(&mut answer).map_err(drop)?;
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(()) }
}

impl Outcome {
    fn with(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.late += other.late;
        self
    }
}
