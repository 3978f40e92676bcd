//! Replacing the worker of one slot, successor first, in the same generation; one that binds its own sockets ends
//! before the next starts. One at a time per app: whoever asks
//! while another is under way waits. A reload goes first, and what it replaced is not replaced again.
//!
//! When a slot is recycled by itself is decided elsewhere.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::app::{App, SlotState, Vacancy};
use crate::fleet::Fleet;
use crate::settle::Goal;
use crate::{
    AppId, ChangeId, ChangeOutcome, InstanceId, Moment, Notice, RecycleReason, Refusal, ReloadFailure,
    RetireReason, Slot, Span,
};

/// After a successor failed, the slot's worker is not replaced of the primary's own accord for so long.
const HOLD_OFF: Span = Span::from_secs(60);

/// A successor of one that used too much or was hung is given so long before the same is done to it: a program that
/// needs more than it may is not replaced in every moment.
const SETTLING: Span = Span::from_secs(10);

/// What of an app is to be replaced slot by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recycles {
    /// The one under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<Recycle>,
    /// Those that wait, at most one for each slot.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) waiting: VecDeque<Wanted>,
}

/// A slot whose worker is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) slot: Slot,
    pub(crate) why: RecycleReason,
    /// Who asked, if somebody did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<ChangeId>,
}

/// A replacement under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recycle {
    pub(crate) wanted: Wanted,
    pub(crate) started: Moment,
    pub(crate) stage: Stage,
}

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The successor is not ready.
    Starting,
    /// It has taken over; the one before it is on its way out.
    Leaving(InstanceId),
    /// The old one had to end first; the slot is empty until then, and its next worker is not ready.
    Refilling,
}

/// What has become of a slot whose worker ended for the next one.
enum Refill {
    Open,
    Serves,
    Ended,
}

impl Recycles {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the slot's worker is being replaced, or will be.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.current.iter().map(|it| &it.wanted).chain(&self.waiting).any(|it| it.slot == slot)
    }

    /// Whether the successor of this slot is one of ours.
    pub(crate) fn starts(&self, slot: Slot) -> bool {
        self.current.as_ref().is_some_and(|it| it.wanted.slot == slot && it.stage == Stage::Starting)
    }

    /// One that waits already is joined.
    fn add(&mut self, wanted: Wanted) {
        match self.waiting.iter_mut().find(|it| it.slot == wanted.slot) {
            Some(same) => same.changes.extend(wanted.changes),
            None => self.waiting.push_back(wanted),
        }
    }
}

impl Fleet {
    pub(crate) fn request_recycle(
        &mut self,
        id: AppId,
        slot: Slot,
        why: RecycleReason,
        change: ChangeId,
    ) -> Result<(), Refusal> {
        let app = self.running_app(id)?;
        if !app.is_target(slot) {
            return Err(Refusal::NoSuchSlot { app: app.spec().name.clone(), slot });
        }
        let vacant = app.slots.get_mut(&slot).filter(|state| state.occupant.is_none());
        if let Some(state) = vacant
            && state.successor.is_none()
        {
            // There is nobody to replace: it is filled, whatever kept it empty.
            state.vacancy = state.vacancy.refilled();
            state.history.pardon();
            self.out.tell(Notice::Changed { change, outcome: ChangeOutcome::Done });
            return Ok(());
        }
        app.recycles.add(Wanted { slot, why, changes: vec![change] });
        self.await_goal(change, id, Goal::Reload);
        Ok(())
    }

    /// A rule wants the worker replaced. It is held to that only while the same worker serves its slot, and not soon
    /// after that has failed.
    pub(crate) fn recycle_by_rule(&mut self, instance: InstanceId, why: RecycleReason, now: Moment) {
        let Some(place) = self.state.instances.get(&instance).map(|it| it.place) else { return };
        let Some(app) = self.state.apps.get_mut(&place.app) else { return };
        let Some(state) = app.slots.get(&place.slot) else { return };
        let held_off = state.hold_off.is_some_and(|until| until > now);
        let goes_on = app.is_up() && app.is_target(place.slot) && state.occupant == Some(instance);
        if goes_on && !held_off && state.successor.is_none() && !app.recycles.has(place.slot) {
            app.recycles.add(Wanted { slot: place.slot, why, changes: Vec::new() });
        }
    }

    /// Starts the next replacement, and ends the one that is through.
    pub(crate) fn drive_recycles(&mut self, id: AppId, now: Moment) {
        // Each is begun once and ends once; a bound, in case that should ever be wrong.
        let rounds = self.state.apps.get(&id).map_or(0, |app| app.recycles.waiting.len() + 1);
        for _ in 0..=rounds {
            let Some(app) = self.state.apps.get_mut(&id) else { return };
            if app.reload.is_some() {
                return;
            }
            let Some(recycle) = &app.recycles.current else {
                if app.queued.is_some() || !self.begin_recycle(id, now) {
                    return;
                }
                continue;
            };
            let slot = recycle.wanted.slot;
            let state = app.slots.get(&slot);
            match recycle.stage {
                Stage::Leaving(old) if state.is_some_and(|state| state.leaving.contains(&old)) => return,
                Stage::Leaving(_) => self.end_recycle(id, now),
                Stage::Refilling => match self.judge_refill(id, slot) {
                    Refill::Open => return,
                    Refill::Serves => self.end_recycle(id, now),
                    Refill::Ended => self.end_refill(id),
                },
                Stage::Starting => {
                    if state.is_some_and(|state| state.successor.is_none() && state.has_room()) {
                        let generation = app.generation;
                        self.spawn_successor(id, slot, generation, false);
                    }
                    return;
                }
            }
        }
    }

    fn judge_refill(&self, id: AppId, slot: Slot) -> Refill {
        let state = self.state.apps.get(&id).and_then(|app| app.slots.get(&slot));
        let Some(state) = state else { return Refill::Ended };
        let occupant = state.occupant.and_then(|id| self.state.instances.get(&id));
        match (occupant, &state.vacancy) {
            (Some(occupant), _) if occupant.is_serving() => Refill::Serves,
            (Some(_), _) | (None, Vacancy::Fill | Vacancy::FillAfterLeaving | Vacancy::FillAt(_)) => {
                Refill::Open
            }
            (None, Vacancy::Finished(_) | Vacancy::GaveUp(_) | Vacancy::Parting) => Refill::Ended,
        }
    }

    /// The slot stays empty: the news of its last worker have told why.
    fn end_refill(&mut self, id: AppId) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(recycle) = app.recycles.current.take() else { return };
        self.conclude_all(&recycle.wanted.changes, &ChangeOutcome::Failed);
    }

    /// The slot's worker ends, and then the slot is filled again. That is no unstable exit.
    fn vacate_for_next(&mut self, id: AppId, slot: Slot, why: RecycleReason, now: Moment) {
        let Some(state) = self.state.apps.get_mut(&id).and_then(|app| app.slots.get_mut(&slot)) else {
            return;
        };
        let going = state.dismiss_all();
        state.on_replaced(Some(why), now);
        for instance in going {
            self.with(instance, now, |it, around, out| it.retire(RetireReason::Replaced, around, out));
        }
    }

    /// Whether there was one to begin.
    fn begin_recycle(&mut self, id: AppId, now: Moment) -> bool {
        let Some(app) = self.state.apps.get_mut(&id) else { return false };
        let Some(wanted) = app.recycles.waiting.pop_front() else { return false };
        let alone = app.spec().binds_alone();
        let (slot, why) = (wanted.slot, wanted.why);
        let occupant = app.slots.get(&wanted.slot).and_then(|state| state.occupant);
        match occupant.and_then(|occupant| self.state.instances.get(&occupant)) {
            Some(occupant) => {
                self.out.tell(Notice::RecycleStarted { place: occupant.place, why: wanted.why });
                let stage = if alone { Stage::Refilling } else { Stage::Starting };
                app.recycles.current = Some(Recycle { wanted, started: now, stage });
                if alone {
                    self.vacate_for_next(id, slot, why, now);
                }
            }
            // Its worker has ended meanwhile, and is replaced by another anyway.
            None => self.conclude_all(&wanted.changes, &ChangeOutcome::Done),
        }
        true
    }

    fn end_recycle(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(recycle) = app.recycles.current.take() else { return };
        let Wanted { slot, why, changes } = recycle.wanted;
        self.out.tell(Notice::RecycleDone { app: id, slot, why, took: now.since(recycle.started) });
        self.conclude_all(&changes, &ChangeOutcome::Done);
    }

    /// The successor failed: the worker of the slot goes on.
    pub(crate) fn fail_recycle(&mut self, id: AppId, failure: ReloadFailure, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(Recycle { wanted, .. }) = app.recycles.current.take() else { return };
        let Wanted { slot, why, changes } = wanted;
        let going = app.slots.get_mut(&slot).and_then(|state| {
            state.hold_off = Some(now + HOLD_OFF);
            state.dismiss_successor()
        });
        self.out.tell(Notice::RecycleFailed { app: id, slot, why, failure: failure.clone() });
        self.conclude_all(&changes, &ChangeOutcome::ReloadAborted(failure));
        if let Some(going) = going {
            self.with(going, now, |it, around, out| it.retire(RetireReason::ReloadAborted, around, out));
        }
    }

    /// A reload begins, which replaces everybody: what was begun is given back, to be seen to after it.
    pub(crate) fn postpone_recycle(&mut self, id: AppId, now: Moment) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let Some(Recycle { wanted, stage, started }) = app.recycles.current.take() else { return };
        match stage {
            Stage::Leaving(_) | Stage::Refilling => {
                app.recycles.current = Some(Recycle { wanted, stage, started });
                self.end_recycle(id, now);
            }
            Stage::Starting => {
                let going = app.slots.get_mut(&wanted.slot).and_then(SlotState::dismiss_successor);
                app.recycles.waiting.push_front(wanted);
                if let Some(going) = going {
                    self.with(going, now, |it, around, out| {
                        it.retire(RetireReason::ReloadAborted, around, out)
                    });
                }
            }
        }
    }

    /// A reload is done: everybody was replaced.
    pub(crate) fn fulfil_recycles(&mut self, id: AppId) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let waiting = std::mem::take(&mut app.recycles.waiting);
        for wanted in waiting {
            self.conclude_all(&wanted.changes, &ChangeOutcome::Done);
        }
    }

    /// The app stops or restarts: nothing is replaced any more. A successor that is not ready goes.
    pub(crate) fn drop_recycles(&mut self, id: AppId, now: Moment) {
        self.postpone_recycle(id, now);
        self.drop_recycles_of(id, |_| true);
    }

    /// The slots that are too many are not replaced any more. Their workers are on the way out.
    pub(crate) fn drop_surplus_recycles(&mut self, id: AppId) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let instances = app.instances;
        if let Some(recycle) = app.recycles.current.take_if(|it| it.wanted.slot.0 >= instances) {
            app.recycles.waiting.push_back(recycle.wanted);
        }
        self.drop_recycles_of(id, |slot| slot.0 >= instances);
    }

    fn drop_recycles_of(&mut self, id: AppId, is_dropped: impl Fn(Slot) -> bool) {
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let (dropped, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut app.recycles.waiting).into_iter().partition(|it| is_dropped(it.slot));
        app.recycles.waiting = kept;
        for wanted in dropped {
            self.conclude_all(&wanted.changes, &ChangeOutcome::Superseded);
        }
    }

    fn conclude_all(&mut self, changes: &[ChangeId], outcome: &ChangeOutcome) {
        for change in changes {
            self.conclude(*change, outcome.clone());
        }
    }
}

impl App {
    /// The successor of a slot that is replaced by itself has taken over from `old`.
    pub(crate) fn note_recycled(&mut self, slot: Slot, old: Option<InstanceId>) -> Option<RecycleReason> {
        let recycle = self.recycles.current.as_mut().filter(|it| it.wanted.slot == slot)?;
        // Without one before it there is nobody to wait for.
        let nobody = InstanceId { starts: 0, number: 0 };
        recycle.stage = Stage::Leaving(old.unwrap_or(nobody));
        Some(recycle.wanted.why)
    }
}

impl SlotState {
    /// A successor has taken over, by itself or as part of a reload.
    pub(crate) fn on_replaced(&mut self, why: Option<RecycleReason>, now: Moment) {
        self.hold_off = match why {
            Some(RecycleReason::Memory | RecycleReason::Hung) => Some(now + SETTLING),
            Some(RecycleReason::Asked | RecycleReason::Requests | RecycleReason::Lifetime) | None => None,
        };
        match why {
            Some(RecycleReason::Asked) | None => self.history.pardon(),
            // One that is replaced time and again is not well for that: what happened before counts.
            Some(
                RecycleReason::Memory
                | RecycleReason::Requests
                | RecycleReason::Lifetime
                | RecycleReason::Hung,
            ) => {}
        }
    }

    /// A successor that is not to take over joins those on the way out.
    pub(crate) fn dismiss_successor(&mut self) -> Option<InstanceId> {
        let going = self.successor.take();
        self.leaving.extend(going);
        going
    }
}

impl Vacancy {
    /// What makes it a vacancy that is filled as soon as it can be.
    fn refilled(&self) -> Self {
        match self {
            Self::Fill | Self::FillAt(_) | Self::Finished(_) | Self::GaveUp(_) => Self::Fill,
            Self::FillAfterLeaving | Self::Parting => Self::FillAfterLeaving,
        }
    }
}
