//! Everything that is known of an app. Environment values are never part of it.

use oxherd::api::{AppView, StandbyView, WorkerView};
use oxherd_engine::core::{Distribution, Slot, Sockets, Status};

use super::form::Form;
use super::list::{reload_note, split};
use super::paint::{Paint, Styled, printable, wrap};
use super::table::{Align, Cell, Column, Fit, Table};
use super::words;

const COLUMNS: [Column; 13] = [
    Column::new("slot", Align::Right, Fit::Keep),
    Column::new("worker", Align::Right, Fit::Drop(3)),
    Column::new("generation", Align::Right, Fit::Drop(2)),
    Column::new("pid", Align::Right, Fit::Drop(11)),
    Column::new("status", Align::Left, Fit::Keep),
    Column::new("uptime", Align::Right, Fit::Drop(10)),
    Column::new("restarts", Align::Right, Fit::Drop(9)),
    Column::new("cpu", Align::Right, Fit::Drop(8)),
    Column::new("memory", Align::Right, Fit::Drop(7)),
    Column::new("requests", Align::Right, Fit::Drop(6)),
    Column::new("errors", Align::Right, Fit::Drop(5)),
    Column::new("connections", Align::Right, Fit::Drop(4)),
    Column::new("handed over", Align::Right, Fit::Drop(1)),
];
/// The widest label, and the gap after it.
const LABEL_WIDTH: usize = 15;

/// One app, section by section.
pub(crate) fn app(app: &AppView, form: Form) -> String {
    let mut text = heading(&format!("{} (id {})", app.name, app.app.0), form);
    for (label, value) in facts(app) {
        text += &line(label, &value, form);
    }
    text.push('\n');
    text += &heading("Listens on", form);
    let listens = addresses(app);
    if listens.is_empty() {
        text += "  nothing that the daemon knows of\n";
    }
    for address in listens {
        text += &format!("  {address}\n");
    }
    text.push('\n');
    text += &heading("Workers", form);
    text + &workers(app, form)
}

fn heading(title: &str, form: Form) -> String {
    Styled::new(Paint::Bold, title).show(form.colour()) + "\n"
}

fn line(label: &str, value: &str, form: Form) -> String {
    let label = Styled::new(Paint::Dim, format!("  {label:<LABEL_WIDTH$}")).show(form.colour());
    let value = printable(value);
    match form {
        Form::Plain => format!("{label}{value}\n"),
        Form::Terminal(screen) => {
            let margin = LABEL_WIDTH + 2;
            let value = wrap(&value, screen.width.saturating_sub(margin), "");
            format!("{label}{}\n", value.replace('\n', &format!("\n{}", " ".repeat(margin))))
        }
    }
}

fn facts(app: &AppView) -> Vec<(&'static str, String)> {
    let mut facts = vec![("status", state(app))];
    facts.extend(reload_note(app).map(|_| ("reload", reload(app))));
    facts.extend([
        ("generation", app.generation.0.to_string()),
        ("mode", words::mode(app.distribution, app.sockets).to_owned()),
    ]);
    facts.extend(strategy(app).map(|strategy| ("strategy", strategy)));
    facts.extend([("sockets", sockets(app))]);
    facts.extend(standby(app).map(|standby| ("standby", standby)));
    facts.extend([
        ("program", shell_line(&app.command)),
        ("folder", app.cwd.clone()),
        ("output", app.out_file.clone()),
        ("error output", app.error_file.clone()),
        ("dropped lines", app.dropped_lines.to_string()),
        ("requests", app.requests.to_string()),
        ("errors", errors(app)),
        ("handed over", words::count(app.handed_over, "connection", "connections")),
    ]);
    facts
}

fn state(app: &AppView) -> String {
    let online = app.slots.iter().filter(|slot| words::status(slot.status) == "online").count();
    match app.up {
        true => format!("{online} of {} online", words::count(app.instances, "slot", "slots")),
        false => format!("stopped, {}", words::count(app.instances, "slot", "slots")),
    }
}

fn reload(app: &AppView) -> String {
    app.reload.as_ref().map_or_else(String::new, |reload| {
        format!("to generation {}, {} of {} replaced", reload.generation.0, reload.replaced, app.instances)
    })
}

/// Nothing where the primary does not choose.
fn strategy(app: &AppView) -> Option<String> {
    let chooses = app.sockets == Sockets::Channel && app.distribution == Distribution::Handoff;
    let weights: Vec<String> = app.weights.iter().map(u32::to_string).collect();
    let weights = if weights.is_empty() { String::new() } else { format!(" {}", weights.join(",")) };
    chooses.then(|| format!("{}{weights}", app.strategy))
}

fn sockets(app: &AppView) -> String {
    match app.sockets {
        Sockets::Channel => "over the channel".into(),
        Sockets::Universal if app.ports.is_all() => "universal: lent when the program binds".into(),
        Sockets::Universal => format!("universal: lent when the program binds, at ports {}", app.ports),
        Sockets::ListenFds => {
            let listeners = app.listen.iter().map(|it| format!("{} at {}", it.name, it.address));
            format!("by LISTEN_FDS: {}", listeners.collect::<Vec<_>>().join(", "))
        }
        Sockets::None => "the program binds its own".into(),
    }
}

/// Nothing where none is wanted and none is left.
fn standby(app: &AppView) -> Option<String> {
    let parked = app.standbys.iter().filter(|it| it.worker.status == Status::Standby).count();
    let is_told = app.standby > 0 || !app.standbys.is_empty();
    is_told.then(|| format!("{parked} of {} booted", app.standby))
}

fn errors(app: &AppView) -> String {
    match app.requests {
        0 => app.errors.to_string(),
        requests => format!("{} ({:.2}%)", app.errors, 100.0 * app.errors as f64 / requests as f64),
    }
}

/// A line that a shell would read as these words.
fn shell_line(words: &[String]) -> String {
    let is_plain = |word: &str| {
        let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
        !word.is_empty() && word.chars().all(plain)
    };
    let quoted = |word: &String| match is_plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Each address once, in the order of the slots.
fn addresses(app: &AppView) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for address in app.slots.iter().flat_map(|slot| &slot.workers).flat_map(|worker| &worker.addresses) {
        if !known.contains(address) {
            known.push(address.clone());
        }
    }
    known
}

fn workers(app: &AppView, form: Form) -> String {
    let mut table = Table::new(&COLUMNS);
    for slot in &app.slots {
        let (main, others) = split(slot);
        table.push(row(slot.slot, slot.status, main, Some(slot.restarts)));
        others.into_iter().for_each(|it| table.push(row(slot.slot, it.status, Some(it), None)));
    }
    for StandbyView { slot, worker } in &app.standbys {
        table.push(row(*slot, worker.status, Some(worker), None));
    }
    table.show(form)
}

fn row(slot: Slot, status: Status, worker: Option<&WorkerView>, restarts: Option<u32>) -> Vec<Cell> {
    let of = |cell: &dyn Fn(&WorkerView) -> String| Cell::new(worker.map_or_else(|| "-".to_owned(), cell));
    vec![
        Cell::new(slot.0.to_string()),
        of(&|worker| worker.worker.to_string()),
        of(&|worker| worker.generation.0.to_string()),
        of(&|worker| words::figure(worker.pid)),
        Cell::painted(words::status_paint(status), words::status(status)),
        of(&|worker| words::uptime(worker.uptime_ms)),
        Cell::new(words::figure(restarts)),
        of(&|worker| words::percent(worker.cpu_percent)),
        of(&|worker| words::size(worker.memory)),
        of(&|worker| words::figure(worker.requests)),
        of(&|worker| words::figure(worker.errors)),
        of(&|worker| words::figure(worker.connections)),
        of(&|worker| worker.handed_over.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::{ListenAt, Ports};

    use super::super::samples::{self, screen};
    use super::*;

    #[test]
    fn an_app_is_described_in_sections() {
        let web = samples::reloading();
        insta::assert_snapshot!("describe_200", app(&web, screen(200)));
        insta::assert_snapshot!("describe_80", app(&web, screen(80)));
        insta::assert_snapshot!("describe_40", app(&web, screen(40)));
        insta::assert_snapshot!("describe_pipe", app(&web, Form::Plain));
    }

    #[test]
    fn an_app_without_workers_is_described_too() {
        insta::assert_snapshot!("describe_stopped", app(&samples::app(4, "parked", Vec::new()), Form::Plain));
    }

    #[test]
    fn what_any_program_is_given_is_described() {
        let mut python = samples::with_standbys();
        insta::assert_snapshot!("describe_standby", app(&python, Form::Plain));
        let listener = ListenAt { name: "web".into(), address: "0.0.0.0:80".into() };
        (python.sockets, python.listen) = (Sockets::ListenFds, vec![listener]);
        assert_eq!(sockets(&python), "by LISTEN_FDS: web at 0.0.0.0:80");
        (python.sockets, python.ports) = (Sockets::Universal, Ports::default());
        assert_eq!(sockets(&python), "universal: lent when the program binds");
    }

    #[test]
    fn programs_are_quoted_as_for_a_shell() {
        let words = ["node", "it's", "", "a b", "--x=1"].map(str::to_owned);
        assert_eq!(shell_line(&words), r"node 'it'\''s' '' 'a b' --x=1");
    }
}
