//! How changes look: a block of lines while they go on, a line for each piece of news in a pipe, and one line for
//! each app at the end.

use oxherd::api::NewsItem;
use oxherd_engine::core::{ChangeOutcome, Notice, Place};

use super::form::Screen;
use super::paint::{Paint, Styled};
use super::progress::{AppProgress, SlotProgress, Standing, Verb};
use super::words::{count, enumerate};
use crate::output::{aborted, ended, give_up, shown_address};

/// What turns while something goes on.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Lines of the terminal that the block leaves free.
const LINES_FREE: usize = 2;

/// A line and whether it tells of trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Good(String),
    Bad(String),
}

/// The block: a line for each app, and one for each slot as far as there is room.
pub(crate) fn block(apps: &[AppProgress], elapsed_secs: u64, turn: usize, screen: Screen) -> Vec<Styled> {
    let spinner = SPINNER[turn % SPINNER.len()];
    let room = screen.height.saturating_sub(LINES_FREE).max(1);
    let all: usize = apps.iter().map(|app| app.slots.len() + 1).sum();
    let mut lines = Vec::new();
    for app in apps {
        lines.push(head(app, elapsed_secs, spinner));
        let slots = app.slots.iter().filter(|(_, slot)| {
            // Where there is no room for all, those matter that something happens to.
            all <= room || matches!(slot.standing(app.verb), Standing::UnderWay | Standing::Failed)
        });
        lines.extend(slots.map(|(number, slot)| slot_line(app, number.0, slot, spinner)));
    }
    if lines.len() > room {
        let more = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(Styled::new(Paint::Dim, format!("  … and {more} more lines")));
    }
    lines.iter().map(|line| line.cut(screen.width.saturating_sub(1))).collect()
}

fn head(app: &AppProgress, elapsed_secs: u64, spinner: &str) -> Styled {
    let (symbol, paint) = match &app.outcome {
        None => (spinner, Paint::Yellow),
        Some(ChangeOutcome::Done) => ("✔", Paint::Green),
        Some(ChangeOutcome::ReloadAborted(_) | ChangeOutcome::Failed | ChangeOutcome::Superseded) => {
            ("✖", Paint::Red)
        }
    };
    let head = Styled::new(paint, symbol);
    let head = head.and(Paint::Bold, format!(" {} {}", app.verb.going_on(), app.name));
    head.and(Paint::Plain, format!(": {}, {elapsed_secs} s", app.tally_line()))
}

fn slot_line(app: &AppProgress, number: u32, slot: &SlotProgress, spinner: &str) -> Styled {
    let (symbol, paint) = match slot.standing(app.verb) {
        Standing::Pending => ("·", Paint::Dim),
        Standing::UnderWay => (spinner, Paint::Yellow),
        Standing::Done => ("✔", Paint::Green),
        Standing::Failed => ("✖", Paint::Red),
    };
    let (word, detail) = slot.words();
    let line = Styled::new(paint, format!("  {symbol}")).and(Paint::Plain, format!(" {number:>3}  "));
    line.and(paint, format!("{word:<15}")).and(Paint::Dim, format!(" {detail}"))
}

/// The line for a piece of news where there is no block; most news is not worth one.
pub(crate) fn news(item: &NewsItem, name: &str) -> Option<Word> {
    let at = |place: &Place| format!("{name}:{}", place.slot.0);
    let pid = item.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    Some(match &item.notice {
        Notice::Ready { place, after } => Word::Good(format!("{} is ready after {after}{pid}", at(place))),
        Notice::NotReady { place, after } => {
            Word::Bad(format!("{} is not ready after {after}, it may still become so", at(place)))
        }
        Notice::SpawnFailed { place, cause } => Word::Bad(format!("{}: {cause}", at(place))),
        Notice::Killing { place } => Word::Bad(format!("{} is killed{pid}", at(place))),
        Notice::Unkillable { place } => {
            Word::Bad(format!("{} does not end although it was killed{pid}", at(place)))
        }
        Notice::Exited { place, exit, wanted: true, .. } => {
            Word::Good(format!("{} {}{pid}", at(place), ended(*exit)))
        }
        Notice::Exited { place, exit, uptime, wanted: false } => {
            let line = format!("{} {} after {uptime}{pid}", at(place), ended(*exit));
            // A program may be through; if it should not be, more is said.
            if exit.is_success() { Word::Good(line) } else { Word::Bad(line) }
        }
        Notice::GaveUp { slot, why, .. } => {
            Word::Bad(format!("{name}:{} gives up: {}", slot.0, give_up(why)))
        }
        Notice::Misbehaved { place, what } => {
            Word::Bad(format!("{} breaks the protocol and is killed: {what}", at(place)))
        }
        Notice::ReloadQueued { .. } => Word::Good(format!("{name}: the reload follows the one that runs")),
        Notice::Forked { .. }
        | Notice::Parked { .. }
        | Notice::Promoted { .. }
        | Notice::StandbyRespawn { .. }
        | Notice::Online { .. }
        | Notice::Listening { .. }
        | Notice::AllServing { .. }
        | Notice::Retiring { .. }
        | Notice::Terminating { .. }
        | Notice::Respawn { .. }
        | Notice::Finished { .. }
        | Notice::ErrorReported { .. }
        | Notice::Stalled { .. }
        | Notice::Resumed { .. }
        | Notice::ReloadStarted { .. }
        | Notice::ReloadDone { .. }
        | Notice::ReloadAborted { .. }
        | Notice::RecycleStarted { .. }
        | Notice::RecycleDone { .. }
        | Notice::RecycleFailed { .. }
        | Notice::Scaled { .. }
        | Notice::Stopping { .. }
        | Notice::Stopped { .. }
        | Notice::Deleted { .. }
        | Notice::Adopted { .. }
        | Notice::Changed { .. } => return None,
    })
}

/// How it ended, for one app. Without an outcome it is not known.
pub(crate) fn conclusion(app: &AppProgress) -> Word {
    let (name, verb) = (&app.name, app.verb);
    match &app.outcome {
        Some(ChangeOutcome::Done) => Word::Good(format!("{name}: {}", done(app))),
        Some(ChangeOutcome::ReloadAborted(why)) => {
            let why = aborted(why, app.replaced.unwrap_or(0));
            Word::Bad(format!("{name}: the reload is aborted: {why}"))
        }
        Some(ChangeOutcome::Failed) => Word::Bad(failed(app)),
        Some(ChangeOutcome::Superseded) => {
            Word::Bad(format!("{name}: the {} was given up: a later wish took its place", verb.noun()))
        }
        None if let Some((unstable, max)) = app.left_trying => Word::Bad(still_trying(app, unstable, max)),
        None => {
            Word::Bad(format!("{name}: nobody knows how the {} ended: `oxherd describe {name}`", verb.noun()))
        }
    }
}

fn failed(app: &AppProgress) -> String {
    let (name, verb) = (&app.name, app.verb.noun());
    let why = app.trouble.as_deref().unwrap_or("a slot is empty and not filled any more");
    format!("{name}: the {verb} failed: {why}; `oxherd logs {name}` shows what it wrote")
}

fn still_trying(app: &AppProgress, unstable: u32, max: u32) -> String {
    let (name, verb) = (&app.name, app.verb.noun());
    let why = app.trouble.as_deref().unwrap_or("a slot is empty");
    format!(
        "{name}: the {verb} has not come through: {why} (unstable exit {unstable} of {max}), and is tried again: \
         `oxherd logs {name}` shows what it wrote"
    )
}

fn done(app: &AppProgress) -> String {
    match app.verb {
        Verb::Stop => "stopped".into(),
        Verb::Recycle => "the worker is replaced".into(),
        Verb::Delete => "deleted".into(),
        // It was not there before, and has no slots now: it has `autostart: false`.
        Verb::Start if app.slots.is_empty() => format!("known, and runs after `oxherd start {}`", app.name),
        Verb::Start | Verb::Resurrect | Verb::Restart if app.is_through() => through(app),
        Verb::Start if !app.has_started_any() => "runs already".into(),
        Verb::Resurrect if !app.has_started_any() => "stopped, as it was".into(),
        Verb::Start | Verb::Resurrect => serving(app).unwrap_or_else(|| "started".into()),
        Verb::Restart => match serving(app) {
            Some(serving) => format!("restarted, {serving}"),
            None => "restarted".into(),
        },
        Verb::Reload => match app.reloaded {
            Some((generation, took)) => {
                format!("reloaded, every slot runs generation {} after {took}", generation.0)
            }
            None => "reloaded".into(),
        },
        Verb::Adjust => match app.scaled.filter(|(from, to)| from != to) {
            Some((from, to)) => {
                format!("adjusted, and scaled from {from} to {}", count(to, "slot", "slots"))
            }
            None => "adjusted, no worker is replaced".into(),
        },
        Verb::Scale => match app.scaled.filter(|(from, to)| from != to) {
            Some((from, to)) => format!("scaled from {from} to {}", count(to, "slot", "slots")),
            None => "has as many slots already".into(),
        },
    }
}

/// The program has done what it had to do.
fn through(app: &AppProgress) -> String {
    let exits = app.exits();
    let who = match exits.len() {
        0 | 1 => "the worker".to_owned(),
        all => format!("all {all} workers"),
    };
    match exits.first() {
        Some(exit) if exits.iter().all(|other| other == exit) => {
            format!("ran, and is through: {who} {}", ended(*exit))
        }
        Some(_) | None => format!("ran, and is through: {who} ended"),
    }
}

fn serving(app: &AppProgress) -> Option<String> {
    let serving = app.serving.as_ref()?;
    if serving.addresses.is_empty() {
        let workers = count(serving.workers, "worker runs", "workers run");
        return Some(format!("{workers}, none listens yet"));
    }
    let addresses: Vec<String> = serving.addresses.iter().map(|address| shown_address(address)).collect();
    Some(format!("{} {}", count(serving.workers, "worker serves", "workers serve"), enumerate(&addresses)))
}

/// What somebody is told who does not wait for the end.
pub(crate) fn left_alone(apps: &[AppProgress]) -> String {
    let under_way: Vec<&AppProgress> = apps.iter().filter(|app| app.outcome.is_none()).collect();
    let Some(first) = under_way.first() else { return "everything was done already".into() };
    let names: Vec<String> = under_way.iter().map(|app| app.name.clone()).collect();
    let (noun, names) = (first.verb.noun(), enumerate(&names));
    format!("not waiting any more: the {noun} of {names} goes on (`oxherd ls` shows how far it is)")
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
