//! Random wishes and configurations. They are drawn, never judged.

use oxherd_core::{
    AppId, AppSpec, Distribution, InstanceId, Probe, RecycleReason, Request, RestartWhen, Scaling, Slot,
    Sockets, Span,
};

use crate::looks::LARGE;
use crate::{Mode, Rng};

/// A configuration with small spans, so that much happens in little time.
pub fn spec(rng: &mut Rng, mode: Mode, name: String) -> AppSpec {
    let millis = |rng: &mut Rng, end| Span::from_millis(rng.below(end));
    let mut spec = AppSpec::new(name, "program");
    spec.instances = 1 + rng.below(4) as u32;
    spec.parallel = 1 + rng.below(3) as u32;
    spec.min_uptime = Span::from_millis(rng.pick(&[0, 50, 500, 1000]));
    spec.drain_timeout = millis(rng, 2000);
    spec.kill_timeout = millis(rng, 1000);
    if rng.chance(15) {
        (spec.drain_timeout, spec.kill_timeout) = (Span::ZERO, Span::ZERO);
    }
    if spec.name.starts_with("lent") {
        (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
    } else if rng.chance(15) {
        spec.sockets = Sockets::None;
    } else if !spec.name.starts_with("silent") {
        spec.wait_ready = rng.chance(25);
    }
    if spec.can_park() && !spec.name.starts_with("silent") {
        spec.standby = rng.pick(&[0, 0, 1, 1, 2]);
    }
    spec.shutdown_with_message = rng.chance(30);
    add_rules(rng, mode, &mut spec);
    if !mode.faults() {
        return spec;
    }
    spec.restart =
        rng.pick(&[RestartWhen::Always, RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never]);
    spec.restart_delay = rng.chance(30).then(|| millis(rng, 2000));
    spec.max_restarts = 1 + rng.below(6) as u32;
    spec.restart_window = millis(rng, 30_000);
    spec.max_errors = rng.chance(25).then(|| 1 + rng.below(4) as u32);
    spec.error_window = millis(rng, 10_000);
    spec.listen_timeout = millis(rng, 3000);
    spec
}

/// By what its workers are counted, found ready, and replaced.
fn add_rules(rng: &mut Rng, mode: Mode, spec: &mut AppSpec) {
    if rng.chance(25) {
        let min = 1 + rng.below(3) as u32;
        spec.scaling = Some(Scaling { min, max: min + rng.below(3) as u32 });
    }
    let second = Span::from_secs(1);
    let probe = Probe { url: "tcp://localhost:1".into(), interval: second, timeout: second };
    spec.ready_probe = rng.chance(15).then_some(probe);
    spec.max_memory_restart = rng.chance(15).then_some(LARGE - 1);
    // So small a bound is the same for every worker.
    spec.max_requests = (rng.chance(15) && spec.sockets == Sockets::Channel).then_some(4);
    // Paired worlds have the same workers by different ids, and with them other bounds.
    spec.max_lifetime =
        (rng.chance(10) && mode != Mode::Paired).then(|| Span::from_millis(20_000 + rng.below(40_000)));
}

/// A wish about one of `apps`, or for a new one.
pub fn draw(rng: &mut Rng, mode: Mode, apps: &[(AppId, String)], count: u64) -> Request {
    if apps.is_empty() || apps.len() < 3 && rng.chance(20) {
        let kind = rng.pick(&["speaks", "speaks", "lent", "lent", "silent"]);
        return Request::Start { spec: Box::new(spec(rng, mode, format!("{kind}-{count}"))) };
    }
    let (app, name) = apps[rng.below(apps.len() as u64) as usize].clone();
    let app = if rng.chance(2) { AppId(99) } else { app };
    match rng.below(100) {
        0..15 => {
            let slot = Slot(rng.below(5) as u32);
            let why = rng.pick(&[RecycleReason::Asked, RecycleReason::Memory, RecycleReason::Lifetime]);
            Request::Recycle { app, slot, why }
        }
        15..40 => {
            let spec = rng.chance(40).then(|| Box::new(spec(rng, mode, name)));
            Request::Reload { app, spec }
        }
        40..45 => Request::Fork { app, slot: Slot(rng.below(6) as u32), env: Vec::new() },
        // Paired worlds have the same workers by different ids.
        45..50 if mode != Mode::Paired => {
            Request::Retire { instance: InstanceId { starts: 0, number: 1 + rng.below(60) as u32 } }
        }
        45..60 => Request::Scale { app, instances: 1 + rng.below(5) as u32 },
        60..80 => {
            let spec = rng.chance(30).then(|| Box::new(spec(rng, mode, name)));
            Request::Restart { app, spec }
        }
        80..93 => Request::Stop { app },
        _ => Request::Delete { app },
    }
}
