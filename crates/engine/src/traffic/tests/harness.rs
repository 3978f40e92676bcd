//! What the tests share: a traffic "thread" that is stepped by hand, scripted workers, clients.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxherd_core::{AppId, AppSpec, Distribution, Event, Generation, InstanceId, Place, Serialization, Slot};
use oxherd_os::{Events, fdpass};
use oxherd_wire as wire;

use super::keeper::MemoryStash;
use crate::counters::Counters;
use crate::host::NoStash;
use crate::link::{Reader, Writer, link};
use crate::traffic::orders::{Attachment, News, Order};
use crate::traffic::{EVENTS_PER_WAIT, Traffic};

/// Far longer than anything takes; only a bug lets it pass.
const DEADLINE: Duration = Duration::from_secs(20);
pub(super) const APP: AppId = AppId(0);

/// A traffic thread without a thread: it does something only when a test says so, and time stands still.
pub(super) struct Herd {
    pub(super) traffic: Traffic,
    orders: Writer<Order>,
    news: Reader<News>,
    events: Events,
    pub(super) now: u64,
    pub(super) spec: AppSpec,
    pub(super) told: Vec<News>,
    instances: u32,
    parks_next: bool,
    /// Of workers to come.
    pub(super) generation: Generation,
}

impl Herd {
    pub(super) fn new() -> Self {
        Self::with(true)
    }

    pub(super) fn without_recall() -> Self {
        Self::with(false)
    }

    /// One whose embedder hears the messages of workers.
    pub(super) fn tapped() -> Self {
        let mut herd = Self::new();
        let ear = crate::Ear::default();
        ear.open();
        herd.traffic.tap = Some(crate::traffic::tap::Tap::new(ear));
        herd
    }

    pub(super) fn kernel() -> Self {
        let mut herd = Self::with(true);
        herd.spec.distribution = Distribution::Kernel;
        herd
    }

    fn with(recall: bool) -> Self {
        Self::made(recall, None)
    }

    /// One that keeps what is to outlive it.
    pub(super) fn kept(stash: &MemoryStash) -> Self {
        Self::made(true, Some(stash.clone()))
    }

    fn made(recall: bool, stash: Option<MemoryStash>) -> Self {
        let stash: Box<dyn crate::host::Stash> = match stash {
            Some(stash) => Box::new(stash),
            None => Box::new(NoStash),
        };
        let (orders, reader) = link().unwrap();
        let (writer, news) = link().unwrap();
        let mut spec = AppSpec::new("app", "node");
        spec.serialization = if is_advanced() { Serialization::Advanced } else { Serialization::Json };
        Self {
            traffic: Traffic::new(reader, writer, recall, stash).unwrap(),
            orders,
            news,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            now: 1_000_000,
            spec,
            told: Vec::new(),
            instances: 0,
            parks_next: false,
            generation: Generation(1),
        }
    }

    /// Deals with everything that has happened, until nothing more does. Returns how many turns it took.
    pub(super) fn settle(&mut self) -> usize {
        self.settle_within(Duration::ZERO)
    }

    /// The same; what is to happen first may take so long.
    fn settle_within(&mut self, mut patience: Duration) -> usize {
        let mut turns = 0;
        loop {
            let count = self.traffic.poller.wait(&mut self.events, Some(patience)).unwrap();
            patience = Duration::ZERO;
            self.traffic.turn(&self.events, self.now);
            turns += 1;
            assert!(turns < 100_000, "it spins");
            if count == 0 {
                self.told.extend(self.news.take());
                return turns;
            }
        }
    }

    /// Lets time pass, in milliseconds.
    pub(super) fn pass(&mut self, millis: u64) {
        self.settle();
        self.now += millis;
        self.settle();
    }

    pub(super) fn order(&mut self, order: Order) {
        self.orders.send(order);
        self.settle();
    }

    /// Goes on until `found` finds something.
    pub(super) fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        let mut patience = Duration::ZERO;
        loop {
            self.settle_within(patience);
            // Others need the CPU to bring it about.
            patience = Duration::from_millis(1);
            if let Some(it) = found(self) {
                return it;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        }
    }

    /// A worker that is attached, not admitted.
    pub(super) fn attach(&mut self, slot: u32) -> Worker {
        let (primary, worker) = UnixStream::pair().unwrap();
        self.attach_with(slot, primary, worker)
    }

    /// One that is held when it wants to listen.
    pub(super) fn attach_parked(&mut self, slot: u32) -> Worker {
        self.parks_next = true;
        self.attach(slot)
    }

    pub(super) fn attach_with(&mut self, slot: u32, primary: UnixStream, worker: UnixStream) -> Worker {
        primary.set_nonblocking(true).unwrap();
        worker.set_nonblocking(true).unwrap();
        self.instances += 1;
        let instance = InstanceId { starts: 0, number: self.instances };
        let place = Place { app: APP, slot: Slot(slot), generation: self.generation, instance };
        let counters = Arc::new(Counters::default());
        let parks = std::mem::take(&mut self.parks_next);
        self.order(Order::Attach(Attachment {
            place,
            label: label_of(place),
            spec: Arc::new(self.spec.clone()),
            pid: NOBODY + self.instances,
            channel: primary.into(),
            worker_end: Some(worker.try_clone().unwrap().into()),
            counters: Arc::clone(&counters),
            counters_fd: None,
            page_fd: None,
            parks,
            is_heir: false,
        }));
        Worker {
            place,
            end: Some(worker),
            serialization: match self.spec.serialization {
                Serialization::Json => wire::Serialization::Json,
                Serialization::Advanced => wire::Serialization::Advanced,
            },
            unread: Vec::new(),
            fds: VecDeque::new(),
            lent: Vec::new(),
            seq: 0,
            counters,
        }
    }

    /// A worker that listens on a port of the kernel's choice (the same for all) and is admitted.
    pub(super) fn worker(&mut self, slot: u32) -> (Worker, SocketAddr) {
        let mut worker = self.attach(slot);
        let address = worker.listen(self, 0);
        self.order(Order::Admit(worker.place.instance));
        (worker, address)
    }

    pub(super) fn fact(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.count_facts(is_it) > 0
    }

    pub(super) fn count_facts(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.told.iter().filter(|news| matches!(news, News::Fact(event) if is_it(event))).count()
    }

    pub(super) fn is_withdrawn(&self, worker: &Worker) -> bool {
        let of = worker.place.instance;
        self.fact(|event| matches!(event, Event::Withdrawn { instance } if *instance == of))
    }

    pub(super) fn is_condemned(&self, worker: &Worker) -> bool {
        let of = worker.place.instance;
        self.fact(|event| matches!(event, Event::Misbehaved { instance, .. } if *instance == of))
    }

    /// The process is gone, and so are its descriptors.
    pub(super) fn bury(&mut self, worker: &mut Worker) {
        worker.end = None;
        worker.fds.clear();
        worker.lent.clear();
        self.order(Order::Detach(worker.place.instance));
        let of = worker.place.instance;
        assert!(self.told.iter().any(|news| matches!(news, News::Detached(it) if *it == of)));
    }
}

/// No process has such a number (`PID_MAX_LIMIT` is 2^22).
const NOBODY: u32 = 1 << 24;

pub(super) fn label_of(place: Place) -> String {
    format!("test/{}", oxherd_core::Label(place))
}

/// A scripted worker: the far end of a channel.
pub(super) struct Worker {
    pub(super) place: Place,
    pub(super) end: Option<UnixStream>,
    pub(super) serialization: wire::Serialization,
    unread: Vec<u8>,
    pub(super) fds: VecDeque<OwnedFd>,
    /// Listeners that it was lent.
    pub(super) lent: Vec<OwnedFd>,
    seq: u64,
    pub(super) counters: Arc<Counters>,
}

/// A connection as the worker got it.
pub(super) struct Got {
    pub(super) seq: u64,
    pub(super) connection: TcpStream,
}

impl Got {
    /// What the client wrote: it tells which client it was.
    pub(super) fn name(&self) -> u64 {
        name_of(&self.connection)
    }
}

pub(super) fn name_of(connection: &TcpStream) -> u64 {
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut name = [0; 8];
    let mut reader = connection;
    reader.read_exact(&mut name).unwrap();
    u64::from_be_bytes(name)
}

impl Worker {
    pub(super) fn say(&mut self, line: &str) {
        let bytes = self.framed(line);
        self.write(&bytes);
    }

    /// A line as it is on the channel. What is no JSON becomes a frame that is no value.
    pub(super) fn framed(&self, line: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        if wire::frame_of(self.serialization, format!("{line}\n").as_bytes(), &mut bytes).is_err() {
            bytes.extend_from_slice(&(line.len() as u32 + 2).to_be_bytes());
            bytes.extend_from_slice(b"\xff\x0f");
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.end.as_ref().unwrap().write_all(bytes).unwrap();
    }

    pub(super) fn send_fd(&mut self, bytes: &[u8], fd: impl AsFd) {
        let end = self.end.as_ref().unwrap();
        assert_eq!(fdpass::send(end, bytes, Some(fd.as_fd())).unwrap(), bytes.len());
    }

    /// The next line, if one is whole.
    pub(super) fn hear(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.next_unread() {
                return Some(line);
            }
            if !self.read_once() {
                return None;
            }
        }
    }

    /// Everything that was not heard, as it came.
    pub(super) fn hear_raw(&mut self) -> Vec<u8> {
        while self.read_once() {}
        std::mem::take(&mut self.unread)
    }

    fn read_once(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let Some(end) = self.end.as_ref() else { return false };
        match fdpass::receive(end, &mut buffer, &mut self.fds) {
            Ok(received) if received.bytes > 0 => {
                assert!(received.fds <= 1, "one descriptor per read");
                self.unread.extend_from_slice(&buffer[..received.bytes]);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn next_unread(&mut self) -> Option<String> {
        let frame = wire::split_frames(self.serialization, &self.unread).next()?.to_vec();
        let line = match self.serialization {
            wire::Serialization::Json => frame.strip_suffix(b"\n")?.to_vec(),
            wire::Serialization::Advanced => {
                let len = frame.first_chunk().map(|len| u32::from_be_bytes(*len) as usize)?;
                (frame.len() == len + 4).then_some(())?;
                wire::line_of(&frame, usize::MAX).expect("a whole frame is a value")
            }
        };
        self.unread.drain(..frame.len());
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }

    /// Bytes that were read elsewhere.
    pub(super) fn take_for_read(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// As [`hear_all`](Self::hear_all), and nothing more is read.
    pub(super) fn hear_unread(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_unread()).collect()
    }

    pub(super) fn hear_all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    /// The next connection, acknowledged but not answered.
    pub(super) fn take(&mut self) -> Option<Got> {
        while let Some(line) = self.hear() {
            if let Some(seq) = newconn_seq(&line) {
                let connection = TcpStream::from(self.fds.pop_front().expect("its descriptor came with it"));
                self.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
                return Some(Got { seq, connection });
            }
        }
        None
    }

    pub(super) fn answer(&mut self, got: &Got, accepted: bool) {
        self.seq += 1;
        let (ack, seq) = (got.seq, self.seq);
        self.say(&format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"accepted":{accepted},"seq":{seq}}}"#));
    }

    pub(super) fn query(&mut self, members: &str) {
        self.seq += 1;
        let seq = self.seq;
        self.say(&format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer",{members},"seq":{seq}}}"#));
    }

    /// Asks for a port and returns the reply.
    pub(super) fn ask(&mut self, herd: &mut Herd, members: &str) -> String {
        self.query(members);
        let ack = format!(r#""ack":{},"#, self.seq);
        herd.until("a reply", |_| self.hear().filter(|line| line.contains(&ack)))
    }

    /// Listens on a port of the kernel's choice, the `index`th of this worker.
    pub(super) fn listen(&mut self, herd: &mut Herd, index: u32) -> SocketAddr {
        let members = format!(
            r#""index":{index},"data":null,"address":"127.0.0.1","port":0,"addressType":4,"backlog":false"#
        );
        let reply = self.ask(herd, &members);
        let port = match number_after(&reply, r#""port":"#) {
            Some(port) => port as u16,
            None => {
                // Lent: the worker asks the socket itself, and accepts from it.
                self.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
                self.keep_lent().port()
            }
        };
        herd.settle();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The socket that came last is a listener. Where?
    pub(super) fn keep_lent(&mut self) -> SocketAddr {
        let fd = self.fds.pop_back().expect("the listener came with the reply");
        let address = oxherd_os::socket::local_addr(&fd).unwrap();
        self.lent.push(fd);
        match address {
            oxherd_os::socket::LocalAddr::Inet(address) => address,
            other => panic!("{other:?}"),
        }
    }

    /// Accepts from the listeners that it was lent, and reads the clients' names.
    pub(super) fn accept_lent(&self) -> Vec<u64> {
        let mut names = Vec::new();
        for lent in &self.lent {
            while let Ok(connection) = oxherd_os::socket::accept(lent) {
                names.push(name_of(&TcpStream::from(connection)));
            }
        }
        names
    }
}

/// A client that has said its name.
pub(super) fn client(address: SocketAddr, name: u64) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&name.to_be_bytes()).unwrap();
    client
}

pub(super) fn clients(address: SocketAddr, names: std::ops::Range<u64>) -> Vec<TcpStream> {
    names.map(|name| client(address, name)).collect()
}

pub(super) fn newconn_seq(line: &str) -> Option<u64> {
    if line.contains(r#""act":"newconn""#) { number_after(line, r#""seq":"#) } else { None }
}

pub(super) fn key_of(reply: &str) -> String {
    let rest = reply.split_once(r#""key":""#).unwrap().1;
    rest.split_once('"').unwrap().0.to_owned()
}

pub(super) fn number_after(text: &str, what: &str) -> Option<u64> {
    let rest = text.split_once(what)?.1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// How many descriptors this process has open. Only for tests that run in a process of their own.
pub(super) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const OWN_PROCESS: &str = "OXHERD_ENGINE_TEST";

/// The full name of the test that runs.
fn test_name() -> String {
    let of_thread = || std::thread::current().name().map(str::to_owned);
    std::env::var(OWN_PROCESS).ok().or_else(of_thread).unwrap_or_default()
}

/// Whether channels are written as values, not as JSON: what is in `mod advanced` is tested so.
pub(super) fn is_advanced() -> bool {
    test_name().contains("::advanced::")
}

/// Whether this is the process of its own that this test asked for; else runs it and is done.
pub(super) fn in_own_process() -> bool {
    let name = test_name();
    if std::env::var(OWN_PROCESS).is_ok() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--nocapture"]).env(OWN_PROCESS, &name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "no such test: {said}");
    false
}
