//! What is shown of apps and workers: the core's status, the engine's figures and samples of CPU time, joined.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use oxherd::api::{AppView, Herd, SlotView, StandbyView, WorkerView};
use oxherd_core::{AppId, AppStatus, InstanceId, InstanceStatus};
use oxherd_engine::{AppReport, Survey, WorkerReport};
use oxherd_os::proc;

use super::driver::LogFiles;

/// Samples closer than this say too little.
const SAMPLE_MIN: Duration = Duration::from_secs(1);
/// Samples farther apart than this say too little about now.
const SAMPLE_MAX: Duration = Duration::from_secs(60);

/// The CPU time of workers when somebody last asked.
#[derive(Debug, Default)]
pub(super) struct Samples {
    samples: BTreeMap<InstanceId, Sample>,
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

    fn keep_only(&mut self, survey: &Survey) {
        let workers = survey.status.apps.iter().flat_map(AppStatus::everyone);
        let living: BTreeSet<_> = workers.map(|worker| worker.place.instance).collect();
        self.samples.retain(|instance, _| living.contains(instance));
    }
}

/// All apps.
pub(super) fn herd(
    survey: &Survey,
    logs: &dyn LogFiles,
    samples: &mut Samples,
    uptime: Duration,
    troubles: Vec<String>,
) -> Herd {
    samples.keep_only(survey);
    let apps = survey.status.apps.iter().filter_map(|status| app(survey, status.app, logs, samples));
    Herd {
        apps: apps.collect(),
        daemon_memory: survey.report.primary_memory,
        uptime_ms: uptime.as_millis() as u64,
        troubles,
    }
}

/// One app, if there is such a one.
pub(super) fn app(survey: &Survey, id: AppId, logs: &dyn LogFiles, samples: &mut Samples) -> Option<AppView> {
    let status = survey.status.apps.iter().find(|app| app.app == id)?;
    let report = survey.report.apps.iter().find(|app| app.app == id);
    let spec = survey.specs.get(&id)?;
    let (out_file, error_file) = logs.paths(&status.name);
    let total = |figure: fn(&AppReport) -> u64| report.map_or(0, figure);
    Some(AppView {
        app: id,
        name: status.name.clone(),
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
        out_file: out_file.display().to_string(),
        error_file: error_file.display().to_string(),
        dropped_lines: logs.dropped_lines(&status.name),
        requests: total(|report| report.requests),
        errors: total(|report| report.errors),
        handed_over: total(|report| report.handed_over),
        slots: slots(status, report, samples),
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

fn slots(status: &AppStatus, report: Option<&AppReport>, samples: &mut Samples) -> Vec<SlotView> {
    let figures = figures_of(report);
    let view = |slot: &oxherd_core::SlotStatus| SlotView {
        slot: slot.slot,
        status: slot.status,
        restarts: slot.restarts,
        workers: slot.instances.iter().map(|it| worker(it, &figures, samples)).collect(),
    };
    status.slots.iter().map(view).collect()
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
