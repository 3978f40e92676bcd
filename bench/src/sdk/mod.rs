//! The library: one axum server as one process, as workers by `handoff` and by `kernel`, as threads, and on tokio's
//! own threads; and round trips of messages beside Node's. Must give every contestant the same clients and its turn
//! in every round.

mod keep_alive;
mod messages;
mod report;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use crate::args::SdkOptions;
use crate::budget;
use crate::load::Load;
use crate::machine::Machine;
use crate::sys;

pub(crate) use messages::{MessageOptions, play_worker};
use messages::{Messenger, RoundTrips};
use report::Report;
use server::Server;
pub(crate) use server::{Kind, serve};

/// What one server did in one round.
pub(crate) struct Sample {
    pub(crate) kind: Kind,
    /// Requests a second of clients that keep their connections.
    pub(crate) kept: f64,
    /// Of those: half took at most this, and 99 of 100.
    pub(crate) kept_us: [u32; 2],
    /// Requests a second of clients that connect for each.
    pub(crate) short: f64,
    /// `Pss` of all its processes after the load, in bytes.
    pub(crate) memory: u64,
    pub(crate) failed: u64,
}

pub(crate) fn run(options: &SdkOptions) -> ExitCode {
    let mut report = Report {
        options,
        machine: Machine::read(&options.node),
        samples: Vec::new(),
        round_trips: Vec::new(),
        failures: Vec::new(),
    };
    for round in 1..=options.rounds {
        eprintln!("round {round}/{}", options.rounds);
        if let Err(message) = play(round, options, &mut report) {
            report.failures.push(format!("round {round}: {message}"));
        }
        if sys::stop_requested() {
            report.failures.push("interrupted".to_owned());
            break;
        }
    }
    report.print();
    let is_whole = report.failures.is_empty();
    let check = options.check.then(|| report.judged());
    budget::conclude(options.json.as_deref(), &report.json(), is_whole, check.as_deref())
}

/// Every contestant has its turn; who begins changes from round to round.
fn play(round: usize, options: &SdkOptions, report: &mut Report<'_>) -> Result<(), String> {
    for step in 0..Kind::ALL.len() {
        let kind = Kind::ALL[(round + step) % Kind::ALL.len()];
        report.samples.push(measure(kind, options).map_err(|error| format!("{}: {error}", kind.name()))?);
    }
    for window in messages::WINDOWS {
        for messenger in Messenger::in_turn(round) {
            let rate =
                messenger.measure(window, options).map_err(|error| format!("{messenger:?}: {error}"))?;
            report.round_trips.push(RoundTrips { round, messenger, window, rate });
        }
    }
    Ok(())
}

fn measure(kind: Kind, options: &SdkOptions) -> Result<Sample, String> {
    let interrupted = |_| "interrupted".to_owned();
    let server = Server::start(kind)?;
    let mut load =
        keep_alive::Load::new(server.port(), options.clients).map_err(|error| error.to_string())?;
    load.run_for(options.warm_up).map_err(interrupted)?;
    let mut kept = load.run_for(options.measured).map_err(interrupted)?;
    drop(load);
    let mut load = Load::new(server.port(), options.clients).map_err(|error| error.to_string())?;
    load.run_for(options.warm_up).map_err(interrupted)?;
    let short = load.run_for(options.measured).map_err(interrupted)?;
    let memory = server.memory()?;
    drop(load);
    server.stop()?;
    kept.latencies_us.sort_unstable();
    let rate = |served: u64, elapsed: Duration| served as f64 / elapsed.as_secs_f64();
    Ok(Sample {
        kind,
        kept: rate(kept.served, kept.elapsed),
        kept_us: [0.5, 0.99].map(|share| crate::stats::quantile(&kept.latencies_us, share)),
        short: rate(short.served, short.elapsed),
        memory,
        failed: kept.failed() + short.failed(),
    })
}
