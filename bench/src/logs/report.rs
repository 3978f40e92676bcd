//! What a run prints and writes: figures of both managers side by side.

use serde_json::{Value, json};

use super::{LogOptions, Sample};
use crate::daemon::manager::Side;
use crate::machine::Machine;
use crate::stats::{Summary, spread};

pub(crate) struct Report<'a> {
    pub(crate) options: &'a LogOptions,
    pub(crate) machine: Machine,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<String>,
}

/// One line of the table.
struct Figure {
    what: &'static str,
    digits: usize,
    of: fn(&Sample) -> f64,
    has_ratio: bool,
}

const fn count(what: &'static str, of: fn(&Sample) -> f64) -> Figure {
    Figure { what, digits: 0, of, has_ratio: false }
}

const fn cost(what: &'static str, digits: usize, of: fn(&Sample) -> f64) -> Figure {
    Figure { what, digits, of, has_ratio: true }
}

const FIGURES: [Figure; 22] = [
    count("many lines: arrived whole", |it| it.flow.tally.whole as f64),
    count("many lines: missing", |it| it.flow.tally.missing as f64),
    count("many lines: torn", |it| it.flow.tally.torn as f64),
    cost("many lines: CPU per line, us", 2, |it| it.flow.cpu_ms * 1e3 / it.flow.written as f64),
    cost("many lines: peak PSS, MiB", 1, |it| it.flow.peak_kib / 1024.0),
    cost("many lines: a write, p99, us", 0, |it| it.flow.p99_us),
    cost("many lines: a write, longest, ms", 1, |it| it.flow.max_us / 1e3),
    count("100 MB line: whole (1 is yes)", |it| f64::from(u8::from(it.long.is_whole))),
    cost("100 MB line: until in the file, ms", 0, |it| it.long.wall_ms),
    cost("100 MB line: CPU, ms", 0, |it| it.long.cpu_ms),
    cost("100 MB line: peak PSS, MiB", 1, |it| it.long.peak_kib / 1024.0),
    count("no UTF-8: bytes are the same (1 is yes)", |it| f64::from(u8::from(it.are_bytes_same))),
    count("full disk: the worker was held up (1 is yes)", |it| {
        f64::from(u8::from(it.full.wall_ms.is_none()))
    }),
    cost("full disk: until the worker has written, ms", 0, |it| it.full.wall_ms.unwrap_or(f64::NAN)),
    cost("full disk: peak PSS, MiB", 1, |it| it.full.peak_kib / 1024.0),
    count("full disk: arrived whole", |it| it.full.tally.whole as f64),
    count("full disk: torn", |it| it.full.tally.torn as f64),
    count("full disk: missing", |it| it.full.tally.missing as f64),
    count("full disk: missing and told in the file", |it| it.full.tally.told as f64),
    count("room again: arrived whole", |it| it.full.more.whole as f64),
    count("room again: missing", |it| it.full.more.missing as f64),
    count("all: lines that came twice", |it| (it.flow.tally.doubled + it.full.more.doubled) as f64),
];

impl Report<'_> {
    pub(crate) fn text(&self) -> String {
        let LogOptions { rounds, seconds, rate, .. } = self.options;
        let apps = super::APPS;
        let mut text = format!(
            "{}\n{rounds} rounds; many lines: {apps} apps, {rate} lines of 100 bytes per second each, {seconds} s; full disk: \
             {} lines at once, then {} more; median [range]\n\n{:<46} {:<26} {:<26} oxherd / pm2\n",
            self.machine.line(),
            super::BURST_LINES,
            super::MORE_LINES,
            "",
            "oxherd",
            "pm2"
        );
        for figure in &FIGURES {
            text += self.line(figure).trim_end();
            text.push('\n');
        }
        for failure in &self.failures {
            text += &format!("failed: {failure}\n");
        }
        text
    }

    fn line(&self, figure: &Figure) -> String {
        let of = |side| self.samples.iter().filter(move |sample| sample.side == side);
        let shown = |side| spread(Summary::of(of(side).map(figure.of)), figure.digits);
        let other = |sample: &Sample| of(Side::Pm2).find(|it| it.round == sample.round);
        let ratio = |sample: &Sample| other(sample).map(|other| (figure.of)(sample) / (figure.of)(other));
        let ratios = Summary::of(of(Side::Oxherd).filter_map(ratio).filter(|_| figure.has_ratio));
        let ratio = ratios.map(|_| spread(ratios, 3)).unwrap_or_default();
        format!("{:<46} {:<26} {:<26} {ratio}", figure.what, shown(Side::Oxherd), shown(Side::Pm2))
    }

    pub(crate) fn json(&self) -> Value {
        let sample = |it: &Sample| {
            json!({
                "side": it.side.name(), "round": it.round,
                "figures": FIGURES.iter().map(|figure| (figure.what, (figure.of)(it))).collect::<std::collections::BTreeMap<_, _>>(),
                "flow": it.flow.tally.json(), "full": it.full.tally.json(), "room_again": it.full.more.json(),
            })
        };
        json!({
            "machine": self.machine.json(), "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}
