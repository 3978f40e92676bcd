//! Telling the primary the figures now and then, for those who cannot read the page.
//!
//! Must never make a request wait, nor outlive the runtime that serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::{Figures, Load, Worker};

/// Sees to it that one task reports, for as long as the runtime of the requests lives.
#[derive(Debug)]
pub(super) struct Reporter {
    period: Duration,
    is_running: Arc<AtomicBool>,
}

#[derive(Serialize)]
struct Message<T> {
    r#type: &'static str,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct Stats {
    stats: StatsFigures,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsFigures {
    connections: u64,
    requests: u64,
    in_flight: u64,
    errors: u64,
    latency_ms: Latency,
}

/// In milliseconds; of no requests there is none.
#[derive(Debug, PartialEq, Serialize)]
struct Latency {
    mean: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Serialize)]
struct Metrics {
    data: MetricsFigures,
}

#[derive(Serialize)]
struct MetricsFigures {
    pid: u32,
    requests: u64,
    errors: u64,
    /// Bytes.
    memory: u64,
    /// Seconds.
    uptime: f64,
}

impl Reporter {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, is_running: Arc::default() }
    }

    /// Starts the task where it does not run.
    pub(super) fn ensure(&self, worker: &Worker, load: &Load) {
        if self.period.is_zero() || self.is_running.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.is_running.swap(true, Ordering::Relaxed) {
            let running = Running(Arc::clone(&self.is_running));
            let (worker, load, period) = (worker.clone(), load.clone(), self.period);
            let before = load.figures();
            drop(runtime.spawn(async move { report(&running, &worker, &load, before, period).await }));
        }
    }
}

/// The running task; another may be started when this is dropped.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

async fn report(_running: &Running, worker: &Worker, load: &Load, mut before: Figures, period: Duration) {
    while worker.is_connected() {
        sleep(period).await;
        let now = load.figures();
        let stats = Message { r#type: "stats", content: Stats { stats: stats_of(&before, &now) } };
        let metrics = Message { r#type: "metrics", content: Metrics { data: metrics_of(worker, &now) } };
        // A primary that does not read gets the next ones, or none.
        if worker.send(&stats).is_err() || worker.send(&metrics).is_err() {
            continue;
        }
        before = now;
    }
}

fn stats_of(before: &Figures, now: &Figures) -> StatsFigures {
    StatsFigures {
        connections: now.connections,
        requests: now.requests,
        in_flight: now.in_flight,
        errors: now.errors,
        latency_ms: latency_of(before, now),
    }
}

fn metrics_of(worker: &Worker, now: &Figures) -> MetricsFigures {
    let pid = std::process::id();
    MetricsFigures {
        pid,
        requests: now.requests,
        errors: now.errors,
        memory: oxherd_os::proc::resident_of(pid).unwrap_or(0),
        uptime: worker.uptime().as_secs_f64(),
    }
}

fn latency_of(before: &Figures, now: &Figures) -> Latency {
    let mut counts = now.latency_histogram;
    for (count, old) in counts.iter_mut().zip(before.latency_histogram) {
        *count = count.saturating_sub(old);
    }
    let total: u64 = counts.iter().sum();
    let sum = now.latency_sum_micros.saturating_sub(before.latency_sum_micros);
    let mean = (total > 0).then(|| sum as f64 / total as f64 / 1000.0);
    Latency { mean, p50: quantile(&counts, 0.5), p99: quantile(&counts, 0.99) }
}

/// Within a bucket latencies are taken to be spread evenly.
fn quantile(counts: &[u64], share: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let wanted = total as f64 * share;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= wanted {
            let from = 2_f64.powi(bucket as i32);
            return Some((from + from * (wanted - below) / count) / 1000.0);
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_estimated_from_buckets() {
        let mut counts = [0; 32];
        assert_eq!(quantile(&counts, 0.5), None);
        counts[10] = 98;
        counts[20] = 2;
        let p50 = quantile(&counts, 0.5).unwrap();
        assert!((1.024..2.048).contains(&p50), "{p50}");
        let p99 = quantile(&counts, 0.99).unwrap();
        assert!((1048.0..2097.2).contains(&p99), "{p99}");
    }

    #[test]
    fn reports_are_as_documented() {
        let latency_ms = Latency { mean: Some(1.5), p50: None, p99: Some(2.0) };
        let stats = StatsFigures { connections: 1, requests: 2, in_flight: 3, errors: 4, latency_ms };
        let message = Message { r#type: "stats", content: Stats { stats } };
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            "{\"type\":\"stats\",\"stats\":{\"connections\":1,\"requests\":2,\"inFlight\":3,\"errors\":4,\
             \"latencyMs\":{\"mean\":1.5,\"p50\":null,\"p99\":2.0}}}"
        );
        let data = MetricsFigures { pid: 1, requests: 2, errors: 3, memory: 4, uptime: 5.5 };
        assert_eq!(
            serde_json::to_string(&Message { r#type: "metrics", content: Metrics { data } }).unwrap(),
            "{\"type\":\"metrics\",\"data\":{\"pid\":1,\"requests\":2,\"errors\":3,\"memory\":4,\"uptime\":5.5}}"
        );
    }
}
