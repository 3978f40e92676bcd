//! What a run prints and writes: figures per contestant, budgets, machine.

use serde_json::{Value, json};

use crate::args::AcceptOptions;
use crate::budget::{BUDGETS, Judged};
use crate::contestant::Contestant;
use crate::machine::Machine;
use crate::measure::Sample;
use crate::stats::{Summary, spread};

pub(crate) struct Report<'a> {
    pub(crate) options: &'a AcceptOptions,
    pub(crate) machine: Machine,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<String>,
}

impl Report<'_> {
    pub(crate) fn print(&self) {
        println!("{}", self.machine.line());
        println!(
            "{} rounds of {} s after {} s of warm-up, {} clients, 2 workers; median [range]",
            self.options.rounds,
            self.options.measured.as_secs(),
            self.options.warm_up.as_secs(),
            self.options.clients
        );
        self.print_figures();
        self.print_budgets();
        for failure in &self.failures {
            println!("failed: {failure}");
        }
    }

    fn print_figures(&self) {
        println!("\nCPU of the primary, of the workers together and of the clients in µs per connection\n");
        println!(
            "{:<10} {:<22} {:<20} {:<20} {:<20} {:<8} {:<8} {:<8} {:<13} errors",
            "",
            "connections/s",
            "primary user",
            "system",
            "user+system",
            "workers",
            "clients",
            "busiest",
            "p50 p99 ms"
        );
        for contestant in Contestant::ALL {
            let samples: Vec<&Sample> =
                self.samples.iter().filter(|sample| sample.contestant == contestant).collect();
            if !samples.is_empty() {
                println!("{}", figures_line(contestant, &samples));
            }
        }
    }

    fn print_budgets(&self) {
        println!("\nRatios, pair by pair within a round\n");
        for judged in self.judged() {
            let figures = judged.summary.map_or_else(|| "-".to_owned(), |summary| spread(Some(summary), 3));
            println!("{:<46} {:<8} {:<22} {}", judged.what, judged.bound, figures, judged.verdict_text());
        }
        if let Some(pooled) = self.pooled_user_ratio() {
            println!(
                "  budget 1 over all rounds together: {pooled:.3} (user time is divided by clock ticks, see README)"
            );
        }
    }

    pub(crate) fn judged(&self) -> Vec<Judged> {
        BUDGETS.iter().map(|budget| budget.judge(&self.samples)).collect()
    }

    /// Ticks are few in one round; summed up they say more.
    fn pooled_user_ratio(&self) -> Option<f64> {
        let user_us = |contestant: Contestant| {
            let samples = || self.samples.iter().filter(|sample| sample.contestant == contestant);
            let user: f64 = samples().filter_map(|sample| sample.primary).map(|cpu| cpu.user_ns).sum();
            let served: u64 = samples().map(|sample| sample.served).sum();
            (served > 0).then(|| user / served as f64)
        };
        Some(user_us(Contestant::Handoff)? / user_us(Contestant::NodeRoundRobin)?)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": self.machine.json(),
            "options": {
                "rounds": self.options.rounds, "measured_s": self.options.measured.as_secs(),
                "warm_up_s": self.options.warm_up.as_secs(), "clients": self.options.clients,
                "window": self.options.window,
            },
            "samples": self.samples.iter().map(Sample::json).collect::<Vec<_>>(),
            "budgets": self.judged().iter().map(Judged::json).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}

fn figures_line(contestant: Contestant, samples: &[&Sample]) -> String {
    let over = |figure: fn(&Sample) -> Option<f64>, digits: usize| {
        spread(Summary::of(samples.iter().filter_map(|sample| figure(sample))), digits)
    };
    let median = |figure: fn(&Sample) -> f64| {
        Summary::of(samples.iter().map(|sample| figure(sample))).map_or(0.0, |summary| summary.median)
    };
    format!(
        "{:<10} {:<22} {:<20} {:<20} {:<20} {:<8.1} {:<8.1} {:<8} {:<13} {}",
        contestant.name(),
        over(|sample| Some(sample.rate), 0),
        over(Sample::user_us, 2),
        over(Sample::system_us, 1),
        over(Sample::total_us, 1),
        median(|sample| sample.workers_us),
        median(|sample| sample.clients_us),
        format!("{:.1} %", median(|sample| sample.busiest_share) * 100.0),
        format!(
            "{:.2} {:.2}",
            median(|sample| f64::from(sample.p50_us)) / 1e3,
            median(|sample| f64::from(sample.p99_us)) / 1e3
        ),
        errors(samples)
    )
}

fn errors(samples: &[&Sample]) -> String {
    let mut by_kind: Vec<(&str, u64)> = Vec::new();
    for &(kind, count) in samples.iter().flat_map(|sample| &sample.failures) {
        match by_kind.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += count,
            None => by_kind.push((kind, count)),
        }
    }
    let total: u64 = samples.iter().map(|sample| sample.failed).sum();
    let kinds: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if kinds.is_empty() { total.to_string() } else { format!("{total} ({})", kinds.join(", ")) }
}
