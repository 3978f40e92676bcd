//! What tests of several modules show. Never part of the command.

use oxherd::api::{AppView, Herd, NewsItem, SlotView, StandbyView, WorkerView};
use oxherd_engine::core::{
    AppId, ChangeId, Distribution, Generation, InstanceId, Notice, Place, Ports, ReloadStatus, Slot, Sockets,
    Status, Strategy,
};

use super::form::{Form, Screen};

pub(crate) fn screen(width: usize) -> Form {
    Form::Terminal(Screen { width, height: 24, colour: false })
}

pub(crate) fn place(app: u32, slot: u32, generation: u32, number: u32) -> Place {
    let instance = InstanceId { starts: 0, number };
    Place { app: AppId(app), slot: Slot(slot), generation: Generation(generation), instance }
}

pub(crate) fn news(notice: Notice, pid: Option<u32>) -> NewsItem {
    NewsItem { notice, pid, name: None, at_ms: 0 }
}

pub(crate) fn worker(number: u32, status: Status) -> WorkerView {
    WorkerView {
        instance: InstanceId { starts: 0, number },
        worker: number.into(),
        generation: Generation(1),
        pid: Some(4710 + number),
        status,
        started_at_ms: 1_790_000_000_000,
        uptime_ms: 273_600_000 / u64::from(number),
        addresses: vec!["tcp 0.0.0.0:3000".into()],
        cpu_percent: Some(f64::from(number) * 1.25),
        memory: Some(u64::from(number) * 20_000_000),
        requests: Some(1000),
        errors: Some(2),
        connections: Some(3),
        handed_over: 998,
    }
}

pub(crate) fn slot(number: u32, status: Status, workers: Vec<WorkerView>) -> SlotView {
    let file = |name: &str| format!("/home/me/.oxherd/logs/{name}.log");
    SlotView {
        slot: Slot(number),
        number: Some(number),
        status,
        restarts: number,
        renewals: number,
        unstable: 0,
        last_exit: None,
        last_exit_at_ms: None,
        created_at_ms: Some(1_790_000_000_000),
        out_file: file("web-out"),
        error_file: file("web-error"),
        both_file: None,
        pid_file: None,
        workers,
    }
}

pub(crate) fn app(id: u32, name: &str, slots: Vec<SlotView>) -> AppView {
    AppView {
        app: AppId(id),
        name: name.into(),
        namespace: "default".into(),
        about: oxherd_engine::core::About::default(),
        distribution: Distribution::Handoff,
        strategy: Strategy::Weighted,
        weights: vec![3, 1],
        sockets: Sockets::Channel,
        ports: Ports::default(),
        listen: Vec::new(),
        standby: 0,
        generation: Generation(1),
        instances: slots.len() as u32,
        up: slots.iter().any(|slot| slot.status != Status::Stopped),
        reload: None,
        command: vec!["/usr/bin/node".into(), "/srv/my app/server.js".into(), "--port".into(), "3000".into()],
        cwd: "/srv/my app".into(),
        watches: false,
        cron_at_ms: None,
        both_file: None,
        out_file: format!("/home/ox/.oxherd/logs/{name}-out.log"),
        error_file: format!("/home/ox/.oxherd/logs/{name}-error.log"),
        dropped_lines: 0,
        requests: 1_247_911,
        errors: 312,
        handed_over: 3600,
        slots,
        standbys: Vec::new(),
    }
}

/// One worker of a slot.
pub(crate) fn online(number: u32) -> SlotView {
    slot(number, Status::Online, vec![worker(number + 1, Status::Online)])
}

/// An app in the middle of a reload.
pub(crate) fn reloading() -> AppView {
    let mut successor = worker(9, Status::Starting);
    successor.generation = Generation(2);
    let (mut fresh, leaving) = (worker(8, Status::Online), worker(1, Status::Stopping));
    fresh.generation = Generation(2);
    let slots = vec![
        slot(0, Status::Online, vec![fresh, leaving]),
        slot(1, Status::Online, vec![worker(2, Status::Online), successor]),
        online(2),
    ];
    let mut app = app(0, "web", slots);
    app.reload = Some(ReloadStatus { change: ChangeId(3), generation: Generation(2), replaced: 1 });
    app
}

/// A program that is lent its sockets, with one standby that waits and one that boots.
pub(crate) fn with_standbys() -> AppView {
    let mut app = app(5, "shop", vec![online(0), online(1)]);
    (app.sockets, app.distribution, app.standby) = (Sockets::Universal, Distribution::Kernel, 2);
    app.ports = "80,8000-8999".parse().expect("these are ports");
    let standby =
        |number: u32, status| StandbyView { slot: Slot(number), worker: worker(number + 5, status) };
    app.standbys = vec![standby(2, Status::Standby), standby(3, Status::Starting)];
    app
}

/// A bit of everything.
pub(crate) fn herd() -> Herd {
    let mut silent = worker(4, Status::Starting);
    (silent.cpu_percent, silent.memory, silent.pid) = (None, None, None);
    let mut queue =
        app(2, "a-queue-with-a-rather-long-name-日本", vec![slot(0, Status::Starting, vec![silent])]);
    queue.sockets = Sockets::None;
    let api = app(1, "api", vec![slot(0, Status::WaitingRestart, vec![]), slot(1, Status::Errored, vec![])]);
    let mut parked = app(4, "parked", Vec::new());
    parked.distribution = Distribution::Kernel;
    let apps = vec![reloading(), api, queue, app(3, "cron", vec![slot(0, Status::Stopped, vec![])]), parked];
    Herd { apps, daemon_memory: 5_452_595, uptime_ms: 95_300, troubles: Vec::new() }
}
