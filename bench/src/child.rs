//! A child process that cannot outlive the bench: killed with its group on drop, and by the kernel when this process
//! ends in any other way.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// Left over from an outer Node or a user's habits, these would change what is measured.
const SCRUBBED: [&str; 5] = [
    "NODE_OPTIONS",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NODE_CLUSTER_SCHED_POLICY",
];
/// A stopping herd drains; longer than its default drain time would mean that it hangs.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const REAP_LIMIT: Duration = Duration::from_secs(5);
const REAP_STEP: Duration = Duration::from_millis(2);
/// How much of a child's output an error message carries.
const OUTPUT_SHOWN_BYTES: usize = 600;

pub(crate) struct Guarded {
    child: Child,
    output: Option<File>,
    ended: Option<ExitStatus>,
}

impl Guarded {
    /// Starts `command` as the leader of its own group, with `lent` open under its present number.
    pub(crate) fn spawn(
        command: &mut Command,
        lent: Option<BorrowedFd<'_>>,
        output: Output,
    ) -> io::Result<Self> {
        for name in SCRUBBED {
            let set_on_purpose = command.get_envs().any(|(key, value)| key == name && value.is_some());
            if !set_on_purpose {
                command.env_remove(name);
            }
        }
        let output = match output {
            Output::Inherited => None,
            Output::Captured => Some(sys::memory_file()?),
        };
        if let Some(file) = &output {
            command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        }
        let (parent, lent) = (std::process::id(), lent.map(|fd| fd.as_raw_fd()));
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: the closure only makes async-signal-safe calls and allocates nothing.
        unsafe { command.pre_exec(move || sys::prepare_child(parent, lent)) };
        Ok(Self { child: command.spawn()?, output, ended: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Asks politely and waits; a child that does not end is killed on drop and reported.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus, String> {
        if let Some(status) = self.has_ended() {
            return Ok(status);
        }
        sys::signal_process(self.pid(), libc::SIGTERM);
        self.reap(STOP_LIMIT)
            .ok_or_else(|| format!("does not end within {} s of SIGTERM", STOP_LIMIT.as_secs()))
    }

    /// What the child has printed, at most its last few lines.
    pub(crate) fn output_tail(&self) -> String {
        let Some(file) = &self.output else { return String::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len() as usize);
        let start = length.saturating_sub(OUTPUT_SHOWN_BYTES);
        let mut bytes = vec![0; length - start];
        match file.read_exact_at(&mut bytes, start as u64) {
            Ok(()) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            Err(error) => format!("(output unreadable: {error})"),
        }
    }

    fn reap(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.has_ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(REAP_STEP);
        }
        self.ended
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.has_ended().is_none() {
            sys::signal_group(self.pid(), libc::SIGKILL);
            self.reap(REAP_LIMIT);
        }
    }
}

pub(crate) enum Output {
    Inherited,
    Captured,
}
