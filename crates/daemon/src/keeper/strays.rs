//! Workers of a keeper that was killed together with its daemon: nobody holds their channels and pipes any more.
//!
//! Each keeper leaves its mark in the home, by which the next one finds them. They are ended before the first daemon
//! starts, since they may hold the ports that their successors need. Must never touch a worker of anybody else, and
//! is only for who holds the home.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use oxherd_os::host::find_labelled;
use oxherd_os::{Child, Events, Host, Interest, Poller, clock};

use crate::home::Home;

const SIGTERM: i32 = 15;
/// How long they may take to finish.
const PATIENCE: Duration = Duration::from_secs(5);
/// A line that names more processes does not help anybody.
const NAMED_MAX: usize = 10;

/// Ends what an earlier keeper of this home has left, if it could not do so itself, and says so.
pub(super) fn end_strays(home: &Home, host: &mut Host) {
    let Some(primary) = mark_of_this_boot(&home.primary_file()) else { return };
    match find_labelled(&format!("{primary}/")) {
        Ok(strays) if strays.is_empty() => {
            super::say("the keeper before this one was killed with its daemon; no worker of theirs is left");
        }
        Ok(strays) => end(&strays, host),
        Err(error) => super::say(&format!("cannot look for workers of the keeper before this one: {error}")),
    }
}

/// Leaves this keeper's mark. It goes with an orderly end.
pub(super) fn leave_mark(home: &Home, primary: &str) {
    let path = home.primary_file();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(mark(primary).as_bytes()));
    if let Err(error) = written {
        let path = path.display();
        super::say(&format!(
            "cannot write {path}: {error}; should keeper and daemon be killed, their workers stay"
        ));
    }
}

fn mark(primary: &str) -> String {
    format!("{primary}\n{}\n", clock::boot_id())
}

fn mark_of_this_boot(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let primary = text.lines().next().filter(|primary| !primary.is_empty())?;
    (text == mark(primary)).then(|| primary.to_owned())
}

fn end(strays: &[Child], host: &mut Host) {
    let named: Vec<String> = strays.iter().take(NAMED_MAX).map(|stray| stray.pid.to_string()).collect();
    let more = if strays.len() > NAMED_MAX { ", …" } else { "" };
    super::say(&format!(
        "the keeper before this one was killed with its daemon; what is left of their workers is ended: {} {} (pid \
         {}{more})",
        strays.len(),
        if strays.len() == 1 { "process" } else { "processes" },
        named.join(", ")
    ));
    for stray in strays {
        // One that has ended meanwhile needs no signal.
        drop(stray.signal(SIGTERM));
    }
    if let Err(error) = await_all(strays) {
        super::say(&format!("cannot wait for them: {error}"));
    }
    let labels: BTreeSet<&str> = strays.iter().map(Child::label).collect();
    for label in labels {
        if let Err(error) = host.kill_label(label) {
            super::say(&format!("cannot kill what is left of {label}: {error}"));
        }
    }
}

/// Waits, within a bound, until all have ended.
fn await_all(strays: &[Child]) -> io::Result<()> {
    let give_up_at = Instant::now() + PATIENCE;
    let poller = Poller::new()?;
    for (stray, token) in strays.iter().zip(0..) {
        poller.add(&stray.pidfd, token, Interest::READ)?;
    }
    let mut events = Events::with_capacity(1);
    let mut left = strays.len();
    while left > 0 {
        let timeout = give_up_at.saturating_duration_since(Instant::now());
        if poller.wait(&mut events, Some(timeout))? == 0 && timeout.is_zero() {
            break;
        }
        for event in events.iter() {
            if let Some(stray) = usize::try_from(event.token).ok().and_then(|at| strays.get(at)) {
                poller.remove(&stray.pidfd)?;
                left -= 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::scratch::Scratch;

    #[test]
    fn only_a_whole_mark_of_this_boot_counts() {
        let folder = Scratch::new();
        let home = Home::at(folder.path()).unwrap();
        let found = || mark_of_this_boot(&home.primary_file());
        assert_eq!(found(), None);
        leave_mark(&home, "0123");
        assert_eq!(found().as_deref(), Some("0123"));
        leave_mark(&home, "45");
        assert_eq!(found().as_deref(), Some("45"));
        let whole = mark("45");
        for wrong in ["", "\n", "45\n", "45\nanother boot\n", whole.trim_end()] {
            fs::write(home.primary_file(), wrong).unwrap();
            assert_eq!(found(), None, "{wrong:?}");
        }
    }
}
