//! One line for each piece of news. Words only; where a line goes is the console's business.

use oxherd_engine::core::{
    Exit, GiveUp, Notice, Place, RecycleReason, ReloadFailure, RetireReason, Slot, Span,
};
use oxherd_engine::{Alert, Bulletin, EngineError};

use super::frame::Line;
use super::words::{count, size};

/// The line for a bulletin. A change that is through has none: other notices have told what it did.
pub(super) fn bulletin(bulletin: &Bulletin) -> Option<Line> {
    let of = |place: &Place| who(place, bulletin.pid);
    Some(match &bulletin.notice {
        Notice::Forked { place } => Line::news(format!("{} forked{}", of(place), generation(place))),
        Notice::SpawnFailed { place, cause } => Line::trouble(format!("{}: {cause}", of(place))),
        Notice::Online { place } => Line::news(format!("{} is online", of(place))),
        Notice::Listening { place, address } => listening(&of(place), address),
        Notice::Ready { place, after } => Line::news(format!("{} is ready after {after}", of(place))),
        Notice::NotReady { place, after } => not_ready(&of(place), *after),
        Notice::Parked { place, standby } => parked(place, *standby, bulletin.pid),
        Notice::Promoted { place } => {
            Line::news(format!("{} takes slot {}", standby_who(place, bulletin.pid), place.slot.0))
        }
        Notice::StandbyRespawn { slot, delay, .. } => standby_respawn(*slot, *delay),
        Notice::AllServing { workers, addresses, after, .. } => all_serving(*workers, addresses, *after),
        Notice::Retiring { place, reason } => retiring(&of(place), *reason),
        Notice::Terminating { place, signal } => Line::news(format!("{} is sent {signal}", of(place))),
        Notice::Killing { place } => Line::news(format!("{} is killed", of(place))),
        Notice::Unkillable { place } => unkillable(&of(place)),
        Notice::Exited { place, exit, uptime, wanted } => exited(&of(place), *exit, *uptime, *wanted),
        Notice::Respawn { slot, unstable, max, delay, .. } => respawn(*slot, *unstable, *max, *delay),
        Notice::GaveUp { slot, why, .. } => {
            Line::trouble(format!("Slot {} gives up: {}", slot.0, give_up(why)))
        }
        Notice::Finished { slot, exit, .. } => finished(*slot, *exit),
        Notice::ErrorReported { place, error } => error_reported(&of(place), error),
        Notice::Stalled { place } => stalled(&of(place)),
        Notice::Resumed { place } => Line::news(format!("{} reads its channel again", of(place))),
        Notice::Misbehaved { place, what } => {
            Line::trouble(format!("{} breaks the protocol and is killed: {what}", of(place)))
        }
        Notice::ReloadStarted { generation, .. } => {
            Line::news(format!("Reload starts: generation {}", generation.0))
        }
        Notice::ReloadQueued { .. } => Line::news("Reload is queued: it follows the one that runs"),
        Notice::ReloadDone { generation, took, .. } => {
            Line::news(format!("Reload is done: every slot runs generation {} after {took}", generation.0))
        }
        Notice::ReloadAborted { why, replaced, .. } => reload_aborted(why, *replaced),
        Notice::RecycleStarted { place, why } => {
            Line::news(format!("{} is to be replaced: {}", of(place), recycle_reason(*why)))
        }
        Notice::RecycleDone { slot, took, .. } => {
            Line::news(format!("Slot {} has a new worker after {took}", slot.0))
        }
        Notice::RecycleFailed { slot, failure, .. } => recycle_failed(*slot, failure),
        Notice::Scaled { from, to, .. } => {
            Line::news(format!("Scaled from {from} to {}", count(*to, "slot", "slots")))
        }
        Notice::Stopping { .. } => Line::news("Stopping: workers finish what is in hand"),
        Notice::Stopped { .. } => Line::news("No worker is left"),
        Notice::Deleted { .. } => Line::news("The app is deleted"),
        Notice::Adopted { place } => Line::news(format!("{} is adopted and goes on", of(place))),
        Notice::Changed { .. } => return None,
    })
}

/// The line for a condition of the primary itself.
pub(super) fn alert(alert: &Alert) -> Line {
    match alert {
        Alert::OutOfFds { limit } => Line::trouble(format!(
            "At the limit of {limit} open files: no connection is accepted until some are closed; raise it \
             with `ulimit -n`"
        )),
        Alert::FdsFree => Line::news("Open files are below the limit again: connections are accepted"),
        Alert::CannotListen { address, error, .. } => {
            Line::trouble(format!("Cannot listen on {}: {error}", shown_address(address)))
        }
        Alert::CannotLend { app, why } => Line::trouble(format!(
            "The workers of {app} cannot be lent sockets: {why}; each worker binds its own; `oxherd doctor` says more"
        )),
        Alert::CannotSteer { address, why, .. } => Line::trouble(format!(
            "Cannot steer connections at {} as the strategy has it, they are spread evenly: {why}",
            shown_address(address)
        )),
        Alert::MessagesDropped { place, count: number } => Line::trouble(format!(
            "{} does not read its channel: {} dropped",
            who(place, None),
            count(*number, "message was", "messages were")
        )),
        Alert::MessagesLost { place, count: number } => Line::trouble(format!(
            "{} sends faster than its messages are taken: {} lost",
            who(place, None),
            count(*number, "message was", "messages were")
        )),
        Alert::MemoryAbove { place, pid, bytes, limit } => Line::trouble(format!(
            "{} uses {}, more than {}",
            who(place, Some(*pid)),
            size(Some(*bytes)),
            size(Some(*limit))
        )),
        Alert::ThreadAbandoned { place, why } => Line::trouble(format!(
            "{} does not stop and is left to itself, its slot is filled again: {why}",
            who(place, None)
        )),
        Alert::Refused { what, why } => Line::trouble(format!("Cannot {what}: {why}")),
        Alert::EstateRefused { why } => Line::trouble(format!("Cannot go on from the kept state: {why}")),
        Alert::TakenOver { workers, connections, trusted } => taken_over(*workers, *connections, *trusted),
        Alert::KeeperReplaced => {
            Line::trouble("The keeper has ended: a new one takes over, every app is reloaded".to_owned())
        }
        Alert::Abandoned => Line::trouble("The keeper has ended: stopping everything".to_owned()),
        Alert::KeeperLost { why } => {
            Line::trouble(format!("The keeper has ended and cannot be replaced: {why}"))
        }
    }
}

/// The line for a primary that goes on where another ended.
fn taken_over(workers: u32, connections: u32, trusted: bool) -> Line {
    let from = if trusted { "" } else { ", from what was wanted and from what lives" };
    Line::trouble(format!(
        "Took over {}{from}; {} saved",
        count(u64::from(workers), "worker", "workers"),
        count(u64::from(connections), "connection was", "connections were")
    ))
}

/// The line for an engine that cannot go on.
pub(super) fn failure(error: &EngineError) -> Line {
    Line::trouble(format!("The primary fails: {error}"))
}

/// Why a slot has given up, in words that follow a colon.
pub fn give_up(why: &GiveUp) -> String {
    match why {
        GiveUp::UnstableExits { count: number, window } => {
            format!("{} within {window}", count(*number, "unstable exit", "unstable exits"))
        }
        GiveUp::Errors { count: number, window } => {
            format!("{} within {window}", count(*number, "error or failure", "errors and failures"))
        }
        GiveUp::CannotSpawn(cause) => cause.to_string(),
    }
}

/// How a process ended, as a verb. A signal is never a code.
pub fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(signal) => format!("was ended by {signal}"),
        Exit::Unknown => "ended with unknown status".into(),
    }
}

fn who(place: &Place, pid: Option<u32>) -> String {
    let (worker, slot) = (place.instance.worker_id(), place.slot.0);
    match pid {
        Some(pid) => format!("Worker {worker} (slot {slot}, pid {pid})"),
        None => format!("Worker {worker} (slot {slot})"),
    }
}

/// The slot is not its own: it is where it goes, or a number that is no slot's.
fn standby_who(place: &Place, pid: Option<u32>) -> String {
    let worker = place.instance.worker_id();
    match pid {
        Some(pid) => format!("Worker {worker} (standby, pid {pid})"),
        None => format!("Worker {worker} (standby)"),
    }
}

fn parked(place: &Place, standby: bool, pid: Option<u32>) -> Line {
    Line::news(match standby {
        true => format!("{} is booted and waits for a slot", standby_who(place, pid)),
        false => format!("{} is booted and waits for the other successors", who(place, pid)),
    })
}

fn standby_respawn(number: Slot, delay: Span) -> Line {
    let when = if delay.is_zero() { "at once".to_owned() } else { format!("in {delay}") };
    Line::news(format!("Standby {}: respawn {when}", number.0))
}

/// The first generation goes without saying.
fn generation(place: &Place) -> String {
    match place.generation.0 {
        0 | 1 => String::new(),
        later => format!(", generation {later}"),
    }
}

fn listening(who: &str, address: &str) -> Line {
    Line::news(format!("{who} listens on {}", shown_address(address)))
}

/// An address as given; the IPv6 form of "all" is said in words.
pub fn shown_address(address: &str) -> String {
    let is_all = address.rsplit(' ').next().is_some_and(|socket| socket.starts_with("[::]:"));
    let suffix = if is_all { " (all addresses)" } else { "" };
    format!("{address}{suffix}")
}

fn not_ready(who: &str, after: Span) -> Line {
    Line::trouble(format!("{who} is not ready after {after}, it may still become so"))
}

fn all_serving(workers: u32, addresses: &[String], after: Span) -> Line {
    if addresses.is_empty() {
        let workers = count(workers, "worker runs", "workers run");
        return Line::news(format!("{workers}, none listens yet, after {after}"));
    }
    let addresses: Vec<String> = addresses.iter().map(|address| shown_address(address)).collect();
    let workers = count(workers, "worker serves", "workers serve");
    Line::news(format!("{workers} {}, after {after}", addresses.join(", ")))
}

fn retiring(who: &str, reason: RetireReason) -> Line {
    let reason = match reason {
        RetireReason::Replaced => "a successor took over",
        RetireReason::ScaledDown => "its slot is gone",
        RetireReason::Stop => "the app stops",
        RetireReason::Restart => "the app restarts",
        RetireReason::ReloadAborted => "the reload was aborted",
        RetireReason::Errors => "it reported too many errors",
        RetireReason::Unneeded => "it is of no use as a standby",
        RetireReason::Asked => "it was asked to leave",
        RetireReason::Stray => "nobody knows it any more",
        RetireReason::Interrupted => "the primary before ended while it started",
    };
    Line::news(format!("{who} is asked to finish: {reason}"))
}

fn unkillable(who: &str) -> Line {
    Line::trouble(format!("{who} is still there although it was killed: the kernel holds it"))
}

fn exited(who: &str, exit: Exit, uptime: Span, wanted: bool) -> Line {
    let wanted = if wanted { ", as expected" } else { "" };
    Line::news(format!("{who} {} after {uptime}{wanted}", ended(exit)))
}

fn respawn(slot: Slot, unstable: u32, max: u32, delay: Span) -> Line {
    let when = if delay.is_zero() { "at once".to_owned() } else { format!("in {delay}") };
    match unstable {
        0 => Line::news(format!("Slot {}: respawn {when}", slot.0)),
        _ => Line::news(format!("Slot {}: respawn {unstable} of {max} {when}", slot.0)),
    }
}

fn finished(slot: Slot, exit: Exit) -> Line {
    Line::news(format!("Slot {} is finished and not respawned: its worker {}", slot.0, ended(exit)))
}

fn error_reported(who: &str, error: &str) -> Line {
    let first = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(no text)");
    Line::trouble(format!("{who} reports an error: {first}"))
}

fn stalled(who: &str) -> Line {
    Line::trouble(format!("{who} stopped reading its channel and gets no connections"))
}

fn reload_aborted(why: &ReloadFailure, replaced: u32) -> Line {
    Line::trouble(format!("Reload is aborted: {}", aborted(why, replaced)))
}

fn recycle_failed(slot: Slot, failure: &ReloadFailure) -> Line {
    match failure {
        ReloadFailure::Superseded => {
            Line::news(format!("Slot {} gets no new worker: {}", slot.0, abort_reason(failure)))
        }
        ReloadFailure::NotReady { .. } | ReloadFailure::Died { .. } | ReloadFailure::CannotSpawn { .. } => {
            Line::trouble(format!(
                "Slot {} gets no new worker: {}; the old one goes on",
                slot.0,
                abort_reason(failure)
            ))
        }
    }
}

/// Why the worker of one slot is replaced, in words that follow a colon.
fn recycle_reason(why: RecycleReason) -> &'static str {
    match why {
        RecycleReason::Asked => "somebody asked for it",
        RecycleReason::Memory => "it uses more memory than `max_memory_restart`",
        RecycleReason::Requests => "it has served `max_requests`",
        RecycleReason::Lifetime => "it has lived for `max_lifetime`",
        RecycleReason::Hung => "it does not answer any more",
    }
}

/// Why a reload was aborted, in words that follow a colon.
pub fn abort_reason(why: &ReloadFailure) -> String {
    match why {
        ReloadFailure::NotReady { slot, after } => {
            format!("the successor in slot {} is not ready after {after}", slot.0)
        }
        ReloadFailure::Died { slot, exit } => format!("the successor in slot {} {}", slot.0, ended(*exit)),
        ReloadFailure::CannotSpawn { slot, cause } => {
            format!("the successor in slot {} cannot start: {cause}", slot.0)
        }
        ReloadFailure::Superseded => "the app was stopped or restarted meanwhile".into(),
    }
}

/// Why a reload was aborted that replaced so many slots, and what it left, in words that follow a colon.
pub fn aborted(why: &ReloadFailure, replaced: u32) -> String {
    let reason = abort_reason(why);
    match why {
        // Whatever came in between says what becomes of the workers.
        ReloadFailure::Superseded => reason,
        ReloadFailure::NotReady { .. } | ReloadFailure::Died { .. } | ReloadFailure::CannotSpawn { .. } => {
            format!("{reason}; {}", left_as_they_were(replaced))
        }
    }
}

fn left_as_they_were(replaced: u32) -> String {
    match replaced {
        0 => "no slot was replaced, the old workers go on".to_owned(),
        1 => "1 slot was replaced, the others go on as they were".to_owned(),
        many => format!("{many} slots were replaced, the others go on as they were"),
    }
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
