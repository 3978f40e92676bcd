//! Killing managers under load, and what must be as before afterwards.
//!
//! Moments come from a seed, so that a failing run can be tried again: `OXHERD_E2E_SEED`.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Address, Home, Load, Tally, eventually, places};

/// Deaths further apart than this do not add up.
pub const CALM: Duration = Duration::from_millis(10_100);
/// Uptimes are whole milliseconds; where only the kernel knows when a process began, hundredths of a second.
const ROUNDING: Duration = Duration::from_millis(20);
/// By so much the kernel may know better: a busy primary notes a birth late.
const NOTED_LATE: Duration = Duration::from_secs(2);

/// A small generator (xorshift) for moments that differ from run to run only by its seed.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Seeded by `OXHERD_E2E_SEED` or by a number that never changes; says which.
    pub fn seeded() -> Self {
        let seed =
            std::env::var("OXHERD_E2E_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
        println!("OXHERD_E2E_SEED={seed}");
        // Zero would stay zero.
        Self(seed | 1 << 63)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A worker in its slot, as `ls --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The slot's number.
    pub slot: u64,
    /// How often the slot was filled again.
    pub restarts: u64,
    /// Its own id.
    pub instance: String,
    /// `cluster.worker.id`.
    pub worker: u64,
    /// Its process.
    pub pid: u32,
    /// The word for it.
    pub status: String,
}

/// The workers of an app at a moment.
#[derive(Clone, Debug)]
pub struct Roll {
    /// Slot by slot.
    pub seats: Vec<Seat>,
    uptimes: Vec<Duration>,
    asked: Instant,
    answered: Instant,
}

impl Roll {
    /// Those of an app; empty when there is no such app.
    pub fn of(home: &Home, app: &str) -> Self {
        let asked = Instant::now();
        let herd = home.herd();
        let answered = Instant::now();
        let (mut seats, mut uptimes) = (Vec::new(), Vec::new());
        for slot in
            array(&herd["apps"]).iter().filter(|it| it["name"] == app).flat_map(|it| array(&it["slots"]))
        {
            for worker in array(&slot["workers"]) {
                uptimes.push(Duration::from_millis(worker["uptime_ms"].as_u64().unwrap_or_default()));
                seats.push(Seat {
                    slot: slot["slot"].as_u64().expect("a slot has a number"),
                    restarts: slot["restarts"].as_u64().expect("restarts are counted"),
                    instance: worker["instance"].to_string(),
                    worker: worker["worker"].as_u64().expect("a worker has a number"),
                    pid: worker["pid"].as_u64().unwrap_or_default() as u32,
                    status: worker["status"].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
        Self { seats, uptimes, asked, answered }
    }

    /// Waits until `count` slots are filled by one online worker each and nothing else of the home runs but the
    /// daemon and its keeper, and returns them.
    pub fn settled(home: &Home, app: &str, count: usize) -> Self {
        let mut last = String::new();
        for _look in 0..2 {
            let until = Instant::now() + crate::DEADLINE;
            while Instant::now() < until {
                let roll = Self::of(home, app);
                let strays = home.strays();
                if roll.is_settled(count) && strays.is_empty() {
                    return roll;
                }
                last = format!("{roll:#?}; besides {strays:?}");
                std::thread::park_timeout(crate::LOOK_EVERY);
            }
        }
        panic!("{app} has not come to {count} online workers and nothing else: {last}");
    }

    fn is_settled(&self, count: usize) -> bool {
        let slots: Vec<u64> = self.seats.iter().map(|seat| seat.slot).collect();
        slots == (0..count as u64).collect::<Vec<_>>()
            && self.seats.iter().all(|seat| seat.status == "online")
    }

    /// Their processes.
    pub fn pids(&self) -> BTreeSet<u32> {
        self.seats.iter().map(|seat| seat.pid).collect()
    }

    /// The same workers under the same ids, whatever is counted.
    pub fn assert_same_workers(&self, earlier: &Self) {
        let uncounted = |seat: &Seat| Seat { restarts: 0, ..seat.clone() };
        let (now, before): (Vec<_>, Vec<_>) =
            (self.seats.iter().map(uncounted).collect(), earlier.seats.iter().map(uncounted).collect());
        assert_eq!(now, before, "a worker was touched");
    }

    /// The same workers under the same ids, no restart counted, and their uptimes have gone on as time has.
    pub fn assert_untouched(&self, earlier: &Self) {
        assert_eq!(self.seats, earlier.seats, "a worker was touched");
        let instances: BTreeSet<&str> = self.seats.iter().map(|seat| &*seat.instance).collect();
        assert_eq!(instances.len(), self.seats.len(), "an id is used twice: {:?}", self.seats);
        let least = self.asked - earlier.answered;
        let most = self.answered - earlier.asked;
        for (now, before) in self.uptimes.iter().zip(&earlier.uptimes) {
            let grown = now.saturating_sub(*before);
            assert!(
                grown + ROUNDING >= least && grown <= most + NOTED_LATE,
                "an uptime has grown by {grown:?} in {least:?} to {most:?}"
            );
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Starts the plain server as the app `web`.
pub fn start_web(home: &Home, workers: &str) {
    let script = places::fixture("app.js");
    home.ok(&["start", script.to_str().expect("a plain path"), "--name", "web", "-i", workers]);
}

/// Kills the daemon and waits until another one serves.
pub fn replace(home: &Home) {
    let (_, starts) = home.kill_daemon();
    await_start_after(home, starts);
}

/// Waits until a daemon serves that came after so many starts.
pub fn await_start_after(home: &Home, starts: u32) {
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
}

/// Waits until a death would be the first of its kind.
pub fn calm_down() {
    let calm = Instant::now() + CALM;
    crate::eventually_within(CALM * 2, "a calm time", || (Instant::now() > calm).then_some(()));
}

/// Reloads and scales `web` under load, and kills the daemon amid each change, which comes to its end all the same.
pub fn replace_amid_changes(home: &Home, load: &Load, chance: &mut Chance) {
    for verb in [&["reload", "web"][..], &["scale", "web", "4"], &["reload", "web"], &["scale", "web", "2"]] {
        // After three deaths within ten seconds changes that were under way are given up.
        calm_down();
        let mut change = home.command(verb).stdout(Stdio::null()).spawn().expect("it runs");
        load.wait_more(chance.below(60));
        replace(home);
        let status = eventually("the end of the command", || change.try_wait().expect("it is our child"));
        assert!(status.success(), "oxherd {verb:?}: {status}");
    }
}

/// Clients with a connection for each request, and clients that keep theirs.
#[derive(Debug)]
pub struct Clients {
    short: Load,
    kept: Load,
}

impl Clients {
    /// Starts them.
    pub fn start(address: &Address) -> Self {
        Self { short: Load::short(address, "/", 6), kept: Load::keep_alive(address, "/", 2) }
    }

    /// Waits until this many more short requests are answered.
    pub fn wait_more(&self, more: u64) {
        self.short.wait_more(more);
    }

    /// Stops them and prints what they saw.
    pub fn stop(self, row: &str) -> (Tally, Tally) {
        let (short, kept) = (self.short.stop(), self.kept.stop());
        println!("{row}: short {short}; keep-alive {kept}");
        (short, kept)
    }

    /// The same; none may have failed.
    pub fn stop_unharmed(self, row: &str) {
        let (short, kept) = self.stop(row);
        assert_eq!(short.failed(), 0, "{row}: {short}");
        assert_eq!(kept.failed(), 0, "{row}: {kept}");
        assert!(short.ok > 0 && kept.ok > 0, "{row}: nobody has asked");
    }
}
