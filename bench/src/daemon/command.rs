//! One command of a manager, run to its end: how long it took, what CPU time it used, what it said. Must never wait
//! longer than its limit.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// How much of what a failed command said is told.
const SAID_SHOWN_CHARS: usize = 600;

pub(crate) struct Ran {
    pub(crate) wall: Duration,
    /// User and system time of the command itself, not of what it left running.
    pub(crate) cpu: Duration,
    pub(crate) said: String,
}

/// Runs `command` in a group of its own, so that a Ctrl-C on the bench leaves it to the bench.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Ran, String> {
    let name = format!("{command:?}");
    let mut output = sys::memory_file().map_err(|error| format!("cannot make a file: {error}"))?;
    let out = output.try_clone().and_then(|out| Ok((out, output.try_clone()?)));
    let (out, err) = out.map_err(|error| format!("cannot share a file: {error}"))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let start = Instant::now();
    let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    let ended =
        sys::wait_for(child.id(), limit).map_err(|error| format!("cannot wait for {name}: {error}"))?;
    let wall = start.elapsed();
    let said = text_of(&mut output).unwrap_or_else(|error| format!("(output unreadable: {error})"));
    match ended {
        None => {
            sys::signal_group(child.id(), libc::SIGKILL);
            drop(sys::wait_for(child.id(), limit));
            Err(format!("{name} does not end within {} s: {}", limit.as_secs(), tail(&said)))
        }
        Some(end) if end.status != 0 => Err(format!("{name} failed: {}", tail(&said))),
        Some(end) => Ok(Ran { wall, cpu: end.cpu, said }),
    }
}

fn text_of(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(said: &str) -> String {
    let said = said.trim();
    let skipped = said.chars().count().saturating_sub(SAID_SHOWN_CHARS);
    said.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_command_that_succeeds_tells_what_it_said() {
        let ran = run(Command::new("/bin/sh").args(["-c", "echo out; echo err >&2"]), LIMIT);
        assert_eq!(ran.map(|ran| ran.said), Ok("out\nerr\n".to_owned()));
    }

    #[test]
    fn a_command_that_fails_or_hangs_is_an_error_with_its_last_words() {
        let failed = run(Command::new("/bin/sh").args(["-c", "echo why; exit 3"]), LIMIT).map(|ran| ran.said);
        assert!(failed.is_err_and(|error| error.ends_with("failed: why")));
        let hung = run(
            Command::new("/bin/sh").args(["-c", "echo stuck; exec sleep 1000"]),
            Duration::from_millis(300),
        );
        assert!(hung.map(|ran| ran.said).is_err_and(|error| error.contains("does not end within")));
    }

    #[test]
    fn long_last_words_are_cut_at_the_front() {
        let said = format!("{}end", "é".repeat(SAID_SHOWN_CHARS));
        assert_eq!(tail(&said).chars().count(), SAID_SHOWN_CHARS);
        assert!(tail(&said).ends_with("end"));
    }
}
