//! What is kept for whoever comes after this primary: when the fleet's image is written, and when the desired
//! state is told.

use std::time::{Duration, Instant};

use oxherd_core::{Moment, Notice, SlotRestarts, Span};
use oxherd_os::Child;

use crate::control::{Control, now};
use crate::host::Entry;

/// The entry of the slots' past among what is kept.
const RESTARTS: &str = "restarts";
/// The core goes on from an image that is at most 16 actions old; half of that is left as a margin.
const MAX_ACTIONS_BEHIND: u32 = 8;
/// Writing images may take one part in so many of the control thread's time.
const SHARE: u32 = 10;

/// How far the kept image is behind.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Something has happened since.
    dirty: bool,
    actions: u32,
    /// Before this moment none is written again, unless too many actions have passed.
    rest_until: Option<Moment>,
    /// What is wanted may have changed.
    desired: bool,
    /// Processes whose ends the fleet knows and the kept image may not: whoever comes next would ask how they ended.
    ended: Vec<Child>,
    /// What was noted last of the slots' past.
    restarts: Vec<SlotRestarts>,
}

impl Keeping {
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn touch_desired(&mut self) {
        self.desired = true;
    }

    /// News that comes with a change of what is wanted.
    pub(super) fn note(&mut self, notice: &Notice) {
        self.desired |= matches!(
            notice,
            Notice::Changed { .. }
                | Notice::ReloadDone { .. }
                | Notice::Deleted { .. }
                | Notice::Stopped { .. }
        );
    }

    /// When the next image is to be written, if one is wanted.
    pub(super) fn due(&self) -> Option<Moment> {
        self.rest_until.filter(|_| self.dirty)
    }
}

impl Control<'_> {
    /// Called when a turn of the loop is done: keeps what has changed.
    pub(super) fn keep(&mut self) {
        if std::mem::take(&mut self.keeping.desired) {
            self.tell_desired();
        }
        let rests = self.keeping.rest_until.is_some_and(|until| until > now());
        if self.keeping.dirty && !rests {
            self.keep_now();
        }
    }

    pub(super) fn tell_desired(&mut self) {
        if self.observer.wants_desired() {
            self.observer.desired(self.fleet.desired());
        }
    }

    /// Called after each action: one turn may carry out hundreds.
    pub(super) fn keep_in_between(&mut self) {
        self.keeping.actions += 1;
        if self.keeping.actions >= MAX_ACTIONS_BEHIND {
            self.keep_now();
        }
    }

    pub(super) fn keep_now(&mut self) {
        self.keeping.dirty = false;
        self.keeping.actions = 0;
        if self.host.ties_workers() {
            return;
        }
        let start = Instant::now();
        self.host.keep_image(self.fleet.image_ref());
        self.keeping.ended.drain(..).for_each(|child| self.host.forget(&child));
        self.note_restarts();
        self.keeping.rest_until = rest(start.elapsed()).map(|rest| now() + rest);
    }

    /// Nothing of the process needs to be held any longer, once the image knows of its end.
    pub(super) fn forget_later(&mut self, child: Child) {
        if self.host.ties_workers() {
            return self.host.forget(&child);
        }
        self.keeping.ended.push(child);
        self.keeping.touch();
    }

    /// An image that is not to be trusted must not take the slots' past with it.
    fn note_restarts(&mut self) {
        let restarts = self.fleet.restarts();
        if restarts != self.keeping.restarts
            && let Ok(bytes) = serde_json::to_vec(&restarts)
        {
            self.host.keep_note(RESTARTS, &bytes);
            self.keeping.restarts = restarts;
        }
    }

    /// Takes over what another primary has noted of the slots' past.
    pub(super) fn inherit_restarts(&mut self, entries: &mut Vec<Entry>) -> Vec<SlotRestarts> {
        if let Some(at) = entries.iter().position(|entry| entry.name == RESTARTS) {
            self.keeping.restarts = serde_json::from_slice(&entries.swap_remove(at).meta).unwrap_or_default();
        }
        self.keeping.restarts.clone()
    }
}

/// How long to leave it after writing an image took so long.
fn rest(took: Duration) -> Option<Span> {
    let millis = u64::try_from((took * SHARE).as_millis()).unwrap_or(u64::MAX);
    (millis > 0).then(|| Span::from_millis(millis))
}
