//! Which worker gets the next connection. Pure bookkeeping: it never sees a socket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::InstanceId;

/// A member of a balancer: an admitted instance.
pub type MemberId = InstanceId;

/// The rule by which the next worker is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// In turn, skipping a worker with an unacknowledged connection while another has none.
    #[default]
    RoundRobin,
}

/// Why a strategy's name is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StrategyError {
    /// A strategy of the design that is not built yet.
    #[error("strategy `{0}` is not built yet (available: round-robin)")]
    NotBuilt(String),
    /// No strategy has this name.
    #[error("unknown strategy `{0}` (available: round-robin)")]
    Unknown(String),
}

const PLANNED: [&str; 5] = ["least-busy", "least-connections", "weighted", "random", "sticky"];

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            planned if PLANNED.contains(&planned) => Err(StrategyError::NotBuilt(planned.into())),
            other => Err(StrategyError::Unknown(other.into())),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round-robin"),
        }
    }
}

/// How a member is given connections. Each generation of an app may bring other terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rule. Among members with different ones that of the youngest counts, who has the highest id.
    pub strategy: Strategy,
    /// How many connections the member itself may leave unanswered.
    pub window: u32,
}

/// The admitted instances of one app and what each has in hand.
///
/// Verbs come in pairs: `admit`/`withdraw`, `handed`/`answered`. [`Balancer::choose`] only reads, so that a
/// choice that could not be carried out costs nothing; the turn passes with `handed`.
#[derive(Clone, Debug, Default)]
pub struct Balancer {
    /// That of the youngest member.
    strategy: Strategy,
    members: Vec<Member>,
    turn: usize,
}

#[derive(Clone, Debug)]
struct Member {
    id: MemberId,
    terms: Terms,
    unanswered: u32,
}

impl Balancer {
    /// An empty balancer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts giving connections to `id`. `unanswered` is what it already has in hand. Idempotent.
    pub fn admit(&mut self, id: MemberId, terms: Terms, unanswered: u32) {
        if self.position(id).is_none() {
            self.members.push(Member { id, terms, unanswered });
            self.follow_youngest();
        }
    }

    /// Stops giving connections to `id`. Idempotent.
    pub fn withdraw(&mut self, id: MemberId) {
        if let Some(position) = self.position(id) {
            self.members.remove(position);
            if position < self.turn {
                self.turn -= 1;
            }
            self.follow_youngest();
        }
    }

    /// A connection went to `id`; the turn passes on.
    pub fn handed(&mut self, id: MemberId) {
        if let Some(position) = self.position(id) {
            self.members[position].unanswered += 1;
            self.turn = position + 1;
        }
    }

    /// `id` answered for a connection, or gave it back.
    pub fn answered(&mut self, id: MemberId) {
        if let Some(position) = self.position(id) {
            let member = &mut self.members[position];
            member.unanswered = member.unanswered.saturating_sub(1);
        }
    }

    /// The member that should get the next connection among those that `may` take it, if one has room.
    pub fn choose(&self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        match self.strategy {
            Strategy::RoundRobin => self.next_in_turn(may),
        }
    }

    /// Whether a member other than `except` that `may` take a connection has nothing in hand.
    pub fn has_idle(&self, except: MemberId, may: impl Fn(MemberId) -> bool) -> bool {
        self.members.iter().any(|member| member.id != except && member.unanswered == 0 && may(member.id))
    }

    /// Whether `id` is admitted.
    pub fn is_admitted(&self, id: MemberId) -> bool {
        self.position(id).is_some()
    }

    /// How many are admitted.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn next_in_turn(&self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let count = self.members.len();
        let mut with_room = None;
        for step in 0..count {
            let member = &self.members[(self.turn + step) % count];
            if member.unanswered == 0 && may(member.id) {
                return Some(member.id);
            }
            if with_room.is_none() && member.unanswered < member.terms.window && may(member.id) {
                with_room = Some(member.id);
            }
        }
        with_room
    }

    fn follow_youngest(&mut self) {
        if let Some(youngest) = self.members.iter().max_by_key(|member| member.id) {
            self.strategy = youngest.terms.strategy;
        }
    }

    fn position(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> MemberId {
        InstanceId { starts: 0, number }
    }

    const TWO: Terms = Terms { strategy: Strategy::RoundRobin, window: 2 };

    fn three() -> Balancer {
        let mut balancer = Balancer::new();
        (1..=3).for_each(|number| balancer.admit(id(number), TWO, 0));
        balancer
    }

    fn hand(balancer: &mut Balancer) -> Option<u32> {
        let chosen = balancer.choose(|_| true)?;
        balancer.handed(chosen);
        Some(chosen.number)
    }

    #[test]
    fn goes_in_turn_and_fills_the_window() {
        let mut balancer = three();
        let order: Vec<_> = (0..7).map(|_| hand(&mut balancer)).collect();
        assert_eq!(order, [Some(1), Some(2), Some(3), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn each_member_has_its_own_window() {
        let mut balancer = three();
        balancer.admit(id(4), Terms { window: 4, ..TWO }, 1);
        let order: Vec<_> = (0..10).map_while(|_| hand(&mut balancer)).collect();
        assert_eq!(order, [1, 2, 3, 4, 1, 2, 3, 4, 4]);
    }

    #[test]
    fn skips_a_worker_that_has_not_answered() {
        let mut balancer = three();
        assert_eq!(hand(&mut balancer), Some(1));
        assert_eq!(hand(&mut balancer), Some(2));
        balancer.answered(id(2));
        assert_eq!(hand(&mut balancer), Some(3));
        assert_eq!(hand(&mut balancer), Some(2), "1 is still busy");
    }

    #[test]
    fn withdrawing_keeps_the_turn() {
        let mut balancer = three();
        assert_eq!(hand(&mut balancer), Some(1));
        assert_eq!(hand(&mut balancer), Some(2));
        balancer.withdraw(id(1));
        assert_eq!(hand(&mut balancer), Some(3));
        balancer.withdraw(id(3));
        balancer.withdraw(id(2));
        assert_eq!(hand(&mut balancer), None);
        assert!(balancer.is_empty());
    }

    #[test]
    fn only_those_that_may_are_chosen() {
        let balancer = three();
        assert_eq!(balancer.choose(|member| member == id(3)), Some(id(3)));
        assert!(balancer.has_idle(id(3), |_| true));
        assert!(!balancer.has_idle(id(3), |member| member == id(3)));
    }

    #[test]
    fn planned_and_unknown_strategies_are_told_apart() {
        assert_eq!("round-robin".parse(), Ok(Strategy::RoundRobin));
        assert_eq!("sticky".parse::<Strategy>(), Err(StrategyError::NotBuilt("sticky".into())));
        assert_eq!("best".parse::<Strategy>(), Err(StrategyError::Unknown("best".into())));
    }
}
