//! The live run: the same requests, at the same moments, for each strategy and for the ideal, one after the other.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use oxherd_core::Strategy;

use crate::child::{Guarded, Output};
use crate::strategies::client::{Outcome, drive};
use crate::strategies::workload::{Request, Workload};
use crate::strategies::{Row, StrategyOptions, Times, is_by_load_or_chance, print};
use crate::sys;

const WARM_UP: Duration = Duration::from_secs(1);
const BOOT_LIMIT: Duration = Duration::from_secs(20);
/// With more of its requests late, a run says nothing.
const LATE_PERCENT_MAX: usize = 1;
const TRIES: u32 = 4;
const BOOT_STEP: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
enum Contestant {
    /// As many threads as workers, all at one kernel queue.
    Ideal,
    Oxherd(Strategy),
    /// With the distribution `kernel`: the primary sees none of the connections.
    Kernel(Strategy),
}

pub(crate) fn run(options: &StrategyOptions) -> Result<(), String> {
    if !options.oxherd.exists() {
        return Err(format!("no oxherd at {}: build it, or give --oxherd", options.oxherd.display()));
    }
    let others = Strategy::ALL.into_iter().filter(|it| is_by_load_or_chance(*it)).map(Contestant::Oxherd);
    let by_kernel = [Strategy::LeastBusy, Strategy::Random].map(Contestant::Kernel);
    let contestants: Vec<Contestant> =
        std::iter::once(Contestant::Ideal).chain(others).chain(by_kernel).collect();
    let mut measured: Vec<Vec<Times>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        let until = (options.measured + WARM_UP).as_micros() as u64;
        let workload = Workload::new(1000 + round, options.workers, options.load_percent);
        let requests: Vec<Request> = workload.take_while(|request| request.arrives < until).collect();
        for step in 0..contestants.len() {
            // Nobody always comes after the same one.
            let at = (step + round as usize) % contestants.len();
            let outcome = measure_undisturbed(contestants[at], round + 1, &requests, options)?;
            measured[at].push(Times::of(outcome.times));
        }
    }
    println!("Live: {} rounds of {} s", options.rounds, options.measured.as_secs());
    let ideals: Vec<f64> = measured[0].iter().map(|times| times.ms(0.99)).collect();
    let rows: Vec<Row> = contestants
        .iter()
        .zip(measured)
        .map(|(contestant, runs)| Row {
            name: contestant.name(),
            runs: runs.into_iter().zip(ideals.iter().copied()).collect(),
        })
        .collect();
    print(&rows, "of the ideal of the same round");
    Ok(())
}

impl Contestant {
    fn name(self) -> String {
        match self {
            Self::Ideal => "ideal".to_owned(),
            Self::Oxherd(strategy) => strategy.name().to_owned(),
            Self::Kernel(strategy) => format!("kernel, {strategy}"),
        }
    }

    fn command(self, options: &StrategyOptions) -> Result<Command, String> {
        let own = std::env::current_exe();
        let own = own.map_err(|error| format!("cannot find this program's path: {error}"))?;
        let workers = options.workers.to_string();
        let mut command = match self {
            Self::Ideal => Command::new(&own),
            Self::Oxherd(_) | Self::Kernel(_) => Command::new(&options.oxherd),
        };
        match self {
            Self::Ideal => command.args(["worker", "--threads", &workers]),
            Self::Oxherd(strategy) | Self::Kernel(strategy) => command
                .args(["run", "-i", &workers, "--sockets", "channel", "--status-interval", "0"])
                .args(["--distribution", if matches!(self, Self::Kernel(_)) { "kernel" } else { "handoff" }])
                .args(["--strategy", strategy.name(), "--handoff-window", &options.window.to_string()])
                .arg(own)
                .args(["--", "worker"]),
        };
        Ok(command)
    }

    /// Whether all that is to serve does.
    fn serves(self, herd: &Guarded, port: u16) -> bool {
        match self {
            Self::Ideal => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            Self::Oxherd(_) | Self::Kernel(_) => {
                let told = herd.output_tail();
                told.contains(" workers serve ") || told.contains(" worker serves ")
            }
        }
    }
}

/// Measures again, a few times, while the machine is too busy with other things to send the requests in time.
fn measure_undisturbed(
    contestant: Contestant,
    round: u64,
    requests: &[Request],
    options: &StrategyOptions,
) -> Result<Outcome, String> {
    let mut left = TRIES;
    loop {
        let outcome = measure(contestant, requests, options)?;
        let Outcome { times, failed, late } = &outcome;
        let (name, answers, rounds) = (contestant.name(), times.len(), options.rounds);
        eprintln!("round {round}/{rounds}  {name:<18} {answers} answers, {failed} failed, {late} late");
        left -= 1;
        if left == 0 || late * 100 <= requests.len() * LATE_PERCENT_MAX {
            return Ok(outcome);
        }
    }
}

fn measure(
    contestant: Contestant,
    requests: &[Request],
    options: &StrategyOptions,
) -> Result<Outcome, String> {
    let (hold, port) = sys::bound_socket(0).map_err(|error| format!("cannot reserve a port: {error}"))?;
    let mut command = contestant.command(options)?;
    command.env("PORT", port.to_string());
    let mut herd = Guarded::spawn(&mut command, None, Output::Captured)
        .map_err(|error| format!("cannot start {}: {error}", contestant.name()))?;
    let deadline = Instant::now() + BOOT_LIMIT;
    while !contestant.serves(&herd, port) {
        if herd.has_ended().is_some() || Instant::now() > deadline || sys::stop_requested() {
            return Err(format!("{} does not come to serve: {}", contestant.name(), herd.output_tail()));
        }
        std::thread::sleep(BOOT_STEP);
    }
    drop(hold);
    let outcome = drive(port, requests, WARM_UP)?;
    herd.stop()?;
    Ok(outcome)
}
