//! The list of apps: a row for each slot, and one for each worker that comes or goes during a reload, or waits beside
//! the slots.

use oxherd::api::{AppView, Herd, SlotView, StandbyView, WorkerView};
use oxherd_engine::core::{Slot, Status};

use super::form::Form;
use super::paint::{Paint, Styled};
use super::table::{Align, Cell, Column, Fit, Table};
use super::words;

const COLUMNS: [Column; 9] = [
    Column::new("id", Align::Left, Fit::Keep),
    Column::new("name", Align::Left, Fit::Cut),
    Column::new("mode", Align::Left, Fit::Drop(0)),
    Column::new("pid", Align::Right, Fit::Drop(3)),
    Column::new("uptime", Align::Right, Fit::Drop(5)),
    Column { heading: "restarts", boxed: "↺", align: Align::Right, fit: Fit::Drop(1) },
    Column::new("status", Align::Left, Fit::Keep),
    Column::new("cpu", Align::Right, Fit::Drop(2)),
    Column::new("memory", Align::Right, Fit::Drop(4)),
];

/// The whole herd, and on a terminal what else is worth knowing.
pub(crate) fn herd(herd: &Herd, form: Form) -> String {
    let mut text = apps(&herd.apps, form);
    if let Form::Terminal(screen) = form {
        let notes = herd.apps.iter().filter_map(reload_note).chain([daemon_note(herd)]);
        for note in notes {
            text += &Styled::new(Paint::Dim, note).cut(screen.width).show(screen.colour);
            text.push('\n');
        }
    }
    text
}

/// Some apps.
pub(crate) fn apps(apps: &[AppView], form: Form) -> String {
    let mut table = Table::new(&COLUMNS);
    for app in apps {
        if app.slots.is_empty() {
            table.push(empty(app));
        }
        for slot in &app.slots {
            rows(app, slot).into_iter().for_each(|row| table.push(row));
        }
        app.standbys.iter().for_each(|standby| table.push(standby_row(app, standby)));
    }
    table.show(form)
}

/// The worker that a slot's word is about, and the others: successors, and those on their way out.
pub(crate) fn split(slot: &SlotView) -> (Option<&WorkerView>, Vec<&WorkerView>) {
    let main = slot.workers.iter().position(|worker| worker.status == slot.status);
    let others = slot.workers.iter().enumerate().filter(|(at, _)| Some(*at) != main);
    (main.and_then(|at| slot.workers.get(at)), others.map(|(_, worker)| worker).collect())
}

/// `0` where an app has one slot, `0:1` for slot 1 otherwise.
fn id(app: &AppView, slot: Slot) -> String {
    match app.slots.len() {
        1 if slot.0 == 0 => app.app.0.to_string(),
        _ => format!("{}:{}", app.app.0, slot.0),
    }
}

fn rows(app: &AppView, slot: &SlotView) -> Vec<Vec<Cell>> {
    let (main, others) = split(slot);
    let mut rows = vec![row(app, slot, slot.status, main, false)];
    rows.extend(others.into_iter().map(|worker| row(app, slot, worker.status, Some(worker), true)));
    rows
}

fn row(app: &AppView, slot: &SlotView, status: Status, worker: Option<&WorkerView>, dim: bool) -> Vec<Cell> {
    let restarts = if dim { "-".to_owned() } else { slot.restarts.to_string() };
    cells(app, id(app, slot.slot), status, worker, restarts, dim)
}

/// One that is in no slot. Its number is what its environment says.
fn standby_row(app: &AppView, standby: &StandbyView) -> Vec<Cell> {
    let (worker, id) = (&standby.worker, format!("{}:{}", app.app.0, standby.slot.0));
    cells(app, id, worker.status, Some(worker), "-".into(), true)
}

fn cells(
    app: &AppView,
    id: String,
    status: Status,
    worker: Option<&WorkerView>,
    restarts: String,
    dim: bool,
) -> Vec<Cell> {
    let paint = |paint| if dim { Paint::Dim } else { paint };
    let plain = |text: String| Cell::painted(paint(Paint::Plain), text);
    let uptime = worker.filter(|worker| worker.pid.is_some()).map(|worker| words::uptime(worker.uptime_ms));
    vec![
        Cell::painted(paint(Paint::Bold), id),
        plain(app.name.clone()),
        plain(words::mode(app.distribution, app.sockets).to_owned()),
        plain(words::figure(worker.and_then(|worker| worker.pid))),
        plain(words::figure(uptime)),
        plain(restarts),
        Cell::painted(paint(words::status_paint(status)), words::status(status)),
        plain(words::percent(worker.and_then(|worker| worker.cpu_percent))),
        plain(words::size(worker.and_then(|worker| worker.memory))),
    ]
}

/// An app that has not come to fill a slot, or was known and stopped from the first.
fn empty(app: &AppView) -> Vec<Cell> {
    let status = if app.up { Status::Starting } else { Status::Stopped };
    let mode = words::mode(app.distribution, app.sockets);
    let mut cells =
        vec![Cell::painted(Paint::Bold, app.app.0.to_string()), Cell::new(&app.name), Cell::new(mode)];
    cells.extend([Cell::new("-"), Cell::new("-"), Cell::new("0")]);
    cells.push(Cell::painted(words::status_paint(status), words::status(status)));
    cells.extend([Cell::new("-"), Cell::new("-")]);
    cells
}

/// What a reload has come to.
pub(crate) fn reload_note(app: &AppView) -> Option<String> {
    let reload = app.reload.as_ref()?;
    let of = words::count(app.instances, "slot", "slots");
    Some(format!(
        "{}: reload to generation {}, {} of {of} replaced",
        app.name, reload.generation.0, reload.replaced
    ))
}

fn daemon_note(herd: &Herd) -> String {
    let (uptime, memory) = (words::uptime(herd.uptime_ms), words::size(Some(herd.daemon_memory)));
    match herd.apps.is_empty() {
        true => format!("No apps: `oxherd start SCRIPT` starts one. Daemon: up {uptime}, {memory}"),
        false => format!("Daemon: up {uptime}, {memory}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, screen};
    use super::*;

    #[test]
    fn a_list_fits_the_terminal() {
        let list = samples::herd();
        insta::assert_snapshot!("list_200", herd(&list, screen(200)));
        insta::assert_snapshot!("list_80", herd(&list, screen(80)));
        insta::assert_snapshot!("list_40", herd(&list, screen(40)));
        for width in [40, 60, 80, 100, 200] {
            let widest = herd(&list, screen(width)).lines().map(super::super::paint::width).max();
            assert!(widest.is_some_and(|widest| widest <= width), "{width}");
        }
    }

    #[test]
    fn a_pipe_gets_plain_columns() {
        insta::assert_snapshot!("list_pipe", herd(&samples::herd(), Form::Plain));
    }

    #[test]
    fn standbys_come_after_the_slots() {
        insta::assert_snapshot!("list_standby", apps(&[samples::with_standbys()], screen(80)));
    }

    #[test]
    fn colours_tell_states_apart() {
        let Form::Terminal(mut screen) = screen(80) else { unreachable!() };
        screen.colour = true;
        insta::assert_snapshot!("list_colour", herd(&samples::herd(), Form::Terminal(screen)).escape_debug());
    }

    #[test]
    fn nothing_is_a_list_too() {
        let empty = Herd { apps: Vec::new(), daemon_memory: 3 << 20, uptime_ms: 5000, troubles: Vec::new() };
        insta::assert_snapshot!("list_empty", herd(&empty, screen(80)));
        assert_eq!(herd(&empty, Form::Plain).lines().count(), 1);
    }
}
