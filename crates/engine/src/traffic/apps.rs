//! What traffic knows of an app: who is admitted and whether its doors are open.

use oxherd_core::{AppSpec, Balancer, Distribution};

use crate::traffic::worker::Seat;

/// One app's share of the traffic. What a reload may change is each worker's own.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) balancer: Balancer<Seat>,
    pub(crate) distribution: Distribution,
    pub(crate) doors: Doors,
}

/// Whether new clients get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doors {
    Open,
    /// Closed; how often in a row nobody was seen waiting.
    Closing {
        quiet_looks: u32,
    },
    Closed,
}

impl App {
    /// The seed decides where chance has a say.
    pub(crate) fn new(spec: &AppSpec, seed: u64) -> Self {
        Self { balancer: Balancer::new(seed), distribution: spec.distribution, doors: Doors::Open }
    }
}
