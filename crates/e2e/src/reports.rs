//! Status reports, read from the log as people do.

use crate::lines::Line;

/// One report about one app.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first line, about the primary.
    pub primary: String,
    /// The app's name.
    pub app: String,
    /// Its figures, as they are written: "2 active workers", "error rate 0.00 %".
    pub figures: Vec<String>,
    /// A row for each worker.
    pub workers: Vec<Row>,
}

/// What a report says of one worker. A dash is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its slot.
    pub slot: u32,
    /// `cluster.worker.id`.
    pub worker: u64,
    /// Its process.
    pub pid: u32,
    /// The word for it.
    pub status: String,
    /// Requests that it reported.
    pub requests: Option<u64>,
    /// Open connections that it reported.
    pub connections: Option<u64>,
    /// Connections that it was given.
    pub handed_over: u64,
    /// How long it has lived.
    pub uptime: String,
    /// Its memory.
    pub memory: String,
}

impl Report {
    /// Whether this figure is among the app's.
    pub fn has(&self, figure: &str) -> bool {
        self.figures.iter().any(|it| it == figure)
    }

    /// The row of a worker.
    pub fn of(&self, pid: u32) -> Option<&Row> {
        self.workers.iter().find(|row| row.pid == pid)
    }
}

/// All reports among these lines. One that is still being written may lack its last rows.
pub fn of(lines: &[Line]) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    for line in lines.iter().filter(|line| line.is_of_primary()) {
        if line.text.starts_with("Report after ") {
            reports.push(Report { primary: line.text.clone(), ..Report::default() });
        } else if let (Some(report), Some(row)) = (reports.last_mut(), row(&line.text)) {
            report.workers.push(row);
        } else if let (Some(report), Some((app, figures))) = (reports.last_mut(), line.text.split_once(": "))
            && figures.contains("error rate")
        {
            report.app = app.to_owned();
            report.figures = figures.split(", ").map(str::to_owned).collect();
        }
    }
    reports
}

fn row(text: &str) -> Option<Row> {
    let cells: Vec<&str> = text.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let [slot, worker, pid, status, requests, connections, handed_over, uptime, memory] = cells[..] else {
        return None;
    };
    let figure = |cell: &str| cell.parse().ok();
    Some(Row {
        slot: slot.parse().ok()?,
        worker: worker.parse().ok()?,
        pid: pid.parse().ok()?,
        status: status.to_owned(),
        requests: figure(requests),
        connections: figure(connections),
        handed_over: handed_over.parse().ok()?,
        uptime: uptime.to_owned(),
        memory: memory.to_owned(),
    })
}
