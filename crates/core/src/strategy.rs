//! The strategies by name. What each does with `handoff` is `balancer`; with `kernel` the kernel chooses, by a program
//! that the primary gives it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The rule by which the next worker is chosen.
///
/// With [`Distribution::Handoff`](crate::Distribution::Handoff) the primary chooses, and never a worker that has no room.
/// With [`Distribution::Kernel`](crate::Distribution::Kernel) the kernel does, by shares or by the client's address:
/// workers that are drained are left out exactly, and each variant says what is exact beyond that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One that has nothing to do first; else fewest requests in flight, then the lowest lag, then in turn. Among
    /// workers that report no load it is [`Strategy::RoundRobin`].
    ///
    /// With `kernel` approximate: by chance, in shares that follow the load as it was some milliseconds ago.
    #[default]
    LeastBusy,
    /// In turn, skipping a worker with an unacknowledged connection while another has none.
    ///
    /// The kernel knows no turns: with `kernel` it is by chance, each equally likely.
    RoundRobin,
    /// Fewest open connections, then in turn.
    ///
    /// With `kernel` approximate, like [`Strategy::LeastBusy`].
    LeastConnections,
    /// In proportion to the slots' weights, evenly mixed.
    ///
    /// With `kernel` the proportions are exact, and the mixture is chance: of 10,000 connections a slot gets its share
    /// give or take 1 %.
    Weighted,
    /// The less busy of two that chance has picked.
    ///
    /// With `kernel` each is equally likely, however busy.
    Random,
    /// The same for each source address, with `kernel` only. Exact: a crash or a reload changes nothing, and a slot that
    /// comes or goes moves only the addresses that it wins or loses. Of UDP by source address and port.
    Sticky,
}

/// Why a strategy's name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StrategyError {
    /// No strategy has this name.
    #[error("unknown strategy `{0}` (available: {list})", list = Names)]
    Unknown(String),
}

/// All names, as part of a sentence.
struct Names;

impl Strategy {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::LeastBusy,
        Self::RoundRobin,
        Self::LeastConnections,
        Self::Weighted,
        Self::Random,
        Self::Sticky,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeastBusy => "least-busy",
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::Weighted => "weighted",
            Self::Random => "random",
            Self::Sticky => "sticky",
        }
    }

    /// Whether it says no more than that workers are to be busy alike, which any distribution sees to in its way.
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::LeastBusy | Self::RoundRobin => true,
            Self::LeastConnections | Self::Weighted | Self::Random | Self::Sticky => false,
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        match Self::ALL.into_iter().find(|strategy| strategy.name() == text) {
            Some(strategy) => Ok(strategy),
            None => Err(StrategyError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Strategy::ALL.map(Strategy::name).join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_is_that_of_files() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
            assert_eq!(serde_json::to_string(&strategy).unwrap(), format!("\"{strategy}\""));
        }
    }

    #[test]
    fn unknown_strategies_are_told_what_there_is() {
        let list = "(available: least-busy, round-robin, least-connections, weighted, random, sticky)";
        let refusal = |text: &str| text.parse::<Strategy>().unwrap_err().to_string();
        assert_eq!(refusal("best"), format!("unknown strategy `best` {list}"));
        assert_eq!(refusal("Weighted"), format!("unknown strategy `Weighted` {list}"));
    }
}
