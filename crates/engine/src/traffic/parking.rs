//! Booted workers that are held before they listen, until they are given a slot: a borrower's `bind` or `listen` is
//! left unanswered, and so is the query of a worker with a channel.

use oxherd_core::{Event, InstanceId, Slot};
use oxherd_os::lending::{Answer, Trapped};
use oxherd_wire::Query;

use crate::traffic::Traffic;
use crate::traffic::borrower::Parking;
use crate::traffic::orders::News;

/// So many calls or queries of one worker are held at most: each is a thread of it that waits.
const HELD_MAX: usize = 1024;
const EINTR: i32 = 4;
const EMFILE: i32 = 24;

impl Traffic {
    /// Whether a call that would lend a worker something is held.
    pub(super) fn is_held(&self, number: usize) -> bool {
        self.borrowers.get(number).is_some_and(|it| it.parking != Parking::Off)
    }

    pub(super) fn hold_call(&mut self, number: usize, trapped: Trapped) {
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        match borrower.parking {
            Parking::Interrupted => return self.answer_call(number, trapped.id, Answer::Failed(EINTR)),
            Parking::Off | Parking::Due | Parking::Parked => {}
        }
        if borrower.held.len() >= HELD_MAX {
            return self.answer_call(number, trapped.id, Answer::Failed(EMFILE));
        }
        borrower.held.push(trapped);
        let was = std::mem::replace(&mut borrower.parking, Parking::Parked);
        let instance = borrower.place.instance;
        self.keep_calls(number);
        if was != Parking::Parked {
            self.tell(News::Fact(Event::Parked { instance }));
        }
    }

    /// From now on it fills this slot, and goes on.
    pub(super) fn unpark(&mut self, instance: InstanceId, slot: Slot) {
        if let Some(number) = self.worker_of(instance) {
            return self.unpark_worker(number, slot);
        }
        let Some(number) = self.borrowers.find(instance) else { return };
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        borrower.place.slot = slot;
        borrower.parking = Parking::Off;
        let held = std::mem::take(&mut borrower.held);
        held.iter().for_each(|trapped| self.carry_out_call(number, trapped));
        self.keep_calls(number);
    }

    /// It is to end, and was sent its signal: that comes through only once its call has returned.
    pub(super) fn interrupt(&mut self, instance: InstanceId) {
        let Some(number) = self.borrowers.find(instance) else { return };
        let Some(borrower) = self.borrowers.get_mut(number) else { return };
        if borrower.parking == Parking::Off {
            return;
        }
        borrower.parking = Parking::Interrupted;
        let held = std::mem::take(&mut borrower.held);
        held.iter().for_each(|trapped| self.answer_call(number, trapped.id, Answer::Failed(EINTR)));
        self.keep_calls(number);
    }

    /// Whether a query is held.
    pub(super) fn hold_query(&mut self, number: usize, query: Query) -> Option<Query> {
        let Some(worker) = self.workers.get_mut(number) else { return Some(query) };
        if !worker.parks {
            return Some(query);
        }
        if worker.held_queries.len() >= HELD_MAX {
            self.reply_error(number, &query, EMFILE);
            return None;
        }
        let is_first = worker.held_queries.is_empty();
        worker.held_queries.push(query);
        let instance = worker.place.instance;
        if is_first {
            self.tell(News::Fact(Event::Parked { instance }));
        }
        None
    }

    fn unpark_worker(&mut self, number: usize, slot: Slot) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.parks = false;
        worker.place.slot = slot;
        worker.terms = worker.spec.terms(slot);
        let held = std::mem::take(&mut worker.held_queries);
        held.into_iter().for_each(|query| self.on_query(number, query));
    }
}
