//! The command line, parsed by hand into checked options.

use std::path::PathBuf;
use std::time::Duration;

use crate::contestant::Contestant;

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

usage: oxherd-bench floor [--node PATH] [--window N]     (server on $PORT, until SIGTERM)

Exit codes: 0 measured, 1 a contestant failed or the run was interrupted, 2 usage, 3 see --check";

/// More clients would measure the kernel's queues rather than the primary.
const CLIENTS_MAX: u64 = 1024;
/// Oxherd's default, so that both hand over under the same rule.
const WINDOW: usize = 2;
const ROUNDS_MAX: u64 = 1000;
const SECONDS_MAX: u64 = 600;

pub(crate) enum Command {
    Help,
    Accept(AcceptOptions),
    Floor(FloorOptions),
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
        Some("floor") => parse_floor(arguments),
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

fn number(flag: &str, text: &str, max: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("{flag} takes a number from 1 to {max}, not {text}")),
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

fn oxherd_beside_this_program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program's path: {error}"))?;
    Ok(own.with_file_name("oxherd"))
}
