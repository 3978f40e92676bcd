//! The strategies by name. What each does is `balancer`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The rule by which the next worker is chosen. None chooses a worker that has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One that has nothing to do first; else fewest requests in flight, then the lowest lag, then in turn. Among
    /// workers that report no load it is [`Strategy::RoundRobin`].
    #[default]
    LeastBusy,
    /// In turn, skipping a worker with an unacknowledged connection while another has none.
    RoundRobin,
    /// Fewest open connections, then in turn.
    LeastConnections,
    /// In proportion to the slots' weights, evenly mixed.
    Weighted,
    /// The less busy of two that chance has picked.
    Random,
}

/// Why a strategy's name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StrategyError {
    /// A strategy of the design that is not built yet.
    #[error("strategy `{0}` is not built yet (available: {list})", list = Names)]
    NotBuilt(String),
    /// No strategy has this name.
    #[error("unknown strategy `{0}` (available: {list})", list = Names)]
    Unknown(String),
}

const PLANNED: &str = "sticky";

/// All names, as part of a sentence.
struct Names;

impl Strategy {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::LeastBusy, Self::RoundRobin, Self::LeastConnections, Self::Weighted, Self::Random];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeastBusy => "least-busy",
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::Weighted => "weighted",
            Self::Random => "random",
        }
    }

    /// Whether it says no more than that workers are to be busy alike, which any distribution sees to in its way.
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::LeastBusy | Self::RoundRobin => true,
            Self::LeastConnections | Self::Weighted | Self::Random => false,
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        match Self::ALL.into_iter().find(|strategy| strategy.name() == text) {
            Some(strategy) => Ok(strategy),
            None if text == PLANNED => Err(StrategyError::NotBuilt(text.into())),
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
    fn planned_and_unknown_strategies_are_told_apart() {
        let list = "(available: least-busy, round-robin, least-connections, weighted, random)";
        let refusal = |text: &str| text.parse::<Strategy>().unwrap_err().to_string();
        assert_eq!(refusal("sticky"), format!("strategy `sticky` is not built yet {list}"));
        assert_eq!(refusal("best"), format!("unknown strategy `best` {list}"));
        assert_eq!(refusal("Weighted"), format!("unknown strategy `Weighted` {list}"));
    }
}
