//! Clients that ask in a loop and keep count of every kind of failure. They expect answers that tell
//! the process: JSON with `pid` or `workerId`, or a list of the folder that has its threads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Address, Failure};
use crate::http::{Client, Response};
use crate::procs;

/// How long a request may take before it counts as lost.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What clients saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Right answers.
    pub ok: u64,
    /// Nobody listened.
    pub refused: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Connections that ended before the answer did.
    pub early_eof: u64,
    /// Requests without an answer for too long.
    pub timeout: u64,
    /// Answers that were not the expected ones.
    pub wrong: u64,
    /// One of the wrong answers.
    pub example: Option<String>,
    /// Right answers by the process that gave them.
    pub by_pid: BTreeMap<u32, u64>,
    /// When each right answer was asked for, and how long it took.
    pub latencies: Vec<(Instant, Duration)>,
}

impl Load {
    /// Starts clients that open a connection for each request.
    pub fn short(address: &Address, path: &str, clients: usize) -> Self {
        Self::start(address, path, clients, false)
    }

    /// Starts clients that keep their connections, and open another when one is lost.
    pub fn keep_alive(address: &Address, path: &str, clients: usize) -> Self {
        Self::start(address, path, clients, true)
    }

    fn start(address: &Address, path: &str, clients: usize, keep: bool) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients).map(|_| {
            let (address, path) = (address.clone(), path.to_owned());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || ask_on(&address, &path, keep, &stop, &done))
        });
        let clients = clients.collect();
        Self { stop, done, clients }
    }

    /// How many requests were made, whatever came of them.
    pub fn count(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests have been made.
    pub fn wait_more(&self, more: u64) {
        let until = self.count() + more;
        crate::eventually(&format!("{more} more requests"), || (self.count() >= until).then_some(()));
    }

    /// Lets requests in hand end, and tells what all clients saw.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let tallies = self.clients.into_iter().map(|client| client.join().expect("a client does not panic"));
        tallies.fold(Tally::default(), Tally::with)
    }
}

impl Tally {
    /// Requests that got no right answer.
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.early_eof + self.timeout + self.wrong
    }

    /// All requests.
    pub fn all(&self) -> u64 {
        self.ok + self.failed()
    }

    /// The longest of the right answers.
    pub fn slowest(&self) -> Duration {
        self.latencies.iter().map(|(_, latency)| *latency).max().unwrap_or_default()
    }

    /// How many right answers took longer than this.
    pub fn slower_than(&self, limit: Duration) -> usize {
        self.latencies.iter().filter(|(_, latency)| *latency > limit).count()
    }

    /// The sum of two.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.ok += other.ok;
        self.refused += other.refused;
        self.reset += other.reset;
        self.early_eof += other.early_eof;
        self.timeout += other.timeout;
        self.wrong += other.wrong;
        self.example = self.example.or(other.example);
        for (pid, count) in other.by_pid {
            *self.by_pid.entry(pid).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        self
    }

    /// Counts one request.
    pub fn count(&mut self, asked: Instant, result: Result<Response, Failure>) {
        match result.and_then(|response| pid_of(&response)) {
            Ok(pid) => {
                self.ok += 1;
                *self.by_pid.entry(pid).or_default() += 1;
                self.latencies.push((asked, asked.elapsed()));
            }
            Err(Failure::Refused) => self.refused += 1,
            Err(Failure::Reset) => self.reset += 1,
            Err(Failure::EarlyEof) => self.early_eof += 1,
            Err(Failure::Timeout) => self.timeout += 1,
            Err(Failure::Wrong(what)) => {
                self.wrong += 1;
                self.example.get_or_insert(what);
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.all(), self.failed())?;
        write!(f, " (reset {}, early EOF {}, refused {}", self.reset, self.early_eof, self.refused)?;
        write!(f, ", timeout {}, wrong {}", self.timeout, self.wrong)?;
        if let Some(example) = &self.example {
            write!(f, ", such as {example:?}")?;
        }
        write!(f, "), {} pids, slowest {:?}", self.by_pid.len(), self.slowest())
    }
}

/// The process that gave an answer.
///
/// # Errors
/// It is not told.
pub fn pid_of(response: &Response) -> Result<u32, Failure> {
    let told = match serde_json::from_slice::<Value>(&response.body) {
        Ok(value) => value["pid"].as_u64().or(value["workerId"].as_u64()).map(|pid| pid as u32),
        Err(_) => of_threads(&response.text()),
    };
    let wrong = || Failure::Wrong(format!("{} {}", response.status, response.text()));
    told.filter(|_| response.status == 200).ok_or_else(wrong)
}

/// The process whose threads a list of `/proc/self/task` links to. Numbers come round again, so that the lowest is the
/// process's own only where it cannot be asked any more.
fn of_threads(page: &str) -> Option<u32> {
    let threads: Vec<u32> =
        page.split("href=\"").filter_map(|rest| rest.split_once('/')?.0.parse().ok()).collect();
    threads.iter().find_map(|thread| procs::process_of(*thread)).or_else(|| threads.iter().min().copied())
}

fn ask_on(address: &Address, path: &str, keep: bool, stop: &AtomicBool, done: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Client> = None;
    let fields = if keep { "" } else { "Connection: close\r\n" };
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let result = ask(&mut kept, address, path, fields);
        // A server may say that this answer was the last on this connection.
        let goes_on = result.as_ref().is_ok_and(|response| response.header("connection") != Some("close"));
        if !(keep && goes_on) {
            kept = None;
        }
        tally.count(asked, result);
        done.fetch_add(1, Ordering::Relaxed);
    }
    tally
}

fn ask(kept: &mut Option<Client>, address: &Address, path: &str, fields: &str) -> Result<Response, Failure> {
    let client = match kept {
        Some(client) => client,
        None => kept.insert(Client::connect_within(address, REQUEST_MAX)?),
    };
    client.request("GET", path, fields, b"")
}
