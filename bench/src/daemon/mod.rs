//! The daemon beside PM2's, and alone with a large herd. In each round both managers run the same four apps of four
//! Node workers at the same time, and every measured step is taken by one and then by the other, in an order that
//! changes from round to round. Must leave nothing behind, whatever fails.

mod answers;
mod command;
mod herd;
pub(crate) mod manager;
pub(crate) mod process;
mod report;
mod sample;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::DaemonOptions;
use crate::budget;
use crate::machine::Machine;
use crate::sys;

pub(crate) use herd::HerdOptions;
use manager::{Manager, Programs, Side};
use report::Report;
use sample::{Footprint, Sample, Start};

const WORKERS: usize = 4;
const APPS: [&str; 4] = ["app-1", "app-2", "app-3", "app-4"];
/// A look of PM2's takes so much longer that oxherd's can be taken more often.
pub(crate) const LOOKS_OF_OXHERD: usize = 5;
/// After this, what a start has set going is over.
const SETTLE: Duration = Duration::from_secs(2);
const SLEEP_STEP: Duration = Duration::from_millis(100);
pub(crate) fn run(options: &DaemonOptions) -> ExitCode {
    let programs =
        Programs { node: options.node.clone(), oxherd: options.oxherd.clone(), pm2: options.pm2.clone() };
    let missing = [&programs.oxherd, &programs.pm2].into_iter().find(|program| !program.exists());
    if let Some(missing) = missing.filter(|_| options.rounds > 0) {
        eprintln!(
            "there is no {}: `cargo build --release` makes oxherd, `cargo xtask tools --bench` gets PM2",
            missing.display()
        );
        return ExitCode::FAILURE;
    }
    let machine = Machine::read(&options.node);
    let mut report =
        Report { options, machine, samples: Vec::new(), herds: Vec::new(), failures: Vec::new() };
    play(options, &programs, &mut report);
    report.print();
    let is_whole = report.failures.is_empty();
    let check = options.check.then(|| report.judged());
    budget::conclude(options.json.as_deref(), &report.json(), is_whole, check.as_deref())
}

fn play(options: &DaemonOptions, programs: &Programs, report: &mut Report<'_>) {
    for number in 1..=options.rounds {
        eprintln!("round {number}/{} beside PM2", options.rounds);
        match round(number, options, programs) {
            Ok(samples) => report.samples.extend(samples),
            Err(message) => report.failures.push(format!("round {number}: {message}")),
        }
        if sys::stop_requested() {
            return;
        }
    }
    for number in 1..=options.herd.rounds {
        eprintln!("round {number}/{} with {} workers", options.herd.rounds, options.herd.workers);
        match herd::measure(&options.herd, options.idle, programs) {
            Ok(stages) => report.herds.push(stages),
            Err(message) => report.failures.push(format!("herd in round {number}: {message}")),
        }
        if sys::stop_requested() {
            return;
        }
    }
}

struct Player<'a> {
    manager: Manager<'a>,
    sample: Sample,
}

fn round(number: usize, options: &DaemonOptions, programs: &Programs) -> Result<Vec<Sample>, String> {
    let mut players = Vec::new();
    for side in Side::BOTH {
        players.push(Player { manager: Manager::new(side, programs)?, sample: Sample::new(side, number) });
    }
    if number.is_multiple_of(2) {
        players.reverse();
    }
    let [first, others @ ..] = APPS;
    for player in &mut players {
        player.sample.cold = Some(player.start(first)?);
    }
    sleep(SETTLE)?;
    for player in &mut players {
        player.sample.one_app = Footprint::of(player.manager.pids()?)?;
    }
    for app in others {
        for player in &mut players {
            let start = player.start(app)?;
            player.sample.warm.push(start);
        }
    }
    sleep(SETTLE)?;
    for player in &mut players {
        player.sample.four_apps = Footprint::of(player.manager.pids()?)?;
    }
    look(&mut players, options.looks)?;
    rest(&mut players, options.idle)?;
    players.into_iter().map(|player| player.manager.end().map(|()| player.sample)).collect()
}

impl Player<'_> {
    fn start(&self, app: &str) -> Result<Start, String> {
        let (hold, port) = sys::bound_socket(0).map_err(|error| format!("cannot reserve a port: {error}"))?;
        let begun = Instant::now();
        let since = |at: Instant| (at - begun).as_secs_f64() * 1e3;
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| answers::from_all(port, WORKERS));
            let command = self.manager.start_server(app, WORKERS, port);
            let answered = answers.join().map_err(|_| "the asking thread has panicked".to_owned())?;
            // Its failure is why nobody answers.
            let command = command?.wall.as_secs_f64() * 1e3;
            drop(hold);
            Ok(Start { command, answered: since(answered?) })
        })
    }
}

fn look(players: &mut [Player<'_>], looks: usize) -> Result<(), String> {
    for _look in 0..looks {
        for player in players.iter_mut() {
            let times = if player.sample.side == Side::Oxherd { LOOKS_OF_OXHERD } else { 1 };
            for _time in 0..times {
                let ran = player.manager.run(&["ls"])?;
                player.sample.look(&ran);
            }
        }
    }
    Ok(())
}

/// Both at the same time: they do next to nothing, and the window can be long.
fn rest(players: &mut [Player<'_>], idle: Duration) -> Result<(), String> {
    sleep(SETTLE)?;
    // Asking for the pids is work too, so it is asked before the window opens.
    let pids =
        players.iter().map(|player| Ok(player.manager.pids()?.all())).collect::<Result<Vec<_>, String>>()?;
    let read = || pids.iter().map(|pids| process::cpu_ms(pids)).collect::<Result<Vec<_>, String>>();
    let (before, start) = (read()?, Instant::now());
    sleep(idle)?;
    let (after, window) = (read()?, start.elapsed().as_secs_f64());
    for ((player, before), after) in players.iter_mut().zip(before).zip(after) {
        player.sample.idle_ms_per_s = (after - before) / window;
    }
    Ok(())
}

/// Fails when the bench is told to stop meanwhile.
fn sleep(time: Duration) -> Result<(), String> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if sys::stop_requested() {
            return Err("interrupted".to_owned());
        }
        std::thread::sleep(left.min(SLEEP_STEP));
    }
}
