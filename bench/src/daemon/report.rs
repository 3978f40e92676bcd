//! What a run prints and writes: figures of both managers side by side, budgets, the large herd, the machine.

use serde_json::{Value, json};

use super::herd::Stages;
use super::manager::Side;
use super::sample::{
    FIGURES, Figure, Sample, daemon_rss_of_four, daemon_rss_of_one, keeper_anonymous, ls_ms,
};
use crate::args::DaemonOptions;
use crate::budget::{Bound, Judged};
use crate::machine::Machine;
use crate::stats::{Summary, spread};

pub(crate) struct Report<'a> {
    pub(crate) options: &'a DaemonOptions,
    pub(crate) machine: Machine,
    pub(crate) samples: Vec<Sample>,
    pub(crate) herds: Vec<Stages>,
    pub(crate) failures: Vec<String>,
}

enum Measure {
    /// Oxherd's own figure.
    Own,
    /// Oxherd's over PM2's of the same round.
    Ratio,
}

struct Budget {
    what: &'static str,
    bound: Bound,
    measure: Measure,
    of: fn(&Sample) -> Option<f64>,
}

const BUDGETS: [Budget; 5] = [
    Budget { what: "5 ls, oxherd / pm2", bound: Bound::AtMost(0.02), measure: Measure::Ratio, of: ls_ms },
    Budget { what: "6 ls, ms", bound: Bound::AtMost(3.0), measure: Measure::Own, of: ls_ms },
    Budget {
        what: "7 daemon's RSS with one app of 4, MiB",
        bound: Bound::AtMost(6.0),
        measure: Measure::Own,
        of: daemon_rss_of_one,
    },
    Budget {
        what: "8 daemon's RSS with 4 apps x 4, MiB",
        bound: Bound::AtMost(8.0),
        measure: Measure::Own,
        of: daemon_rss_of_four,
    },
    Budget {
        what: "9 keeper's anonymous memory, MiB",
        bound: Bound::AtMost(0.5),
        measure: Measure::Own,
        of: keeper_anonymous,
    },
];

impl Report<'_> {
    pub(crate) fn print(&self) {
        println!("{}", self.machine.line());
        if !self.samples.is_empty() {
            self.print_figures();
        }
        if !self.herds.is_empty() {
            self.print_herds();
        }
        for failure in &self.failures {
            println!("failed: {failure}");
        }
    }

    fn print_figures(&self) {
        println!(
            "{} rounds, {} ls of oxherd and {} of pm2 in each, {} s idle; median [range]\n",
            self.options.rounds,
            self.options.looks * super::LOOKS_OF_OXHERD,
            self.options.looks,
            self.options.idle.as_secs()
        );
        println!("{:<42} {:<24} {:<26} oxherd / pm2", "", "oxherd", "pm2");
        for figure in &FIGURES {
            println!("{}", line(figure, &self.samples).trim_end());
        }
        println!();
        for judged in self.judged() {
            let figures = spread(judged.summary, 3);
            println!("{:<46} {:<8} {:<22} {}", judged.what, judged.bound, figures, judged.verdict_text());
        }
    }

    fn print_herds(&self) {
        let workers = self.options.herd.workers;
        println!(
            "\n{workers} x `sleep` on one daemon, {} at a time in the reload, {} rounds; median [range]\n",
            self.options.herd.parallel,
            self.herds.len()
        );
        Stages::table(&self.herds).iter().for_each(|line| println!("{}", line.trim_end()));
    }

    pub(crate) fn judged(&self) -> Vec<Judged> {
        let judge = |budget: &Budget| {
            let figures = match budget.measure {
                Measure::Own => own(budget.of, Side::Oxherd, &self.samples),
                Measure::Ratio => ratios(budget.of, &self.samples),
            };
            Judged::of(budget.what, &budget.bound, figures)
        };
        BUDGETS.iter().map(judge).collect()
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": self.machine.json(),
            "options": {
                "rounds": self.options.rounds, "looks": self.options.looks, "idle_s": self.options.idle.as_secs(),
                "herd_workers": self.options.herd.workers, "herd_parallel": self.options.herd.parallel,
            },
            "samples": self.samples.iter().map(Sample::json).collect::<Vec<_>>(),
            "budgets": self.judged().iter().map(Judged::json).collect::<Vec<_>>(),
            "herds": self.herds.iter().map(Stages::json).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}

fn line(figure: &Figure, samples: &[Sample]) -> String {
    let side = |side| spread(Summary::of(own(figure.of, side, samples)), figure.digits);
    let ratio = spread(Summary::of(ratios(figure.of, samples)), 3);
    let ratio = if ratio == "-" { String::new() } else { ratio };
    format!("{:<42} {:<24} {:<26} {ratio}", figure.what, side(Side::Oxherd), side(Side::Pm2))
}

fn own(of: fn(&Sample) -> Option<f64>, side: Side, samples: &[Sample]) -> Vec<f64> {
    samples.iter().filter(|sample| sample.side == side).filter_map(of).collect()
}

/// In every round that has both sides.
fn ratios(of: fn(&Sample) -> Option<f64>, samples: &[Sample]) -> Vec<f64> {
    let pm2 = |round| samples.iter().find(|it| it.side == Side::Pm2 && it.round == round).and_then(of);
    let oxherd = samples.iter().filter(|sample| sample.side == Side::Oxherd);
    oxherd.filter_map(|sample| Some(of(sample)? / pm2(sample.round)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::sample;
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let samples = [
            sample(Side::Oxherd, 1, 2.0),
            sample(Side::Pm2, 2, 400.0),
            sample(Side::Pm2, 1, 200.0),
            sample(Side::Oxherd, 2, 8.0),
            sample(Side::Oxherd, 3, 1.0),
        ];
        assert_eq!(ratios(ls_ms, &samples), [0.01, 0.02]);
        assert_eq!(own(ls_ms, Side::Oxherd, &samples), [2.0, 8.0, 1.0]);
    }

    #[test]
    fn a_line_has_no_ratio_where_only_one_has_the_figure() {
        let samples = [sample(Side::Oxherd, 1, 2.0)];
        let figure = Figure { what: "ls", digits: 1, of: ls_ms };
        assert_eq!(
            line(&figure, &samples).split_whitespace().collect::<Vec<_>>(),
            ["ls", "2.0", "[2.0-2.0]", "-"]
        );
    }
}
