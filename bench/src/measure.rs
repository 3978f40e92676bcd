//! One contestant, once: start, wait until both workers serve, warm up, measure, stop.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::args::AcceptOptions;
use crate::contestant::{Contestant, Herd, WORKERS};
use crate::load::{Interrupted, Load};
use crate::machine::MachineTicks;
use crate::stats::quantile;
use crate::sys::{self, CpuTime};
use crate::tally::Tally;

const BOOT_LIMIT: Duration = Duration::from_secs(20);
const BOOT_STEP: Duration = Duration::from_millis(5);
/// Load goes on in slices of this length until both workers have answered.
const SLICE: Duration = Duration::from_millis(100);

pub(crate) enum Failed {
    Interrupted,
    Contestant(String),
}

impl From<Interrupted> for Failed {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Contestant(message)
    }
}

/// CPU time of the primary over the measured seconds.
#[derive(Clone, Copy)]
pub(crate) struct PrimaryCpu {
    pub(crate) total_ns: f64,
    /// The total's part in user space, divided as the kernel's ticks fell.
    pub(crate) user_ns: f64,
}

/// The figures of one contestant in one round.
pub(crate) struct Sample {
    pub(crate) contestant: Contestant,
    pub(crate) round: usize,
    pub(crate) served: u64,
    pub(crate) rate: f64,
    pub(crate) primary: Option<PrimaryCpu>,
    pub(crate) workers_us: f64,
    pub(crate) clients_us: f64,
    pub(crate) busiest_share: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<(&'static str, u64)>,
    idle: f64,
    stolen: f64,
    last_words: String,
}

impl Sample {
    pub(crate) fn user_us(&self) -> Option<f64> {
        self.primary.map(|cpu| cpu.user_ns / 1e3 / self.served as f64)
    }

    pub(crate) fn system_us(&self) -> Option<f64> {
        self.primary.map(|cpu| (cpu.total_ns - cpu.user_ns) / 1e3 / self.served as f64)
    }

    pub(crate) fn total_us(&self) -> Option<f64> {
        self.primary.map(|cpu| cpu.total_ns / 1e3 / self.served as f64)
    }

    pub(crate) fn json(&self) -> Value {
        let failures: Map<String, Value> =
            self.failures.iter().map(|&(kind, count)| (kind.to_owned(), json!(count))).collect();
        json!({
            "contestant": self.contestant.name(), "round": self.round, "served": self.served,
            "connections_per_second": self.rate, "primary_user_us": self.user_us(),
            "primary_system_us": self.system_us(), "primary_total_us": self.total_us(),
            "workers_us": self.workers_us, "clients_us": self.clients_us,
            "busiest_share": self.busiest_share, "p50_us": self.p50_us, "p99_us": self.p99_us, "errors": failures, "machine_idle": self.idle, "machine_stolen": self.stolen,
            "last_words": self.last_words,
        })
    }
}

pub(crate) fn measure(
    contestant: Contestant,
    round: usize,
    options: &AcceptOptions,
) -> Result<Sample, Failed> {
    let mut herd = contestant.start(options)?;
    let result = measure_started(&mut herd, contestant, round, options);
    match result {
        Ok(mut sample) => {
            sample.last_words = herd.stop()?;
            Ok(sample)
        }
        Err(Failed::Contestant(message)) => {
            herd.check_alive()?;
            Err(Failed::Contestant(format!("{message}: {}", herd.output_tail())))
        }
        Err(Failed::Interrupted) => Err(Failed::Interrupted),
    }
}

fn measure_started(
    herd: &mut Herd,
    contestant: Contestant,
    round: usize,
    options: &AcceptOptions,
) -> Result<Sample, Failed> {
    await_first_connection(herd)?;
    let mut load =
        Load::new(herd.port, options.clients).map_err(|error| format!("cannot make load: {error}"))?;
    let workers = await_workers(herd, &mut load)?;
    load.run_for(options.warm_up)?;
    let before = Reading::take(herd.primary(), &workers)?;
    let tally = load.run_for(options.measured)?;
    let after = Reading::take(herd.primary(), &workers)?;
    herd.check_alive()?;
    if tally.served == 0 {
        return Err("no connection was served".to_owned().into());
    }
    Ok(sample(contestant, round, tally, &before, &after))
}

fn await_first_connection(herd: &mut Herd) -> Result<(), Failed> {
    let deadline = Instant::now() + BOOT_LIMIT;
    while TcpStream::connect(("127.0.0.1", herd.port)).is_err() {
        herd.check_alive()?;
        if sys::stop_requested() {
            return Err(Failed::Interrupted);
        }
        if Instant::now() > deadline {
            return Err("does not listen".to_owned().into());
        }
        std::thread::sleep(BOOT_STEP);
    }
    Ok(())
}

/// Loads the contestant until as many workers as it should have were seen, and says which they are.
fn await_workers(herd: &mut Herd, load: &mut Load) -> Result<Vec<u32>, Failed> {
    let deadline = Instant::now() + BOOT_LIMIT;
    let mut seen: Vec<u32> = Vec::new();
    while seen.len() < WORKERS {
        for (pid, _) in load.run_for(SLICE)?.by_pid {
            if !seen.contains(&pid) {
                seen.push(pid);
            }
        }
        herd.check_alive()?;
        if Instant::now() > deadline {
            return Err(format!("{} of {WORKERS} workers answer", seen.len()).into());
        }
    }
    herd.serves();
    Ok(seen)
}

struct Reading {
    primary: Option<CpuTime>,
    workers_ns: u64,
    clients_ns: u64,
    machine: MachineTicks,
}

impl Reading {
    fn take(primary: Option<u32>, workers: &[u32]) -> Result<Self, String> {
        let read =
            |pid| sys::cpu_time(pid).map_err(|error| format!("cannot read the CPU time of {pid}: {error}"));
        let mut workers_ns = 0;
        for &worker in workers {
            workers_ns += read(worker)?.total_ns;
        }
        let clients_ns = read(std::process::id())?.total_ns;
        Ok(Self {
            primary: primary.map(read).transpose()?,
            workers_ns,
            clients_ns,
            machine: MachineTicks::read(),
        })
    }
}

fn sample(contestant: Contestant, round: usize, tally: Tally, before: &Reading, after: &Reading) -> Sample {
    let primary = before.primary.zip(after.primary).map(|(before, after)| spent(before, after));
    let (idle, stolen) = after.machine.idle_and_stolen_since(before.machine);
    let per_connection = |before: u64, after: u64| (after - before) as f64 / 1e3 / tally.served as f64;
    let mut latencies = tally.latencies_us.clone();
    latencies.sort_unstable();
    Sample {
        contestant,
        round,
        served: tally.served,
        rate: tally.served as f64 / tally.elapsed.as_secs_f64(),
        primary,
        workers_us: per_connection(before.workers_ns, after.workers_ns),
        clients_us: per_connection(before.clients_ns, after.clients_ns),
        busiest_share: tally.busiest_share(),
        p50_us: quantile(&latencies, 0.5),
        p99_us: quantile(&latencies, 0.99),
        failed: tally.failed(),
        failures: tally.failures().collect(),
        idle,
        stolen,
        last_words: String::new(),
    }
}

fn spent(before: CpuTime, after: CpuTime) -> PrimaryCpu {
    let total_ns = (after.total_ns - before.total_ns) as f64;
    let ticks = (after.ticks_ns - before.ticks_ns) as f64;
    let user_ticks = (after.user_ticks_ns - before.user_ticks_ns) as f64;
    // An idle primary may not meet a single tick.
    let user_ns = if ticks > 0.0 { total_ns * user_ticks / ticks } else { 0.0 };
    PrimaryCpu { total_ns, user_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_total_is_divided_as_the_ticks_fell() {
        let before = CpuTime { total_ns: 1_000, user_ticks_ns: 0, ticks_ns: 0 };
        let after = CpuTime { total_ns: 9_000, user_ticks_ns: 4_000_000, ticks_ns: 16_000_000 };
        let cpu = spent(before, after);
        assert!((cpu.total_ns - 8_000.0).abs() < 1e-9);
        assert!((cpu.user_ns - 2_000.0).abs() < 1e-9);
    }

    #[test]
    fn an_idle_primary_divides_nothing_by_nothing() {
        let cpu = spent(CpuTime::default(), CpuTime { total_ns: 50, ..CpuTime::default() });
        assert!(cpu.user_ns.abs() < 1e-9);
    }
}
