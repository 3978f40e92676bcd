//! What replacing and scaling by rule must not cost: workers that serve, or a worker its life twice. It only compares
//! what was with what is.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_core::{AppId, AppStatus, Event, Fleet, FleetStatus, InstanceId, Notice, Slot, Sockets, Status};

/// What was after the last handler.
#[derive(Default)]
pub(crate) struct Ledger {
    /// How many served each app, where nothing but an end or a wish makes that less.
    serving: BTreeMap<AppId, usize>,
    binding: Binding,
    /// Whose replacement is under way, by itself.
    replacing: BTreeMap<(AppId, Slot), InstanceId>,
    /// Who was replaced.
    replaced: BTreeSet<InstanceId>,
}

/// What the handler that runs may do to the number of those that serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Binding {
    /// Anything.
    #[default]
    Free,
    /// It takes nobody away.
    Keeps,
    /// It may take one away, down to the bound.
    Scales,
}

impl Ledger {
    /// What is about to be handled: an event, or time.
    pub(crate) fn bind(&mut self, event: Option<&Event>) {
        self.binding = match event {
            Some(Event::Loaded { .. }) => Binding::Scales,
            None
            | Some(
                Event::Hung { .. }
                | Event::Measured { .. }
                | Event::Probed { .. }
                | Event::Spawned { .. }
                | Event::Online { .. }
                | Event::Listening { .. }
                | Event::Parked { .. }
                | Event::CannotPark { .. }
                | Event::Ready { .. }
                | Event::Stalled { .. }
                | Event::Resumed { .. }
                | Event::Withdrawn { .. },
            ) => Binding::Keeps,
            Some(
                Event::SpawnFailed { .. }
                | Event::Departing { .. }
                | Event::ChannelClosed { .. }
                | Event::Misbehaved { .. }
                | Event::ErrorReported { .. }
                | Event::Exited { .. }
                | Event::DoorsClosed { .. },
            ) => Binding::Free,
        };
    }

    pub(crate) fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::RecycleStarted { place, .. } => {
                assert!(!self.replaced.contains(&place.instance), "{} is replaced twice", place.instance);
                self.replacing.insert((place.app, place.slot), place.instance);
            }
            Notice::RecycleDone { app, slot, .. } => {
                self.replaced.extend(self.replacing.remove(&(*app, *slot)));
            }
            Notice::RecycleFailed { app, slot, .. } => drop(self.replacing.remove(&(*app, *slot))),
            _ => {}
        }
    }

    /// Another primary has taken over. One that is `forgetful` does not know who was replaced.
    pub(crate) fn begin_anew(&mut self, forgetful: bool) {
        self.serving.clear();
        if forgetful {
            self.replacing.clear();
            self.replaced.clear();
        }
    }

    pub(crate) fn check(&mut self, fleet: &Fleet, status: &FleetStatus) {
        let binding = std::mem::take(&mut self.binding);
        let before = std::mem::take(&mut self.serving);
        for app in &status.apps {
            let online = app.everyone().filter(|it| it.status == Status::Online);
            let online: Vec<InstanceId> = online.map(|it| it.place.instance).collect();
            let again = online.iter().find(|id| self.replaced.contains(id));
            assert_eq!(again, None, "it was replaced and serves");
            let before = before.get(&app.app).copied().filter(|_| app.up).unwrap_or(0);
            let bound =
                fleet.spec(app.app).and_then(|spec| spec.scaling).map_or(usize::MAX, |it| it.min as usize);
            let least = match binding {
                Binding::Free => 0,
                Binding::Keeps => before,
                Binding::Scales => before.saturating_sub(1).max(bound.min(before)),
            };
            assert!(
                online.len() >= least,
                "{} of {} serve after {binding:?}, {before} did",
                online.len(),
                app.name
            );
            if is_steady(fleet, app) {
                self.serving.insert(app.app, online.len());
            }
        }
    }
}

/// A reload that ends may take slots away, and of workers that bind their own sockets each ends before the next starts.
fn is_steady(fleet: &Fleet, app: &AppStatus) -> bool {
    let alone = fleet.spec(app.app).is_some_and(|spec| spec.sockets == Sockets::None);
    app.up && app.reload.is_none() && !alone
}
