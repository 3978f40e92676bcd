//! The balancer against a naive model of it: a list in order of the turn, and a count for each member.

use oxherd_core::{Balancer, InstanceId, MemberId, Strategy, Terms};
use oxherd_sim::Rng;

const SEEDS: u64 = 300;
const STEPS: usize = 300;

struct Member {
    id: MemberId,
    unanswered: u32,
    window: u32,
}

/// Members in the order in which they are asked, first the one whose turn it is.
#[derive(Default)]
struct Model {
    members: Vec<Member>,
    /// How many at the end of `members` were admitted or passed since the turn began anew.
    passed: usize,
}

impl Model {
    fn place(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    fn admit(&mut self, id: MemberId, window: u32, unanswered: u32) {
        if self.place(id).is_none() {
            let at = self.members.len() - self.passed;
            self.members.insert(at, Member { id, unanswered, window });
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

    fn choose(&self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let idle = self.members.iter().find(|it| it.unanswered == 0 && may(it.id));
        let room = || self.members.iter().find(|it| it.unanswered < it.window && may(it.id));
        idle.or_else(room).map(|it| it.id)
    }
}

#[test]
fn the_balancer_does_as_the_model() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let mut balancer = Balancer::new();
        let mut model = Model::default();
        for step in 0..STEPS {
            let id = InstanceId { starts: 0, number: rng.below(6) as u32 };
            let barred = rng.below(12) as u32;
            let may = |member: MemberId| member.number != barred;
            match rng.below(10) {
                0 => {
                    let (window, unanswered) = (1 + rng.below(3) as u32, rng.below(3) as u32);
                    balancer.admit(id, Terms { strategy: Strategy::RoundRobin, window }, unanswered);
                    model.admit(id, window, unanswered);
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
                    balancer.answered(id);
                    model.answered(id);
                }
                _ => {
                    let chosen = balancer.choose(may);
                    assert_eq!(chosen, model.choose(may), "seed {seed:#x}, step {step}");
                    if let Some(chosen) = chosen {
                        balancer.handed(chosen);
                        model.handed(chosen);
                    }
                }
            }
            assert_eq!(balancer.len(), model.members.len(), "seed {seed:#x}, step {step}");
            let idle = model.members.iter().any(|it| it.id != id && it.unanswered == 0 && may(it.id));
            assert_eq!(balancer.has_idle(id, may), idle, "seed {seed:#x}, step {step}");
        }
    }
}
