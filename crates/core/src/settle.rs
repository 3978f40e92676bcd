//! What follows every handler: converge, see which wishes have come true, tell when all serve.

use serde::{Deserialize, Serialize};

use crate::app::{App, Desired, Muster, Vacancy};
use crate::fleet::Fleet;
use crate::instance::Instance;
use crate::policy::is_final;
use crate::{AppId, ChangeId, ChangeOutcome, Generation, Moment, Notice, Sockets, Span};

/// How long the word that all are ready waits for the news of where: a program that is told to say `ready` does
/// so in the callback of `listen`, just before that news.
const QUIET: Span = Span::from_millis(250);

/// A wish that has not come true yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) change: ChangeId,
    /// The app it is about, or the whole fleet.
    pub(crate) app: Option<AppId>,
    pub(crate) goal: Goal,
}

/// What a wish waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// Every slot is filled by a ready worker, and no other is left.
    Serving,
    /// Nothing of the app runs.
    Gone,
    /// The reload ends; it says so itself.
    Reload,
    /// Nothing of the fleet runs.
    Ended,
}

impl Fleet {
    pub(crate) fn settle(&mut self, now: Moment) {
        self.converge(now);
        self.forget_generations();
        self.muster(now);
        self.conclude_pending();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    pub(crate) fn await_goal(&mut self, change: ChangeId, app: AppId, goal: Goal) {
        self.state.pending.push(Pending { change, app: Some(app), goal });
    }

    /// A wish has come true so far, and waits for this now.
    pub(crate) fn await_instead(&mut self, change: ChangeId, goal: Goal) {
        self.state.pending.iter_mut().filter(|it| it.change == change).for_each(|it| it.goal = goal);
    }

    /// A wish about the whole fleet; it takes the place of earlier ones.
    pub(crate) fn await_end(&mut self, change: ChangeId) {
        self.supersede_for(None);
        self.state.pending.push(Pending { change, app: None, goal: Goal::Ended });
    }

    /// A later wish takes the place of all that are still awaited for this app.
    pub(crate) fn supersede(&mut self, app: AppId) {
        self.supersede_for(Some(app));
        if let Some(queued) = self.state.apps.get_mut(&app).and_then(|app| app.queued.take()) {
            self.abandon(queued.change);
        }
    }

    fn supersede_for(&mut self, app: Option<AppId>) {
        let (gone, kept) = std::mem::take(&mut self.state.pending).into_iter().partition(|it| it.app == app);
        self.state.pending = kept;
        let gone: Vec<Pending> = gone;
        gone.into_iter().for_each(|it| self.abandon(it.change));
    }

    pub(crate) fn abandon(&mut self, change: ChangeId) {
        self.out.tell(Notice::Changed { change, outcome: ChangeOutcome::Superseded });
    }

    pub(crate) fn conclude(&mut self, change: ChangeId, outcome: ChangeOutcome) {
        let before = self.state.pending.len();
        self.state.pending.retain(|it| it.change != change);
        if self.state.pending.len() < before {
            self.out.tell(Notice::Changed { change, outcome });
        }
    }

    fn conclude_pending(&mut self) {
        let decided: Vec<_> =
            self.state.pending.iter().filter_map(|it| Some((it.change, self.judge_goal(it)?))).collect();
        for (change, outcome) in decided {
            self.conclude(change, outcome);
        }
    }

    fn judge_goal(&self, pending: &Pending) -> Option<ChangeOutcome> {
        let app = pending.app.and_then(|id| self.state.apps.get(&id));
        match pending.goal {
            Goal::Serving => match app {
                None => Some(ChangeOutcome::Superseded),
                Some(app) if !app.is_up() => None,
                Some(app) if app.has_empty_end() => Some(ChangeOutcome::Failed),
                Some(app) => {
                    (self.all_serve_or_are_through(app) && app.is_exact()).then_some(ChangeOutcome::Done)
                }
            },
            Goal::Gone => {
                app.is_none_or(|app| app.desired == Desired::Stopped).then_some(ChangeOutcome::Done)
            }
            Goal::Reload => None,
            Goal::Ended => self.outcome().map(|_| ChangeOutcome::Done),
        }
    }

    fn muster(&mut self, now: Moment) {
        for id in self.app_ids() {
            let Some(app) = self.state.apps.get(&id) else { continue };
            let complete = app.is_up() && app.instances > 0 && self.all_serve(app);
            let listens = complete && self.occupants(app).all(|it| !it.addresses.is_empty());
            let spec = app.spec();
            let waits = spec.wait_ready || spec.sockets == Sockets::ListenFds;
            let next = match (app.muster, complete, listens) {
                (Muster::Incomplete { since } | Muster::Quiet { since, .. }, false, _) => {
                    Muster::Incomplete { since }
                }
                (Muster::Silent { .. } | Muster::Complete, false, _) => Muster::Incomplete { since: now },
                (Muster::Incomplete { since }, true, false) if waits => {
                    Muster::Quiet { since, due: now + QUIET }
                }
                (same @ Muster::Quiet { due, .. }, true, false) if due > now => same,
                (Muster::Incomplete { since } | Muster::Quiet { since, .. }, true, false) => {
                    self.tell_all_serving(id, since, now);
                    Muster::Silent { since }
                }
                (
                    Muster::Incomplete { since } | Muster::Quiet { since, .. } | Muster::Silent { since },
                    true,
                    true,
                ) => {
                    self.tell_all_serving(id, since, now);
                    Muster::Complete
                }
                (same @ (Muster::Silent { .. } | Muster::Complete), true, _) => same,
            };
            if let Some(app) = self.state.apps.get_mut(&id) {
                app.muster = next;
            }
        }
    }

    fn tell_all_serving(&mut self, id: AppId, since: Moment, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let mut addresses: Vec<String> = Vec::new();
        for instance in self.occupants(app) {
            for address in &instance.addresses {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
        let (workers, after) = (app.instances, now.since(since));
        self.out.tell(Notice::AllServing { app: id, workers, addresses, after });
    }

    fn occupants<'a>(&'a self, app: &'a App) -> impl Iterator<Item = &'a Instance> {
        app.slots.values().filter_map(|state| state.occupant).filter_map(|id| self.state.instances.get(&id))
    }

    pub(crate) fn all_serve(&self, app: &App) -> bool {
        self.count_serving(app) == app.instances as usize
    }

    fn count_serving(&self, app: &App) -> usize {
        self.occupants(app).filter(|it| app.is_target(it.place.slot) && it.is_serving()).count()
    }

    /// Whether each slot is served, or its worker has done what it was there for.
    fn all_serve_or_are_through(&self, app: &App) -> bool {
        let through = app.slots.values().filter(|slot| app.is_through(&slot.vacancy)).count();
        self.count_serving(app) + through == app.instances as usize
    }

    /// Drops the configurations that nothing refers to any more.
    fn forget_generations(&mut self) {
        for app in self.state.apps.values_mut() {
            if app.specs.len() == 1 {
                continue;
            }
            let good = app.generation;
            let coming = app.reload.as_ref().map(|reload| reload.generation);
            let used = |generation: Generation| {
                self.state
                    .instances
                    .values()
                    .any(|it| it.place.app == app.id && it.place.generation == generation)
            };
            app.specs.retain(|generation, _| {
                *generation == good || Some(*generation) == coming || used(*generation)
            });
            app.listens.retain(|generation| app.specs.contains_key(generation));
        }
    }
}

impl App {
    /// No slot beyond the wanted ones is left.
    fn is_exact(&self) -> bool {
        self.slots.keys().all(|slot| self.is_target(*slot))
    }

    /// Whether a slot stays empty because its program is through: it ended well, or with a code that is said to be the end.
    fn is_through(&self, vacancy: &Vacancy) -> bool {
        matches!(vacancy, Vacancy::Finished(exit) if exit.is_success() || is_final(self.spec(), *exit))
    }

    fn has_empty_end(&self) -> bool {
        self.slots.values().any(|state| match state.vacancy {
            Vacancy::Finished(_) => !self.is_through(&state.vacancy),
            Vacancy::GaveUp(_) | Vacancy::Parting => true,
            Vacancy::Fill | Vacancy::FillAfterLeaving | Vacancy::FillAt(_) => false,
        })
    }
}
