//! Probes of readiness: somebody must answer before a worker counts as ready. Each has a thread of its own, which ends
//! with the answer or with the worker; control never waits for one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use oxherd_core::{Distribution, Event, InstanceId, ProbeAt};

use crate::control::Control;
use crate::handle::Wish;
use crate::link::Writer;
use crate::traffic::Order;

/// The first line of an answer is not longer.
const STATUS_LINE_BYTES_MAX: usize = 256;
/// The least pause between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// One probe under way.
struct Prober {
    instance: InstanceId,
    at: ProbeAt,
    interval: Duration,
    timeout: Duration,
    /// Where connections for this worker alone are handed over, if they can be.
    orders: Option<Writer<Order>>,
}

impl Control<'_> {
    pub(super) fn probe(&mut self, instance: InstanceId) {
        let Some(spec) = self.fleet.spec_of(instance).cloned() else { return };
        let probe = spec.ready_probe.as_ref().and_then(|probe| Some((probe, probe.at()?)));
        let (Some((probe, at)), Some(child)) = (probe, self.children.get_mut(instance)) else { return };
        let (interval, timeout) = (probe.interval.as_millis(), probe.timeout.as_millis());
        let is_handed =
            child.had_channel() && spec.distribution == Distribution::Handoff && at.path.is_some();
        let prober = Prober {
            instance,
            at,
            interval: Duration::from_millis(interval).max(SHORTEST_PAUSE),
            timeout: Duration::from_millis(timeout),
            orders: is_handed.then(|| self.traffic.orders.clone()),
        };
        let life = Arc::new(());
        let (wishing, living) = (self.wishing.clone(), Arc::downgrade(&life));
        child.probe = Some(life);
        let body = move || prober.run(&living, &wishing);
        // Without a thread it stays unready, and is told of when its time is up.
        drop(thread::Builder::new().name("probe".into()).spawn(body));
    }

    pub(super) fn on_probed(&mut self, instance: InstanceId) {
        if let Some(child) = self.children.get_mut(instance) {
            child.probe = None;
            self.take_in(Event::Probed { instance });
        }
    }
}

impl Prober {
    fn run(&self, life: &Weak<()>, wishing: &Writer<Wish>) {
        while life.strong_count() > 0 {
            if self.attempt().is_ok() {
                return wishing.send(Wish::Probed(self.instance));
            }
            thread::park_timeout(self.interval);
        }
    }

    fn attempt(&self) -> io::Result<()> {
        let deadline = Instant::now() + self.timeout;
        match (&self.at.path, &self.orders) {
            (Some(path), Some(orders)) => self.ask(self.handed(orders)?, path, deadline),
            (Some(path), None) => self.ask(self.connect(deadline)?, path, deadline),
            (None, _) => self.connect(deadline).map(drop),
        }
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut last = io::ErrorKind::NotFound.into();
        for address in (self.at.host.as_str(), self.at.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection whose other end is handed to the worker, as if a client had come: it is not ready, so by its
    /// listener others would be given it.
    fn handed(&self, orders: &Writer<Order>) -> io::Result<TcpStream> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, from) = listener.accept()?;
        if from != client.local_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        server.set_nonblocking(true)?;
        orders.send(Order::Visit(self.instance, self.at.port, OwnedFd::from(server)));
        Ok(client)
    }

    fn ask(&self, mut stream: TcpStream, path: &str, deadline: Instant) -> io::Result<()> {
        let host =
            if self.at.host.contains(':') { format!("[{}]", self.at.host) } else { self.at.host.clone() };
        let port = self.at.port;
        stream.set_write_timeout(Some(left(deadline)?))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: oxherd\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let mut part = [0; STATUS_LINE_BYTES_MAX];
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if line.len() > STATUS_LINE_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
                count => line.extend_from_slice(part.get(..count).unwrap_or_default()),
            }
        }
        match status_of(&line) {
            Some(status) if status < 400 => Ok(()),
            Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The number in the first line of an answer.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|protocol| protocol.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_behind_the_protocol() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\nA: b"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\n"), Some(503));
        for wrong in [&b"SSH-2.0-x 200\n"[..], b"", b"HTTP/1.1\n", b"\xff\n"] {
            assert_eq!(status_of(wrong), None);
        }
    }

    #[test]
    fn who_answers_well_is_ready_and_who_does_not_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let prober = |path: Option<&str>| Prober {
            instance: InstanceId { starts: 0, number: 1 },
            at: ProbeAt { host: "127.0.0.1".into(), port, path: path.map(Into::into) },
            interval: SHORTEST_PAUSE,
            timeout: Duration::from_millis(300),
            orders: None,
        };
        let answers = ["HTTP/1.1 500 No\r\n\r\n", "", "HTTP/1.1 301 There\r\n\r\n"];
        let serving = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = server.accept().unwrap();
                let mut asked = [0; 1000];
                let count = stream.read(&mut asked).unwrap();
                assert!(asked[..count].starts_with(b"GET /well HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let asked = prober(Some("/well"));
        let results: Vec<bool> = answers.iter().map(|_| asked.attempt().is_ok()).collect();
        assert_eq!(results, [false, false, true]);
        serving.join().unwrap();
        assert!(prober(None).attempt().is_err(), "nobody is there any more");
    }
}
