//! What the last line and the exit code need to know of what went before.

use std::collections::BTreeMap;

use oxherd_engine::core::{AppId, Exit, GiveUp, Notice, Outcome, Place, Slot, SpawnFailure};

use super::Ending;
use super::frame::Line;
use super::notices::{ended, give_up};
use super::words::count;

/// Follows the notices. It holds one entry for each slot.
#[derive(Debug, Default)]
pub(super) struct Tally {
    slots: BTreeMap<(AppId, Slot), Past>,
    /// Workers that ended since the stop; `None` before it.
    ended: Option<u32>,
}

#[derive(Debug, Default)]
struct Past {
    last_exit: Option<Exit>,
    gave_up: Option<GiveUp>,
}

impl Tally {
    /// Takes a notice in.
    pub(super) fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Forked { place } => self.slot_of(place).gave_up = None,
            Notice::Exited { place, exit, .. } => self.on_exited(place, *exit),
            Notice::GaveUp { app, slot, why } => self.slot(*app, *slot).gave_up = Some(why.clone()),
            Notice::Stopping { .. } => {
                self.ended.get_or_insert_default();
            }
            Notice::SpawnFailed { .. }
            | Notice::Online { .. }
            | Notice::Listening { .. }
            | Notice::Ready { .. }
            | Notice::NotReady { .. }
            | Notice::Parked { .. }
            | Notice::Promoted { .. }
            | Notice::StandbyRespawn { .. }
            | Notice::AllServing { .. }
            | Notice::Retiring { .. }
            | Notice::Terminating { .. }
            | Notice::Killing { .. }
            | Notice::Unkillable { .. }
            | Notice::Respawn { .. }
            | Notice::Finished { .. }
            | Notice::ErrorReported { .. }
            | Notice::Stalled { .. }
            | Notice::Resumed { .. }
            | Notice::Misbehaved { .. }
            | Notice::ReloadStarted { .. }
            | Notice::ReloadQueued { .. }
            | Notice::ReloadDone { .. }
            | Notice::ReloadAborted { .. }
            | Notice::RecycleStarted { .. }
            | Notice::RecycleDone { .. }
            | Notice::RecycleFailed { .. }
            | Notice::Scaled { .. }
            | Notice::Stopped { .. }
            | Notice::Deleted { .. }
            | Notice::Adopted { .. }
            | Notice::Changed { .. } => {}
        }
    }

    /// The exit code and the last line.
    pub(super) fn ending(&self, outcome: Outcome) -> (Ending, Line) {
        let workers = count(self.ended.unwrap_or(0), "worker", "workers");
        match outcome {
            Outcome::Stopped => (Ending::Success, Line::news(format!("Stopped: {workers} ended"))),
            Outcome::Killed => {
                (Ending::Failure, Line::trouble(format!("Killed on request: {workers} ended")))
            }
            Outcome::AllEnded => {
                (Ending::Success, Line::news("Every worker has ended and none is to be restarted"))
            }
            Outcome::GaveUp => self.given_up(),
        }
    }

    fn given_up(&self) -> (Ending, Line) {
        let mut given_up = self.slots.iter().filter_map(|((_, slot), past)| {
            let why = past.gave_up.as_ref()?;
            Some((slot, why, past.last_exit))
        });
        let Some((slot, why, last)) = given_up.next() else {
            return (Ending::GaveUp, Line::trouble("Gave up: no worker is left"));
        };
        let others = given_up.clone().count() as u32;
        let can_never_start = is_lasting(why) && given_up.all(|(_, why, _)| is_lasting(why));
        let status = if can_never_start { Ending::Usage } else { Ending::GaveUp };
        let slots = count(others + 1, "slot", "slots");
        let last = match (why, last) {
            (GiveUp::CannotSpawn(_), _) | (_, None) => String::new(),
            (GiveUp::UnstableExits { .. } | GiveUp::Errors { .. }, Some(exit)) => {
                format!(", its last worker {}", ended(exit))
            }
        };
        let why = give_up(why);
        (
            status,
            Line::trouble(format!("Gave up on {slots}, no worker is left: slot {}: {why}{last}", slot.0)),
        )
    }

    fn on_exited(&mut self, place: &Place, exit: Exit) {
        self.slot_of(place).last_exit = Some(exit);
        if let Some(ended) = &mut self.ended {
            *ended += 1;
        }
    }

    fn slot_of(&mut self, place: &Place) -> &mut Past {
        self.slot(place.app, place.slot)
    }

    fn slot(&mut self, app: AppId, slot: Slot) -> &mut Past {
        self.slots.entry((app, slot)).or_default()
    }
}

/// Nothing that anybody waits for will make it start.
fn is_lasting(why: &GiveUp) -> bool {
    matches!(why, GiveUp::CannotSpawn(SpawnFailure { lasting: true, .. }))
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::{Generation, InstanceId, Signal, Span};

    use super::*;

    const APP: AppId = AppId(0);

    fn place(slot: u32) -> Place {
        let instance = InstanceId { starts: 0, number: slot + 1 };
        Place { app: APP, slot: Slot(slot), generation: Generation(1), instance }
    }

    fn exited(slot: u32, exit: Exit) -> Notice {
        Notice::Exited { place: place(slot), exit, uptime: Span::ZERO, wanted: false }
    }

    fn gave_up(slot: u32, why: GiveUp) -> Notice {
        Notice::GaveUp { app: APP, slot: Slot(slot), why }
    }

    fn unstable() -> GiveUp {
        GiveUp::UnstableExits { count: 16, window: Span::from_secs(90) }
    }

    fn cannot_spawn() -> GiveUp {
        let message = "cannot execute /srv/tool: no such file".into();
        GiveUp::CannotSpawn(SpawnFailure { message, lasting: true })
    }

    fn ending(notices: &[Notice], outcome: Outcome) -> (Ending, String) {
        let mut tally = Tally::default();
        notices.iter().for_each(|notice| tally.note(notice));
        let (status, line) = tally.ending(outcome);
        (status, line.text)
    }

    #[test]
    fn workers_are_counted_from_the_stop() {
        let exit = Exit::Signal(Signal::TERM);
        let notices = [exited(0, exit), Notice::Stopping { app: APP }, exited(0, exit), exited(1, exit)];
        let end = |outcome| ending(&notices, outcome);
        assert_eq!(end(Outcome::Stopped), (Ending::Success, "Stopped: 2 workers ended".into()));
        assert_eq!(end(Outcome::Killed), (Ending::Failure, "Killed on request: 2 workers ended".into()));
        let all_ended = "Every worker has ended and none is to be restarted";
        assert_eq!(end(Outcome::AllEnded), (Ending::Success, all_ended.into()));
    }

    #[test]
    fn giving_up_says_why() {
        let notices = [exited(1, Exit::Code(1)), gave_up(1, unstable()), gave_up(2, cannot_spawn())];
        assert_eq!(
            ending(&notices, Outcome::GaveUp),
            (
                Ending::GaveUp,
                "Gave up on 2 slots, no worker is left: slot 1: 16 unstable exits within 1 min 30 s, its last \
                 worker ended with code 1"
                    .into()
            )
        );
    }

    #[test]
    fn what_can_never_start_is_a_usage_error() {
        let notices = [gave_up(0, cannot_spawn()), gave_up(1, cannot_spawn())];
        assert_eq!(
            ending(&notices, Outcome::GaveUp),
            (
                Ending::Usage,
                "Gave up on 2 slots, no worker is left: slot 0: cannot execute /srv/tool: no such file"
                    .into()
            )
        );
    }
}
