//! Measures the first budgets side by side: the same two-worker Node server behind Node's cluster primary, a bare
//! hand-over loop, each oxherd distribution, and no manager at all; oxherd's daemon beside PM2's; what each strategy
//! does to latency; the library; what workers write; and what it costs a program to be lent its sockets. Must never change what it measures: the load generator and the contestants share
//! the machine, so everything here is kept cheap.
#![allow(unsafe_code)] // raw sockets, epoll and CPU clocks of other processes; the bench must not lean on `os`, which it measures

use std::process::ExitCode;

mod accept;
mod args;
mod budget;
mod child;
mod contestant;
mod daemon;
mod floor;
mod floor_worker;
mod lending;
mod load;
mod logs;
mod machine;
mod measure;
mod report;
mod sdk;
mod stats;
mod strategies;
mod sys;
mod tally;

use args::Command;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("{message}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    // The library takes care of its workers' signals.
    if !matches!(
        command,
        Command::Worker(_) | Command::SdkServer(_) | Command::SdkMessages(_) | Command::LogsWriter(_)
    ) {
        sys::catch_stop_signals();
    }
    match command {
        Command::Strategies(options) => strategies::run(&options),
        Command::Worker(options) => finish(strategies::work(&options)),
        Command::Help => {
            println!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Command::Accept(options) => accept::run(&options),
        Command::Daemon(options) => daemon::run(&options),
        Command::Floor(options) => finish(floor::run(&options)),
        Command::Lending(options) => lending::run(&options),
        Command::LendingProgram { file, port } => finish(lending::play_program(&file, port)),
        Command::Logs(options) => logs::run(&options),
        Command::LogsWriter(options) => finish(logs::writer::play(&options)),
        Command::Sdk(options) => sdk::run(&options),
        Command::SdkServer(kind) => sdk::serve(kind),
        Command::SdkMessages(options) => sdk::play_worker(options),
    }
}

fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
