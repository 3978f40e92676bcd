//! Faults at random, from a seed that is printed: in the end everybody serves and nothing is left behind.
//! `OXHERD_E2E_SEED` runs a seed again, `OXHERD_E2E_FAULT_SECONDS` for longer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use oxherd_e2e::{Herd, Load, eventually, eventually_within, procs, turn};
use rustix::process::Signal;

const CLIENTS: usize = 4;
const WORKERS_MIN: u32 = 2;
const WORKERS_MAX: u32 = 5;
const SECONDS: u64 = 12;
/// Between two faults, in milliseconds: it is the rhythm of the faults, nothing is waited for by it.
const PAUSE_MS: u64 = 250;

/// A small generator (xorshift); the seed is not 0.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len() as u64) as usize])
    }
}

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.subsec_nanos().into());
    number_from("OXHERD_E2E_SEED").unwrap_or_else(now).max(1)
}

/// What was done to a herd.
#[derive(Debug, Default)]
struct Faults {
    killed: u64,
    stopped: u64,
    reloads: u64,
    scalings: u64,
    lie_still: BTreeSet<u32>,
}

impl Faults {
    fn inflict(&mut self, herd: &Herd, random: &mut Random) {
        let serving: Vec<u32> = herd.serving().into_values().collect();
        let awake: Vec<u32> = serving.iter().copied().filter(|pid| !self.lie_still.contains(pid)).collect();
        match random.below(10) {
            0..3 => self.kill(random.one_of(&serving)),
            // Somebody always goes on.
            3..5 if awake.len() > 1 => self.stop(random.one_of(&awake)),
            3..7 => self.wake(),
            7 => {
                self.reloads += 1;
                herd.signal(Signal::HUP);
            }
            8 if wanted(herd) < WORKERS_MAX => self.scale(herd, Signal::TTIN),
            9 if wanted(herd) > WORKERS_MIN => self.scale(herd, Signal::TTOU),
            _ => {}
        }
    }

    fn kill(&mut self, pid: Option<u32>) {
        if let Some(pid) = pid {
            self.killed += 1;
            procs::kill(pid, Signal::KILL);
        }
    }

    fn stop(&mut self, pid: Option<u32>) {
        if let Some(pid) = pid {
            self.stopped += 1;
            self.lie_still.insert(pid);
            procs::kill(pid, Signal::STOP);
        }
    }

    fn wake(&mut self) {
        for pid in std::mem::take(&mut self.lie_still) {
            procs::kill(pid, Signal::CONT);
        }
    }

    fn scale(&mut self, herd: &Herd, signal: Signal) {
        self.scalings += 1;
        herd.signal(signal);
    }
}

/// How many workers there should be, by the log.
fn wanted(herd: &Herd) -> u32 {
    let lines = herd.lines();
    let to = |text: &str| text.strip_prefix("Scaled from ")?.split(' ').nth(2)?.parse().ok();
    lines.iter().rev().filter(|line| line.is_of_primary()).find_map(|line| to(&line.text)).unwrap_or(3)
}

/// The workers, when there are as many as there should be, all serve and no reload is under way.
fn settled(herd: &Herd) -> Option<BTreeSet<u32>> {
    let lines = herd.lines();
    let told =
        |text: &str| lines.iter().filter(|line| line.is_of_primary() && line.text.starts_with(text)).count();
    let reloads = told("Reload starts").abs_diff(told("Reload is done") + told("Reload is aborted"));
    let serving: BTreeSet<u32> = herd.serving().into_values().collect();
    let mut processes: BTreeSet<u32> = herd.processes().into_iter().collect();
    processes.remove(&herd.pid());
    (reloads == 0 && serving.len() == wanted(herd) as usize && processes == serving).then_some(serving)
}

#[test]
fn random_faults_leave_a_sound_herd() {
    let _turn = turn::alone();
    let seed = seed();
    println!("faults from seed {seed} (OXHERD_E2E_SEED={seed} runs them again)");
    let mut random = Random(seed);
    let args = ["--restart-delay", "50ms", "--max-restarts", "10000"];
    let times = ["--drain-timeout", "1s", "--kill-timeout", "500ms", "--listen-timeout", "5s"];
    let herd = Herd::of("app.js").workers(3).args(args).args(times).start();
    let address = herd.address();
    let load = Load::short(&address, "/slow?ms=2", CLIENTS);

    let mut faults = Faults::default();
    let until =
        Instant::now() + Duration::from_secs(number_from("OXHERD_E2E_FAULT_SECONDS").unwrap_or(SECONDS));
    while Instant::now() < until {
        faults.inflict(&herd, &mut random);
        std::thread::park_timeout(Duration::from_millis(random.below(PAUSE_MS)));
    }
    faults.wake();

    let workers = eventually_within(Duration::from_secs(40), "a herd that has settled", || {
        let settled = settled(&herd)?;
        let answering = herd.pids_that_answer(&address, settled.len());
        answering.iter().eq(&settled).then_some(settled)
    });
    let tally = load.stop();
    println!("{faults:?}, in the end {} workers: {tally}", workers.len());
    assert_eq!((tally.refused, tally.wrong), (0, 0), "{tally}");
    // Only what was inside a worker that was killed, or that lay still when it had to go.
    let bound = CLIENTS as u64 * (faults.killed + faults.stopped);
    assert!(tally.failed() <= bound, "at most {bound}: {tally}");
    assert!(tally.ok > 100, "{tally}");

    let peer = Herd::of("app.js").workers(workers.len() as u32).start();
    peer.wait_serving();
    let files = procs::open_files(peer.pid());
    eventually(&format!("{files} open files"), || (procs::open_files(herd.pid()) == files).then_some(()));
    peer.stop();
    herd.stop();
}
