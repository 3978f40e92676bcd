//! A pseudo-terminal, seen from the side of the person who types. It interprets nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Interrupts the foreground.
pub const CTRL_C: u8 = 0x03;
/// Lets output go on.
pub const CTRL_Q: u8 = 0x11;
/// Stops output.
pub const CTRL_S: u8 = 0x13;

/// The keyboard and screen. Dropping it closes the terminal.
#[derive(Debug)]
pub struct Terminal {
    screen: File,
    /// Its closing ends the readers.
    open: (OwnedFd, OwnedFd),
}

/// What appears on the screen, without carriage returns unless they are asked for.
#[derive(Debug)]
struct Screen {
    screen: File,
    open: OwnedFd,
    keeps_returns: bool,
}

impl Terminal {
    /// Opens one; the other value is the programs' end.
    pub(crate) fn open() -> (Self, OwnedFd) {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("there are pseudo-terminals");
        grantpt(&screen).and_then(|()| unlockpt(&screen)).expect("it is ours");
        let name = ptsname(&screen, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = open(name, flags, Mode::empty()).expect("it is ours");
        let open = pipe_with(PipeFlags::CLOEXEC).expect("a descriptor is free");
        (Self { screen: screen.into(), open }, end)
    }

    /// Presses a key.
    pub fn press(&self, key: u8) {
        (&self.screen).write_all(&[key]).expect("a terminal takes keys");
    }

    pub(crate) fn reader(&self) -> impl Read + Send + 'static {
        let screen = self.screen.try_clone().expect("a descriptor is free");
        let open = self.open.0.try_clone().expect("a descriptor is free");
        Screen { screen, open, keeps_returns: false }
    }

    /// The same with its carriage returns.
    pub(crate) fn raw_reader(&self) -> impl Read + Send + 'static {
        let screen = self.screen.try_clone().expect("a descriptor is free");
        let open = self.open.0.try_clone().expect("a descriptor is free");
        Screen { screen, open, keeps_returns: true }
    }
}

impl Screen {
    /// Waits for something to read. False when the terminal is to be closed.
    fn wait(&self) -> io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(&self.open, PollFlags::IN), PollFd::new(&self.screen, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => return Ok(fds[0].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.wait()? {
                return Ok(0);
            }
            let count = self.screen.read(buffer)?;
            let mut kept = 0;
            for at in 0..count {
                if self.keeps_returns || buffer[at] != b'\r' {
                    buffer[kept] = buffer[at];
                    kept += 1;
                }
            }
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}
