//! What is shown of apps and workers: the core's status, the engine's figures and samples of CPU time, joined.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use oxherd::api::{AppView, Herd, SlotView, StandbyView, WorkerView};
use oxherd_core::{AppId, AppSpec, AppStatus, InstanceId, InstanceStatus, Slot, SlotStatus, Status};
use oxherd_engine::{AppReport, Survey, WorkerReport};
use oxherd_os::{clock, proc};

use super::driver::{Driver, LogFiles, LogPaths};
use crate::pidfiles::pid_file;

/// Samples closer than this say too little.
const SAMPLE_MIN: Duration = Duration::from_secs(1);
/// Samples farther apart than this say too little about now.
const SAMPLE_MAX: Duration = Duration::from_secs(60);

/// What is looked at besides the primary.
pub(super) struct Sights<'a> {
    pub(super) logs: &'a dyn LogFiles,
    pub(super) driver: &'a dyn Driver,
}

/// The CPU time of workers when somebody last asked, and when they were started by the clock on the wall: found out
/// once, so that it stays the same.
#[derive(Debug, Default)]
pub(super) struct Samples {
    samples: BTreeMap<InstanceId, Sample>,
    starts: BTreeMap<InstanceId, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    cpu_ms: u64,
    percent: f64,
}

impl Samples {
    /// The percentage of one CPU that a worker uses, given what it has used so far.
    fn percent(&mut self, instance: InstanceId, cpu_ms: u64, uptime: Duration, now: Instant) -> f64 {
        let share = |cpu_ms: u64, time: Duration| match time.as_millis() {
            0 => 0.0,
            millis => (1000.0 * cpu_ms as f64 / millis as f64).round() / 10.0,
        };
        let last = self.samples.get(&instance);
        let percent = match last.map(|last| (last, now.saturating_duration_since(last.at))) {
            Some((last, age)) if age < SAMPLE_MIN => return last.percent,
            Some((last, age)) if age <= SAMPLE_MAX => share(cpu_ms.saturating_sub(last.cpu_ms), age),
            Some(_) | None => share(cpu_ms, uptime),
        };
        self.samples.insert(instance, Sample { at: now, cpu_ms, percent });
        percent
    }

    fn started_at(&mut self, instance: InstanceId, uptime: Duration) -> u64 {
        let found = || clock::wall_millis().saturating_sub(uptime.as_millis() as u64);
        *self.starts.entry(instance).or_insert_with(found)
    }

    fn keep_only(&mut self, survey: &Survey) {
        let workers = survey.status.apps.iter().flat_map(AppStatus::everyone);
        let living: BTreeSet<_> = workers.map(|worker| worker.place.instance).collect();
        self.samples.retain(|instance, _| living.contains(instance));
        self.starts.retain(|instance, _| living.contains(instance));
    }
}

/// All apps.
pub(super) fn herd(survey: &Survey, sights: &Sights<'_>, samples: &mut Samples, uptime: Duration) -> Herd {
    samples.keep_only(survey);
    let apps = survey.status.apps.iter().filter_map(|status| app(survey, status.app, sights, samples));
    Herd {
        apps: apps.collect(),
        daemon_memory: survey.report.primary_memory,
        uptime_ms: uptime.as_millis() as u64,
        troubles: sights.driver.troubles().into_iter().chain(sights.logs.troubles()).collect(),
    }
}

/// One app, if there is such a one.
pub(super) fn app(survey: &Survey, id: AppId, sights: &Sights<'_>, samples: &mut Samples) -> Option<AppView> {
    let status = survey.status.apps.iter().find(|app| app.app == id)?;
    let report = survey.report.apps.iter().find(|app| app.app == id);
    let spec = survey.specs.get(&id)?;
    let upkeep = &spec.upkeep;
    let LogPaths { out, err, both } = sights.logs.paths(id, &status.name, None);
    let total = |figure: fn(&AppReport) -> u64| report.map_or(0, figure);
    Some(AppView {
        app: id,
        name: status.name.clone(),
        namespace: upkeep.namespace().to_owned(),
        about: upkeep.about.clone(),
        distribution: spec.distribution,
        strategy: spec.strategy,
        weights: spec.weights.clone(),
        sockets: spec.sockets,
        ports: spec.ports.clone(),
        listen: spec.listen.clone(),
        standby: spec.standby,
        generation: status.generation,
        instances: status.instances,
        up: status.up,
        reload: status.reload.clone(),
        command: [&spec.program].into_iter().chain(&spec.args).cloned().collect(),
        cwd: spec.cwd.clone(),
        watches: upkeep.watch.is_some(),
        cron_at_ms: sights.driver.cron_at(id),
        out_file: out.display().to_string(),
        error_file: err.display().to_string(),
        both_file: both.map(|it| it.display().to_string()),
        dropped_lines: sights.logs.dropped_lines(id, &status.name),
        requests: total(|report| report.requests),
        errors: total(|report| report.errors),
        handed_over: total(|report| report.handed_over),
        slots: slots(status, spec, report, sights, samples),
        standbys: standbys(status, report, samples),
    })
}

fn figures_of(report: Option<&AppReport>) -> BTreeMap<u64, &WorkerReport> {
    report.iter().flat_map(|report| &report.workers).map(|worker| (worker.worker, worker)).collect()
}

fn standbys(status: &AppStatus, report: Option<&AppReport>, samples: &mut Samples) -> Vec<StandbyView> {
    let figures = figures_of(report);
    let view =
        |it: &InstanceStatus| StandbyView { slot: it.place.slot, worker: worker(it, &figures, samples) };
    status.standbys.iter().map(view).collect()
}

fn slots(
    status: &AppStatus,
    spec: &AppSpec,
    report: Option<&AppReport>,
    sights: &Sights<'_>,
    samples: &mut Samples,
) -> Vec<SlotView> {
    let figures = figures_of(report);
    let view = |slot: &SlotStatus| {
        let record = sights.driver.slot(status.app, slot.slot);
        let LogPaths { out, err, both } = sights.logs.paths(status.app, &status.name, Some(slot.slot));
        let known = record.clone().unwrap_or_default();
        SlotView {
            slot: slot.slot,
            number: record.as_ref().map(|it| it.number),
            status: slot.status,
            restarts: slot.restarts.saturating_sub(known.restarts_before),
            renewals: known.renewals,
            unstable: known.unstable,
            last_exit: known.last_exit.map(|(exit, _)| exit),
            last_exit_at_ms: known.last_exit.map(|(_, at)| at),
            created_at_ms: record.map(|it| it.created_at_ms),
            out_file: out.display().to_string(),
            error_file: err.display().to_string(),
            both_file: both.map(|it| it.display().to_string()),
            pid_file: pid_file(spec, slot.slot).map(|it| it.display().to_string()),
            workers: slot.instances.iter().map(|it| worker(it, &figures, samples)).collect(),
        }
    };
    let empty = |slot| SlotStatus { slot, status: Status::Stopped, restarts: 0, instances: Vec::new() };
    // The core keeps no slots of an app that is stopped; people still count them.
    let known = |slot: &Slot| status.slots.iter().any(|it| it.slot == *slot);
    let missing = (0..if status.up { 0 } else { status.instances }).map(Slot).filter(|slot| !known(slot));
    let missing: Vec<SlotStatus> = missing.map(empty).collect();
    status.slots.iter().chain(&missing).map(view).collect()
}

fn worker(
    status: &InstanceStatus,
    figures: &BTreeMap<u64, &WorkerReport>,
    samples: &mut Samples,
) -> WorkerView {
    let instance = status.place.instance;
    let figures = figures.get(&instance.worker_id());
    let uptime = Duration::from_millis(status.uptime.as_millis());
    let cpu_ms = figures.and_then(|figures| proc::cpu_millis_of(figures.pid).ok());
    WorkerView {
        instance,
        worker: instance.worker_id(),
        generation: status.place.generation,
        pid: figures.map(|figures| figures.pid),
        status: status.status,
        uptime_ms: status.uptime.as_millis(),
        started_at_ms: samples.started_at(instance, uptime),
        addresses: status.addresses.clone(),
        cpu_percent: cpu_ms.map(|cpu_ms| samples.percent(instance, cpu_ms, uptime, Instant::now())),
        memory: figures.and_then(|figures| figures.memory),
        requests: figures.and_then(|figures| figures.requests),
        errors: figures.and_then(|figures| figures.errors),
        connections: figures.and_then(|figures| figures.connections),
        handed_over: figures.map_or(0, |figures| figures.handed_over),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_since_somebody_last_asked_or_over_the_whole_life() {
        let mut samples = Samples::default();
        let one = InstanceId { starts: 0, number: 1 };
        let start = Instant::now();
        let secs = Duration::from_secs;
        assert!((samples.percent(one, 500, secs(10), start) - 5.0).abs() < 1e-9, "over its life");
        let soon = start + Duration::from_millis(200);
        assert!((samples.percent(one, 700, secs(10), soon) - 5.0).abs() < 1e-9, "too soon to tell");
        assert!(
            (samples.percent(one, 2500, secs(12), start + secs(2)) - 100.0).abs() < 1e-9,
            "since the first"
        );
        assert!(
            (samples.percent(one, 2600, secs(200), start + secs(100)) - 1.3).abs() < 1e-9,
            "too long ago"
        );
        assert!(samples.percent(one, 2600, secs(0), start + secs(300)).abs() < 1e-9, "no time at all");
    }
}
