//! What the log says about workers: lines such as "Worker 3 (slot 2, pid 4711) is ready after 240 ms".

use std::collections::BTreeMap;

use crate::lines::Line;

/// What happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its process was made.
    Forked,
    /// Node says that it runs.
    Online,
    /// It listens somewhere.
    Listening,
    /// It serves: connections are given to it.
    Ready,
    /// It gets no new connections.
    AskedToFinish,
    /// Its process has ended.
    Ended,
    /// Something else.
    Other,
}

/// A log line about a worker.
#[derive(Clone, Debug)]
pub struct WorkerLine {
    /// `cluster.worker.id`.
    pub worker: u64,
    /// Its slot.
    pub slot: u32,
    /// Its process.
    pub pid: u32,
    /// What happened.
    pub event: Event,
    /// The words for it.
    pub what: String,
}

impl WorkerLine {
    /// Reads a line, if it is the primary's and about a worker.
    pub fn parse(line: &Line) -> Option<Self> {
        let rest = line.is_of_primary().then_some(line.text.as_str())?.strip_prefix("Worker ")?;
        let (worker, rest) = rest.split_once(" (slot ")?;
        let (slot, rest) = rest.split_once(", pid ")?;
        let (pid, what) = rest.split_once(") ")?;
        let event = match what {
            _ if what.starts_with("forked") => Event::Forked,
            _ if what.starts_with("is online") => Event::Online,
            _ if what.starts_with("listens on ") => Event::Listening,
            _ if what.starts_with("is ready after ") => Event::Ready,
            _ if what.starts_with("is asked to finish") => Event::AskedToFinish,
            _ if what.starts_with("ended") || what.starts_with("was ended") => Event::Ended,
            _ => Event::Other,
        };
        let what = what.to_owned();
        Some(Self {
            worker: worker.parse().ok()?,
            slot: slot.parse().ok()?,
            pid: pid.parse().ok()?,
            event,
            what,
        })
    }
}

/// The log lines about workers, in order.
pub fn of(lines: &[Line]) -> Vec<WorkerLine> {
    lines.iter().filter_map(WorkerLine::parse).collect()
}

/// The workers that serve after these lines: pid by slot. Of a slot that changes hands it is the successor.
pub fn serving(lines: &[WorkerLine]) -> BTreeMap<u32, u32> {
    let mut serving = BTreeMap::new();
    for line in lines {
        match line.event {
            Event::Ready => drop(serving.insert(line.slot, line.pid)),
            Event::AskedToFinish | Event::Ended => {
                if serving.get(&line.slot) == Some(&line.pid) {
                    serving.remove(&line.slot);
                }
            }
            Event::Forked | Event::Online | Event::Listening | Event::Other => {}
        }
    }
    serving
}

/// How many workers served after each of these lines: a worker counts from "ready" to "asked to finish".
pub fn capacities(lines: &[WorkerLine]) -> Vec<usize> {
    let mut pids = Vec::new();
    let mut capacities = Vec::with_capacity(lines.len());
    for line in lines {
        match line.event {
            Event::Ready => pids.push(line.pid),
            Event::AskedToFinish | Event::Ended => pids.retain(|pid| *pid != line.pid),
            Event::Forked | Event::Online | Event::Listening | Event::Other => {}
        }
        capacities.push(pids.len());
    }
    capacities
}

/// All pids ever forked.
pub fn forked(lines: &[WorkerLine]) -> Vec<u32> {
    lines.iter().filter(|line| line.event == Event::Forked).map(|line| line.pid).collect()
}
