//! Which program follows from what is known. That the kernel does what it says is `traffic/tests/steering`.

use super::*;

const NONE: BTreeMap<InstanceId, u32> = BTreeMap::new();

fn id(number: u32) -> InstanceId {
    InstanceId { starts: 0, number }
}

/// Instances at the indices of their places; each slot's is lent its first side.
fn candidates(strategy: Strategy, weights: &[u32]) -> Vec<Candidate> {
    let of = |(slot, weight): (u32, &u32)| Candidate {
        index: slot * 2,
        slot: Slot(slot),
        owner: id(slot),
        terms: Terms { strategy, window: 2, weight: *weight },
    };
    (0..).zip(weights).map(of).collect()
}

#[test]
fn each_strategy_has_its_program() {
    let of = |strategy| program(&candidates(strategy, &[1, 5, 0]), false, &NONE);
    for strategy in [Strategy::RoundRobin, Strategy::Random, Strategy::LeastBusy, Strategy::LeastConnections]
    {
        assert_eq!(of(strategy), Program::Random(vec![0, 2, 4]), "{strategy}");
    }
    assert_eq!(of(Strategy::Weighted), Program::Weighted(vec![(0, 1), (2, 5), (4, 0)]));
    assert_eq!(of(Strategy::Sticky), Program::Sticky(vec![(0, 0), (2, 1), (4, 2)]));
    for strategy in Strategy::ALL {
        let flow = program(&candidates(strategy, &[1, 1]), true, &NONE);
        assert_eq!(flow, Program::Flow(vec![(0, 0), (2, 1)]), "{strategy}");
        assert_eq!(program(&[], false, &NONE), Program::Random(vec![0]));
    }
}

#[test]
fn where_only_weights_of_0_are_left_they_get_all() {
    let only = candidates(Strategy::Weighted, &[0, 0]);
    assert_eq!(program(&only, false, &NONE), Program::Random(vec![0, 2]));
}

#[test]
fn the_strategy_is_that_of_the_youngest() {
    let mut mixed = candidates(Strategy::Random, &[1, 1, 1]);
    mixed[1].owner = id(9);
    mixed[1].terms.strategy = Strategy::Sticky;
    assert!(matches!(program(&mixed, false, &NONE), Program::Sticky(_)));
}

#[test]
fn of_two_in_a_slot_the_younger_gets_what_sticks() {
    let mut pair = candidates(Strategy::Sticky, &[1, 1]);
    pair.push(Candidate { index: 1, owner: id(7), ..pair[0] });
    assert_eq!(program(&pair, false, &NONE), Program::Sticky(vec![(1, 0), (2, 1)]));
}

#[test]
fn shares_are_followed_and_a_newcomer_counts_as_the_average() {
    let three = candidates(Strategy::LeastBusy, &[1, 1, 1]);
    let shares = BTreeMap::from([(id(0), 100), (id(1), 300)]);
    assert_eq!(program(&three, false, &shares), Program::Weighted(vec![(0, 100), (2, 300), (4, 200)]));
    // All the same is even, and so is nothing for anybody.
    let even = BTreeMap::from([(id(0), 7), (id(1), 7)]);
    assert_eq!(program(&three, false, &even), Program::Random(vec![0, 2, 4]));
}

#[test]
fn a_sticky_app_fits_into_a_program() {
    let most = oxherd_core::AppSpec::STICKY_INSTANCES_MAX as usize;
    assert!(most <= HASHED_MAX);
    let many = candidates(Strategy::Sticky, &vec![1; most]);
    assert_eq!(by_slot(&many).len(), most);
}
