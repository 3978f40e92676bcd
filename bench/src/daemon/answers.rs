//! Asks a port until every worker behind it has answered.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::sys;
use crate::tally::served_by;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions: the workers that still boot need the machine more.
const PAUSE: Duration = Duration::from_millis(2);
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Returns when `workers` different ones have answered; an error says how many did.
pub(crate) fn from_all(port: u16, workers: usize) -> Result<Instant, String> {
    let deadline = Instant::now() + LIMIT;
    let mut heard = BTreeSet::new();
    loop {
        heard.extend(ask(port));
        if heard.len() >= workers {
            return Ok(Instant::now());
        }
        if sys::stop_requested() {
            return Err("interrupted".to_owned());
        }
        if Instant::now() > deadline {
            let (of, secs) = (heard.len(), LIMIT.as_secs());
            return Err(format!("{of} of {workers} workers have answered within {secs} s"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The worker that answers, if one does.
fn ask(port: u16) -> Option<u32> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_PATIENCE).ok()?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).ok()?;
    stream.write_all(REQUEST).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    served_by(&answer).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn each_worker_counts_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = std::thread::spawn(move || {
            for pid in [7, 7, 8, 7, 9] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 64];
                stream.read_exact(&mut request[..REQUEST.len()]).expect("a request");
                write!(stream, "HTTP/1.1 200 OK\r\n\r\npid {pid}\n").expect("it reads");
            }
        });
        assert!(from_all(port, 3).is_ok());
        server.join().expect("it served five");
    }
}
