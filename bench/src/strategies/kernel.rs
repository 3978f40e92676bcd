//! The `kernel` distribution on virtual time: chance decides, by shares that the primary sets anew every few
//! milliseconds from the loads as they are at that moment. The shares are the core's own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use oxherd_core::{SHARES_TOTAL, level};

use crate::strategies::Times;
use crate::strategies::workload::{Chance, Request};

/// As the engine has it, in microseconds.
const RATE_MEMORY_US: f64 = 100_000.0;

/// What the primary knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// Nothing: all shares are the same.
    Nothing,
    /// The requests in flight, of workers that tell.
    InFlight,
    /// The accept queues and the CPU time, of any program.
    QueuesAndCpu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done(usize),
    Look,
    Arrival(usize),
}

#[derive(Default)]
struct Worker {
    serves: Option<usize>,
    queue: VecDeque<usize>,
    /// Of the time since the last look.
    worked: u64,
    since: u64,
}

struct Kernel<'a> {
    requests: &'a [Request],
    knowledge: Knowledge,
    every_us: u64,
    workers: Vec<Worker>,
    shares: Vec<u32>,
    chance: Chance,
    arrivals: f64,
    rate: f64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    made: u64,
    times: Vec<u32>,
}

/// What each request took, where the shares are set anew every so many microseconds.
pub(crate) fn simulate(
    requests: &[Request],
    workers: u32,
    every_us: u64,
    knowledge: Knowledge,
    seed: u64,
) -> Times {
    let mut kernel = Kernel {
        requests,
        knowledge,
        every_us,
        workers: (0..workers).map(|_| Worker::default()).collect(),
        shares: vec![1; workers as usize],
        chance: Chance::new(seed),
        arrivals: 0.0,
        rate: 0.0,
        events: BinaryHeap::new(),
        made: 0,
        times: Vec::with_capacity(requests.len()),
    };
    if let Some(first) = requests.first() {
        kernel.at(first.arrives, Event::Arrival(0));
        kernel.at(every_us, Event::Look);
    }
    while let Some(Reverse((now, _, event))) = kernel.events.pop() {
        match event {
            Event::Arrival(request) => kernel.on_arrival(now, request),
            Event::Done(worker) => kernel.on_done(now, worker),
            Event::Look => kernel.on_look(now),
        }
    }
    Times::of(kernel.times)
}

impl Kernel<'_> {
    fn at(&mut self, moment: u64, event: Event) {
        self.made += 1;
        self.events.push(Reverse((moment, self.made, event)));
    }

    fn on_arrival(&mut self, now: u64, request: usize) {
        if let Some(next) = self.requests.get(request + 1) {
            self.at(next.arrives, Event::Arrival(request + 1));
        }
        self.arrivals += 1.0;
        let total: u64 = self.shares.iter().map(|share| u64::from(*share)).sum();
        let mut point = (self.chance.uniform() * total as f64) as u64;
        let holds = |share: &u32| {
            let holds = point < u64::from(*share);
            point = point.saturating_sub(u64::from(*share));
            holds
        };
        let worker = self.shares.iter().position(holds).unwrap_or(0);
        self.workers[worker].queue.push_back(request);
        self.pick_up(now, worker);
    }

    fn on_done(&mut self, now: u64, number: usize) {
        let worker = &mut self.workers[number];
        let Some(request) = worker.serves.take() else { return };
        worker.worked += now - worker.since;
        self.times.push((now - self.requests[request].arrives) as u32);
        self.pick_up(now, number);
    }

    fn pick_up(&mut self, now: u64, number: usize) {
        let worker = &mut self.workers[number];
        if worker.serves.is_none()
            && let Some(request) = worker.queue.pop_front()
        {
            (worker.serves, worker.since) = (Some(request), now);
            self.at(now + self.requests[request].work, Event::Done(number));
        }
    }

    fn on_look(&mut self, now: u64) {
        if self.times.len() == self.requests.len() {
            return;
        }
        let arrivals = std::mem::take(&mut self.arrivals);
        self.rate += (self.every_us as f64 / RATE_MEMORY_US).min(1.0) * (arrivals - self.rate);
        let (every, knowledge) = (self.every_us, self.knowledge);
        let load = |worker: &mut Worker| {
            if worker.serves.is_some() {
                worker.worked += now - worker.since;
                worker.since = now;
            }
            let cpu = std::mem::take(&mut worker.worked) as f64 / every as f64;
            match knowledge {
                Knowledge::Nothing => 0.0,
                Knowledge::InFlight => {
                    worker.queue.len() as f64 + f64::from(u8::from(worker.serves.is_some()))
                }
                Knowledge::QueuesAndCpu => worker.queue.len() as f64 + cpu,
            }
        };
        let loads: Vec<f64> = self.workers.iter_mut().map(load).collect();
        self.shares = level(&loads, self.rate.max(arrivals));
        debug_assert!(self.shares.iter().sum::<u32>().abs_diff(SHARES_TOTAL) <= loads.len() as u32);
        self.at(now + every, Event::Look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::simulation::ideal;
    use crate::strategies::workload::Workload;

    #[test]
    fn shares_that_follow_the_load_lie_between_chance_and_the_ideal() {
        let requests: Vec<Request> = Workload::new(3, 4, 85).take(20_000).collect();
        let best = ideal(&requests, 4).ms(0.99);
        let p99 = |every, knowledge| {
            let times = simulate(&requests, 4, every, knowledge, 1);
            assert_eq!(times.0.len(), requests.len());
            times.ms(0.99)
        };
        let random = p99(10_000, Knowledge::Nothing);
        for knowledge in [Knowledge::InFlight, Knowledge::QueuesAndCpu] {
            let (often, seldom) = (p99(10_000, knowledge), p99(50_000, knowledge));
            assert!(best < often && often < seldom * 1.05 && seldom < random, "{often} {seldom} {random}");
        }
    }
}
