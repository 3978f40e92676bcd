//! The words to a service manager: that this service is up, which process it is by now, and that it still looks after
//! its daemon. Nothing is said where nobody wants to know.
//!
//! Never waits, and is never a reason to fail.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// After so many microseconds of silence the manager takes the service for dead. Whose process it was for matters not:
/// what is not this service does not get the variable.
const PATIENCE: &str = "WATCHDOG_USEC";
/// What a manager says to its service, which is nothing to a keeper that a client has started.
pub(super) const VARIABLES: [&str; 3] = [SOCKET, PATIENCE, "WATCHDOG_PID"];
/// So often is a sign of life given within the manager's patience.
const SIGNS: u64 = 4;

/// Says that a daemon serves. One that takes over says it again, which changes nothing.
pub(super) fn tell_ready() {
    tell("READY=1\nSTATUS=a daemon serves\n");
}

/// Says that this process is the keeper from now on. The manager must let all processes of the service speak.
pub(super) fn tell_successor() {
    tell(&main_process());
}

fn main_process() -> String {
    format!("MAINPID={}\n", std::process::id())
}

/// Signs of life for a manager that wants them.
#[derive(Debug)]
pub(super) struct Watchdog {
    every_ms: u64,
    sign: String,
    /// When the next is due, in milliseconds of the monotonic clock.
    pub(super) due_ms: u64,
}

impl Watchdog {
    /// Nothing where no sign is wanted.
    pub(super) fn of_environment() -> Option<Self> {
        let patience_us: u64 = env::var(PATIENCE).ok()?.parse().ok()?;
        (patience_us > 0).then(|| Self::every((patience_us / 1000 / SIGNS).max(1)))
    }

    fn every(every_ms: u64) -> Self {
        Self { every_ms, sign: "WATCHDOG=1\n".into(), due_ms: 0 }
    }

    /// From now on each sign says as well that this process is the keeper: a word is lost when the manager is busy.
    pub(super) fn speak_as_successor(&mut self) {
        self.sign = main_process() + "WATCHDOG=1\n";
    }

    /// Gives a sign if it is time.
    pub(super) fn look(&mut self, now_ms: u64) {
        if let Some(sign) = self.due(now_ms) {
            tell(sign);
        }
    }

    fn due(&mut self, now_ms: u64) -> Option<&str> {
        (self.due_ms <= now_ms).then(|| {
            self.due_ms = now_ms + self.every_ms;
            self.sign.as_str()
        })
    }
}

fn tell(text: &str) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, text) {
        super::say(&format!("cannot tell the service manager at {}: {error}", socket.display()));
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_says_who_it_is_with_each_sign_of_life() {
        let mut watchdog = Watchdog::every(10);
        assert_eq!(watchdog.due(5), Some("WATCHDOG=1\n"));
        watchdog.speak_as_successor();
        assert_eq!(watchdog.due(14), None);
        let expected = format!("MAINPID={}\nWATCHDOG=1\n", std::process::id());
        for now_ms in [15, 25] {
            assert_eq!(watchdog.due(now_ms), Some(expected.as_str()));
        }
    }
}
