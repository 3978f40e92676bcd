//! What workers report of themselves, kept beyond their death, and the status report made of it.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_core::{AppId, AppStatus, InstanceId, InstanceStatus, Moment, Status};
use oxherd_os::proc;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::counters::Counters;
use crate::host::Entry;
use crate::{AppReport, Report, WorkerReport};

/// The entry of the totals among what is kept.
const TOTALS: &str = "totals";

/// The sums over workers that are no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    requests: u64,
    errors: u64,
    handed_over: u64,
}

/// The totals of all apps, and whose ends they count of those that are not forgotten yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AllTotals {
    apps: BTreeMap<AppId, Totals>,
    counted: BTreeSet<InstanceId>,
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
        self.requests = self.requests.saturating_add(counters.all_requests().unwrap_or(0));
        self.errors = self.errors.saturating_add(counters.all_errors().unwrap_or(0));
        self.handed_over += counters.handed_over();
    }
}

impl Control<'_> {
    /// A worker has ended: what it did stays in the app's totals.
    pub(super) fn keep_totals(&mut self, instance: InstanceId) {
        if let Some(child) = self.children.get_mut(instance) {
            let counters = std::mem::take(&mut child.counters);
            self.totals.apps.entry(child.place.app).or_default().add(&counters);
            self.totals.counted.insert(instance);
            let living: BTreeSet<InstanceId> = self.children.iter().map(|it| it.place.instance).collect();
            self.totals.counted.retain(|it| living.contains(it));
            if let Ok(bytes) = serde_json::to_vec(&self.totals) {
                self.host.keep_note(TOTALS, &bytes);
            }
        }
    }

    /// Whether what a worker did is in the totals.
    pub(super) fn is_counted(&self, instance: InstanceId) -> bool {
        self.totals.counted.contains(&instance)
    }

    /// Takes the totals over that another primary kept.
    pub(super) fn inherit_totals(&mut self, entries: &mut Vec<Entry>) {
        if let Some(at) = entries.iter().position(|entry| entry.name == TOTALS) {
            self.totals = serde_json::from_slice(&entries.swap_remove(at).meta).unwrap_or_default();
        }
    }

    pub(super) fn report(&mut self, now: Moment) {
        let report = self.make_report(now);
        self.observer.report(&report);
    }

    pub(super) fn make_report(&self, now: Moment) -> Report {
        let status = self.fleet.status(now);
        Report {
            run_time: now.since(self.started),
            primary_memory: proc::resident_of(std::process::id()).unwrap_or(0),
            apps: status.apps.iter().map(|app| self.report_app(app)).collect(),
        }
    }

    fn report_app(&self, app: &AppStatus) -> AppReport {
        let mut totals = self.totals.apps.get(&app.app).copied().unwrap_or_default();
        let mut workers = Vec::new();
        for instance in app.everyone() {
            let Some(child) = self.children.get(instance.place.instance) else { continue };
            totals.add(&child.counters);
            workers.push(report_worker(instance, child));
        }
        AppReport {
            app: app.app,
            name: app.name.clone(),
            active: workers.iter().filter(|worker| worker.status == Status::Online).count() as u32,
            workers,
            requests: totals.requests,
            errors: totals.errors,
            handed_over: totals.handed_over,
        }
    }
}

fn report_worker(instance: &InstanceStatus, child: &super::children::ChildState) -> WorkerReport {
    let (pid, counters) = (child.process.pid, &child.counters);
    WorkerReport {
        worker: instance.place.instance.worker_id(),
        slot: instance.place.slot,
        pid,
        status: instance.status,
        requests: counters.all_requests(),
        errors: counters.all_errors(),
        connections: counters.open_connections(),
        handed_over: counters.handed_over(),
        uptime: instance.uptime,
        memory: counters.memory().get().or_else(|| proc::resident_of(pid).ok()),
    }
}
