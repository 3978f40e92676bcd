//! The rounds: every contestant once in each, in an order that moves on by one from round to round, so that neither
//! the machine's mood nor a neighbour in the order favours anybody.

use std::process::ExitCode;

use crate::args::AcceptOptions;
use crate::budget;
use crate::contestant::Contestant;
use crate::machine::Machine;
use crate::measure::{Failed, Sample, measure};
use crate::report::Report;

pub(crate) fn run(options: &AcceptOptions) -> ExitCode {
    let contestants = present(options);
    let machine = Machine::read(&options.node);
    let mut report = Report { options, machine, samples: Vec::new(), failures: Vec::new() };
    let complete = play(&contestants, options, &mut report);
    report.print();
    let is_whole = complete && report.failures.is_empty();
    let check = options.check.then(|| report.judged());
    budget::conclude(options.json.as_deref(), &report.json(), is_whole, check.as_deref())
}

/// Without an oxherd the others can still be compared; its budgets are then "not measured".
fn present(options: &AcceptOptions) -> Vec<Contestant> {
    let mut contestants = options.contestants.clone();
    if contestants.iter().any(|contestant| contestant.is_oxherd()) && !options.oxherd.exists() {
        eprintln!("no oxherd at {}: its distributions are left out", options.oxherd.display());
        contestants.retain(|contestant| !contestant.is_oxherd());
    }
    contestants
}

/// Returns false when interrupted.
fn play(contestants: &[Contestant], options: &AcceptOptions, report: &mut Report<'_>) -> bool {
    let mut order = contestants.to_vec();
    for round in 1..=options.rounds {
        for &contestant in &order {
            match measure(contestant, round, options) {
                Ok(sample) => {
                    note(&sample, options.rounds);
                    report.samples.push(sample);
                }
                Err(Failed::Contestant(message)) => {
                    eprintln!("round {round}  {:<10} failed: {message}", contestant.name());
                    report.failures.push(format!("{} in round {round}: {message}", contestant.name()));
                }
                Err(Failed::Interrupted) => {
                    eprintln!("interrupted in round {round}");
                    return false;
                }
            }
        }
        if !order.is_empty() {
            order.rotate_left(1);
        }
    }
    true
}

fn note(sample: &Sample, rounds: usize) {
    let primary = sample.total_us().map_or_else(String::new, |total| format!("{total:.1} µs primary"));
    eprintln!(
        "round {}/{rounds}  {:<10} {:>7.0} connections/s  {primary:<18} {} errors",
        sample.round,
        sample.contestant.name(),
        sample.rate,
        sample.failed
    );
}
