//! The status report: figures of workers, apps and the primary. Data only.

use oxherd_core::{AppId, Slot, Span, Status};
use serde::{Deserialize, Serialize};

/// What is told every status interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How long the primary has run.
    pub run_time: Span,
    /// The primary's own resident memory in bytes.
    pub primary_memory: u64,
    /// One entry per app.
    pub apps: Vec<AppReport>,
}

/// One app's figures. Totals include workers that are no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppReport {
    /// Its id.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// Its living workers in order of their slots.
    pub workers: Vec<WorkerReport>,
    /// How many of them are ready.
    pub active: u32,
    /// Requests that workers reported, ever.
    pub requests: u64,
    /// Errors that workers reported, ever.
    pub errors: u64,
    /// Connections that were handed over and accepted, ever.
    pub handed_over: u64,
}

impl AppReport {
    /// Errors per request, in percent; 0 when there were neither.
    pub fn error_rate(&self) -> f64 {
        match (self.errors, self.requests) {
            (0, _) => 0.0,
            (errors, requests) => 100.0 * errors as f64 / requests.max(errors) as f64,
        }
    }
}

/// One worker's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// `cluster.worker.id`.
    pub worker: u64,
    /// Its slot.
    pub slot: Slot,
    /// Its process.
    pub pid: u32,
    /// The word for it.
    pub status: Status,
    /// Requests, if the worker reports them.
    pub requests: Option<u64>,
    /// Errors, if the worker reports them.
    pub errors: Option<u64>,
    /// Open connections, if the worker reports them.
    pub connections: Option<u64>,
    /// Connections handed over to it and accepted.
    pub handed_over: u64,
    /// How long its process has lived.
    pub uptime: Span,
    /// Resident memory in bytes.
    pub memory: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_rate_is_a_number_whatever_was_reported() {
        let mut app = AppReport {
            app: AppId(0),
            name: "web".into(),
            workers: Vec::new(),
            active: 0,
            requests: 0,
            errors: 0,
            handed_over: 0,
        };
        assert_eq!(format!("{:.2}", app.error_rate()), "0.00");
        app.errors = 3;
        assert_eq!(format!("{:.2}", app.error_rate()), "100.00");
        app.requests = 400;
        assert_eq!(format!("{:.2}", app.error_rate()), "0.75");
    }
}
