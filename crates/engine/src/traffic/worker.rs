//! The workers that have a channel, as traffic sees them. It holds; other modules act.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{AppSpec, InstanceId, Load, Place, Terms};
use oxherd_wire::{Decoder, Query, Serialization};

use crate::counters::Counters;
use crate::traffic::channel::Outgoing;
use crate::traffic::load::Gauge;
use crate::traffic::orders::Attachment;

/// One worker's channel with all its bookkeeping.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) place: Place,
    /// As its environment carries it.
    pub(crate) label: String,
    pub(crate) pid: u32,
    /// As its generation has it.
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) terms: Terms,
    /// It is held when it wants to listen, until it gets its slot.
    pub(crate) parks: bool,
    /// What it wants, while it is held.
    pub(crate) held_queries: Vec<Query>,
    pub(crate) out: Outgoing,
    /// The duplicate of the worker's own end, while connections may be taken back.
    pub(crate) worker_end: Option<OwnedFd>,
    /// The stash has a duplicate too.
    pub(crate) is_end_stashed: bool,
    /// It outlived its primary: what it owes that one is not answered yet.
    pub(crate) fence: Option<Fence>,
    /// The old primary may have read the beginning of its frame, or a descriptor that belongs to one.
    pub(crate) is_resynchronising: bool,
    /// Taken out while its lines are looked at.
    pub(crate) decoder: Option<Decoder>,
    /// Received descriptors that no frame has claimed yet.
    pub(crate) received: VecDeque<OwnedFd>,
    /// A descriptor came with the beginning of a frame whose end is still to come.
    pub(crate) expects_handle: bool,
    pub(crate) next_seq: u64,
    /// Frames with an fd that the worker has not acknowledged, oldest first.
    pub(crate) handles: VecDeque<HandleFrame>,
    /// Connections that the worker has not answered for, oldest first.
    pub(crate) unanswered: VecDeque<Handed>,
    /// The listeners that the worker uses.
    pub(crate) registered: Vec<usize>,
    pub(crate) standing: Standing,
    pub(crate) attention: Attention,
    /// Since when frames wait to be sent to it.
    pub(crate) blocked_since: Option<u64>,
    /// When it is looked at next whether it has stalled.
    pub(crate) stall_check: Option<u64>,
    /// Control was told that it has stalled, and not yet that it goes on.
    pub(crate) told_stalled: bool,
    /// The poller tells when its channel takes bytes.
    pub(crate) watched_for_writing: bool,
    pub(crate) last_answer: u64,
    /// The slowest of its recent answers, in milliseconds; it fades with each that is faster.
    pub(crate) answer_delay: u64,
    /// Until when it must be left alone after its last answer before it counts as withdrawn.
    pub(crate) grace_until: u64,
    /// How much news of its own making control was told in the current second.
    pub(crate) talk: Talk,
    /// The longest message that it may send, in bytes.
    pub(crate) max_message: usize,
    /// Messages to it that it has left no room for.
    pub(crate) dropped_messages: u64,
    /// Messages from it that whoever hears them has left no room for, as far as they are not told.
    pub(crate) lost_messages: u64,
    /// The same since the last for which there was room, told or not.
    pub(crate) lost_in_a_row: u64,
    pub(crate) counters: Arc<Counters>,
    /// By which others can go on with the counters.
    pub(crate) counters_fd: Option<OwnedFd>,
    pub(crate) gauge: Gauge,
    /// By which others can read the worker's page.
    pub(crate) page_fd: Option<OwnedFd>,
}

/// What a frame with an fd was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleFrame {
    /// A connection, by the frame's `seq`.
    Connection(u64),
    /// A listening or UDP socket, in reply to a query; how often it was sent.
    Socket { seq: u64, ack: u64, listener: usize, tries: u32 },
    /// A program's message, by its name in the ledger.
    Message(u64),
}

/// A connection that was handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) seq: u64,
    pub(crate) listener: usize,
    pub(crate) connection: OwnedFd,
    pub(crate) at: u64,
    /// How many workers have refused it.
    pub(crate) refusals: u32,
}

/// A connection that the worker refuses, behind everything that another primary had sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) seq: u64,
    pub(crate) since: u64,
    pub(crate) tries: u32,
}

/// A worker as the balancer knows it: the younger is the higher. The number is where it is found without looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) instance: InstanceId,
    pub(crate) number: usize,
}

/// How far a worker's channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be given connections when it is admitted.
    Open,
    /// It was withdrawn, and control waits to hear that all is answered.
    Withdrawing,
    /// It was withdrawn, and control knows that all is answered.
    Withdrawn,
    /// It was told to leave, or said that it leaves.
    Leaving,
    /// It broke the protocol; nothing it says counts any more.
    Condemned,
    /// Its channel is at its end.
    Ended,
}

/// Whether the worker is known to look at its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// As far as is known it does.
    Awake,
    /// Connections were taken back from it; it gets none until it has read a probe.
    Suspect {
        /// The moment of it, in monotonic milliseconds.
        since: u64,
    },
}

/// News that a worker can cause at will is counted, so that one that talks without end cannot fill the queue to
/// control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Talk {
    second: u64,
    told: u32,
}

impl Talk {
    /// More than this within a second is not passed on.
    const MAX_PER_SECOND: u32 = 1000;

    /// Whether one more may be told now.
    pub(crate) fn may_tell(&mut self, now: u64) -> bool {
        let second = now / 1000;
        if self.second != second {
            *self = Self { second, told: 0 };
        }
        self.told += 1;
        self.told <= Self::MAX_PER_SECOND
    }
}

impl Worker {
    pub(crate) fn new(attachment: Attachment, first_seq: u64) -> Self {
        let Attachment {
            place,
            label,
            spec,
            pid,
            channel,
            worker_end,
            counters,
            counters_fd,
            page_fd,
            parks,
            ..
        } = attachment;
        let serialization = match spec.serialization {
            oxherd_core::Serialization::Json => Serialization::Json,
            oxherd_core::Serialization::Advanced => Serialization::Advanced,
        };
        let mut out = Outgoing::new(channel, serialization);
        if let Some(end) = &worker_end {
            out.watch_reader(end);
        }
        Self {
            place,
            label,
            pid,
            terms: spec.terms(place.slot),
            max_message: spec.max_message,
            decoder: Some(Decoder::with(serialization, spec.max_message)),
            spec,
            parks,
            held_queries: Vec::new(),
            out,
            is_end_stashed: worker_end.is_some(),
            worker_end,
            fence: None,
            is_resynchronising: false,
            received: VecDeque::new(),
            expects_handle: false,
            next_seq: first_seq,
            handles: VecDeque::new(),
            unanswered: VecDeque::new(),
            registered: Vec::new(),
            standing: Standing::Open,
            attention: Attention::Awake,
            blocked_since: None,
            stall_check: None,
            told_stalled: false,
            watched_for_writing: false,
            last_answer: 0,
            answer_delay: 0,
            grace_until: 0,
            talk: Talk::default(),
            dropped_messages: 0,
            lost_messages: 0,
            lost_in_a_row: 0,
            gauge: Gauge::of(&counters),
            counters,
            counters_fd,
            page_fd,
        }
    }

    pub(crate) fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Whether it could be given a connection of this listener right now.
    pub(crate) fn may_take(&self, listener: usize) -> bool {
        self.standing == Standing::Open
            && self.attention == Attention::Awake
            && self.fence.is_none()
            && self.out.takes_handles()
            && self.registered.contains(&listener)
    }

    /// How loaded it is now.
    pub(crate) fn load(&self, now: u64) -> Load {
        self.gauge.load(self.unanswered.len() as u64, || self.counters.handed_over(), now)
    }

    pub(crate) fn is_listening_to_us(&self) -> bool {
        match self.standing {
            Standing::Open | Standing::Withdrawing | Standing::Withdrawn | Standing::Leaving => true,
            Standing::Condemned | Standing::Ended => false,
        }
    }
}

/// All workers with a channel, under small numbers that the poller's tokens carry.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    places: Vec<Option<Worker>>,
    by_instance: BTreeMap<InstanceId, usize>,
}

impl Workers {
    /// The number that the next worker will get.
    pub(crate) fn vacant(&self) -> usize {
        self.places.iter().position(Option::is_none).unwrap_or(self.places.len())
    }

    pub(crate) fn insert(&mut self, number: usize, worker: Worker) {
        self.by_instance.insert(worker.place.instance, number);
        if number == self.places.len() {
            self.places.push(None);
        }
        self.places[number] = Some(worker);
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<Worker> {
        let worker = self.places.get_mut(number)?.take()?;
        self.by_instance.remove(&worker.place.instance);
        Some(worker)
    }

    pub(crate) fn find(&self, instance: InstanceId) -> Option<usize> {
        self.by_instance.get(&instance).copied()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Worker> {
        self.places.get(number)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Worker> {
        self.places.get_mut(number)?.as_mut()
    }

    pub(crate) fn by_instance(&self, instance: InstanceId) -> Option<&Worker> {
        self.get(self.find(instance)?)
    }

    /// All of them with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Worker)> {
        self.places.iter().enumerate().filter_map(|(number, worker)| Some((number, worker.as_ref()?)))
    }
}
