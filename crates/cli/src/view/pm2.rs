//! Lists and details with PM2's columns and rows: for people and tools that know those.

use oxherd::api::{AppView, Herd, SlotView, WorkerView};
use oxherd_engine::core::{Sockets, Status};

use super::form::{Form, Screen};
use super::list::split;
use super::order::Order;
use super::paint::Paint;
use super::table::{Align, Cell, Column, Fit, Table};
use super::words;

const COLUMNS: [Column; 13] = [
    Column::new("id", Align::Left, Fit::Keep),
    Column::new("name", Align::Left, Fit::Cut),
    Column::new("namespace", Align::Left, Fit::Drop(2)),
    Column::new("version", Align::Left, Fit::Drop(1)),
    Column::new("mode", Align::Left, Fit::Drop(6)),
    Column::new("pid", Align::Left, Fit::Drop(3)),
    Column::new("uptime", Align::Left, Fit::Drop(5)),
    Column::new("↺", Align::Left, Fit::Drop(7)),
    Column::new("status", Align::Left, Fit::Keep),
    Column::new("cpu", Align::Left, Fit::Drop(8)),
    Column::new("mem", Align::Left, Fit::Drop(9)),
    Column::new("user", Align::Left, Fit::Drop(0)),
    Column::new("watching", Align::Left, Fit::Drop(4)),
];

/// The status in PM2's word.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Online | Status::Standby => "online",
        Status::Starting => "launching",
        Status::Stopping => "stopping",
        Status::Stopped => "stopped",
        Status::WaitingRestart => "waiting restart",
        Status::Errored => "errored",
    }
}

/// `cluster` or `fork`: whether workers are given connections.
pub(crate) fn mode(app: &AppView) -> &'static str {
    match app.sockets {
        _ if app.about.fork => "fork",
        Sockets::None => "fork",
        Sockets::Channel | Sockets::Universal | Sockets::ListenFds => "cluster",
    }
}

/// The namespace that the app is in.
pub(crate) fn namespace(app: &AppView) -> &str {
    if app.namespace.is_empty() { "default" } else { &app.namespace }
}

/// All slots, by their numbers or in another order.
pub(crate) fn rows(herd: &Herd, order: Option<Order>) -> Vec<(&AppView, &SlotView)> {
    let mut rows: Vec<_> =
        herd.apps.iter().flat_map(|app| app.slots.iter().map(move |slot| (app, slot))).collect();
    rows.sort_by_key(|(_, slot)| slot.number);
    if let Some(order) = order {
        order.arrange_rows(&mut rows);
    }
    rows
}

/// A pipe has room for everything.
const PIPE: Screen = Screen { width: usize::MAX, height: usize::MAX, colour: false };

/// The list: a table, in a pipe too, or a block for each worker.
pub(crate) fn herd(herd: &Herd, form: Form, order: Option<Order>, mini: bool) -> String {
    match form {
        _ if mini => blocks(herd, order),
        Form::Plain => table(herd, Form::Terminal(PIPE), order),
        Form::Terminal(_) => table(herd, form, order),
    }
}

fn table(herd: &Herd, form: Form, order: Option<Order>) -> String {
    let user = user_name();
    let mut table = Table::new(&COLUMNS);
    for (app, slot) in rows(herd, order) {
        let (worker, _) = split(slot);
        table.push(vec![
            Cell::painted(Paint::Bold, words::figure(slot.number)),
            Cell::new(&app.name),
            Cell::new(namespace(app)),
            Cell::new(version(app)),
            Cell::new(mode(app)),
            Cell::new(pid(worker).to_string()),
            Cell::new(uptime(worker)),
            Cell::new(slot.renewals.to_string()),
            Cell::painted(words::status_paint(slot.status), status(slot.status)),
            Cell::new(percent(worker)),
            Cell::new(size(worker.and_then(|it| it.memory).unwrap_or(0))),
            Cell::new(&user),
            Cell::new(if app.watches { "enabled" } else { "disabled" }),
        ]);
    }
    table.show(form)
}

/// A block of lines for each worker.
pub(crate) fn blocks(herd: &Herd, order: Option<Order>) -> String {
    let mut text = String::new();
    for (app, slot) in rows(herd, order) {
        let (worker, _) = split(slot);
        let lines = [
            ("namespace", namespace(app).to_owned()),
            ("version", version(app).to_owned()),
            ("pid", pid(worker).to_string()),
            ("pm2 id", words::figure(slot.number)),
            ("status", status(slot.status).to_owned()),
            ("mode", mode(app).to_owned()),
            ("restarted", slot.renewals.to_string()),
            ("uptime", uptime(worker)),
            ("cpu", percent(worker)),
            ("memory usage", size(worker.and_then(|it| it.memory).unwrap_or(0))),
            ("error log", slot.error_file.clone()),
            ("watching", if app.watches { "yes" } else { "no" }.to_owned()),
            ("PID file", slot.pid_file.clone().unwrap_or_else(|| "none".into())),
        ];
        text += &format!("+--- {}\n", app.name);
        for (key, value) in lines {
            text += &format!("{key} : {value}\n");
        }
        text.push('\n');
    }
    text
}

/// The rows of `describe`, for each worker of the apps.
pub(crate) fn details(herd: &Herd, form: Form) -> String {
    let mut text = String::new();
    for (app, slot) in rows(herd, None) {
        let title = format!("Describing process with id {} - name {}", words::figure(slot.number), app.name);
        text += &super::paint::Styled::new(Paint::Bold, title).show(form.colour());
        text.push('\n');
        let mut table = Table::new(&DETAIL);
        for (label, value) in facts(app, slot) {
            table.push(vec![Cell::new(label), Cell::new(value)]);
        }
        text += &table.show(form);
    }
    text
}

const DETAIL: [Column; 2] = [Column::new("", Align::Left, Fit::Keep), Column::new("", Align::Left, Fit::Cut)];

fn facts(app: &AppView, slot: &SlotView) -> Vec<(&'static str, String)> {
    let (worker, _) = split(slot);
    let none = || "N/A".to_owned();
    let list = |words: &[String]| if words.is_empty() { none() } else { words.join(" ") };
    let text = |text: &str| if text.is_empty() { none() } else { text.to_owned() };
    let yes_no = |is: bool| if is { "✔" } else { "✘" }.to_owned();
    let mut facts = vec![
        ("status", status(slot.status).to_owned()),
        ("name", app.name.clone()),
        ("namespace", namespace(app).to_owned()),
        ("version", version(app).to_owned()),
        ("restarts", slot.renewals.to_string()),
    ];
    facts.extend(app.cron_at_ms.map(|at| ("next cron reload", super::jlist::date(at))));
    facts.extend([
        ("uptime", uptime(worker)),
        ("script path", text(&app.about.script)),
        ("script args", list(&app.about.args)),
        ("error log path", slot.error_file.clone()),
        ("out log path", slot.out_file.clone()),
    ]);
    facts.extend(slot.both_file.clone().map(|path| ("entire log path", path)));
    facts.extend([
        ("pid path", slot.pid_file.clone().unwrap_or_else(none)),
        ("interpreter", text(&app.about.interpreter)),
        ("interpreter args", list(&app.about.interpreter_args)),
        ("script id", words::figure(slot.number)),
        ("exec cwd", app.cwd.clone()),
        ("exec mode", format!("{}_mode", mode(app))),
        ("node.js version", none()),
        ("node env", app.about.env.get("NODE_ENV").cloned().unwrap_or_else(none)),
        ("watch & reload", yes_no(app.watches)),
        ("unstable restarts", slot.unstable.to_string()),
        ("created at", slot.created_at_ms.map_or_else(none, super::jlist::date)),
    ]);
    facts
}

pub(crate) fn version(app: &AppView) -> &str {
    app.about.version.as_deref().unwrap_or("N/A")
}

fn pid(worker: Option<&WorkerView>) -> u32 {
    worker.and_then(|it| it.pid).unwrap_or(0)
}

/// Whole units only, the largest that is more than one.
fn uptime(worker: Option<&WorkerView>) -> String {
    let Some(worker) = worker.filter(|it| it.pid.is_some()) else { return "0".into() };
    let secs = worker.uptime_ms / 1000;
    let units = [(86_400, "D"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(size, _)| secs / size > 1);
    unit.map_or_else(|| format!("{secs}s"), |(size, unit)| format!("{}{unit}", secs / size))
}

fn percent(worker: Option<&WorkerView>) -> String {
    let percent = worker.and_then(|it| it.cpu_percent).unwrap_or(0.0);
    // One digit after the point, and none where it is 0.
    let tenths = (percent * 10.0).round() / 10.0;
    format!("{tenths}%")
}

/// `61.6mb`, as PM2 writes it: units of 1024.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(30, "gb"), (20, "mb"), (10, "kb")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes}b"),
    }
}

/// Whose daemon it is.
pub(crate) fn user_name() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| {
        if rustix::process::getuid().is_root() {
            "root".into()
        } else {
            rustix::process::getuid().as_raw().to_string()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, screen};
    use super::*;

    #[test]
    fn a_list_has_pm2_s_columns() {
        let herd = samples::herd();
        let shown = |form, mini| super::herd(&herd, form, None, mini).replace(&user_name(), "somebody");
        insta::assert_snapshot!("pm2_160", shown(screen(160), false));
        insta::assert_snapshot!("pm2_80", shown(screen(80), false));
        insta::assert_snapshot!("pm2_pipe", shown(Form::Plain, false));
        insta::assert_snapshot!("pm2_mini", shown(Form::Plain, true));
    }

    #[test]
    fn figures_have_pm2_s_units() {
        let mut worker = samples::worker(1, Status::Online);
        let mut at = |secs: u64| {
            worker.uptime_ms = secs * 1000;
            uptime(Some(&worker))
        };
        assert_eq!(
            [at(1), at(119), at(120), at(7199), at(7200), at(172_800)],
            ["1s", "119s", "2m", "119m", "2h", "2D"]
        );
        assert_eq!([0, 2048, 64_614_400].map(size), ["0b", "2.0kb", "61.6mb"]);
    }
}
