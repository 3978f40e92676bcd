//! Opening the home and the saved state: before anything else at a first start, beside everything else at a takeover.
//!
//! When workers run already, no trouble with the disk may keep the daemon from serving, nor make it wait. Whatever
//! is wrong is told and tried again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use oxherd_core::Desired;

use super::alert_line;
use super::driver::{Kept, Saved};
use crate::home::{Home, HomeError};
use crate::state::{Opened, StateError, Store};

/// The pause after a try that failed, which doubles up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// For how long a takeover waits for the saved state where nothing else says what is wanted.
const LAST_RESORT: Duration = Duration::from_secs(2);

/// Opens the saved state; what cannot be read is kept aside. With it comes what the daemon wanted that saved last.
pub(super) fn open_store(home: &Home) -> Result<(Kept, Desired), StateError> {
    let (Opened { store, last, lines }, is_lost) = match Store::open(home, alert_line) {
        Ok(opened) => (opened, false),
        Err(error) => {
            let mut opened = Store::begin_anew(home, alert_line)?;
            opened.lines.insert(0, error.to_string());
            (opened, true)
        }
    };
    lines.iter().cloned().for_each(alert_line);
    Ok((Kept { store, lines, is_lost }, last))
}

/// A saved state that comes when the disk has it.
#[derive(Debug)]
pub(super) struct Late {
    last: Receiver<Desired>,
}

impl Late {
    /// Opens it on a thread of its own, again and again until that works or the daemon ends, and gives it to `saved`.
    pub(super) fn open(home: Home, keeper: u32, saved: Arc<Saved>) -> Self {
        let (tell, last) = channel();
        let opening = move || {
            // The first daemon may have died before it could; the file is for people and for systemd.
            if home.read_pid() != Some(keeper) {
                drop(home.write_pid(keeper));
            }
            let mut pause = RETRY;
            while saved.is_awaited() {
                match open(&home) {
                    Ok((mut kept, desired)) => {
                        kept.store.go_on_from(&desired);
                        // Nobody may wait for it.
                        drop(tell.send(desired));
                        return saved.arrive(kept);
                    }
                    Err(why) => saved.still_await(why),
                }
                thread::sleep(pause);
                pause = RETRY_MAX.min(pause * 2);
            }
        };
        if let Err(error) = thread::Builder::new().name("home".into()).spawn(opening) {
            alert_line(format!("Cannot start a thread to open the home, nothing is saved: {error}"));
        }
        Self { last }
    }

    /// What was wanted, if that can be had in a while.
    pub(super) fn last(&self) -> Option<Desired> {
        self.last.recv_timeout(LAST_RESORT).ok()
    }
}

fn open(home: &Home) -> Result<(Kept, Desired), String> {
    let refused = |error: HomeError| capital(&error.to_string());
    home.prepare().map_err(refused)?;
    open_store(home).map_err(|error| capital(&error.to_string()))
}

/// As a line begins.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), chars.as_str()))
}
