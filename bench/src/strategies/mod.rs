//! What a strategy does to latency: work of two kinds, arriving by chance, for workers that do one request at a time.
//! First on paper, with the core's own balancer on virtual time; then live, with real workers behind `oxherd run`.

mod client;
mod kernel;
mod live;
mod simulation;
mod worker;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use oxherd_core::Strategy;

use crate::machine::Machine;
use crate::stats::{Summary, quantile, spread};
use crate::strategies::kernel::Knowledge;
use crate::strategies::simulation::{Herd, ideal, simulate};
use crate::strategies::workload::{Request, Workload};

pub(crate) use worker::WorkerOptions;

pub(crate) struct StrategyOptions {
    /// Of the simulation.
    pub(crate) seeds: u64,
    pub(crate) requests: usize,
    /// Rounds of the live run; none without them.
    pub(crate) rounds: u64,
    pub(crate) measured: Duration,
    pub(crate) workers: u32,
    pub(crate) window: u32,
    pub(crate) load_percent: u32,
    pub(crate) oxherd: PathBuf,
}

/// The times of one run, sorted, in microseconds.
pub(crate) struct Times(Vec<u32>);

impl Times {
    fn of(mut times: Vec<u32>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn ms(&self, share: f64) -> f64 {
        f64::from(quantile(&self.0, share)) / 1e3
    }
}

/// One line of a table: the runs of one contestant, each with the ideal of the same run.
struct Row {
    name: String,
    runs: Vec<(Times, f64)>,
}

pub(crate) fn run(options: &StrategyOptions) -> ExitCode {
    println!("{}\n", Machine::read(std::path::Path::new("node")).line());
    simulated(options);
    if options.rounds == 0 {
        return ExitCode::SUCCESS;
    }
    match live::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The program of a live worker.
pub(crate) fn work(options: &WorkerOptions) -> Result<(), String> {
    worker::run(options)
}

fn simulated(options: &StrategyOptions) {
    let workload = |seed| {
        let requests = Workload::new(seed, options.workers, options.load_percent).take(options.requests);
        requests.collect::<Vec<Request>>()
    };
    let mut rows: Vec<Row> = vec![Row { name: "ideal".into(), runs: Vec::new() }];
    let strategies = || Strategy::ALL.into_iter().filter(|strategy| is_by_load_or_chance(*strategy));
    let cases: Vec<(Strategy, bool)> =
        [true, false].iter().flat_map(|recall| strategies().map(|strategy| (strategy, *recall))).collect();
    let kernel_cases = kernel_cases();
    for &(strategy, recall) in &cases {
        let without = if recall { "" } else { ", no recall" };
        rows.push(Row { name: format!("{strategy}{without}"), runs: Vec::new() });
    }
    rows.extend(kernel_cases.iter().map(|(name, ..)| Row { name: name.clone(), runs: Vec::new() }));
    for seed in 0..options.seeds {
        let requests = workload(seed);
        let best = ideal(&requests, options.workers as usize);
        let best_p99 = best.ms(0.99);
        rows[0].runs.push((best, best_p99));
        for (at, &(strategy, recall)) in cases.iter().enumerate() {
            let herd = Herd { strategy, recall, workers: options.workers, window: options.window, seed };
            rows[at + 1].runs.push((simulate(&requests, &herd), best_p99));
        }
        for (at, &(_, every_us, knowledge)) in kernel_cases.iter().enumerate() {
            let times = kernel::simulate(&requests, options.workers, every_us, knowledge, seed);
            rows[cases.len() + 1 + at].runs.push((times, best_p99));
        }
    }
    let StrategyOptions { seeds, requests, workers, window, load_percent, .. } = options;
    println!(
        "Simulated: {workers} workers, window {window}, {load_percent} % load, {} of {requests} requests each",
        seeds
    );
    print(&rows, "of the ideal");
}

/// Whether a strategy chooses without regard to who asks: requests have no addresses here.
fn is_by_load_or_chance(strategy: Strategy) -> bool {
    strategy != Strategy::Sticky
}

/// The `kernel` distribution: how often shares are set anew, in microseconds, and what from.
fn kernel_cases() -> Vec<(String, u64, Knowledge)> {
    let mut cases = vec![("kernel, random".to_owned(), 10_000, Knowledge::Nothing)];
    for (what, knowledge) in [("in flight", Knowledge::InFlight), ("queue+cpu", Knowledge::QueuesAndCpu)] {
        cases.extend([10, 20, 50].map(|ms| (format!("kernel, {what}, {ms} ms"), ms * 1000, knowledge)));
    }
    cases
}

fn print(rows: &[Row], of_what: &str) {
    println!("{:<30} {:<20} {:<24} p99 {of_what}", "", "p50 ms", "p99 ms");
    for row in rows {
        let over = |share: f64| Summary::of(row.runs.iter().map(|(times, _)| times.ms(share)));
        let ratio = Summary::of(row.runs.iter().map(|(times, ideal)| times.ms(0.99) / ideal));
        let (median, tail) = (spread(over(0.5), 1), spread(over(0.99), 1));
        println!("{:<30} {median:<20} {tail:<24} {}", row.name, spread(ratio, 2));
    }
    println!();
}
