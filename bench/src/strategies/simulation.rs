//! A primary and its workers on virtual time. The balancer is the core's own; around it everything takes no time but
//! the work, and a worker does one request at a time and does not look at its channel meanwhile.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use oxherd_core::{Balancer, InstanceId, Load, Stance, Strategy, Terms};

use crate::strategies::Times;
use crate::strategies::workload::Request;

/// As the engine has it, in microseconds.
const RECALL_AFTER_US: u64 = 5_000;

/// Who serves.
pub(crate) struct Herd {
    pub(crate) strategy: Strategy,
    pub(crate) recall: bool,
    pub(crate) workers: u32,
    pub(crate) window: u32,
    pub(crate) seed: u64,
}

/// The best there can be without knowing how long a request takes: whoever is free takes who has waited longest.
pub(crate) fn ideal(requests: &[Request], workers: usize) -> Times {
    let mut free: BinaryHeap<Reverse<u64>> = std::iter::repeat_n(Reverse(0), workers).collect();
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        let Reverse(since) = free.pop().expect("there are workers");
        let done = since.max(request.arrives) + request.work;
        times.push((done - request.arrives) as u32);
        free.push(Reverse(done));
    }
    Times::of(times)
}

/// What each request took.
pub(crate) fn simulate(requests: &[Request], herd: &Herd) -> Times {
    let mut primary = Primary::new(requests, herd);
    while let Some(Reverse((now, _, event))) = primary.events.pop() {
        match event {
            Event::Arrival(request) => primary.on_arrival(now, request),
            Event::Done(worker) => primary.on_done(now, worker),
            Event::Recall => primary.on_recall(now),
        }
    }
    Times::of(primary.times)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    Done(usize),
    Recall,
}

#[derive(Default)]
struct Worker {
    /// Picked up: answered for.
    serves: Option<usize>,
    /// Handed over and not picked up, with the moment of it.
    unread: VecDeque<(usize, u64)>,
    /// Something was taken back from it, and it has not looked at its channel since.
    is_suspect: bool,
}

struct Primary<'a> {
    requests: &'a [Request],
    recall: bool,
    recall_armed: bool,
    balancer: Balancer,
    workers: Vec<Worker>,
    /// The kernel's queue, and before it what came back.
    waiting: VecDeque<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Events of one moment come in the order in which they were made.
    made: u64,
    times: Vec<u32>,
}

fn id(worker: usize) -> InstanceId {
    InstanceId { starts: 0, number: worker as u32 }
}

fn look(workers: &[Worker], member: InstanceId) -> Stance {
    let worker = &workers[member.number as usize];
    if worker.is_suspect {
        return Stance::Waits;
    }
    let in_hand = Some(u64::from(worker.serves.is_some()) + worker.unread.len() as u64);
    Stance::Takes(Load { in_flight: in_hand, connections: in_hand, lag_us: None })
}

impl<'a> Primary<'a> {
    fn new(requests: &'a [Request], herd: &Herd) -> Self {
        let mut balancer = Balancer::new(herd.seed);
        let terms = Terms { strategy: herd.strategy, window: herd.window, weight: 1 };
        (0..herd.workers as usize).for_each(|worker| balancer.admit(id(worker), terms, 0));
        let mut primary = Self {
            requests,
            recall: herd.recall,
            recall_armed: false,
            balancer,
            workers: (0..herd.workers).map(|_| Worker::default()).collect(),
            waiting: VecDeque::new(),
            events: BinaryHeap::new(),
            made: 0,
            times: Vec::with_capacity(requests.len()),
        };
        primary.await_arrival(0);
        primary
    }

    fn at(&mut self, moment: u64, event: Event) {
        self.made += 1;
        self.events.push(Reverse((moment, self.made, event)));
    }

    fn await_arrival(&mut self, request: usize) {
        if let Some(next) = self.requests.get(request) {
            self.at(next.arrives, Event::Arrival(request));
        }
    }

    fn on_arrival(&mut self, now: u64, request: usize) {
        self.await_arrival(request + 1);
        self.waiting.push_back(request);
        self.pump(now);
    }

    fn on_done(&mut self, now: u64, worker: usize) {
        let Some(request) = self.workers[worker].serves.take() else { return };
        self.times.push((now - self.requests[request].arrives) as u32);
        self.workers[worker].is_suspect = false;
        self.pick_up(now, worker);
        self.pump(now);
    }

    fn pump(&mut self, now: u64) {
        while !self.waiting.is_empty() {
            let workers = &self.workers;
            let Some(chosen) = self.balancer.choose(|member| look(workers, member)) else { return };
            let Some(request) = self.waiting.pop_front() else { return };
            let worker = chosen.number as usize;
            self.workers[worker].unread.push_back((request, now));
            self.balancer.handed(chosen);
            self.pick_up(now, worker);
            self.watch_for_recall(now);
        }
    }

    /// A worker with nothing to do looks at its channel.
    fn pick_up(&mut self, now: u64, number: usize) {
        let worker = &mut self.workers[number];
        if worker.serves.is_some() {
            return;
        }
        if let Some((request, _)) = worker.unread.pop_front() {
            worker.serves = Some(request);
            self.balancer.answered(id(number));
            self.at(now + self.requests[request].work, Event::Done(number));
        }
    }

    fn watch_for_recall(&mut self, now: u64) {
        let unread = self.workers.iter().any(|worker| !worker.unread.is_empty() || worker.is_suspect);
        if self.recall && unread && !std::mem::replace(&mut self.recall_armed, true) {
            self.at(now + RECALL_AFTER_US, Event::Recall);
        }
    }

    fn on_recall(&mut self, now: u64) {
        self.recall_armed = false;
        for number in 0..self.workers.len() {
            let worker = &self.workers[number];
            let is_overdue = worker.unread.front().is_some_and(|(_, at)| at + RECALL_AFTER_US <= now);
            let takes = |member: InstanceId| matches!(look(&self.workers, member), Stance::Takes(_));
            if worker.is_suspect || !is_overdue || !self.balancer.has_idle(id(number), takes) {
                continue;
            }
            let worker = &mut self.workers[number];
            worker.is_suspect = true;
            while let Some((request, _)) = worker.unread.pop_back() {
                self.balancer.returned(id(number));
                self.waiting.push_front(request);
            }
            self.pump(now);
        }
        self.watch_for_recall(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::workload::Workload;

    fn requests() -> Vec<Request> {
        Workload::new(3, 4, 85).take(20_000).collect()
    }

    #[test]
    fn every_request_is_served_under_every_strategy_and_none_is_better_than_the_ideal() {
        let requests = requests();
        let best = ideal(&requests, 4);
        for strategy in Strategy::ALL {
            for recall in [true, false] {
                let times = simulate(&requests, &Herd { strategy, recall, workers: 4, window: 2, seed: 1 });
                assert_eq!(times.0.len(), requests.len());
                let mean = |times: &Times| times.0.iter().map(|time| f64::from(*time)).sum::<f64>();
                assert!(mean(&times) >= mean(&best) * 0.999, "{strategy}");
            }
        }
    }

    #[test]
    fn one_worker_with_a_window_of_one_is_the_ideal() {
        let requests: Vec<Request> = Workload::new(3, 1, 60).take(5_000).collect();
        let herd = Herd { strategy: Strategy::LeastBusy, recall: true, workers: 1, window: 1, seed: 1 };
        assert_eq!(simulate(&requests, &herd).0, ideal(&requests, 1).0);
    }
}
