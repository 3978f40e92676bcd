//! Running other programs: echoing what is run, counting the tests in what they print.
//!
//! Every program started here has no stdin, and in CI a time limit: a hung test must become a failed
//! step, not a run without an end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::Outcome;

/// The longest any single program may take in CI.
const LIMIT_S: u32 = 30 * 60;
/// From the polite signal to the kill when the limit has passed.
const LIMIT_KILL_AFTER_S: u32 = 10;

/// Tests counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Adds the figures of a `test result:` line; any other line changes nothing.
    fn read_line(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                Some(_) | None => {}
            }
        }
    }
}

/// The cargo that runs us, time-limited in CI.
pub(crate) fn cargo() -> Command {
    let mut command = bounded(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // Set by `cargo run` for this package; the programs below set their own.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// `program`, under coreutils' `timeout` in CI. Elsewhere not, because `timeout` moves the program out
/// of the terminal's foreground group and Ctrl-C would miss it.
pub(crate) fn bounded(program: &str) -> Command {
    if std::env::var_os("CI").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("timeout");
    command.arg(format!("--kill-after={LIMIT_KILL_AFTER_S}")).arg(LIMIT_S.to_string()).arg(program);
    command
}

/// Runs to the end with inherited output.
pub(crate) fn run(command: &mut Command) -> Outcome {
    announce(command);
    let status = command.stdin(Stdio::null()).status().map_err(|error| cannot_run(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", name_of(command))) }
}

/// Runs to the end and gives back stdout; stderr is inherited.
pub(crate) fn capture(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| cannot_run(command, &error))?;
    if !output.status.success() {
        return Err(format!("{} failed ({})", name_of(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{} printed no UTF-8", name_of(command)))
}

/// Runs to the end, passing stdout through line by line and counting test results.
pub(crate) fn run_counted(command: &mut Command, tally: &mut Tally) -> Outcome {
    announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_run(command, &error))?;
    if let Some(stdout) = child.stdout.take() {
        pass_through(BufReader::new(stdout), std::io::stdout().lock(), tally)
            .map_err(|error| format!("cannot pass output: {error}"))?;
    }
    #[expect(clippy::disallowed_methods, reason = "no Host here: a development tool waits for its own child")]
    let status = child.wait().map_err(|error| cannot_run(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", name_of(command))) }
}

fn pass_through(mut from: impl BufRead, mut to: impl Write, tally: &mut Tally) -> std::io::Result<()> {
    let mut line = Vec::new();
    // Bytes, because a test may print anything.
    while from.read_until(b'\n', &mut line)? > 0 {
        tally.read_line(&String::from_utf8_lossy(&line));
        to.write_all(&line)?;
        to.flush()?;
        line.clear();
    }
    Ok(())
}

fn announce(command: &Command) {
    let mut text = format!("$ {}", command.get_program().to_string_lossy());
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    println!("{text}");
}

fn name_of(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    // The wrapper of `bounded` is not what failed; its third argument is.
    let skip = if text == "timeout" { 2 } else { 0 };
    for (index, arg) in command.get_args().skip(skip).take(3).enumerate() {
        let arg = arg.to_string_lossy();
        if index == 0 && skip > 0 {
            text = arg.into_owned();
        } else {
            text.push(' ');
            text.push_str(&arg);
        }
    }
    text
}

fn cannot_run(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run {}: {error}", name_of(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let mut tally = Tally::default();
        let output = b"running 3 tests\ntest a ... ok\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        pass_through(&output[..], std::io::sink(), &mut tally).unwrap();
        assert_eq!(tally, Tally { passed: 13, failed: 2 });
    }

    #[test]
    fn output_that_is_no_text_passes() {
        let mut tally = Tally::default();
        let output = b"\xff\xfe\ntest result: ok. 1 passed; 0 failed;";
        let mut passed_on = Vec::new();
        pass_through(&output[..], &mut passed_on, &mut tally).unwrap();
        assert_eq!(passed_on, output);
        assert_eq!(tally.passed, 1);
    }

    #[test]
    fn the_wrapper_is_not_named() {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "60", "cargo", "test", "--workspace"]);
        assert_eq!(name_of(&command), "cargo test --workspace");
    }
}
