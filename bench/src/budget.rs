//! The budgets that this program can judge: ratios of two contestants of the same round.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::measure::Sample;
use crate::stats::Summary;

pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Not a budget, only worth knowing.
    None,
}

pub(crate) struct Budget {
    what: &'static str,
    bound: Bound,
    over: Contestant,
    under: Contestant,
    figure: fn(&Sample) -> Option<f64>,
}

fn rate(sample: &Sample) -> Option<f64> {
    Some(sample.rate)
}

pub(crate) const BUDGETS: [Budget; 6] = [
    Budget {
        what: "1 primary's user CPU, handoff / node-rr",
        bound: Bound::AtMost(0.10),
        over: Contestant::Handoff,
        under: Contestant::NodeRoundRobin,
        figure: Sample::user_us,
    },
    Budget {
        what: "2 primary's user+system CPU, handoff / floor",
        bound: Bound::AtMost(1.15),
        over: Contestant::Handoff,
        under: Contestant::Floor,
        figure: Sample::total_us,
    },
    Budget {
        what: "3 connections per second, handoff / floor",
        bound: Bound::AtLeast(0.95),
        over: Contestant::Handoff,
        under: Contestant::Floor,
        figure: rate,
    },
    Budget {
        what: "4 connections per second, kernel / bare",
        bound: Bound::AtLeast(0.97),
        over: Contestant::Kernel,
        under: Contestant::Bare,
        figure: rate,
    },
    Budget {
        what: "  connections per second, floor / node-rr",
        bound: Bound::None,
        over: Contestant::Floor,
        under: Contestant::NodeRoundRobin,
        figure: rate,
    },
    Budget {
        what: "  primary's user+system CPU, floor / node-rr",
        bound: Bound::None,
        over: Contestant::Floor,
        under: Contestant::NodeRoundRobin,
        figure: Sample::total_us,
    },
];

const CHECK_FAILED: u8 = 3;

/// The end of a run that has printed its figures: writes the raw ones where they are wanted, and says what to exit with.
pub(crate) fn conclude(
    file: Option<&Path>,
    raw: &Value,
    is_whole: bool,
    checked: Option<&[Judged]>,
) -> ExitCode {
    if let Some(file) = file
        && let Err(error) = fs::write(file, format!("{raw:#}\n"))
    {
        eprintln!("cannot write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if !is_whole {
        ExitCode::FAILURE
    } else if checked.is_some_and(|judged| !judged.iter().all(Judged::holds)) {
        ExitCode::from(CHECK_FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

impl Budget {
    /// The ratio in every round that has both sides.
    fn ratios(&self, samples: &[Sample]) -> Vec<f64> {
        let of = |contestant: Contestant, round: usize| {
            let same = |sample: &&Sample| sample.contestant == contestant && sample.round == round;
            samples.iter().find(same).and_then(self.figure)
        };
        let over = samples.iter().filter(|sample| sample.contestant == self.over);
        over.filter_map(|sample| Some((self.figure)(sample)? / of(self.under, sample.round)?)).collect()
    }

    pub(crate) fn judge(&self, samples: &[Sample]) -> Judged {
        Judged::of(self.what, &self.bound, self.ratios(samples))
    }
}

impl Bound {
    fn verdict(&self, ratio: f64) -> Verdict {
        match *self {
            Self::AtMost(limit) if ratio > limit => Verdict::MissedBy(ratio / limit - 1.0),
            Self::AtLeast(limit) if ratio < limit => Verdict::MissedBy(1.0 - ratio / limit),
            Self::AtMost(_) | Self::AtLeast(_) => Verdict::Met,
            Self::None => Verdict::Unbounded,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit:.2}"),
            Self::AtLeast(limit) => format!(">= {limit:.2}"),
            Self::None => String::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Met,
    /// Share of the limit by which it was missed.
    MissedBy(f64),
    NotMeasured,
    Unbounded,
}

pub(crate) struct Judged {
    pub(crate) what: &'static str,
    pub(crate) bound: String,
    pub(crate) rounds: usize,
    pub(crate) summary: Option<Summary>,
    pub(crate) verdict: Verdict,
}

impl Judged {
    /// Judges the median of the rounds' figures.
    pub(crate) fn of(what: &'static str, bound: &Bound, figures: Vec<f64>) -> Self {
        let rounds = figures.len();
        let summary = Summary::of(figures);
        let verdict = summary.map_or(Verdict::NotMeasured, |summary| bound.verdict(summary.median));
        Self { what, bound: bound.text(), rounds, summary, verdict }
    }

    pub(crate) fn holds(&self) -> bool {
        matches!(self.verdict, Verdict::Met | Verdict::Unbounded)
    }

    pub(crate) fn verdict_text(&self) -> String {
        match self.verdict {
            Verdict::Met => "met".to_owned(),
            Verdict::MissedBy(share) => format!("MISSED by {:.1} %", share * 100.0),
            Verdict::NotMeasured => "not measured".to_owned(),
            Verdict::Unbounded => String::new(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what.trim(), "bound": self.bound, "rounds": self.rounds, "verdict": self.verdict_text(),
            "median": self.summary.map(|summary| summary.median),
            "min": self.summary.map(|summary| summary.min), "max": self.summary.map(|summary| summary.max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_itself_is_within_the_budget() {
        assert_eq!(Bound::AtMost(1.15).verdict(1.15), Verdict::Met);
        assert_eq!(Bound::AtLeast(0.95).verdict(0.95), Verdict::Met);
    }

    #[test]
    fn a_miss_says_by_which_share_of_the_limit() {
        assert_eq!(Bound::AtMost(2.0).verdict(3.0), Verdict::MissedBy(0.5));
        assert_eq!(Bound::AtLeast(2.0).verdict(1.0), Verdict::MissedBy(0.5));
    }

    #[test]
    fn without_samples_nothing_is_judged() {
        let judged = BUDGETS[0].judge(&[]);
        assert_eq!(judged.verdict, Verdict::NotMeasured);
        assert!(!judged.holds());
    }
}
