//! The figures of the library as a table, and its budget judged.

use serde_json::{Value, json};

use super::messages::{Messenger, RoundTrips, WINDOWS};
use super::{Kind, Sample};
use crate::args::SdkOptions;
use crate::budget::{Bound, Judged};
use crate::machine::Machine;
use crate::stats::{Summary, spread};

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) struct Report<'a> {
    pub(crate) options: &'a SdkOptions,
    pub(crate) machine: Machine,
    pub(crate) samples: Vec<Sample>,
    pub(crate) round_trips: Vec<RoundTrips>,
    pub(crate) failures: Vec<String>,
}

impl Report<'_> {
    pub(crate) fn print(&self) {
        println!("{}", self.machine.line());
        let SdkOptions { rounds, clients, measured, .. } = self.options;
        println!("{rounds} rounds of {} s each with {clients} clients; median [range]\n", measured.as_secs());
        println!(
            "{:<20} {:<24} {:<18} {:<22} {:<22} {:<18} failed",
            "server", "kept requests/s", "p50 us", "p99 us", "short requests/s", "memory MiB"
        );
        for kind in Kind::ALL {
            println!("{}", self.line(kind));
        }
        println!("\n{:<34} {:<26} {:<26} ratio", "round trips of messages a second", "oxherd", "node");
        for window in WINDOWS {
            let side = |messenger| spread(Summary::of(self.rates(messenger, window)), 0);
            let ratio = spread(Summary::of(self.ratios(window)), 2);
            let what = format!("  {window} on the way");
            println!("{what:<34} {:<26} {:<26} {ratio}", side(Messenger::Oxherd), side(Messenger::Node));
        }
        println!();
        for judged in self.judged() {
            println!("{} {}: {}", judged.what, judged.bound, judged.verdict_text());
        }
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
    }

    pub(crate) fn judged(&self) -> Vec<Judged> {
        let many = WINDOWS[WINDOWS.len() - 1];
        vec![Judged::of(
            "10 round trips worker to worker, many on the way, oxherd / node",
            &Bound::AtLeast(5.0),
            self.ratios(many),
        )]
    }

    fn line(&self, kind: Kind) -> String {
        let samples: Vec<&Sample> = self.samples.iter().filter(|sample| sample.kind == kind).collect();
        let of = |figure: fn(&Sample) -> f64, digits| {
            spread(Summary::of(samples.iter().map(|sample| figure(sample))), digits)
        };
        format!(
            "{:<20} {:<24} {:<18} {:<22} {:<22} {:<18} {}",
            kind.name(),
            of(|it| it.kept, 0),
            of(|it| f64::from(it.kept_us[0]), 0),
            of(|it| f64::from(it.kept_us[1]), 0),
            of(|it| it.short, 0),
            of(|it| it.memory as f64 / MIB, 1),
            samples.iter().map(|sample| sample.failed).sum::<u64>(),
        )
    }

    fn rates(&self, messenger: Messenger, window: u32) -> Vec<f64> {
        let of = |it: &&RoundTrips| it.messenger == messenger && it.window == window;
        self.round_trips.iter().filter(of).map(|it| it.rate).collect()
    }

    /// In every round that has both.
    fn ratios(&self, window: u32) -> Vec<f64> {
        let node = |round| {
            let of = |it: &&RoundTrips| {
                it.messenger == Messenger::Node && it.window == window && it.round == round
            };
            self.round_trips.iter().find(of).map(|it| it.rate)
        };
        let ours =
            self.round_trips.iter().filter(|it| it.messenger == Messenger::Oxherd && it.window == window);
        ours.filter_map(|it| Some(it.rate / node(it.round)?)).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let sample = |it: &Sample| {
            json!({
                "server": it.kind.name(), "kept_per_s": it.kept, "kept_p50_us": it.kept_us[0],
                "kept_p99_us": it.kept_us[1], "short_per_s": it.short, "memory_bytes": it.memory, "failed": it.failed,
            })
        };
        let trips = |it: &RoundTrips| {
            json!({
                "round": it.round, "messenger": format!("{:?}", it.messenger), "window": it.window, "per_s": it.rate,
            })
        };
        json!({
            "machine": self.machine.json(),
            "options": {
                "rounds": self.options.rounds, "clients": self.options.clients,
                "seconds": self.options.measured.as_secs(),
            },
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            "round_trips": self.round_trips.iter().map(trips).collect::<Vec<_>>(),
            "budgets": self.judged().iter().map(Judged::json).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}
