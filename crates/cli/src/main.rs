//! The `oxherd` command: reads the command line, runs one command, and ends with its exit code.
//!
//! What the primary does is the engine's; here is what people type and read.

mod cli;
mod commands;
mod exit;
mod files;
mod hidden;
mod options;
mod output;
mod persona;
mod replace;
#[cfg(test)]
mod testing;
mod version;
mod view;
mod voice;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = hidden::run(std::env::args_os()) {
        return code.into();
    }
    let args = persona::enter(std::env::args_os().collect());
    let status = match cli::parse(args) {
        Ok(cli) => {
            if cli.silent {
                voice::silence();
            }
            if cli.no_color {
                view::form::Form::without_colours();
            }
            commands::execute(cli.command)
        }
        Err(error) => cli::answer(&error),
    };
    status.into()
}
