//! What workers write, under oxherd's daemon and under PM2's: many lines, one that is very long, bytes that are no
//! text, and a disk that is full. The two take turns at each step, so that neither pays for the other. Must leave
//! nothing behind, whatever fails.

mod report;
mod stage;
mod tally;
pub(crate) mod writer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::budget;
use crate::daemon::manager::{Manager, Programs, Side};
use crate::machine::Machine;
use crate::sys;

use report::Report;
use stage::{Disk, Stage};
use tally::Tally;
use writer::Job;

/// How many apps write at a time.
const APPS: u64 = 2;
const LONG_BYTES: usize = 100_000_000;
/// Far more than the full disk has room for, and less than makes anybody wait for it.
const BURST_LINES: u64 = 100_000;
/// What is written once there is room again.
const MORE_LINES: u64 = 1000;
/// After this, what a start has set going is over.
const SETTLE: Duration = Duration::from_secs(1);
/// How long it may take until all is in the files, and until a worker has written it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct LogOptions {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) rate: u64,
    pub(crate) node: PathBuf,
    pub(crate) oxherd: PathBuf,
    pub(crate) pm2: PathBuf,
    pub(crate) json: Option<PathBuf>,
}

/// One side's figures of one round.
pub(crate) struct Sample {
    pub(crate) side: Side,
    pub(crate) round: usize,
    pub(crate) flow: Flow,
    pub(crate) long: Long,
    pub(crate) are_bytes_same: bool,
    pub(crate) full: Full,
}

/// Of all apps together.
#[derive(Default)]
pub(crate) struct Flow {
    pub(crate) tally: Tally,
    pub(crate) written: u64,
    /// Of daemon and keeper, in milliseconds.
    pub(crate) cpu_ms: f64,
    pub(crate) peak_kib: f64,
    /// How long a write took, in microseconds.
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

pub(crate) struct Long {
    pub(crate) is_whole: bool,
    /// Until it was in the file, or until nobody waited any longer.
    pub(crate) wall_ms: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) peak_kib: f64,
}

pub(crate) struct Full {
    /// How long the worker took; nothing where it was held up for longer than anybody waits.
    pub(crate) wall_ms: Option<f64>,
    pub(crate) tally: Tally,
    /// Of those that were written when there was room again.
    pub(crate) more: Tally,
    pub(crate) peak_kib: f64,
}

pub(crate) fn run(options: &LogOptions) -> ExitCode {
    let programs =
        Programs { node: options.node.clone(), oxherd: options.oxherd.clone(), pm2: options.pm2.clone() };
    let missing = [&programs.oxherd, &programs.pm2].into_iter().find(|program| !program.exists());
    if let Some(missing) = missing {
        eprintln!(
            "there is no {}: `cargo build --release` makes oxherd, `cargo xtask tools --bench` gets PM2",
            missing.display()
        );
        return ExitCode::FAILURE;
    }
    let machine = Machine::read(&options.node);
    let mut report = Report { options, machine, samples: Vec::new(), failures: Vec::new() };
    'rounds: for number in 1..=options.rounds {
        let mut sides = Side::BOTH;
        if number.is_multiple_of(2) {
            sides.reverse();
        }
        for side in sides {
            eprintln!("round {number}/{}, {}", options.rounds, side.name());
            match measure(side, number, options, &programs) {
                Ok(sample) => report.samples.push(sample),
                Err(message) => report.failures.push(format!("round {number}, {}: {message}", side.name())),
            }
            if sys::stop_requested() {
                break 'rounds;
            }
        }
    }
    println!("{}", report.text());
    let is_whole = report.failures.is_empty();
    budget::conclude(options.json.as_deref(), &report.json(), is_whole, None)
}

fn measure(side: Side, round: usize, options: &LogOptions, programs: &Programs) -> Result<Sample, String> {
    let manager = Manager::new(side, programs)?;
    let disk = Disk::make(manager.home());
    let flow = flow(&manager, options)?;
    let long = long(&manager)?;
    let are_bytes_same = bytes(&manager)?;
    let full = full(&manager, &disk)?;
    // Its folder is in the manager's home.
    drop(disk);
    manager.end()?;
    Ok(Sample { side, round, flow, long, are_bytes_same, full })
}

fn flow(manager: &Manager<'_>, options: &LogOptions) -> Result<Flow, String> {
    let job = Job::Flow { rate: options.rate, seconds: options.seconds };
    let mut stages = Vec::new();
    for app in 1..=APPS {
        stages.push(Stage::start(manager, &format!("flow-{app}"), job, None)?);
    }
    let each = options.rate * options.seconds;
    let patience = Duration::from_secs(options.seconds) + PATIENCE;
    let watch = stage::watch(manager, &stages, 1, patience, || {
        stages.iter().all(|stage| stage.bytes() >= each * writer::line(0).len() as u64)
    })?;
    let mut flow = Flow { cpu_ms: watch.cpu_ms, peak_kib: watch.peak_kib, ..Flow::default() };
    for stage in &stages {
        flow.tally.add(Tally::of(&stage.text(), 0..each));
        let figure = |name: &str| stage.said(1).and_then(|said| said[name].as_f64()).unwrap_or(f64::NAN);
        flow.p99_us = flow.p99_us.max(figure("p99_us"));
        flow.max_us = flow.max_us.max(figure("max_us"));
        flow.written += each;
        stage.end()?;
    }
    Ok(flow)
}

fn long(manager: &Manager<'_>) -> Result<Long, String> {
    let stage = Stage::start(manager, "long", Job::Long { bytes: LONG_BYTES }, None)?;
    let stages = std::slice::from_ref(&stage);
    let watch = stage::watch(manager, stages, 1, PATIENCE, || stage.bytes() > LONG_BYTES as u64)?;
    let text = stage.text();
    let (line, end) = text.split_at_checked(LONG_BYTES).unwrap_or_default();
    let is_whole = end == b"\n" && line.iter().all(|byte| *byte == b'x');
    stage.end()?;
    Ok(Long { is_whole, wall_ms: watch.wall_ms, cpu_ms: watch.cpu_ms, peak_kib: watch.peak_kib })
}

fn bytes(manager: &Manager<'_>) -> Result<bool, String> {
    let expected = writer::bytes();
    let stage = Stage::start(manager, "bytes", Job::Bytes, None)?;
    let stages = std::slice::from_ref(&stage);
    stage::watch(manager, stages, 1, PATIENCE / 10, || stage.bytes() >= expected.len() as u64)?;
    let is_same = stage.text() == expected;
    stage.end()?;
    Ok(is_same)
}

fn full(manager: &Manager<'_>, disk: &Disk) -> Result<Full, String> {
    let job = Job::Burst { lines: BURST_LINES, more: MORE_LINES };
    disk.fill()?;
    let stage = Stage::start(manager, "full", job, Some(disk.folder()))?;
    let stages = std::slice::from_ref(&stage);
    let watch = stage::watch(manager, stages, 1, PATIENCE, || stage.said(1).is_some())?;
    let wall_ms = stage.said(1).and_then(|said| said["wall_ms"].as_f64());
    disk.make_room()?;
    std::thread::sleep(SETTLE);
    let all = BURST_LINES + MORE_LINES;
    // Whoever has written nothing of it by then has lost it.
    stage::watch(manager, stages, 2, PATIENCE / 10, || {
        Tally::of(&stage.text(), BURST_LINES..all).whole == MORE_LINES
    })?;
    let text = stage.text();
    let (tally, more) = (Tally::of(&text, 0..BURST_LINES), Tally::of(&text, BURST_LINES..all));
    stage.end()?;
    Ok(Full { wall_ms, tally, more, peak_kib: watch.peak_kib })
}
