//! The `oxherd` command: reads the command line, runs one command, and ends with its exit code.
//!
//! What the primary does is the engine's; here is what people type and read.

mod cli;
mod commands;
mod exit;
mod hidden;
mod options;
mod output;
#[cfg(test)]
mod testing;
mod version;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = hidden::run(std::env::args_os()) {
        return code.into();
    }
    let status = match cli::parse(std::env::args_os()) {
        Ok(cli) => commands::execute(cli.command),
        Err(error) => cli::answer(&error),
    };
    status.into()
}
