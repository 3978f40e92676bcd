//! How news and output reach those who follow them. The control thread only ever tries: it never waits for a
//! follower, and without one it does next to nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as joining;
use std::time::{SystemTime, UNIX_EPOCH};

use oxherd_core::{AppId, ChangeId, ChangeOutcome, Notice, Slot};
use oxherd_engine::{Bulletin, Ear, OutputLine, Stream, WorkerMessage};
use tokio::sync::mpsc;

use super::replies::Replies;

/// How many items may wait for one follower.
const QUEUE_ITEMS: usize = 1024;
/// How many bytes of lines may wait for one follower.
const QUEUE_BYTES: usize = 1 << 20;
/// What an item weighs apart from its text.
const ITEM_BYTES: usize = 64;

/// The control thread's end: the daemon's observer tells it everything.
#[derive(Debug)]
pub struct Feed {
    news: Fan<News>,
    lines: Fan<Line>,
    replies: Replies,
    outcomes: mpsc::UnboundedSender<(ChangeId, ChangeOutcome)>,
}

/// The server's end.
#[derive(Debug)]
pub struct Intake {
    pub(super) news: Gate<News>,
    pub(super) lines: Gate<Line>,
    pub(super) replies: Replies,
    pub(super) outcomes: mpsc::UnboundedReceiver<(ChangeId, ChangeOutcome)>,
}

/// Makes both ends.
pub fn feed() -> (Feed, Intake) {
    let (news, news_gate) = fan();
    let (lines, lines_gate) = fan();
    // Unbounded, because an outcome must not be lost; there is one for each change that was asked for.
    let (outcomes, outcomes_in) = mpsc::unbounded_channel();
    let replies = Replies::default();
    let feed = Feed { news, lines, replies: replies.clone(), outcomes };
    (feed, Intake { news: news_gate, lines: lines_gate, replies, outcomes: outcomes_in })
}

impl Feed {
    /// Something happened to an app or a worker.
    pub fn bulletin(&mut self, bulletin: &Bulletin) {
        if let Notice::Changed { change, outcome } = &bulletin.notice {
            // Nobody waits for it once the server has ended.
            drop(self.outcomes.send((*change, outcome.clone())));
        }
        if let Notice::Exited { place, .. } = &bulletin.notice {
            self.replies.gone(place.instance);
        }
        self.news.push(0, |_| true, || News { bulletin: bulletin.clone(), at_ms: unix_millis() });
    }

    /// A worker sent a message.
    pub fn message(&self, message: &WorkerMessage) {
        self.replies.hear(message);
    }

    /// Open while messages are of interest.
    pub fn ear(&self) -> Ear {
        self.replies.ear()
    }

    /// A worker wrote a line.
    pub fn output(&mut self, line: &OutputLine<'_>) {
        let (app, stream) = (line.place.app, line.stream);
        self.lines.push(
            line.bytes.len(),
            |filter| filter.wants(app, stream),
            || Line {
                app,
                slot: line.place.slot,
                stream,
                bytes: line.bytes.into(),
                goes_on: line.goes_on,
                more: line.more,
                at_ms: unix_millis(),
            },
        );
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A piece of news and when it came.
#[derive(Debug)]
pub(super) struct News {
    pub(super) bulletin: Bulletin,
    pub(super) at_ms: u64,
}

/// A line of output.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) app: AppId,
    pub(super) slot: Slot,
    pub(super) stream: Stream,
    pub(super) bytes: Box<[u8]>,
    pub(super) goes_on: bool,
    pub(super) more: bool,
    pub(super) at_ms: u64,
}

/// Which lines a follower wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// All apps when `None`.
    pub(super) apps: Option<Vec<AppId>>,
    /// Both streams when `None`.
    pub(super) stream: Option<Stream>,
}

impl Filter {
    fn wants(&self, app: AppId, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
            && self.apps.as_ref().is_none_or(|apps| apps.contains(&app))
    }
}

/// Spreads items over the followers' queues. What does not fit into one is counted, for that follower alone.
#[derive(Debug)]
struct Fan<T> {
    newcomers: joining::Receiver<Seat<T>>,
    seats: Vec<Seat<T>>,
    live: Arc<AtomicUsize>,
}

/// Where followers come in.
#[derive(Debug)]
pub(super) struct Gate<T> {
    newcomers: joining::Sender<Seat<T>>,
    live: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Seat<T> {
    queue: mpsc::Sender<Queued<T>>,
    backlog: Arc<Backlog>,
    filter: Filter,
}

/// What both ends of a queue know of it.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// Items that did not fit and that the follower has not been told of.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Queued<T> {
    Item(Arc<T>, usize),
    Dropped(u64),
}

/// What a follower hears.
#[derive(Debug)]
pub(super) enum Heard<T> {
    Item(Arc<T>),
    /// So many items are missing here.
    Dropped(u64),
}

fn fan<T>() -> (Fan<T>, Gate<T>) {
    let (join, newcomers) = joining::channel();
    let live = Arc::new(AtomicUsize::new(0));
    (Fan { newcomers, seats: Vec::new(), live: live.clone() }, Gate { newcomers: join, live })
}

impl<T> Fan<T> {
    fn push(&mut self, bytes: usize, wants: impl Fn(&Filter) -> bool, make: impl FnOnce() -> T) {
        if self.live.load(Ordering::SeqCst) == 0 {
            self.seats.clear();
            return;
        }
        self.seats.extend(self.newcomers.try_iter());
        self.seats.retain(|seat| !seat.queue.is_closed());
        let mut wanting = self.seats.iter().filter(|seat| wants(&seat.filter)).peekable();
        if wanting.peek().is_some() {
            let item = Arc::new(make());
            wanting.for_each(|seat| seat.offer(&item, bytes + ITEM_BYTES));
        }
    }
}

impl<T> Seat<T> {
    /// The item goes into the queue, behind the word of what is missing, or is missing itself.
    fn offer(&self, item: &Arc<T>, bytes: usize) {
        let missing = &self.backlog.dropped;
        let room = 1 + usize::from(missing.load(Ordering::SeqCst) > 0);
        let waiting = self.backlog.bytes.load(Ordering::SeqCst);
        let fits = waiting == 0 || waiting + bytes <= QUEUE_BYTES;
        let Some(mut places) = self.queue.try_reserve_many(room).ok().filter(|_| fits) else {
            missing.fetch_add(1, Ordering::SeqCst);
            return;
        };
        // The follower may have found out by itself meanwhile.
        let count = if room > 1 { missing.swap(0, Ordering::SeqCst) } else { 0 };
        if count > 0
            && let Some(place) = places.next()
        {
            place.send(Queued::Dropped(count));
        }
        if let Some(place) = places.next() {
            self.backlog.bytes.fetch_add(bytes, Ordering::SeqCst);
            place.send(Queued::Item(item.clone(), bytes));
        }
    }
}

impl<T> Gate<T> {
    /// Everything that is pushed from now on is heard.
    pub(super) fn follow(&self, filter: Filter) -> Follower<T> {
        let (queue, heard) = mpsc::channel(QUEUE_ITEMS);
        let backlog = Arc::new(Backlog::default());
        self.live.fetch_add(1, Ordering::SeqCst);
        // Without a feed there is nothing to hear, and the queue is at its end.
        drop(self.newcomers.send(Seat { queue, backlog: backlog.clone(), filter }));
        Follower { heard, backlog, live: self.live.clone() }
    }
}

impl<T> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self { newcomers: self.newcomers.clone(), live: self.live.clone() }
    }
}

/// One who follows.
#[derive(Debug)]
pub(super) struct Follower<T> {
    heard: mpsc::Receiver<Queued<T>>,
    backlog: Arc<Backlog>,
    live: Arc<AtomicUsize>,
}

impl<T> Follower<T> {
    /// The next item, once there is one; `None` when the feed has ended. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Heard<T>> {
        if let Some(heard) = self.try_next() {
            return Some(heard);
        }
        let queued = self.heard.recv().await?;
        Some(self.unpack(queued))
    }

    /// The next item, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Heard<T>> {
        match self.heard.try_recv() {
            Ok(queued) => Some(self.unpack(queued)),
            Err(_) => match self.backlog.dropped.swap(0, Ordering::SeqCst) {
                0 => None,
                dropped => Some(Heard::Dropped(dropped)),
            },
        }
    }

    fn unpack(&self, queued: Queued<T>) -> Heard<T> {
        match queued {
            Queued::Item(item, bytes) => {
                self.backlog.bytes.fetch_sub(bytes, Ordering::SeqCst);
                Heard::Item(item)
            }
            Queued::Dropped(count) => Heard::Dropped(count),
        }
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(follower: &mut Follower<u32>) -> Vec<Result<u32, u64>> {
        let mut all = Vec::new();
        while let Some(heard) = follower.try_next() {
            all.push(match heard {
                Heard::Item(item) => Ok(*item),
                Heard::Dropped(count) => Err(count),
            });
        }
        all
    }

    #[test]
    fn nothing_is_made_without_a_follower() {
        let (mut fan, gate) = fan::<u32>();
        fan.push(0, |_| true, || unreachable!("nobody follows"));
        let follower = gate.follow(Filter::default());
        fan.push(0, |_| false, || unreachable!("nobody wants it"));
        drop(follower);
        fan.push(0, |_| true, || unreachable!("nobody follows any more"));
        assert!(fan.seats.is_empty());
    }

    #[test]
    fn a_slow_follower_is_told_how_much_is_missing_and_others_miss_nothing() {
        let (mut fan, gate) = fan::<u32>();
        let (mut slow, mut quick) = (gate.follow(Filter::default()), gate.follow(Filter::default()));
        let mut seen = 0;
        for number in 0..QUEUE_ITEMS as u32 + 5 {
            fan.push(0, |_| true, || number);
            seen += heard(&mut quick).len();
        }
        assert_eq!(seen, QUEUE_ITEMS + 5);
        let all = heard(&mut slow);
        assert_eq!(all.len(), QUEUE_ITEMS + 1);
        assert_eq!(all.last(), Some(&Err(5)));
        fan.push(0, |_| true, || 7);
        assert_eq!(heard(&mut slow), [Ok(7)]);
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_missing() {
        let (mut fan, gate) = fan::<u32>();
        let mut follower = gate.follow(Filter::default());
        for number in 0..3 {
            fan.push(QUEUE_BYTES / 2, |_| true, || number);
        }
        assert!(matches!(follower.try_next(), Some(Heard::Item(item)) if *item == 0));
        fan.push(0, |_| true, || 9);
        assert_eq!(heard(&mut follower), [Err(2), Ok(9)]);
    }

    #[test]
    fn one_item_always_fits() {
        let (mut fan, gate) = fan::<u32>();
        let mut follower = gate.follow(Filter::default());
        fan.push(QUEUE_BYTES * 2, |_| true, || 1);
        fan.push(1, |_| true, || 2);
        assert_eq!(heard(&mut follower), [Ok(1), Err(1)]);
    }

    #[test]
    fn lines_are_chosen_by_app_and_stream() {
        let filter = Filter { apps: Some(vec![AppId(2)]), stream: Some(Stream::Stderr) };
        assert!(filter.wants(AppId(2), Stream::Stderr));
        assert!(!filter.wants(AppId(2), Stream::Stdout));
        assert!(!filter.wants(AppId(1), Stream::Stderr));
        assert!(Filter::default().wants(AppId(9), Stream::Stdout));
    }
}
