//! What people write to a worker's standard input, line by line. Memory is bounded: who writes to a program that does
//! not read is told so. Never waits.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxherd_core::InstanceId;
use oxherd_os::Interest;

use crate::InputError;
use crate::control::Control;
use crate::control::children::{Part, token};

/// How much may wait for one worker to read it, beyond what is in the pipe.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// The standard input of one worker.
#[derive(Debug)]
pub(super) struct Feed {
    pipe: File,
    waiting: Vec<u8>,
}

impl Feed {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: File::from(pipe), waiting: Vec::new() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes the whole line or nothing.
    fn write(&mut self, line: &[u8]) -> Result<(), InputError> {
        self.flush()?;
        let room = WAITING_BYTES_MAX.saturating_sub(self.waiting.len());
        if line.len() >= room {
            return Err(InputError::Full);
        }
        self.waiting.extend_from_slice(line);
        self.waiting.push(b'\n');
        self.flush()
    }

    fn flush(&mut self) -> Result<(), InputError> {
        while !self.waiting.is_empty() {
            match self.pipe.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(InputError::Closed),
            }
        }
        Ok(())
    }
}

impl Control<'_> {
    pub(super) fn write_line(&mut self, instance: InstanceId, line: &[u8]) -> Result<(), InputError> {
        let state = self.children.get_mut(instance).ok_or(InputError::NoWorker)?;
        let feed = state.stdin.as_mut().ok_or(InputError::Closed)?;
        let waited = !feed.waiting.is_empty();
        let written = feed.write(line);
        if !waited && !feed.waiting.is_empty() {
            // Unwatched, the rest goes with the next line.
            drop(self.poller.add(feed.fd(), token(instance, Part::Stdin), Interest::WRITE));
        }
        if matches!(written, Err(InputError::Closed)) {
            self.close_input(instance);
        }
        written
    }

    /// The worker has read.
    pub(super) fn on_input_room(&mut self, instance: InstanceId) {
        let Some(state) = self.children.get_mut(instance) else { return };
        let Some(feed) = &mut state.stdin else { return };
        match feed.flush() {
            Ok(()) if feed.waiting.is_empty() => drop(self.poller.remove(feed.fd())),
            Ok(()) => {}
            Err(_) => self.close_input(instance),
        }
    }

    fn close_input(&mut self, instance: InstanceId) {
        if let Some(feed) = self.children.get_mut(instance).and_then(|state| state.stdin.take()) {
            // It is only watched while something waits.
            drop(self.poller.remove(feed.fd()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pipe() -> (io::PipeReader, Feed) {
        let (reader, writer) = io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        oxherd_os::foreign::set_nonblocking(&writer).unwrap();
        (reader, Feed::new(writer))
    }

    #[test]
    fn lines_wait_until_there_are_too_many_and_none_is_cut() {
        let (mut reader, mut feed) = pipe();
        let line = vec![b'x'; 1000];
        let written = (0..1000).take_while(|_| feed.write(&line).is_ok()).count();
        assert!((60..=140).contains(&written), "{written}: the pipe and as much again");
        assert_eq!(feed.write(&line), Err(InputError::Full));
        let mut read = vec![0; 20_000];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(feed.write(b"last"), Ok(()));
        let mut all = read;
        while !all.ends_with(b"last\n") {
            let mut part = [0; 4096];
            let count = reader.read(&mut part).unwrap();
            all.extend_from_slice(&part[..count]);
            feed.flush().unwrap();
        }
        let lines: Vec<&[u8]> = all.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), written + 2);
        assert!(lines[..written].iter().all(|it| *it == line));
    }

    #[test]
    fn a_program_that_has_closed_it_is_known() {
        let (reader, mut feed) = pipe();
        drop(reader);
        assert_eq!(feed.write(b"x"), Err(InputError::Closed));
    }
}
