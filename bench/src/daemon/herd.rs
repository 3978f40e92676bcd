//! Hundreds of workers of a small program on one daemon: what each stage takes, and what daemon and keeper use of the
//! machine meanwhile. Looks for what grows faster than the number of workers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::manager::{Manager, Pids, Programs, Side};
use super::process::{cpu_ms, descriptors};
use super::sample::Footprint;
use super::sleep;
use crate::stats::{Summary, spread};

#[derive(Clone, Copy)]
pub(crate) struct HerdOptions {
    pub(crate) workers: u64,
    pub(crate) parallel: u64,
    pub(crate) rounds: usize,
}

/// It does nothing, opens nothing and is there at once, so that all the work is the manager's.
const PROGRAM: &str = "/bin/sleep";
const APP: &str = "herd";
const LOOKS: u32 = 10;

pub(crate) struct Stage {
    name: &'static str,
    wall: Duration,
    daemon_cpu_ms: f64,
    keeper_cpu_ms: f64,
    footprint: Footprint,
    daemon_fds: usize,
    keeper_fds: usize,
}

/// All stages of one round.
pub(crate) struct Stages(Vec<Stage>);

pub(crate) fn measure(options: &HerdOptions, idle: Duration, programs: &Programs) -> Result<Stages, String> {
    let manager = Manager::new(Side::Oxherd, programs)?;
    // The daemon is to be there already: its own start is another figure.
    let first = manager.run(&[
        "start",
        PROGRAM,
        "--interpreter",
        "none",
        "--name",
        "first",
        "-i",
        "1",
        "--",
        "100000",
    ]);
    first?;
    let stages = Stages(stages(options, idle, &manager)?);
    manager.end()?;
    Ok(stages)
}

fn stages(options: &HerdOptions, idle: Duration, manager: &Manager<'_>) -> Result<Vec<Stage>, String> {
    let (workers, parallel) = (options.workers.to_string(), options.parallel.to_string());
    let start: [&str; 12] = [
        "start",
        PROGRAM,
        "--interpreter",
        "none",
        "--name",
        APP,
        "-i",
        &workers,
        "--parallel",
        &parallel,
        "--",
        "100000",
    ];
    let run = |args: &[&str]| manager.run(args).map(drop);
    let pids = manager.pids()?;
    let stage = |name, work: &dyn Fn() -> Result<(), String>| Stage::of(name, pids, work);
    Ok(vec![
        stage("start", &|| run(&start))?,
        stage("10 x ls", &|| (0..LOOKS).try_for_each(|_| run(&["ls"])))?,
        stage("idle", &|| sleep(idle))?,
        stage("reload", &|| run(&["reload", APP]))?,
        stage("stop", &|| run(&["stop", APP]))?,
    ])
}

impl Stage {
    fn of(name: &'static str, pids: Pids, work: &dyn Fn() -> Result<(), String>) -> Result<Self, String> {
        let keeper = pids.keeper.ok_or("a daemon has a keeper")?;
        let cpu = || Ok::<_, String>((cpu_ms(&[pids.daemon])?, cpu_ms(&[keeper])?));
        let (before, start) = (cpu()?, Instant::now());
        work()?;
        let (after, wall) = (cpu()?, start.elapsed());
        Ok(Self {
            name,
            wall,
            daemon_cpu_ms: after.0 - before.0,
            keeper_cpu_ms: after.1 - before.1,
            footprint: Footprint::of(pids)?,
            daemon_fds: descriptors(pids.daemon)?,
            keeper_fds: descriptors(keeper)?,
        })
    }

    fn json(&self) -> Value {
        json!({
            "stage": self.name, "wall_ms": self.wall.as_secs_f64() * 1e3, "daemon_cpu_ms": self.daemon_cpu_ms,
            "keeper_cpu_ms": self.keeper_cpu_ms, "memory": self.footprint.json(), "daemon_fds": self.daemon_fds,
            "keeper_fds": self.keeper_fds,
        })
    }

    /// The columns of the table behind the name.
    fn figures(&self) -> [f64; 7] {
        let keeper = self.footprint.keeper.unwrap_or_default();
        [
            self.wall.as_secs_f64(),
            self.daemon_cpu_ms,
            self.keeper_cpu_ms,
            self.footprint.daemon.rss / 1024.0,
            self.footprint.daemon.anonymous / 1024.0,
            keeper.rss / 1024.0,
            keeper.anonymous / 1024.0,
        ]
    }
}

impl Stages {
    pub(crate) fn table(rounds: &[Self]) -> Vec<String> {
        let mut lines = vec![format!(
            "{:<8} {:<22} {:<22} {:<22} {:<20} {:<20} fds of daemon, keeper",
            "",
            "wall s",
            "daemon's CPU ms",
            "keeper's CPU ms",
            "daemon RSS (anon.)",
            "keeper RSS (anon.) MiB"
        )];
        let stages = rounds.first().map_or(0, |round| round.0.len());
        lines.extend((0..stages).map(|at| {
            let stages: Vec<&Stage> = rounds.iter().filter_map(|round| round.0.get(at)).collect();
            Self::line(&stages)
        }));
        lines
    }

    /// One stage of all rounds.
    fn line(stages: &[&Stage]) -> String {
        let summary = |column: usize| Summary::of(stages.iter().map(|stage| stage.figures()[column]));
        let middle = |column: usize| summary(column).map_or(0.0, |summary| summary.median);
        let last = stages.last().map_or((0, 0), |stage| (stage.daemon_fds, stage.keeper_fds));
        format!(
            "{:<8} {:<22} {:<22} {:<22} {:<20} {:<20} {}, {}",
            stages.first().map_or("", |stage| stage.name),
            spread(summary(0), 2),
            spread(summary(1), 0),
            spread(summary(2), 0),
            format!("{:.2} ({:.2})", middle(3), middle(4)),
            format!("{:.2} ({:.2})", middle(5), middle(6)),
            last.0,
            last.1
        )
    }

    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(Stage::json).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(wall_s: u64) -> Stage {
        Stage {
            name: "start",
            wall: Duration::from_secs(wall_s),
            daemon_cpu_ms: 5.0,
            keeper_cpu_ms: 7.0,
            footprint: Footprint::default(),
            daemon_fds: 11,
            keeper_fds: 12,
        }
    }

    #[test]
    fn a_stage_is_a_line_over_all_rounds() {
        let rounds = [Stages(vec![stage(1)]), Stages(vec![stage(3)])];
        let table = Stages::table(&rounds);
        assert_eq!(table.len(), 2);
        assert!(table[1].starts_with("start    2.00 [1.00-3.00]"), "{}", table[1]);
        assert!(table[1].ends_with("11, 12"), "{}", table[1]);
    }
}
