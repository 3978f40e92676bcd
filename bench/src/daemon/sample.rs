//! What one round tells of one manager, and the figures that are made of it.

use serde_json::{Value, json};

use super::command::Ran;
use super::manager::{Pids, Side};
use super::process::Memory;
use crate::stats::Summary;

/// A manager's own memory, without its workers'.
#[derive(Clone, Copy, Default)]
pub(crate) struct Footprint {
    pub(crate) daemon: Memory,
    pub(crate) keeper: Option<Memory>,
}

impl Footprint {
    pub(crate) fn of(pids: Pids) -> Result<Self, String> {
        Ok(Self { daemon: Memory::of(pids.daemon)?, keeper: pids.keeper.map(Memory::of).transpose()? })
    }

    /// What the manager alone makes the machine keep.
    fn own(&self) -> f64 {
        self.daemon.anonymous + self.keeper.map_or(0.0, |keeper| keeper.anonymous)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "daemon": self.daemon.json(), "keeper": self.keeper.map(Memory::json) })
    }
}

/// A start: until the command was through, and until all workers had answered. In milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) command: f64,
    pub(crate) answered: f64,
}

pub(crate) struct Sample {
    pub(crate) side: Side,
    pub(crate) round: usize,
    /// From no daemon.
    pub(crate) cold: Option<Start>,
    /// From a running one.
    pub(crate) warm: Vec<Start>,
    pub(crate) one_app: Footprint,
    pub(crate) four_apps: Footprint,
    /// Wall and CPU time of each `ls`, in milliseconds.
    pub(crate) looks: Vec<(f64, f64)>,
    pub(crate) idle_ms_per_s: f64,
}

impl Sample {
    pub(crate) fn new(side: Side, round: usize) -> Self {
        let footprint = Footprint::default();
        Self {
            side,
            round,
            cold: None,
            warm: Vec::new(),
            one_app: footprint,
            four_apps: footprint,
            looks: Vec::new(),
            idle_ms_per_s: 0.0,
        }
    }

    pub(crate) fn look(&mut self, ran: &Ran) {
        self.looks.push((ran.wall.as_secs_f64() * 1e3, ran.cpu.as_secs_f64() * 1e3));
    }

    pub(crate) fn json(&self) -> Value {
        let start = |start: &Start| json!({ "command_ms": start.command, "answered_ms": start.answered });
        json!({
            "side": self.side.name(), "round": self.round, "cold": self.cold.as_ref().map(start),
            "warm": self.warm.iter().map(start).collect::<Vec<_>>(),
            "one_app": self.one_app.json(), "four_apps": self.four_apps.json(),
            "ls_ms": self.looks.iter().map(|look| look.0).collect::<Vec<_>>(),
            "ls_cpu_ms": self.looks.iter().map(|look| look.1).collect::<Vec<_>>(),
            "idle_ms_per_s": self.idle_ms_per_s,
        })
    }
}

/// One line of the table: one number for each round of a side.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) digits: usize,
    pub(crate) of: fn(&Sample) -> Option<f64>,
}

fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    Summary::of(figures).map(|summary| summary.median)
}

pub(crate) fn ls_ms(sample: &Sample) -> Option<f64> {
    median(sample.looks.iter().map(|look| look.0))
}

pub(crate) fn daemon_rss_of_one(sample: &Sample) -> Option<f64> {
    Some(sample.one_app.daemon.rss / 1024.0)
}

pub(crate) fn daemon_rss_of_four(sample: &Sample) -> Option<f64> {
    Some(sample.four_apps.daemon.rss / 1024.0)
}

pub(crate) fn keeper_anonymous(sample: &Sample) -> Option<f64> {
    Some(sample.four_apps.keeper?.anonymous / 1024.0)
}

pub(crate) const FIGURES: [Figure; 15] = [
    Figure { what: "start of 4, no daemon: command, ms", digits: 0, of: |it| Some(it.cold?.command) },
    Figure { what: "start of 4, no daemon: all answer, ms", digits: 0, of: |it| Some(it.cold?.answered) },
    Figure {
        what: "start of 4, daemon runs: command, ms",
        digits: 0,
        of: |it| median(it.warm.iter().map(|it| it.command)),
    },
    Figure {
        what: "start of 4, daemon runs: all answer, ms",
        digits: 0,
        of: |it| median(it.warm.iter().map(|it| it.answered)),
    },
    Figure { what: "ls: wall time, ms", digits: 2, of: ls_ms },
    Figure {
        what: "ls: CPU time of the command, ms",
        digits: 2,
        of: |it| median(it.looks.iter().map(|look| look.1)),
    },
    Figure { what: "daemon, 1 app x 4: RSS, MiB", digits: 2, of: daemon_rss_of_one },
    Figure { what: "daemon, 4 apps x 4: RSS, MiB", digits: 2, of: daemon_rss_of_four },
    Figure {
        what: "daemon, 4 apps x 4: PSS, MiB",
        digits: 2,
        of: |it| Some(it.four_apps.daemon.pss / 1024.0),
    },
    Figure {
        what: "daemon, 4 apps x 4: anonymous, MiB",
        digits: 2,
        of: |it| Some(it.four_apps.daemon.anonymous / 1024.0),
    },
    Figure {
        what: "keeper, 4 apps x 4: RSS, MiB",
        digits: 2,
        of: |it| Some(it.four_apps.keeper?.rss / 1024.0),
    },
    Figure {
        what: "keeper, 4 apps x 4: PSS, MiB",
        digits: 2,
        of: |it| Some(it.four_apps.keeper?.pss / 1024.0),
    },
    Figure { what: "keeper, 4 apps x 4: anonymous, MiB", digits: 2, of: keeper_anonymous },
    Figure {
        what: "both, 4 apps x 4: anonymous, MiB",
        digits: 2,
        of: |it| Some(it.four_apps.own() / 1024.0),
    },
    Figure { what: "idle CPU, 4 apps x 4, ms per s", digits: 2, of: |it| Some(it.idle_ms_per_s) },
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(side: Side, round: usize, ls: f64) -> Sample {
        let mut sample = Sample::new(side, round);
        sample.looks = vec![(ls * 9.0, 1.0), (ls, 1.0), (ls / 2.0, 1.0)];
        sample
    }

    #[test]
    fn the_middle_look_counts() {
        assert_eq!(ls_ms(&sample(Side::Pm2, 1, 200.0)), Some(200.0));
        assert_eq!(ls_ms(&Sample::new(Side::Pm2, 1)), None);
    }

    #[test]
    fn one_who_has_no_keeper_has_no_figures_of_one() {
        let mut sample = sample(Side::Oxherd, 1, 2.0);
        assert_eq!(keeper_anonymous(&sample), None);
        sample.four_apps.keeper = Some(Memory { rss: 4096.0, pss: 1.0, anonymous: 512.0 });
        assert_eq!(keeper_anonymous(&sample), Some(0.5));
    }
}
