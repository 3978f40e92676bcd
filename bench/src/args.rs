//! The command line, parsed by hand into checked options.

use std::path::PathBuf;
use std::time::Duration;

use crate::contestant::Contestant;
use crate::daemon::HerdOptions;
use crate::lending::LendingOptions;
use crate::logs::LogOptions;
use crate::logs::writer::{Job, WriterOptions as LogsWriterOptions};
use crate::sdk::{Kind, MessageOptions};
use crate::strategies::{StrategyOptions, WorkerOptions};

pub(crate) const USAGE: &str = "\
usage: oxherd-bench [accept] [options]

  --rounds N      interleaved rounds (5)
  --seconds N     measured seconds per contestant and round (4)
  --warm-up N     seconds of load before the measured ones (1)
  --clients N     clients, each with one connection at a time (16)
  --node PATH     the Node to use (node)
  --oxherd PATH   the oxherd to use (the one beside this program)
  --window N      the floor's unanswered connections per worker (2)
  --only A,B      only these contestants: node-rr, node-none, floor, handoff, kernel, shared, bare
  --json FILE     write the raw figures
  --check         exit 3 when a budget is missed or was not measured

usage: oxherd-bench daemon [options]     (oxherd's daemon beside PM2's, then alone with a large herd)
usage: oxherd-bench herd [options]       (the large herd only)

  --rounds N      rounds beside PM2 (5)
  --looks N       `pm2 ls` per round, each with 5 `oxherd ls` (8)
  --idle N        seconds of idleness that are measured per round (10)
  --workers N     workers of the large herd (500)
  --parallel N    how many of them a reload replaces at a time (50)
  --herds N       rounds of the large herd, or 0 for none (3)
  --pm2 PATH      PM2's program (target/tools/bench, see `cargo xtask tools --bench`)
  --node, --oxherd, --json, --check as above

usage: oxherd-bench strategies [options]  (what each strategy does to latency, simulated and live)

  --seeds N       simulated runs (20)
  --requests N    requests in each of them (100000)
  --rounds N      live rounds, or 0 for none (3)
  --seconds N     measured seconds of each (20)
  --workers N     workers that do one request at a time (4)
  --window N      unanswered connections per worker (2)
  --load N        how busy they are, in percent (85)
  --oxherd as above

usage: oxherd-bench worker [--threads N]  (a worker of the live runs; with threads, their ideal; on $PORT)

usage: oxherd-bench sdk [options]        (the library: servers and messages; needs a release build)

  --rounds N      rounds (5)
  --clients N     clients (64)
  --seconds, --warm-up, --node, --json, --check as above

usage: oxherd-bench lending [options]    (system calls of a program that is lent its sockets, beside itself alone)

  --rounds N      rounds (9)
  --oxherd, --json, --check as above

usage: oxherd-bench logs [options]       (what workers write, under oxherd's daemon and PM2's)

  --rounds N      rounds (3)
  --seconds N     seconds of many lines in each of them (20)
  --rate N        lines per second of each of two apps (10000)
  --node, --oxherd, --pm2, --json as above

usage: oxherd-bench floor [--node PATH] [--window N]     (server on $PORT, until SIGTERM)

Exit codes: 0 measured, 1 a contestant failed or the run was interrupted, 2 usage, 3 see --check";

/// More clients would measure the kernel's queues rather than the primary.
const CLIENTS_MAX: u64 = 1024;
/// Oxherd's default, so that both hand over under the same rule.
const WINDOW: usize = 2;
const ROUNDS_MAX: u64 = 1000;
const SECONDS_MAX: u64 = 600;
const LOOKS_MAX: u64 = 1000;
/// More lines per second than one program writes.
const RATE_MAX: u64 = 1_000_000;
/// More processes than this are more than most machines allow a user.
const WORKERS_MAX: u64 = 10_000;

/// What a few hundred megabytes of memory hold.
const REQUESTS_MAX: u64 = 10_000_000;
/// Of each a thread or a process.
const SERVERS_MAX: u64 = 256;
/// At 100 no queue ever ends.
const LOAD_PERCENT_MAX: u64 = 99;

pub(crate) enum Command {
    Help,
    Accept(AcceptOptions),
    Daemon(DaemonOptions),
    Floor(FloorOptions),
    Strategies(StrategyOptions),
    Worker(WorkerOptions),
    Sdk(SdkOptions),
    Lending(LendingOptions),
    Logs(LogOptions),
    /// Not for people: `logs` has this program started by the managers.
    LogsWriter(LogsWriterOptions),
    /// Not for people: `lending` starts this program again.
    LendingProgram {
        file: String,
        port: u16,
    },
    /// Not for people: `sdk` starts this program again.
    SdkServer(Kind),
    SdkMessages(MessageOptions),
}

pub(crate) struct AcceptOptions {
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) clients: usize,
    pub(crate) node: PathBuf,
    pub(crate) oxherd: PathBuf,
    pub(crate) window: usize,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) check: bool,
}

pub(crate) struct DaemonOptions {
    pub(crate) rounds: usize,
    pub(crate) looks: usize,
    pub(crate) idle: Duration,
    pub(crate) herd: HerdOptions,
    pub(crate) node: PathBuf,
    pub(crate) oxherd: PathBuf,
    pub(crate) pm2: PathBuf,
    pub(crate) json: Option<PathBuf>,
    pub(crate) check: bool,
}

pub(crate) struct SdkOptions {
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) clients: usize,
    pub(crate) node: PathBuf,
    pub(crate) json: Option<PathBuf>,
    pub(crate) check: bool,
}

pub(crate) struct FloorOptions {
    pub(crate) node: PathBuf,
    pub(crate) window: usize,
}

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    let verb = match arguments.peek() {
        Some(word) if !word.starts_with('-') => arguments.next(),
        Some(_) | None => None,
    };
    match verb.as_deref() {
        None | Some("accept") => parse_accept(arguments),
        Some("daemon") => parse_daemon(arguments, 5),
        Some("herd") => parse_daemon(arguments, 0),
        Some("floor") => parse_floor(arguments),
        Some("strategies") => parse_strategies(arguments),
        Some("worker") => parse_worker(arguments),
        Some("sdk") => parse_sdk(arguments),
        Some("sdk-server") => parse_sdk_server(arguments),
        Some("lending") => parse_lending(arguments),
        Some("lending-program") => parse_lending_program(arguments),
        Some("logs") => parse_logs(arguments),
        Some("logs-writer") => parse_logs_writer(arguments),
        Some("sdk-messages") => parse_sdk_messages(arguments),
        Some("help") => Ok(Command::Help),
        Some(other) => Err(format!("unknown subcommand {other}")),
    }
}

fn parse_accept(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = AcceptOptions {
        rounds: 5,
        measured: Duration::from_secs(4),
        warm_up: Duration::from_secs(1),
        clients: 16,
        node: PathBuf::from("node"),
        oxherd: oxherd_beside_this_program()?,
        window: WINDOW,
        contestants: Contestant::ALL.to_vec(),
        json: None,
        check: false,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" => options.rounds = number(&flag, &value()?, ROUNDS_MAX)? as usize,
            "--seconds" => options.measured = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--warm-up" => options.warm_up = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--clients" => options.clients = number(&flag, &value()?, CLIENTS_MAX)? as usize,
            "--node" => options.node = PathBuf::from(value()?),
            "--oxherd" => options.oxherd = PathBuf::from(value()?),
            "--window" => options.window = window(&flag, &value()?)?,
            "--only" => options.contestants = contestants(&value()?)?,
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--check" => options.check = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Accept(options))
}

fn parse_daemon(mut arguments: impl Iterator<Item = String>, rounds: usize) -> Result<Command, String> {
    let mut options = DaemonOptions {
        rounds,
        looks: 8,
        idle: Duration::from_secs(10),
        herd: HerdOptions { workers: 500, parallel: 50, rounds: 3 },
        node: PathBuf::from("node"),
        oxherd: oxherd_beside_this_program()?,
        pm2: pm2_of_the_tools()?,
        json: None,
        check: false,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" if rounds > 0 => options.rounds = number(&flag, &value()?, ROUNDS_MAX)? as usize,
            "--looks" if rounds > 0 => options.looks = number(&flag, &value()?, LOOKS_MAX)? as usize,
            "--idle" => options.idle = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--workers" => options.herd.workers = number(&flag, &value()?, WORKERS_MAX)?,
            "--parallel" => options.herd.parallel = number(&flag, &value()?, WORKERS_MAX)?,
            "--herds" => options.herd.rounds = number_from(0, &flag, &value()?, ROUNDS_MAX)? as usize,
            "--node" => options.node = PathBuf::from(value()?),
            "--oxherd" => options.oxherd = PathBuf::from(value()?),
            "--pm2" => options.pm2 = PathBuf::from(value()?),
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--check" if rounds > 0 => options.check = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Daemon(options))
}

fn parse_sdk(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = SdkOptions {
        rounds: 5,
        measured: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        clients: 64,
        node: PathBuf::from("node"),
        json: None,
        check: false,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" => options.rounds = number(&flag, &value()?, ROUNDS_MAX)? as usize,
            "--seconds" => options.measured = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--warm-up" => options.warm_up = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--clients" => options.clients = number(&flag, &value()?, CLIENTS_MAX)? as usize,
            "--node" => options.node = PathBuf::from(value()?),
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--check" => options.check = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Sdk(options))
}

fn parse_lending(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options =
        LendingOptions { rounds: 9, oxherd: oxherd_beside_this_program()?, json: None, check: false };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" => options.rounds = number(&flag, &value()?, ROUNDS_MAX)? as usize,
            "--oxherd" => options.oxherd = PathBuf::from(value()?),
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--check" => options.check = true,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Lending(options))
}

fn parse_lending_program(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (file, port) = (arguments.next(), arguments.next().and_then(|word| word.parse().ok()));
    let program = file.zip(port).map(|(file, port)| Command::LendingProgram { file, port });
    program.ok_or_else(|| "lending-program needs a file and a port".to_owned())
}

fn parse_logs(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = LogOptions {
        rounds: 3,
        seconds: 20,
        rate: 10_000,
        node: PathBuf::from("node"),
        oxherd: oxherd_beside_this_program()?,
        pm2: pm2_of_the_tools()?,
        json: None,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rounds" => options.rounds = number(&flag, &value()?, ROUNDS_MAX)? as usize,
            "--seconds" => options.seconds = number(&flag, &value()?, SECONDS_MAX)?,
            "--rate" => options.rate = number(&flag, &value()?, RATE_MAX)?,
            "--node" => options.node = PathBuf::from(value()?),
            "--oxherd" => options.oxherd = PathBuf::from(value()?),
            "--pm2" => options.pm2 = PathBuf::from(value()?),
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Logs(options))
}

fn parse_logs_writer(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let file = arguments.next().map(PathBuf::from);
    let job = Job::from_words(&arguments.collect::<Vec<_>>());
    let options = file.zip(job).map(|(file, job)| Command::LogsWriter(LogsWriterOptions { file, job }));
    options.ok_or_else(|| "logs-writer needs a file and a job".to_owned())
}

fn parse_sdk_server(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let kind = arguments.next().and_then(|word| Kind::from_word(&word));
    kind.map(Command::SdkServer).ok_or_else(|| "sdk-server needs a kind".to_owned())
}

fn parse_sdk_messages(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let window = arguments.next().and_then(|word| word.parse().ok());
    let seconds = arguments.next().and_then(|word| word.parse().ok());
    let options = window.zip(seconds).map(|(window, seconds)| MessageOptions { window, seconds });
    options.map(Command::SdkMessages).ok_or_else(|| "sdk-messages needs a window and seconds".to_owned())
}

fn parse_floor(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = FloorOptions { node: PathBuf::from("node"), window: WINDOW };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--node" => options.node = PathBuf::from(value()?),
            "--window" => options.window = window(&flag, &value()?)?,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Floor(options))
}

fn parse_strategies(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = StrategyOptions {
        seeds: 20,
        requests: 100_000,
        rounds: 3,
        measured: Duration::from_secs(20),
        workers: 4,
        window: WINDOW as u32,
        load_percent: 85,
        oxherd: oxherd_beside_this_program()?,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--seeds" => options.seeds = number(&flag, &value()?, ROUNDS_MAX)?,
            "--requests" => options.requests = number(&flag, &value()?, REQUESTS_MAX)? as usize,
            "--rounds" => options.rounds = number_from(0, &flag, &value()?, ROUNDS_MAX)?,
            "--seconds" => options.measured = Duration::from_secs(number(&flag, &value()?, SECONDS_MAX)?),
            "--workers" => options.workers = number(&flag, &value()?, SERVERS_MAX)? as u32,
            "--window" => options.window = window(&flag, &value()?)? as u32,
            "--load" => options.load_percent = number(&flag, &value()?, LOAD_PERCENT_MAX)? as u32,
            "--oxherd" => options.oxherd = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Strategies(options))
}

fn parse_worker(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = WorkerOptions { threads: 0 };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--threads" => options.threads = number(&flag, &value()?, SERVERS_MAX)? as usize,
            "--help" | "-h" => return Ok(Command::Help),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(Command::Worker(options))
}

fn number(flag: &str, text: &str, max: u64) -> Result<u64, String> {
    number_from(1, flag, text, max)
}

fn number_from(min: u64, flag: &str, text: &str, max: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("{flag} takes a number from {min} to {max}, not {text}")),
    }
}

fn window(flag: &str, text: &str) -> Result<usize, String> {
    number(flag, text, crate::floor::WINDOW_MAX as u64).map(|window| window as usize)
}

fn contestants(list: &str) -> Result<Vec<Contestant>, String> {
    list.split(',')
        .map(|name| Contestant::from_name(name).ok_or(format!("unknown contestant {name}")))
        .collect()
}

fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program's path: {error}"))
}

fn oxherd_beside_this_program() -> Result<PathBuf, String> {
    Ok(own_path()?.with_file_name("oxherd"))
}

/// This program is in `target/release`, what it measures beside oxherd in `target/tools`.
fn pm2_of_the_tools() -> Result<PathBuf, String> {
    let tools = match std::env::var_os("OXHERD_TOOLS") {
        Some(tools) => PathBuf::from(tools),
        None => own_path()?.with_file_name("../tools"),
    };
    Ok(tools.join("bench/node_modules/pm2/bin/pm2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_subcommand_accepting_is_measured() {
        assert!(matches!(parsed(""), Ok(Command::Accept(options)) if options.rounds == 5));
        assert!(matches!(parsed("--rounds 9"), Ok(Command::Accept(options)) if options.rounds == 9));
    }

    #[test]
    fn the_large_herd_alone_has_no_rounds_beside_pm2() {
        let herd = parsed("herd --workers 20 --parallel 5 --herds 1");
        assert!(
            matches!(herd, Ok(Command::Daemon(options)) if options.rounds == 0 && options.herd.workers == 20)
        );
        assert!(parsed("herd --rounds 3").is_err_and(|error| error == "unknown option --rounds"));
        assert!(matches!(parsed("daemon --rounds 3"), Ok(Command::Daemon(options)) if options.rounds == 3));
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(parsed("daemon --looks 0").is_err());
        assert!(
            matches!(parsed("daemon --herds 0"), Ok(Command::Daemon(options)) if options.herd.rounds == 0)
        );
        assert!(parsed("herd --workers 10001").is_err_and(|error| error.contains("from 1 to 10000")));
    }
}
