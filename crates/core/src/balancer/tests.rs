//! Exact sequences, and what holds for all strategies. The models are in `sim`.

use super::*;

fn id(number: u32) -> MemberId {
    InstanceId { starts: 0, number }
}

const TWO: Terms = Terms { strategy: Strategy::RoundRobin, window: 2, weight: 1 };

fn with(strategy: Strategy, weights: &[u32]) -> Balancer {
    let mut balancer = Balancer::new(1);
    for (number, weight) in (1..).zip(weights) {
        balancer.admit(id(number), Terms { strategy, weight: *weight, ..TWO }, 0);
    }
    balancer
}

fn three() -> Balancer {
    with(Strategy::RoundRobin, &[1; 3])
}

fn anybody(_: MemberId) -> Stance {
    Stance::Takes(Load::default())
}

fn hand(balancer: &mut Balancer) -> Option<u32> {
    let chosen = balancer.choose(anybody)?;
    balancer.handed(chosen);
    Some(chosen.number)
}

/// One connection that is answered at once.
fn serve(balancer: &mut Balancer) -> u32 {
    let chosen = hand(balancer).unwrap();
    balancer.answered(id(chosen));
    chosen
}

fn requests(figures: &[u64]) -> impl Fn(MemberId) -> Stance {
    move |member| {
        let in_flight = figures.get(member.number as usize - 1).copied();
        Stance::Takes(Load { in_flight, ..Load::default() })
    }
}

#[test]
fn goes_in_turn_and_fills_the_window() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastBusy, Strategy::LeastConnections] {
        let mut balancer = with(strategy, &[1; 3]);
        let order: Vec<_> = (0..7).map(|_| hand(&mut balancer)).collect();
        assert_eq!(order, [Some(1), Some(2), Some(3), Some(1), Some(2), Some(3), None]);
    }
}

#[test]
fn each_member_has_its_own_window() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastBusy] {
        let mut balancer = with(strategy, &[1; 3]);
        balancer.admit(id(4), Terms { window: 4, strategy, ..TWO }, 1);
        let order: Vec<_> = (0..10).map_while(|_| hand(&mut balancer)).collect();
        assert_eq!(order, [1, 2, 3, 4, 1, 2, 3, 4, 4]);
    }
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
fn only_those_that_take_it_are_chosen() {
    for strategy in Strategy::ALL {
        for other in [Stance::Waits, Stance::Declines] {
            let balancer = with(strategy, &[1; 3]);
            let look = |member| if member == id(3) { anybody(member) } else { other };
            assert_eq!(balancer.choose(look), Some(id(3)), "{strategy}");
            assert_eq!(balancer.choose(|_| other), None, "{strategy}");
        }
    }
    assert!(three().has_idle(id(3), |_| true));
    assert!(!three().has_idle(id(3), |member| member == id(3)));
}

#[test]
fn nobody_is_asked_twice() {
    for strategy in Strategy::ALL {
        let mut balancer = with(strategy, &[1, 2, 0, 3]);
        for _ in 0..6 {
            let asked = std::cell::RefCell::new(Vec::new());
            let chosen = balancer.choose(|member| {
                asked.borrow_mut().push(member);
                if member.number == 2 { Stance::Waits } else { anybody(member) }
            });
            let mut asked = asked.into_inner();
            let count = asked.len();
            asked.sort();
            asked.dedup();
            assert_eq!(asked.len(), count, "{strategy}");
            chosen.into_iter().for_each(|chosen| balancer.handed(chosen));
        }
    }
}

#[test]
fn the_idle_come_first_then_the_least_busy_then_the_least_late() {
    let mut balancer = with(Strategy::LeastBusy, &[1; 3]);
    assert_eq!(balancer.choose(requests(&[1, 0, 0])), Some(id(2)));
    balancer.handed(id(2));
    assert_eq!(balancer.choose(requests(&[1, 1, 0])), Some(id(3)));
    assert_eq!(balancer.choose(requests(&[3, 5, 4])), Some(id(1)));
    // Worker 3 is next in turn, 1 after it: what is not reported is no load but what is unanswered.
    assert_eq!(balancer.choose(requests(&[2, 3])), Some(id(3)));
    balancer.handed(id(3));
    assert_eq!(balancer.choose(requests(&[2, 3])), Some(id(3)));
    let late = |lags: [u64; 3]| {
        move |member: MemberId| {
            let lag_us = Some(lags[member.number as usize - 1]);
            Stance::Takes(Load { in_flight: Some(2), lag_us, ..Load::default() })
        }
    };
    assert_eq!(balancer.choose(late([900, 300, 700])), Some(id(2)));
    assert_eq!(balancer.choose(late([300, 300, 300])), Some(id(1)), "in turn");
    // An answer that the figures know of already, and the unanswered that they do not.
    assert_eq!(
        balancer.choose(requests(&[1, 0, 0])),
        Some(id(1)),
        "2 and 3 have one each, 1 is next in turn"
    );
}

#[test]
fn fewest_connections_win() {
    let mut balancer = with(Strategy::LeastConnections, &[1; 3]);
    let open = |figures: [u64; 3]| {
        move |member: MemberId| {
            let connections = figures.get(member.number as usize - 1).copied();
            Stance::Takes(Load { connections, ..Load::default() })
        }
    };
    assert_eq!(balancer.choose(open([5, 4, 9])), Some(id(2)));
    balancer.handed(id(2));
    assert_eq!(balancer.choose(open([5, 5, 9])), Some(id(1)));
    assert_eq!(balancer.choose(open([5, 5, 5])), Some(id(3)), "in turn");
}

#[test]
fn weights_are_mixed_smoothly() {
    let cases: [(&[u32], &[u32]); 5] = [
        (&[5, 1, 1], &[1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 1, 3, 1, 1]),
        (&[3, 1], &[1, 1, 2, 1, 1, 1, 2, 1]),
        (&[1, 1, 1], &[1, 2, 3, 1, 2, 3]),
        (&[2, 0, 1], &[1, 3, 1, 1, 3, 1]),
        (&[0, 0], &[1, 1, 1]),
    ];
    for (weights, expected) in cases {
        let mut balancer = with(Strategy::Weighted, weights);
        let order: Vec<_> = expected.iter().map(|_| serve(&mut balancer)).collect();
        assert_eq!(order, expected, "{weights:?}");
    }
}

#[test]
fn a_busy_member_is_made_up_to_as_far_as_the_bound() {
    for (away, owed) in [(30, 10), (100_000, 64)] {
        let mut balancer = with(Strategy::Weighted, &[1, 2]);
        let busy = |member| if member == id(1) { Stance::Waits } else { anybody(member) };
        for _ in 0..away {
            let chosen = balancer.choose(busy).unwrap();
            balancer.handed(chosen);
            balancer.answered(chosen);
        }
        let count = |served: &[u32]| served.iter().filter(|it| **it == 1).count();
        let made_up: Vec<_> = (0..300).map(|_| serve(&mut balancer)).collect();
        let share = 100 + owed;
        assert!(count(&made_up).abs_diff(share) <= 1, "{away}: {} of {share}", count(&made_up));
        let after: Vec<_> = (0..300).map(|_| serve(&mut balancer)).collect();
        assert_eq!(count(&after), 100, "{away}");
    }
}

#[test]
fn a_connection_that_came_back_was_never_handed() {
    let mut balancer = with(Strategy::Weighted, &[3, 1]);
    for expected in [1, 1, 2, 1, 1, 1, 2, 1] {
        for _ in 0..5 {
            assert_eq!(hand(&mut balancer), Some(expected));
            balancer.returned(id(expected));
        }
        assert_eq!(serve(&mut balancer), expected);
    }
}

#[test]
fn a_member_without_weight_serves_only_what_no_other_could() {
    let mut balancer = with(Strategy::Weighted, &[1, 0]);
    let waits = |member| if member == id(1) { Stance::Waits } else { anybody(member) };
    let declines = |member| if member == id(1) { Stance::Declines } else { anybody(member) };
    assert_eq!(balancer.choose(waits), None);
    for _ in 0..1000 {
        let chosen = balancer.choose(declines).unwrap();
        assert_eq!(chosen, id(2));
        balancer.handed(chosen);
        balancer.answered(chosen);
    }
    assert_eq!((serve(&mut balancer), serve(&mut balancer)), (1, 1));
    balancer.withdraw(id(1));
    assert_eq!(serve(&mut balancer), 2);
}

#[test]
fn chance_is_the_seeds_and_spreads_evenly() {
    let order = |seed| {
        let mut balancer = with(Strategy::Random, &[1; 5]);
        balancer.chance = seed;
        (0..1000).map(|_| serve(&mut balancer)).collect::<Vec<_>>()
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7), order(8));
    for number in 1..=5 {
        let share = order(7).iter().filter(|it| **it == number).count();
        assert!((140..=260).contains(&share), "{number} got {share}");
    }
}

#[test]
fn of_two_the_less_busy_wins() {
    let mut balancer = with(Strategy::Random, &[1; 3]);
    let mut counts = [0; 3];
    for _ in 0..3000 {
        let chosen = balancer.choose(requests(&[9, 1, 5])).unwrap();
        balancer.handed(chosen);
        balancer.answered(chosen);
        counts[chosen.number as usize - 1] += 1;
    }
    assert_eq!(counts[0], 0, "the busiest loses to either");
    assert!((1800..=2200).contains(&counts[1]), "{counts:?}");
}

#[test]
fn the_youngest_decides_and_credit_does_not_outlive_the_rule() {
    let mut balancer = with(Strategy::Weighted, &[3, 1]);
    assert_eq!([serve(&mut balancer), serve(&mut balancer)], [1, 1]);
    balancer.admit(id(3), TWO, 0);
    assert!(!balancer.wants_loads());
    let order: Vec<_> = (0..6).map(|_| serve(&mut balancer)).collect();
    assert_eq!(order, [2, 3, 1, 2, 3, 1]);
    balancer.withdraw(id(3));
    let order: Vec<_> = (0..4).map(|_| serve(&mut balancer)).collect();
    assert_eq!(order, [1, 1, 2, 1]);
}
