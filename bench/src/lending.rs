//! What it costs a program to be lent its sockets: an ordinary system call, a `bind` that is looked at and goes on, and
//! a `bind` with its `listen` that are carried out for it. The same program runs alone and under `oxherd run`, which
//! traps these calls, in turn.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::budget::{self, Bound, Judged};
use crate::child::{Guarded, Output};
use crate::machine::Machine;
use crate::stats::{Summary, spread};
use crate::sys;

/// System calls that are timed together, and how often.
const CALLS: u32 = 20_000;
const BATCHES: usize = 50;
const BINDS: usize = 2000;
const LISTENS: usize = 200;
const BACKLOG: libc::c_int = 511;
/// Far longer than a round takes.
const ROUND_MAX: Duration = Duration::from_secs(60);
const FIGURES: [&str; 4] = ["getppid", "write and read", "bind, port 0", "bind and listen"];
/// How many of them are ordinary calls.
const ORDINARY: usize = 2;

pub(crate) struct LendingOptions {
    pub(crate) rounds: usize,
    pub(crate) oxherd: PathBuf,
    pub(crate) json: Option<PathBuf>,
    pub(crate) check: bool,
}

/// Nanoseconds of each of [`FIGURES`].
type Figures = [f64; FIGURES.len()];

/// The two ways of one round.
struct Round {
    alone: Figures,
    lent: Figures,
}

pub(crate) fn run(options: &LendingOptions) -> ExitCode {
    let machine = Machine::read("node".as_ref());
    let (mut rounds, mut failure) = (Vec::new(), None);
    for number in 0..options.rounds {
        match play(options, number % 2 == 1) {
            Ok(round) => {
                eprintln!("round {}/{}  {}", number + 1, options.rounds, shown(&round));
                rounds.push(round);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    println!("{}", machine.line());
    print!("{}", table(&rounds));
    let judged = [judge(&rounds)];
    for judged in &judged {
        println!("\n{} {}: {}", judged.what, judged.bound, judged.verdict_text());
    }
    if let Some(failure) = &failure {
        println!("FAILED: {failure}");
    }
    let raw = raw(&machine, &rounds, &judged);
    budget::conclude(options.json.as_deref(), &raw, failure.is_none(), options.check.then_some(&judged))
}

fn play(options: &LendingOptions, lent_first: bool) -> Result<Round, String> {
    if lent_first {
        let lent = measure(Some(&options.oxherd))?;
        return Ok(Round { alone: measure(None)?, lent });
    }
    Ok(Round { alone: measure(None)?, lent: measure(options.oxherd.as_path().into())? })
}

/// Has this program measure itself, under an oxherd or alone.
fn measure(oxherd: Option<&std::path::Path>) -> Result<Figures, String> {
    let told = |error: io::Error| format!("cannot measure: {error}");
    let own = std::env::current_exe().map_err(told)?;
    let file = std::env::temp_dir().join(format!("oxherd-bench-lending-{}", std::process::id()));
    // It is given up again, and nobody else is likely to take it.
    let (_, port) = sys::bound_socket(0).map_err(told)?;
    let mut command = match oxherd {
        Some(oxherd) => {
            let mut command = Command::new(oxherd);
            command.args([
                "run",
                "-i",
                "1",
                "--restart",
                "never",
                "--sockets",
                "universal",
                "--status-interval",
                "0",
            ]);
            command.arg(&own).arg("--");
            command
        }
        None => Command::new(&own),
    };
    command.arg("lending-program").arg(&file).arg(port.to_string());
    let mut child = Guarded::spawn(&mut command, None, Output::Captured).map_err(told)?;
    let deadline = Instant::now() + ROUND_MAX;
    let ended = loop {
        if let Some(status) = child.has_ended() {
            break status;
        }
        if Instant::now() > deadline || sys::stop_requested() {
            return Err("it was interrupted, or hangs".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    // It may never have been written.
    drop(std::fs::remove_file(&file));
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let failed = || {
        format!(
            "{}ended with {ended}: {}",
            oxherd.map_or("alone it ", |_| "under oxherd it "),
            child.output_tail()
        )
    };
    Figures::try_from(figures).map_err(|_| failed())
}

/// The program that is measured: writes its figures to a file.
pub(crate) fn play_program(file: &str, port: u16) -> Result<(), String> {
    let told = |error: io::Error| format!("cannot measure: {error}");
    // The quickest batch is the one that nobody has disturbed.
    let quickest = |time: &dyn Fn() -> f64| (0..BATCHES).map(|_| time()).fold(f64::INFINITY, f64::min);
    let (one, other) = UnixStream::pair().map_err(told)?;
    let calls = quickest(&time_calls);
    let transfers = quickest(&|| time_transfers(&one, &other));
    let binds = median((0..BINDS).map(|_| time_bind(0, false)));
    let listens = median((0..LISTENS).map(|_| time_bind(port, true)));
    let text = format!("{calls} {transfers} {} {}", binds.map_err(told)?, listens.map_err(told)?);
    std::fs::write(file, text).map_err(told)
}

fn median(figures: impl Iterator<Item = io::Result<f64>>) -> io::Result<f64> {
    let figures: Vec<f64> = figures.collect::<io::Result<_>>()?;
    Ok(Summary::of(figures).map_or(f64::NAN, |summary| summary.median))
}

/// Nanoseconds of a call.
fn time_calls() -> f64 {
    let begin = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: no pointers.
        std::hint::black_box(unsafe { libc::syscall(libc::SYS_getppid) });
    }
    begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Nanoseconds of a short message over a socket: two calls.
fn time_transfers(mut one: &UnixStream, mut other: &UnixStream) -> f64 {
    let mut bytes = [0; 64];
    let begin = Instant::now();
    for _ in 0..CALLS {
        // What is wrong with it would show in the figure.
        let sent = one.write(&bytes).and_then(|_| other.read(&mut bytes));
        std::hint::black_box(sent.is_ok());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Nanoseconds of a `bind` to a loopback port, and of the `listen` after it.
fn time_bind(port: u16, and_listen: bool) -> io::Result<f64> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is owned.
    let socket = unsafe { OwnedFd::from_raw_fd(sys::check(libc::socket(libc::AF_INET, kind, 0))?) };
    let on: libc::c_int = 1;
    sys::set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
    let address = sys::loopback(port);
    let begin = Instant::now();
    // SAFETY: the address is a sockaddr_in of the length given.
    unsafe {
        sys::check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), sys::address_length()))?;
        if and_listen {
            sys::check(libc::listen(socket.as_raw_fd(), BACKLOG))?;
        }
    }
    Ok(begin.elapsed().as_nanos() as f64)
}

fn judge(rounds: &[Round]) -> Judged {
    let ratios = rounds.iter().map(|round| round.lent[0] / round.alone[0]).collect();
    Judged::of("11 an ordinary system call, lent / alone", &Bound::AtMost(1.05), ratios)
}

fn table(rounds: &[Round]) -> String {
    let mut text = format!("{} rounds; ns, median [range]\n\n", rounds.len());
    let mut line = |cells: [&str; 5]| {
        let [what, alone, lent, ratio, more] = cells;
        text += &format!("{what:<18} {alone:<26} {lent:<30} {ratio:<22} {more}\n");
    };
    line(["call", "alone", "lent", "lent / alone", "lent - alone, us"]);
    for (at, what) in FIGURES.iter().enumerate() {
        let of =
            |figure: &dyn Fn(&Round) -> f64, digits| spread(Summary::of(rounds.iter().map(figure)), digits);
        line([
            what,
            &of(&|round| round.alone[at], 0),
            &of(&|round| round.lent[at], 0),
            &of(&|round| round.lent[at] / round.alone[at], 2),
            &of(&|round| (round.lent[at] - round.alone[at]) / 1000.0, if at < ORDINARY { 3 } else { 1 }),
        ]);
    }
    text
}

fn shown(round: &Round) -> String {
    let ratio = |at: usize| round.lent[at] / round.alone[at];
    FIGURES
        .iter()
        .enumerate()
        .map(|(at, what)| format!("{what} x {:.2}", ratio(at)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn raw(machine: &Machine, rounds: &[Round], judged: &[Judged]) -> Value {
    let round = |it: &Round| json!({ "alone_ns": it.alone, "lent_ns": it.lent });
    json!({
        "machine": machine.json(),
        "figures": FIGURES,
        "rounds": rounds.iter().map(round).collect::<Vec<_>>(),
        "budgets": judged.iter().map(Judged::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_costs_more_is_a_budget_missed() {
        let round = |lent| Round { alone: [100.0, 1.0, 1.0, 1.0], lent: [lent, 2.0, 3.0, 4.0] };
        assert!(judge(&[round(101.0), round(104.0), round(200.0)]).holds());
        assert!(!judge(&[round(106.0)]).holds());
        assert!(table(&[round(101.0)]).contains("1.01 [1.01-1.01]"));
    }

    #[test]
    fn this_program_can_be_measured_alone() {
        assert!(time_calls() > 0.0 && time_bind(0, true).unwrap() > 0.0 && time_bind(0, false).is_ok());
    }
}
