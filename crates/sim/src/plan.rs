//! What a fake process will do in its life, drawn when it is ordered. Plans are data; `os` lives them.

use oxherd_core::{AppSpec, Exit, Signal, Sockets};

use crate::Rng;

/// How the processes of an app show that they are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// By listening, or by the `ready` message where it is asked for.
    Speaks,
    /// Not at all: it counts by age.
    Silent,
}

impl Program {
    /// The name of an app tells.
    pub fn of(spec: &AppSpec) -> Self {
        if spec.name.starts_with("silent") { Self::Silent } else { Self::Speaks }
    }
}

/// A life as it is meant to be lived. Times are milliseconds after birth, or after the order they answer.
#[derive(Clone, Debug)]
pub struct Plan {
    /// It cannot be started; whether that lasts.
    pub fails: Option<bool>,
    /// It cannot be held, whatever it was ordered.
    pub cannot_park: bool,
    /// From the order to the birth.
    pub born_after: u64,
    /// How late news from the host come.
    pub host_lag: u64,
    /// How late news from the channel come.
    pub channel_lag: u64,
    /// First word on the channel.
    pub online_after: u64,
    /// Listens before it says that it is ready, if it is one that says so.
    pub listens_after: Option<u64>,
    /// Becomes ready, if ever.
    pub ready_after: Option<u64>,
    /// Ends by itself.
    pub ends: Option<(u64, Exit)>,
    /// Announces that it leaves, then leaves.
    pub departs_after: Option<u64>,
    /// Closes its channel and goes on.
    pub closes_after: Option<u64>,
    /// Stops reading its channel, for how long.
    pub stalls: Option<(u64, u64)>,
    /// Breaks the protocol.
    pub misbehaves_after: Option<u64>,
    /// Reports an error each time.
    pub errors: Vec<u64>,
    /// Answers no more when it is asked whether it is well.
    pub hangs_after: Option<u64>,
    /// Uses more memory than any limit.
    pub grows_after: Option<u64>,
    /// From a probe's begin to its answer, if ever.
    pub well_after: Option<u64>,
    /// Leaves after `Disconnect`, if ever.
    pub leaves_after: Option<u64>,
    /// Ends after the polite signal, if ever.
    pub obeys_after: Option<u64>,
    /// Ends after a kill.
    pub dies_after: u64,
    /// Its last connection is answered after a `Withdraw`, if ever.
    pub answers_after: Option<u64>,
}

impl Plan {
    /// A process without faults.
    pub fn healthy(rng: &mut Rng, spec: &AppSpec) -> Self {
        let is_seen = matches!(spec.sockets, Sockets::Channel | Sockets::Universal);
        let speaks = is_seen && Program::of(spec) == Program::Speaks;
        let online_after = 1 + rng.below(40);
        let listens_after = online_after + rng.below(100);
        Self {
            fails: None,
            cannot_park: false,
            born_after: rng.below(10),
            host_lag: 0,
            channel_lag: 0,
            online_after,
            listens_after: (speaks && spec.wait_ready && (rng.chance(80) || spec.standby > 0))
                .then_some(listens_after),
            ready_after: speaks.then(|| listens_after + rng.below(100)),
            ends: None,
            departs_after: None,
            closes_after: None,
            stalls: None,
            misbehaves_after: None,
            errors: Vec::new(),
            hangs_after: rng.chance(10).then(|| rng.below(2000)),
            grows_after: rng.chance(20).then(|| rng.below(4000)),
            well_after: Some(rng.below(100)),
            leaves_after: Some(rng.below(50)),
            obeys_after: Some(rng.below(50)),
            dies_after: rng.below(20),
            answers_after: Some(rng.below(100)),
        }
    }

    /// A process of a time in which nothing fails.
    pub fn calm(rng: &mut Rng, spec: &AppSpec) -> Self {
        Self { hangs_after: None, grows_after: None, ..Self::healthy(rng, spec) }
    }

    /// A process that may have any fault.
    pub fn faulty(rng: &mut Rng, spec: &AppSpec) -> Self {
        let mut plan = Self::healthy(rng, spec);
        plan.host_lag = if rng.chance(20) { rng.below(60) } else { 0 };
        plan.channel_lag = if rng.chance(20) { rng.below(60) } else { 0 };
        let at = |rng: &mut Rng| {
            let end = rng.pick(&[5, 50, 300, 3000, 20_000]);
            1 + rng.below(end)
        };
        plan.cannot_park = rng.chance(10);
        if rng.chance(6) {
            plan.fails = Some(rng.chance(20));
        }
        if rng.chance(25) {
            let exit = rng.pick(&[Exit::Code(0), Exit::Code(1), Exit::Signal(Signal(11)), Exit::Unknown]);
            plan.ends = Some((at(rng), exit));
        }
        if rng.chance(10) {
            plan.ready_after = None;
        }
        if rng.chance(8) {
            plan.well_after = None;
        }
        plan.departs_after = rng.chance(5).then(|| at(rng));
        plan.closes_after = rng.chance(5).then(|| at(rng));
        plan.stalls = rng.chance(8).then(|| (at(rng), at(rng)));
        plan.misbehaves_after = rng.chance(3).then(|| at(rng));
        if rng.chance(10) {
            plan.errors = (0..=rng.below(4)).map(|_| at(rng)).collect();
        }
        plan.answers_after = rng.pick(&[None, Some(0), Some(0), Some(100), Some(100), Some(1500)]);
        plan.leaves_after = rng.pick(&[None, Some(0), Some(20), Some(20), Some(1000)]);
        plan.obeys_after = rng.pick(&[None, Some(0), Some(20), Some(20), Some(1500)]);
        if rng.chance(4) {
            plan.dies_after = 5000;
        }
        plan
    }
}
