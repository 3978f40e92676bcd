//! What outlives a primary on the fake machine, and what is lost with it. It never tells the core more than a
//! keeper would.

use oxherd_core::{Child, Event, InstanceId, Label, Moment};

use crate::Rng;
use crate::os::{Happening, Os, Step};
use crate::process::{Life, Process};

impl Os {
    /// The children as a keeper sees them: those that live, and those whose exit nobody was told.
    pub fn children(&self) -> Vec<Child> {
        let held = self.processes.values().filter(|it| it.life == Life::Alive || it.untold);
        held.map(|it| Child {
            label: Label(it.place),
            listens: it.listens,
            was_ready: it.noted_ready && self.luck(it, 1).chance(90),
            leaving: it.departed || it.disconnected,
            born: it.born_at.filter(|_| self.luck(it, 0).chance(80)),
            // One may end while the others are looked at.
            ended: it.untold && self.luck(it, 2).chance(70),
        })
        .collect()
    }

    /// The children with what the core was told of them, as if nothing were lost.
    pub fn children_as_told(&self) -> Vec<Child> {
        let child = |it: &Process| Child {
            label: Label(it.place),
            listens: it.told_listens,
            was_ready: it.noted_ready,
            leaving: it.departed || it.disconnected,
            born: it.born_at,
            ended: false,
        };
        self.alive().map(child).collect()
    }

    /// Whether something of a process is known, always the same for one.
    fn luck(&self, it: &Process, what: u64) -> Rng {
        Rng::new(self.seed ^ u64::from(it.place.instance.number) ^ what << 32)
    }

    /// The primary dies: its traffic, its orders under way and the news in flight are gone.
    pub fn crash(&mut self, rng: &mut Rng, now: Moment) {
        self.lossy = true;
        self.admitted.clear();
        self.closing.clear();
        self.queue.retain(|_, happening| match happening {
            Happening::Step(_, step) => *step != Step::Born,
            Happening::Tell(_) => false,
        });
        let mut again = Vec::new();
        for (id, it) in &mut self.processes {
            it.withdrawing = false;
            if it.parked && !it.borrows() {
                // What it asked for is not asked again.
                (it.parked, it.stuck) = (false, true);
            }
            match it.life {
                Life::Ordered => it.life = Life::Over,
                Life::Alive => {
                    it.stuck |= it.channel && !it.listens && !it.ready && rng.chance(50);
                    again.extend(shows(*id, it));
                    again.extend(it.unlent.then_some(Event::CannotPark { instance: *id }));
                }
                Life::Over if it.sweeps == 0 => {
                    it.untold = it.exit.is_some() && (it.untold || rng.chance(50));
                    // What was taken note of the keeper has forgotten.
                    it.exit = it.exit.filter(|_| it.untold);
                    again.extend(it.exit.map(|exit| Event::Exited { instance: *id, exit }));
                }
                Life::Over => {}
            }
        }
        again.into_iter().for_each(|event| self.tell(event, now, 1));
    }

    /// A process ends while nobody looks, and nobody will ever know how.
    pub fn lose_one(&mut self, rng: &mut Rng) {
        let living: Vec<InstanceId> = self.alive().map(|it| it.place.instance).collect();
        if living.is_empty() {
            return;
        }
        if let Some(it) = self.processes.get_mut(&rng.pick(&living)) {
            (it.life, it.channel) = (Life::Over, false);
        }
    }
}

/// What a new primary finds out by itself.
fn shows(id: InstanceId, it: &Process) -> Option<Event> {
    if it.borrows() {
        it.parked.then_some(Event::Parked { instance: id })
    } else if it.misbehaved {
        Some(Event::Misbehaved { instance: id, what: "garbage".into() })
    } else if !it.channel {
        Some(Event::ChannelClosed { instance: id })
    } else if it.departed || it.disconnected {
        Some(Event::Departing { instance: id })
    } else {
        let answers = it.spoke && !it.stuck && !it.stalled;
        answers.then_some(Event::Online { instance: id })
    }
}
