//! The balancer against naive models of its strategies: a list in order of the turn, a count for each member, and
//! whatever else a rule needs, all looked through for each choice.

use std::cell::RefCell;
use std::cmp::Reverse;

use oxherd_core::{Balancer, InstanceId, Load, MemberId, Stance, Strategy, Terms};
use oxherd_sim::Rng;

const SEEDS: u64 = 300;
const STEPS: usize = 300;
const MEMBERS: u64 = 6;

struct Member {
    id: MemberId,
    unanswered: u32,
    terms: Terms,
    credit: i64,
}

/// Members in the order in which they are asked, first the one whose turn it is.
struct Model {
    strategy: Strategy,
    members: Vec<Member>,
    /// How many at the end of `members` were admitted or passed since the turn began anew.
    passed: usize,
}

/// What is known of members at a step, by their numbers.
struct View {
    stances: Vec<Stance>,
}

impl View {
    fn random(rng: &mut Rng) -> Self {
        let mut some = |end: u64| rng.chance(60).then(|| rng.below(end));
        let mut loads: Vec<Load> = Vec::new();
        for _ in 0..MEMBERS {
            loads.push(Load { in_flight: some(4), connections: some(6), lag_us: some(3) });
        }
        let mut stance = |load| match rng.below(8) {
            0 => Stance::Waits,
            1 => Stance::Declines,
            _ => Stance::Takes(load),
        };
        Self { stances: loads.into_iter().map(&mut stance).collect() }
    }

    fn of(&self, id: MemberId) -> Stance {
        self.stances[id.number as usize]
    }

    fn takes(&self, id: MemberId) -> bool {
        matches!(self.of(id), Stance::Takes(_))
    }

    fn load(&self, id: MemberId) -> Load {
        match self.of(id) {
            Stance::Takes(load) => load,
            Stance::Waits | Stance::Declines => Load::default(),
        }
    }
}

impl Model {
    fn new(strategy: Strategy) -> Self {
        Self { strategy, members: Vec::new(), passed: 0 }
    }

    fn place(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    fn admit(&mut self, id: MemberId, terms: Terms, unanswered: u32) {
        if self.place(id).is_none() {
            let at = self.members.len() - self.passed;
            self.members.insert(at, Member { id, unanswered, terms, credit: 0 });
        }
    }

    fn withdraw(&mut self, id: MemberId) {
        if let Some(at) = self.place(id) {
            if at >= self.members.len() - self.passed {
                self.passed -= 1;
            }
            self.members.remove(at);
        }
    }

    fn handed(&mut self, id: MemberId) {
        let Some(at) = self.place(id) else { return };
        self.members[at].unanswered += 1;
        let unpassed = self.members.len() - self.passed;
        self.members.rotate_left(at + 1);
        self.passed = if at < unpassed { self.passed + at + 1 } else { at + 1 - unpassed };
    }

    fn answered(&mut self, id: MemberId) {
        if let Some(at) = self.place(id) {
            self.members[at].unanswered = self.members[at].unanswered.saturating_sub(1);
        }
    }

    fn choose(&self, view: &View) -> Option<MemberId> {
        let open = || self.members.iter().filter(|it| it.unanswered < it.terms.window && view.takes(it.id));
        let busy = |it: &&Member| view.load(it.id).in_flight.unwrap_or(0).max(it.unanswered.into());
        let chosen = match self.strategy {
            Strategy::RoundRobin => open().find(|it| it.unanswered == 0).or_else(|| open().next()),
            Strategy::LeastBusy | Strategy::Sticky => {
                let silent = open().all(|it| view.load(it.id).in_flight.is_none());
                let by_load = || open().min_by_key(|it| (busy(it), view.load(it.id).lag_us.unwrap_or(0)));
                let idle = open().find(|it| busy(it) == 0);
                idle.or_else(|| if silent { open().next() } else { by_load() })
            }
            Strategy::LeastConnections => {
                open().min_by_key(|it| view.load(it.id).connections.unwrap_or(0).max(it.unanswered.into()))
            }
            Strategy::Weighted | Strategy::Random => unreachable!("no model of this kind"),
        };
        chosen.map(|it| it.id)
    }
}

fn id_below(rng: &mut Rng, end: u64) -> MemberId {
    InstanceId { starts: 0, number: rng.below(end) as u32 }
}

#[test]
fn the_balancer_does_as_the_model() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastBusy, Strategy::LeastConnections] {
        for seed in 0..SEEDS {
            compare(strategy, seed);
        }
    }
}

fn compare(strategy: Strategy, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut balancer = Balancer::new(seed);
    let mut model = Model::new(strategy);
    for step in 0..STEPS {
        let id = id_below(&mut rng, MEMBERS);
        let view = View::random(&mut rng);
        match rng.below(10) {
            0 => {
                let (window, unanswered) = (1 + rng.below(3) as u32, rng.below(3) as u32);
                let terms = Terms { strategy, window, weight: 1 };
                balancer.admit(id, terms, unanswered);
                model.admit(id, terms, unanswered);
            }
            1 => {
                balancer.withdraw(id);
                model.withdraw(id);
            }
            2 => {
                balancer.handed(id);
                model.handed(id);
            }
            3..6 => {
                if step % 2 == 0 {
                    balancer.answered(id)
                } else {
                    balancer.returned(id)
                }
                model.answered(id);
            }
            _ => {
                let chosen = balancer.choose(|member| view.of(member));
                assert_eq!(chosen, model.choose(&view), "{strategy}, seed {seed:#x}, step {step}");
                if let Some(chosen) = chosen {
                    balancer.handed(chosen);
                    model.handed(chosen);
                }
            }
        }
        assert_eq!(balancer.len(), model.members.len(), "{strategy}, seed {seed:#x}, step {step}");
        let may = |member: MemberId| view.takes(member);
        let idle = model.members.iter().any(|it| it.id != id && it.unanswered == 0 && may(it.id));
        assert_eq!(balancer.has_idle(id, may), idle, "{strategy}, seed {seed:#x}, step {step}");
    }
}

/// The weights alone, as they are defined: all earn, the first of those that are owed most gets it and pays. There
/// is no bound: nobody is away for so long here.
#[test]
fn weights_do_as_the_model() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let mut balancer = Balancer::new(seed);
        let count = 1 + rng.below(MEMBERS);
        let mut members: Vec<Member> = (0..count as u32)
            .map(|number| {
                let id = InstanceId { starts: 0, number };
                let terms =
                    Terms { strategy: Strategy::Weighted, window: 3, weight: 1 + rng.below(9) as u32 };
                balancer.admit(id, terms, 0);
                Member { id, unanswered: 0, terms, credit: 0 }
            })
            .collect();
        let total: i64 = members.iter().map(|it| i64::from(it.terms.weight)).sum();
        for step in 0..STEPS {
            let view = View::random(&mut rng);
            let chosen = balancer.choose(|member| view.of(member));
            let open = |it: &&mut Member| it.unanswered < it.terms.window && view.takes(it.id);
            let owed = |it: &&mut Member| (Reverse(it.credit + i64::from(it.terms.weight)), it.id);
            let expected = members.iter_mut().filter(open).min_by_key(owed).map(|it| it.id);
            assert_eq!(chosen, expected, "seed {seed:#x}, step {step}");
            let Some(chosen) = chosen else { continue };
            balancer.handed(chosen);
            let comes_back = rng.chance(20);
            for it in &mut members {
                if !comes_back {
                    it.credit += i64::from(it.terms.weight) - if it.id == chosen { total } else { 0 };
                    it.unanswered += u32::from(it.id == chosen);
                }
                if it.unanswered > 0 && rng.chance(70) {
                    it.unanswered -= 1;
                    balancer.answered(it.id);
                }
            }
            if comes_back {
                balancer.returned(chosen);
            }
        }
    }
}

/// Over time each has its share to within a round, though members are busy now and then.
#[test]
fn weights_are_exact_though_members_are_busy_now_and_then() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let mut balancer = Balancer::new(seed);
        let weights: Vec<u64> = (0..4).map(|_| 1 + rng.below(5)).collect();
        for (number, weight) in (0..).zip(&weights) {
            let terms = Terms { strategy: Strategy::Weighted, window: 2, weight: *weight as u32 };
            balancer.admit(InstanceId { starts: 0, number }, terms, 0);
        }
        let total: u64 = weights.iter().sum();
        let rounds = 200;
        let mut served = [0_u64; 4];
        let mut away: Option<(MemberId, u64)> = None;
        for step in 0..rounds * total {
            away = match away {
                // The last rounds are for what is owed.
                _ if step > (rounds - 40) * total => None,
                Some((who, left)) if left > 0 => Some((who, left - 1)),
                Some(_) | None => rng.chance(5).then(|| (id_below(&mut rng, 4), rng.below(30))),
            };
            let waits = |member: MemberId| away.is_some_and(|(who, _)| who == member);
            let look = |member| if waits(member) { Stance::Waits } else { Stance::Takes(Load::default()) };
            let chosen = balancer.choose(look).expect("three have room");
            balancer.handed(chosen);
            balancer.answered(chosen);
            served[chosen.number as usize] += 1;
        }
        for (served, weight) in served.iter().zip(&weights) {
            assert!(served.abs_diff(rounds * weight) <= 1, "seed {seed:#x}: {served} of {}", rounds * weight);
        }
    }
}

/// Whatever the rule, and whoever comes and goes: who takes connections and answers is given some before long.
#[test]
fn nobody_starves() {
    for strategy in Strategy::ALL {
        for seed in 0..SEEDS {
            let mut rng = Rng::new(seed);
            let mut balancer = Balancer::new(seed);
            let steady = InstanceId { starts: 0, number: 0 };
            let terms = |weight| Terms { strategy, window: 2, weight };
            balancer.admit(steady, terms(1), 0);
            // What it has open and in flight is as in a worker: a connection more with each, and they end.
            let open = RefCell::new([0_u64; MEMBERS as usize]);
            let mut since = 0;
            for step in 0..2000 {
                let other = InstanceId { starts: 0, number: 1 + rng.below(MEMBERS - 1) as u32 };
                match rng.below(20) {
                    0 => balancer.admit(other, terms(1 + rng.below(9) as u32), 0),
                    1 => balancer.withdraw(other),
                    _ => {}
                }
                let look = |member: MemberId| {
                    let count = Some(open.borrow()[member.number as usize]);
                    Stance::Takes(Load { in_flight: count, connections: count, lag_us: None })
                };
                let chosen = balancer.choose(look).expect("the steady one has room");
                balancer.handed(chosen);
                balancer.answered(chosen);
                open.borrow_mut()[chosen.number as usize] += 1;
                open.borrow_mut().iter_mut().for_each(|count| *count -= rng.below(*count + 1));
                since = if chosen == steady { 0 } else { since + 1 };
                assert!(since < 150, "{strategy}, seed {seed:#x}, step {step}");
            }
        }
    }
}
