//! `AppSpec`: an app's checked configuration. What is in one is valid; reading files is not done here.

mod adjust;
mod error;
mod parts;
mod rules;
mod texts;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::upkeep::is_default;
use crate::{Limits, Ports, Signal, Slot, Span, Strategy, Terms, Upkeep};

pub use error::SpecError;
pub use parts::{ListenAt, Owner, Probe, Scaling};
pub use rules::ProbeAt;

/// When an ended worker is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// After every unwanted exit.
    #[default]
    Always,
    /// After every unwanted exit but exit code 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// How connections reach workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// The primary accepts and passes each connection to the worker it chooses.
    #[default]
    Handoff,
    /// Each slot has its own listeners in a `SO_REUSEPORT` group that the primary keeps.
    Kernel,
    /// One listener lent to all workers.
    Shared,
}

/// How a worker comes by its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sockets {
    /// Over the channel, by Node's cluster protocol.
    #[default]
    Channel,
    /// It binds as ever, and is lent the slot's listener in place of its own.
    Universal,
    /// It is started with the app's listeners (`LISTEN_FDS`).
    ListenFds,
    /// The program binds what it needs by itself; the primary only supervises.
    None,
}

/// How the messages of a worker with a channel are written: Node's option of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serialization {
    /// As JSON.
    #[default]
    Json,
    /// As V8's structured clone, which keeps `Map`, `Set`, `Date`, `BigInt`, `Buffer`, `Error` and the like.
    Advanced,
}

impl Serialization {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Advanced => "advanced",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An app's checked configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// What people call it.
    pub name: String,
    /// The program to execute, found by `PATH` when it has no slash.
    pub program: String,
    /// Its arguments, without the program itself.
    pub args: Vec<String>,
    /// The folder it starts in.
    pub cwd: String,
    /// Its whole environment, apart from the few variables that the primary adds.
    pub env: Vec<(String, String)>,
    /// How many slots are kept filled; at least 1.
    pub instances: u32,
    /// How connections reach the workers.
    pub distribution: Distribution,
    /// Which worker gets the next connection.
    pub strategy: Strategy,
    /// Each slot's share under [`Strategy::Weighted`]; a slot beyond the list has 1. Empty with any other strategy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
    /// How workers come by their sockets.
    pub sockets: Sockets,
    /// How the messages of workers with a channel are written.
    #[serde(default, skip_serializing_if = "Serialization::is_default")]
    pub serialization: Serialization,
    /// When an ended worker is started again.
    pub restart: RestartWhen,
    /// A fixed pause before each respawn, in place of the back-off.
    pub restart_delay: Option<Span>,
    /// The span in which unstable exits are counted.
    pub restart_window: Span,
    /// A slot gives up at this many unstable exits within the window.
    pub max_restarts: u32,
    /// A slot gives up at this many reported errors and failures within `error_window`.
    pub max_errors: Option<u32>,
    /// The span in which errors are counted.
    pub error_window: Span,
    /// An exit before this age is unstable; a program that never listens is ready at this age.
    pub min_uptime: Span,
    /// Ready is when the worker says so, not when it listens.
    pub wait_ready: bool,
    /// How long a successor may take to become ready.
    pub listen_timeout: Span,
    /// How long a worker may take to finish what is in hand.
    pub drain_timeout: Span,
    /// How long a worker may live after the stop signal.
    pub kill_timeout: Span,
    /// The polite signal.
    pub stop_signal: Signal,
    /// Tell a channel worker to stop with the plain string `"shutdown"` in place of `{"type":"shutdown"}`.
    pub shutdown_with_message: bool,
    /// How many slots a reload replaces at a time; at least 1.
    pub parallel: u32,
    /// How many handed-over connections a worker may leave unanswered.
    pub handoff_window: u32,
    /// The longest message a worker may send, in bytes.
    pub max_message: usize,
    /// A worker that holds more memory than so many bytes is told of; nothing is done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_warning: Option<u64>,
    /// The ports at which a worker is lent listeners; others are its own affair. Under [`Sockets::Universal`].
    #[serde(default, skip_serializing_if = "Ports::is_all")]
    pub ports: Ports,
    /// How many booted workers are kept parked, ready to take a slot.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub standby: u32,
    /// The listeners that workers are started with, under [`Sockets::ListenFds`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<ListenAt>,
    /// Exit codes that end a slot as if it were not to be restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_exit_codes: Vec<i32>,
    /// A pause before each respawn that grows by half each time, up to 15 s, in place of the back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp_backoff_restart_delay: Option<Span>,
    /// A worker whose process tree holds more memory than so many bytes is replaced, successor first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_restart: Option<u64>,
    /// A worker that has served about so many requests is replaced, successor first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// A worker that has lived for about so long is replaced, successor first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// The bounds between which the number of slots follows the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What must answer before a worker counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_probe: Option<Probe>,
    /// How often a worker with a channel is asked whether it is well; one that is silent for three times as long is
    /// hung, and replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_interval: Option<Span>,
    /// Whom the workers run as, in place of the primary's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The variable that has the slot's number, in place of `NODE_APP_INSTANCE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_var: Option<String>,
    /// A variable whose number is the slot's number more than what the app's environment has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment_var: Option<String>,
    /// Whether it runs from the beginning; if not, a start by name starts it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub autostart: bool,
    /// What others do for the app.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upkeep: Upkeep,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn yes() -> bool {
    true
}

fn is_true(flag: &bool) -> bool {
    *flag
}

impl AppSpec {
    /// The largest weight of a slot.
    pub const WEIGHT_MAX: u32 = 1_000_000;
    /// The most slots under [`Strategy::Sticky`]: each takes its part of a program of limited length.
    pub const STICKY_INSTANCES_MAX: u32 = 320;

    /// The defaults of DESIGN for a program without arguments, in one slot.
    pub fn new(name: impl Into<String>, program: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            cwd: "/".into(),
            env: Vec::new(),
            instances: 1,
            distribution: Distribution::Handoff,
            strategy: Strategy::LeastBusy,
            weights: Vec::new(),
            sockets: Sockets::Channel,
            serialization: Serialization::Json,
            restart: RestartWhen::Always,
            restart_delay: None,
            restart_window: Span::from_secs(60),
            max_restarts: 16,
            max_errors: None,
            error_window: Span::from_secs(60),
            min_uptime: Span::from_secs(1),
            wait_ready: false,
            listen_timeout: Span::from_secs(30),
            drain_timeout: Span::from_secs(10),
            kill_timeout: Span::from_secs(5),
            stop_signal: Signal::TERM,
            shutdown_with_message: false,
            parallel: 1,
            handoff_window: 2,
            max_message: 64 << 20,
            memory_warning: None,
            ports: Ports::default(),
            standby: 0,
            listen: Vec::new(),
            stop_exit_codes: Vec::new(),
            exp_backoff_restart_delay: None,
            max_memory_restart: None,
            max_requests: None,
            max_lifetime: None,
            scaling: None,
            ready_probe: None,
            health_interval: None,
            owner: None,
            instance_var: None,
            increment_var: None,
            autostart: true,
            upkeep: Upkeep::default(),
        }
    }

    /// Whether a fleet that allows so many slots for an app can run it.
    ///
    /// # Errors
    /// What is not valid.
    pub fn check(&self, limits: Limits) -> Result<(), SpecError> {
        let zero = |value: bool, key| if value { Err(SpecError::Zero { key }) } else { Ok(()) };
        self.check_texts()?;
        self.check_instances(self.instances, limits)?;
        self.check_standby(limits)?;
        zero(self.parallel == 0, "parallel")?;
        zero(self.max_restarts == 0, "max_restarts")?;
        zero(self.max_errors == Some(0), "max_errors")?;
        zero(self.handoff_window == 0, "handoff_window")?;
        zero(self.max_message == 0, "max_message")?;
        zero(self.memory_warning == Some(0), "memory_warning")?;
        zero(self.max_memory_restart == Some(0), "max_memory_restart")?;
        zero(self.max_requests == Some(0), "max_requests")?;
        zero(self.max_lifetime == Some(Span::ZERO), "max_lifetime")?;
        zero(self.health_interval == Some(Span::ZERO), "health_check")?;
        self.check_more_rules(limits)?;
        if self.weights.len() > limits.max_instances as usize {
            return Err(SpecError::TooManyWeights { given: self.weights.len(), limit: limits.max_instances });
        }
        self.check_choices()
    }

    /// Whether what was chosen can be had together.
    ///
    /// # Errors
    /// What would have to be ignored.
    pub fn check_choices(&self) -> Result<(), SpecError> {
        self.check_sockets()?;
        self.check_rules()?;
        self.check_strategy()
    }

    /// Whether there may be so many slots.
    pub(crate) fn check_instances(&self, wanted: u32, limits: Limits) -> Result<(), SpecError> {
        match wanted {
            0 if !limits.may_be_empty => Err(SpecError::NoInstances),
            _ if wanted > limits.max_instances => {
                Err(SpecError::TooManyInstances { wanted, limit: limits.max_instances })
            }
            _ if self.strategy == Strategy::Sticky && wanted > Self::STICKY_INSTANCES_MAX => {
                Err(SpecError::TooManySticky(wanted))
            }
            _ => Ok(()),
        }
    }

    /// Whether the strategy can be had with everything else, and its weights are some.
    fn check_strategy(&self) -> Result<(), SpecError> {
        let strategy = self.strategy;
        if strategy != Strategy::Weighted && !self.weights.is_empty() {
            return Err(SpecError::WeightsUnused(strategy));
        }
        if let Some(weight) = self.weights.iter().find(|weight| **weight > Self::WEIGHT_MAX) {
            return Err(SpecError::WeightTooLarge(*weight));
        }
        if !self.weights.is_empty() && self.weights.iter().all(|weight| *weight == 0) {
            return Err(SpecError::NoWeight);
        }
        match (self.sockets, self.distribution) {
            _ if strategy.is_plain() => Ok(()),
            (Sockets::None, _) => Err(SpecError::NothingToChoose(strategy)),
            (_, Distribution::Kernel) => Ok(()),
            (_, other) if strategy == Strategy::Sticky => Err(SpecError::StickyElsewhere(other)),
            (_, Distribution::Handoff) => Ok(()),
            (Sockets::Channel, Distribution::Shared) => {
                Err(SpecError::NotChosen { strategy, others: "`handoff` or `kernel`" })
            }
            (Sockets::Universal | Sockets::ListenFds, Distribution::Shared) => {
                Err(SpecError::NotChosen { strategy, others: "`kernel`" })
            }
        }
    }

    /// How the worker of this slot is given connections.
    pub fn terms(&self, slot: Slot) -> Terms {
        let weight = self.weights.get(slot.0 as usize).copied().unwrap_or(1);
        Terms { strategy: self.strategy, window: self.handoff_window, weight }
    }

    /// Whether workers bind their own sockets: two that bind the same ports cannot run side by side.
    pub fn binds_alone(&self) -> bool {
        self.sockets == Sockets::None
    }

    pub(crate) fn has_channel(&self) -> bool {
        self.sockets == Sockets::Channel
    }

    /// Whether a worker that is not ready may wait for an answer of a primary, or a primary for a word of it.
    pub(crate) fn may_wait_for_us(&self) -> bool {
        self.has_channel() || self.wait_ready
    }

    /// Whether the primary has a say in which connections workers get.
    pub(crate) fn is_given_connections(&self) -> bool {
        self.has_channel() || self.borrows()
    }

    /// Whether workers accept on listeners that they are lent, and have no channel: they are drained by being left
    /// alone, then told by the signal.
    pub fn borrows(&self) -> bool {
        match self.sockets {
            Sockets::Universal | Sockets::ListenFds => true,
            Sockets::Channel | Sockets::None => false,
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handoff => "handoff",
            Self::Kernel => "kernel",
            Self::Shared => "shared",
        })
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "handoff" => Ok(Self::Handoff),
            "kernel" => Ok(Self::Kernel),
            "shared" => Ok(Self::Shared),
            other => Err(format!("unknown distribution `{other}` (handoff, kernel or shared)")),
        }
    }
}

impl FromStr for Serialization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "advanced" => Ok(Self::Advanced),
            other => Err(format!("unknown serialization `{other}` (json or advanced)")),
        }
    }
}

impl FromStr for RestartWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "on-failure" => Ok(Self::OnFailure),
            "never" => Ok(Self::Never),
            other => Err(format!("unknown restart rule `{other}` (always, on-failure or never)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut AppSpec)) -> Option<String> {
        let mut spec = AppSpec::new("web", "node");
        change(&mut spec);
        spec.check(Limits { max_instances: 16, ..Limits::default() }).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_written_as_values_needs_a_channel() {
        let advanced =
            |sockets| refusal(|spec| (spec.serialization, spec.sockets) = (Serialization::Advanced, sockets));
        assert_eq!(advanced(Sockets::Channel), None);
        assert!(
            advanced(Sockets::None).unwrap().starts_with("serialization `advanced` needs workers that have")
        );
        for name in [Serialization::Json, Serialization::Advanced] {
            assert_eq!(name.name().parse(), Ok(name));
        }
    }

    #[test]
    fn weights_are_for_the_weighted_strategy_and_not_all_0() {
        let weighted = |weights: &[u32]| {
            refusal(|spec| (spec.strategy, spec.weights) = (Strategy::Weighted, weights.to_vec()))
        };
        for good in [&[][..], &[1], &[0, 3], &[AppSpec::WEIGHT_MAX; 16]] {
            assert_eq!(weighted(good), None);
        }
        assert_eq!(weighted(&[0, 0]).unwrap(), "all weights are 0: at least one must be 1 or more");
        let many = weighted(&[1; 17]).unwrap();
        assert_eq!(many, "17 weights are more than the limit of 16 slots");
        let large = weighted(&[3_000_000]).unwrap();
        assert_eq!(large, "weight 3000000 is more than the limit of 1000000: it is their ratio that counts");
        assert_eq!(
            refusal(|spec| spec.weights = vec![1]).unwrap(),
            "weights have no effect with strategy `least-busy`: choose `weighted`, or leave them out"
        );
    }

    #[test]
    fn a_strategy_is_never_ignored() {
        for (strategy, is_plain) in Strategy::ALL.map(|strategy| (strategy, strategy.is_plain())) {
            for sockets in [Sockets::Channel, Sockets::Universal, Sockets::ListenFds, Sockets::None] {
                for distribution in [Distribution::Handoff, Distribution::Kernel, Distribution::Shared] {
                    let mut spec = AppSpec::new("web", "node");
                    (spec.strategy, spec.distribution, spec.sockets) = (strategy, distribution, sockets);
                    let refused = spec.check_strategy();
                    let can_be_had = match distribution {
                        _ if is_plain => true,
                        _ if sockets == Sockets::None => false,
                        Distribution::Handoff => strategy != Strategy::Sticky,
                        Distribution::Kernel => true,
                        Distribution::Shared => false,
                    };
                    assert_eq!(refused.is_ok(), can_be_had, "{strategy} {distribution}: {refused:?}");
                }
            }
        }
        let refused = |strategy, distribution, sockets| {
            refusal(|it| (it.strategy, it.distribution, it.sockets) = (strategy, distribution, sockets))
                .unwrap()
        };
        assert_eq!(
            refused(Strategy::Random, Distribution::Shared, Sockets::Channel),
            "strategy `random` has no effect with distribution `shared`, where a connection is whose worker comes first: \
             choose distribution `handoff` or `kernel`, or leave the strategy out"
        );
        assert!(
            refused(Strategy::Weighted, Distribution::Shared, Sockets::Universal)
                .contains("distribution `kernel`,")
        );
        assert_eq!(
            refused(Strategy::Sticky, Distribution::Handoff, Sockets::Channel),
            "strategy `sticky` needs distribution `kernel`, and this is `handoff`: choose `kernel`, or another strategy"
        );
    }

    #[test]
    fn sticky_slots_are_bounded() {
        let mut spec = AppSpec::new("web", "node");
        (spec.strategy, spec.distribution) = (Strategy::Sticky, Distribution::Kernel);
        let mut check = |instances| {
            spec.instances = instances;
            spec.check(Limits::default()).map_err(|error| error.to_string())
        };
        assert_eq!(check(AppSpec::STICKY_INSTANCES_MAX), Ok(()));
        assert_eq!(
            check(321).unwrap_err(),
            "321 instances are more than the 320 that strategy `sticky` can tell apart: use fewer, or another strategy"
        );
    }

    #[test]
    fn slots_beyond_the_list_weigh_1() {
        let mut spec = AppSpec::new("web", "node");
        spec.weights = vec![3, 0];
        assert_eq!([0, 1, 2].map(|slot| spec.terms(Slot(slot)).weight), [3, 0, 1]);
    }

    #[test]
    fn a_spec_without_weights_is_written_as_before_there_were_any() {
        let text = serde_json::to_string(&AppSpec::new("web", "node")).unwrap();
        assert!(!text.contains("weights"));
        assert_eq!(serde_json::from_str::<AppSpec>(&text).unwrap(), AppSpec::new("web", "node"));
        let weighted = text.replace("\"least-busy\"", "\"weighted\",\"weights\":[3,1]");
        assert_eq!(serde_json::from_str::<AppSpec>(&weighted).unwrap().weights, [3, 1]);
    }
}
