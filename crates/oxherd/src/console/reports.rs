//! The status report as a small table. A dash stands for what a worker does not report.

use oxherd_engine::{AppReport, Report, WorkerReport};

use super::frame::Line;
use super::words::{self, count};

const COLUMNS: usize = 9;
const HEADINGS: [&str; COLUMNS] =
    ["slot", "worker", "pid", "status", "requests", "connections", "handed over", "uptime", "memory"];
/// The one column of words; the others hold figures and end at the right.
const STATUS_COLUMN: usize = 3;

/// The lines of a report, to be printed together.
pub(super) fn render(report: &Report) -> Vec<Line> {
    let head = format!(
        "Report after {}: the primary uses {}",
        report.run_time,
        words::size(Some(report.primary_memory))
    );
    let mut lines = vec![head];
    for app in &report.apps {
        lines.push(figures(app));
        lines.extend(table(&app.workers));
    }
    lines.into_iter().map(Line::news).collect()
}

fn figures(app: &AppReport) -> String {
    format!(
        "{}: {}, {}, {}, error rate {:.2} %, {} handed over",
        app.name,
        count(app.active, "active worker", "active workers"),
        count(app.requests, "request", "requests"),
        count(app.errors, "error", "errors"),
        app.error_rate(),
        count(app.handed_over, "connection", "connections"),
    )
}

fn table(workers: &[WorkerReport]) -> Vec<String> {
    if workers.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(workers.iter().map(cells));
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter().map(|row| aligned(row, &widths)).collect()
}

fn aligned(row: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| match column {
        STATUS_COLUMN => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    let cells: Vec<String> = cells.collect();
    format!("  {}", cells.join("  "))
}

fn cells(worker: &WorkerReport) -> [String; COLUMNS] {
    let figure = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    [
        worker.slot.0.to_string(),
        worker.worker.to_string(),
        worker.pid.to_string(),
        words::status(worker.status).to_owned(),
        figure(worker.requests),
        figure(worker.connections),
        worker.handed_over.to_string(),
        worker.uptime.to_string(),
        words::size(worker.memory),
    ]
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::{AppId, Slot, Span, Status};

    use super::*;
    use crate::console::frame::Frame;

    fn worker(number: u32, status: Status, figures: Option<u64>) -> WorkerReport {
        WorkerReport {
            worker: u64::from(number) + 8,
            slot: Slot(number),
            pid: 9998 + number,
            status,
            requests: figures,
            errors: figures,
            connections: figures.map(|it| it / 1000),
            handed_over: 1200 * u64::from(number),
            uptime: Span::from_millis(95_300 / (u64::from(number) + 1)),
            memory: figures.map(|it| it * 30_000),
        }
    }

    fn report(workers: Vec<WorkerReport>, requests: u64, errors: u64) -> Report {
        let active = workers.iter().filter(|worker| worker.status == Status::Online).count() as u32;
        let (app, name) = (AppId(0), "server".into());
        let app = AppReport { app, name, workers, active, requests, errors, handed_over: 3600 };
        Report { run_time: Span::from_millis(95_300), primary_memory: 5_452_595, apps: vec![app] }
    }

    fn shown(report: &Report) -> String {
        let mut bytes = Vec::new();
        render(report).iter().for_each(|line| Frame::new(4, false).log(line, &mut bytes));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_report_is_a_table() {
        let workers = vec![
            worker(0, Status::Online, Some(12_345)),
            worker(1, Status::Online, Some(999)),
            worker(2, Status::Starting, None),
            worker(3, Status::Stopping, Some(1_234_567)),
        ];
        insta::assert_snapshot!(shown(&report(workers, 1_247_911, 312)));
    }

    #[test]
    fn a_report_of_nothing_has_a_rate_too() {
        insta::assert_snapshot!(shown(&report(Vec::new(), 0, 0)));
    }
}
