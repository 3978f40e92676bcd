//! How many slots an app has whose number follows the load. Figures come in; it decides, and starts nothing.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::fleet::Fleet;
use crate::{AppId, AppSpec, Moment, Notice, Span, SpecError};

/// Workers that compute, or wait for a CPU to do so, for this part of the time or more, on average, are busy; in
/// thousandths.
const BUSY: u32 = 750;
/// So many looks in a row must find them busy before a slot is added.
const LOOKS: u32 = 3;
/// One slot less must leave them below this, on average; in thousandths.
const IDLE: u32 = 500;
/// For so long, before it is taken away.
const IDLE_FOR: Span = Span::from_secs(60);

/// What was seen of an app's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pressure {
    /// Looks in a row that found its workers busy.
    busy: u32,
    /// Since when one slot less would do.
    idle_since: Option<Moment>,
}

impl Pressure {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How many slots there should be after this look at workers that all serve.
    fn weigh(&mut self, slots: u32, busy: u32, now: Moment) -> u32 {
        self.busy = if busy >= BUSY { self.busy + 1 } else { 0 };
        let fewer = slots.saturating_sub(1);
        let with_fewer = u64::from(busy) * u64::from(slots) / u64::from(fewer.max(1));
        let would_do = fewer > 0 && with_fewer < u64::from(IDLE);
        self.idle_since = would_do.then(|| self.idle_since.unwrap_or(now));
        let idle = self.idle_since.is_some_and(|since| now.since(since) >= IDLE_FOR);
        if self.busy < LOOKS && !idle {
            return slots;
        }
        *self = Self::default();
        if idle { fewer } else { slots.saturating_add(1) }
    }
}

/// How busy workers are that leave so many connections waiting all the time, whatever they compute: with one for each
/// of them everybody has as much as he can do, and as long as there is any they are not too many.
fn with_queue(busy: u32, waiting: u32, slots: u32) -> u32 {
    let each = u64::from(waiting) * 1000 / u64::from(slots.max(1));
    let queued = u32::try_from(each).unwrap_or(u32::MAX).clamp(IDLE, 1000);
    if waiting == 0 { busy } else { busy.max(queued) }
}

impl Fleet {
    pub(crate) fn on_loaded(&mut self, id: AppId, busy: u32, waiting: u32, now: Moment) {
        let Some(app) = self.state.apps.get(&id) else { return };
        let calm = app.is_up() && app.reload.is_none() && self.all_serve(app);
        let Some(app) = self.state.apps.get_mut(&id) else { return };
        let from = app.instances;
        if app.spec().scaling.is_none() || !calm {
            // Whoever starts now will carry his part of the load in a moment.
            app.pressure = Pressure::default();
            return;
        }
        let mut pressure = app.pressure;
        let to = app.spec().kept_within(pressure.weigh(from, with_queue(busy, waiting, from), now));
        app.pressure = pressure;
        if to != from {
            app.instances = to;
            self.out.tell(Notice::Scaled { app: id, from, to });
        }
    }
}

impl AppSpec {
    /// A number of slots that scaling allows.
    pub(crate) fn kept_within(&self, slots: u32) -> u32 {
        self.scaling.map_or(slots, |it| slots.clamp(it.min, it.max.max(it.min)))
    }

    fn check_within(&self, wanted: u32) -> Result<(), SpecError> {
        match self.scaling {
            Some(it) if !(it.min..=it.max).contains(&wanted) => {
                Err(SpecError::OutOfBounds { wanted, min: it.min, max: it.max })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl App {
    /// Whether it may have so many slots now, and also once the reloads that are asked for are done, or have failed.
    pub(crate) fn check_within(&self, wanted: u32) -> Result<(), SpecError> {
        let coming = self.reload.as_ref().map(|reload| self.spec_of(reload.generation));
        let queued = self.queued.as_ref().and_then(|queued| queued.spec.as_ref());
        let mut all = [self.spec()].into_iter().chain(coming).chain(queued);
        all.try_for_each(|spec| spec.check_within(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of slots after each look, one a second.
    fn looks(slots: u32, loads: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let (mut pressure, mut slots) = (Pressure::default(), slots);
        let look = |(second, busy)| {
            slots = pressure.weigh(slots, busy, Moment::from_millis(second * 1000));
            slots
        };
        (0_u64..).zip(loads).map(look).collect()
    }

    #[test]
    fn three_busy_looks_in_a_row_add_a_slot() {
        assert_eq!(looks(2, [750, 900, 1000, 1000, 800, 750]), [2, 2, 3, 3, 3, 4]);
        assert_eq!(looks(2, [750, 900, 749, 900, 900]), [2; 5]);
    }

    #[test]
    fn a_queue_that_stays_is_load_of_those_who_leave_it() {
        assert_eq!(with_queue(120, 0, 2), 120);
        assert_eq!([1, 2, 3].map(|waiting| with_queue(0, waiting, 4)), [500, 500, 750]);
        assert_eq!([4, 511, u32::MAX].map(|waiting| with_queue(100, waiting, 4)), [1000; 3]);
        assert_eq!(with_queue(900, 1, 4), 900);
        assert_eq!(looks(4, [with_queue(0, 1, 4); 200]), [4; 200], "who leaves somebody waiting is not idle");
    }

    #[test]
    fn a_minute_in_which_one_less_would_do_takes_one_away() {
        let idle = looks(4, [300; 125]);
        assert_eq!((idle[59], idle[60], idle[120]), (4, 3, 3), "with 2 they would be half busy");
        let very = looks(3, [0; 200]);
        assert_eq!((very[60], very[121], very[199]), (2, 1, 1));
        let loads = (0..200_u32).map(|second| if second % 50 == 0 { 600 } else { 100 });
        assert!(looks(2, loads).iter().all(|slots| *slots == 2), "not while it is needed now and then");
    }
}
