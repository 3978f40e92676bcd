//! What the example programs share: where they listen, and facts about a process. Nothing of a cluster is here.

pub mod compare;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::{Value, json};

/// What an example's worker may fail with.
pub type Failure = oxherd::BoxError;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where to listen: all addresses, port `PORT`, 3000 without it.
///
/// # Errors
/// `PORT` is no port.
pub fn address() -> Result<SocketAddr, Failure> {
    let port = match std::env::var("PORT") {
        Ok(text) => {
            text.parse().map_err(|_| format!("PORT={text} is no port: it is a number up to 65535"))?
        }
        Err(_) => 3000,
    };
    Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// The time as `2026-01-31T23:59:59.123Z`, the form of JavaScript's `toISOString`.
pub fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Seconds since the first call, which a worker makes when it starts.
pub fn uptime() -> f64 {
    STARTED.elapsed().as_secs_f64()
}

/// Memory of this process in bytes, as `/proc/self/statm` has it.
pub fn memory() -> Value {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<u64> = statm.split(' ').filter_map(|field| field.trim().parse().ok()).collect();
    let bytes = |at: usize| pages.get(at).map(|pages| pages * 4096);
    json!({ "rss": bytes(1), "shared": bytes(2), "data": bytes(5) })
}

/// A calculation that keeps a CPU busy: the sum of the square roots below `count`, and how long it took in
/// milliseconds.
pub fn square_roots(count: u32) -> (f64, f64) {
    let begun = Instant::now();
    let sum = (0..count).map(|number| f64::from(std::hint::black_box(number)).sqrt()).sum();
    (sum, begun.elapsed().as_secs_f64() * 1000.0)
}
