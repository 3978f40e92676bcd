//! The traffic thread: listeners, both directions of every channel, and the balancer.
//!
//! It gives connections to admitted workers and reports facts. It never decides who is admitted, who lives and
//! who is replaced: those are orders from control.

mod acceptor;
mod adopt;
mod apps;
mod begun;
mod bind;
mod borrower;
mod channel;
mod closed;
mod doors;
mod group;
mod holder;
mod inbox;
mod keep;
mod lameduck;
mod lifecycle;
mod listen_fds;
mod listener;
mod load;
mod orders;
mod outbox;
mod parking;
mod paths;
mod query;
mod recall;
mod relay;
mod reply;
mod stall;
mod takeover;
mod tap;
mod timers;
mod traps;
mod unused;
mod waiting;
mod weights;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;

use oxherd_core::{AppId, InstanceId};
use oxherd_os::{Alarm, Events, Interest, Poller, Signals, clock};

use crate::Ear;
use crate::host::Stash;
use crate::link::{Reader, Writer, link};
use crate::traffic::apps::App;
use crate::traffic::borrower::Borrowers;
use crate::traffic::listener::Listeners;
use crate::traffic::relay::Relays;
use crate::traffic::takeover::Leftovers;
use crate::traffic::tap::Tap;
use crate::traffic::timers::{Timer, Timers};
use crate::traffic::weights::Steerings;
use crate::traffic::worker::Workers;

pub(crate) use keep::{counters_of, listener_of, page_of, standing_in, traps_of, uses_of};
pub(crate) use orders::{Attachment, Bequest, Borrowing, Delivery, NewStash, News, Opening, Order, Parcel};

const SIGPIPE: i32 = 13;
const WAKER: u64 = 0;
const ALARM: u64 = 1;
const ASLEEP: u64 = 2;
const EVENTS_PER_WAIT: usize = 256;
/// As much as one read of a channel takes: what Node uses too.
const READ_BYTES: usize = 64 << 10;

/// The control thread's hold on the traffic thread.
#[derive(Debug)]
pub(crate) struct TrafficHandle {
    pub(crate) orders: Writer<Order>,
    pub(crate) news: Reader<News>,
    thread: Option<JoinHandle<()>>,
}

impl TrafficHandle {
    /// With an `ear` the messages of workers are passed on as news.
    pub(crate) fn start(recall: bool, ear: Option<Ear>, stash: Box<dyn Stash>) -> io::Result<Self> {
        let (orders, order_reader) = link()?;
        let (news_writer, news) = link()?;
        let mut traffic = Traffic::new(order_reader, news_writer.clone(), recall, stash)?;
        traffic.tap = ear.map(Tap::new);
        let work = move || {
            // Spools are sent by a call that cannot leave the signal out; a program may die of it by default.
            drop(Signals::block(&[SIGPIPE]));
            let _obituary = Obituary(news_writer);
            traffic.run();
        };
        let thread = std::thread::Builder::new().name("traffic".into()).spawn(work)?;
        Ok(Self { orders, news, thread: Some(thread) })
    }

    /// Nobody carries the orders out: they can be looked at.
    #[cfg(test)]
    pub(crate) fn idle() -> (Self, Reader<Order>) {
        let (orders, given) = link().unwrap();
        let (_, news) = link().unwrap();
        (Self { orders, news, thread: None }, given)
    }
}

impl Drop for TrafficHandle {
    fn drop(&mut self) {
        self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there; nothing is left to be done about it here.
            drop(thread.join());
        }
    }
}

/// Tells control when the thread panics: without it nobody would be served and nobody would know.
struct Obituary(Writer<News>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send(News::Lost);
        }
    }
}

/// What a poller's token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Orders,
    Alarm,
    /// A connection has come to a listener whose workers are not weighed while none does.
    Asleep,
    Channel(usize),
    Source {
        listener: usize,
        source: usize,
    },
    Traps(usize),
    Relay(usize),
}

impl Token {
    const CHANNEL: u64 = 1 << 60;
    const SOURCE: u64 = 2 << 60;
    const TRAPS: u64 = 3 << 60;
    const RELAY: u64 = 4 << 60;

    fn encode(self) -> u64 {
        match self {
            Self::Orders => WAKER,
            Self::Alarm => ALARM,
            Self::Asleep => ASLEEP,
            Self::Channel(worker) => Self::CHANNEL | worker as u64,
            Self::Source { listener, source } => Self::SOURCE | (listener as u64) << 24 | source as u64,
            Self::Traps(borrower) => Self::TRAPS | borrower as u64,
            Self::Relay(relay) => Self::RELAY | relay as u64,
        }
    }

    fn decode(token: u64) -> Self {
        let rest = token & (Self::CHANNEL - 1);
        match token & !(Self::CHANNEL - 1) {
            Self::CHANNEL => Self::Channel(rest as usize),
            Self::SOURCE => {
                Self::Source { listener: (rest >> 24) as usize, source: (rest & 0xff_ffff) as usize }
            }
            Self::TRAPS => Self::Traps(rest as usize),
            Self::RELAY => Self::Relay(rest as usize),
            _ if rest == ALARM => Self::Alarm,
            _ if rest == ASLEEP => Self::Asleep,
            _ => Self::Orders,
        }
    }
}

pub(crate) struct Traffic {
    poller: Poller,
    orders: Reader<Order>,
    news: Writer<News>,
    apps: BTreeMap<AppId, App>,
    workers: Workers,
    borrowers: Borrowers,
    listeners: Listeners,
    relays: Relays,
    /// What workers use that are being started with their listeners.
    opened: BTreeMap<InstanceId, Vec<usize>>,
    steerings: Steerings,
    /// The apps whose queues are being looked at.
    counts: BTreeMap<AppId, waiting::Count>,
    timers: Timers,
    alarm: Alarm,
    stash: Box<dyn Stash>,
    begun: Vec<begun::Begun>,
    leftovers: Leftovers,
    /// The number of the first frame to each worker.
    first_seq: u64,
    recall: bool,
    recall_armed: bool,
    /// What may wait of the messages that are passed on, where somebody wants them.
    tap: Option<Tap>,
    /// The workers for whom messages are gathered.
    gathering: Vec<usize>,
    /// Monotonic milliseconds, read once per turn of the loop.
    now: u64,
    /// The primary has no free descriptors: nothing is accepted until the retry.
    out_of_fds: bool,
    /// When descriptors lacked last, while control was told of that and not yet of its end.
    last_shortage: Option<u64>,
    stopping: bool,
    /// Buffers that every turn uses again.
    read_buffer: Box<[u8]>,
    scratch: Vec<u8>,
}

impl Traffic {
    fn new(
        orders: Reader<Order>,
        news: Writer<News>,
        recall: bool,
        stash: Box<dyn Stash>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let alarm = Alarm::new()?;
        poller.add(orders.waker(), Token::Orders.encode(), Interest::READ)?;
        poller.add(&alarm, Token::Alarm.encode(), Interest::READ)?;
        let steerings = Steerings::new()?;
        poller.add(steerings.sleepers(), Token::Asleep.encode(), Interest::READ)?;
        Ok(Self {
            poller,
            orders,
            news,
            apps: BTreeMap::new(),
            counts: BTreeMap::new(),
            workers: Workers::default(),
            borrowers: Borrowers::default(),
            listeners: Listeners::default(),
            relays: Relays::default(),
            opened: BTreeMap::new(),
            steerings,
            timers: Timers::default(),
            alarm,
            stash,
            begun: Vec::new(),
            leftovers: Leftovers::default(),
            first_seq: 0,
            recall,
            recall_armed: false,
            tap: None,
            gathering: Vec::new(),
            now: clock::monotonic_millis(),
            out_of_fds: false,
            last_shortage: None,
            stopping: false,
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            scratch: Vec::with_capacity(1024),
        })
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        while !self.stopping {
            if let Some(due) = self.timers.next() {
                self.alarm.ring_by(due).expect("the alarm is open");
            }
            self.poller.wait(&mut events, None).expect("the poller is open");
            self.turn(&events, clock::monotonic_millis());
        }
    }

    /// Everything that has happened until `now`.
    fn turn(&mut self, events: &Events, now: u64) {
        self.now = now;
        for event in events.iter() {
            match Token::decode(event.token) {
                Token::Orders => self.on_orders(),
                Token::Alarm => self.alarm.rang(),
                Token::Asleep => self.on_woken(),
                Token::Channel(worker) => self.on_channel(worker, event.readable, event.writable),
                Token::Source { listener, source } => self.on_source(listener, source),
                Token::Traps(borrower) => self.on_traps(borrower, event.hangup),
                Token::Relay(relay) => self.on_relay(relay),
            }
        }
        while let Some(timer) = self.timers.pop_due(now) {
            self.on_timer(timer);
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Recall => self.on_recall_timer(),
            Timer::Withdrawn(instance) => self.on_grace_over(instance),
            Timer::Stall(instance) => self.on_stall_timer(instance),
            Timer::RetrySend(instance) => self.on_retry_send(instance),
            Timer::RetryAccept => self.on_retry_accept(),
            Timer::RetryListener(listener) => self.on_retry_listener(listener),
            Timer::Doors(app) => self.check_doors(app),
            Timer::Waiting(app) => self.look_at_queues(app),
            Timer::LameDuck(instance) => self.on_lame_duck_timer(instance),
            Timer::Left(listener) => self.on_left_timer(listener),
            Timer::Retire(listener) => self.on_retire_timer(listener),
            Timer::Unused(listener, left_by) => self.on_unused_timer(listener, left_by),
            Timer::Begun(app) => self.on_begun_timer(app),
            Timer::PutBack(instance) => self.on_put_back_timer(instance),
            Timer::Listens(instance, listener) => self.on_listens_timer(instance, listener),
            Timer::Weigh(listener) => self.on_weigh_timer(listener),
        }
    }

    fn tell(&self, news: News) {
        self.news.send(news);
    }

    fn worker_of(&self, instance: InstanceId) -> Option<usize> {
        self.workers.find(instance)
    }
}

#[cfg(test)]
mod tests;
