//! What a new primary makes of real processes that another left, with an image and without one.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use oxherd_core::{AppId, AppStatus, DesiredApp, Generation, ImageRef, InstanceStatus, Notice, Slot};
use oxherd_os::{CgroupChoice, ExitStatus, Host, HostOptions, Output, SharedWords, SpawnSpec, Spawned};

use super::*;
use crate::host::{HeirRef, NoStash, ProcessHost, Stash};
use crate::link::Reader;
use crate::traffic::TrafficHandle;
use crate::{Bulletin, Observer, OutputLine, Report, Settings};

const APP: AppId = AppId(0);

/// Holds processes in place of a keeper; what is noted can be looked at.
struct TestHost {
    host: Host,
    primary: String,
    notes: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// What the one who holds the processes was told, in order.
    done: Rc<RefCell<Vec<String>>>,
}

impl ProcessHost for TestHost {
    fn primary(&self) -> &str {
        &self.primary
    }

    fn ties_workers(&self) -> bool {
        false
    }

    fn spawn(&mut self, _: &SpawnSpec, _: &[BorrowedFd<'_>]) -> Result<Spawned, oxherd_core::SpawnFailure> {
        Err(oxherd_core::SpawnFailure { message: "not here".into(), lasting: true })
    }

    fn try_wait(&mut self, child: &mut oxherd_os::Child) -> std::io::Result<Option<ExitStatus>> {
        self.host.try_wait(child)
    }

    fn kill_tree(&mut self, child: &oxherd_os::Child) {
        self.host.kill_tree(child).unwrap();
    }

    fn forget(&mut self, child: &oxherd_os::Child) {
        self.done.borrow_mut().push(format!("forget {}", child.label()));
    }

    fn reap_strangers(&mut self) {}

    fn dying(&mut self) -> usize {
        0
    }

    fn keep_image(&mut self, _: ImageRef<'_>) {
        self.done.borrow_mut().push("keep image".into());
    }

    fn keep_note(&mut self, name: &str, bytes: &[u8]) {
        self.notes.borrow_mut().insert(name.into(), bytes.to_vec());
    }

    fn loss(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn renew(&mut self, _: &[HeirRef<'_>]) -> std::io::Result<Box<dyn Stash>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Keeps the news.
#[derive(Default)]
struct Witness(Vec<Notice>);

impl Observer for Witness {
    fn bulletin(&mut self, bulletin: &Bulletin) {
        self.0.push(bulletin.notice.clone());
    }

    fn output(&mut self, _: &OutputLine<'_>) {}

    fn report(&mut self, _: &Report) {}

    fn alert(&mut self, _: &Alert) {}
}

/// What was left, until somebody takes it over.
struct Legacy {
    host: Host,
    primary: String,
    notes: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    done: Rc<RefCell<Vec<String>>>,
    estate: Estate,
}

/// A new primary that nothing is carried out for.
struct Heiress<'a> {
    control: Control<'a>,
    orders: Reader<Order>,
}

impl Legacy {
    fn new() -> Self {
        let options = HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() };
        let host = Host::new(options).unwrap();
        // To end one is to end all that carry its label, and tests run side by side.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let primary = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let estate = Estate { starts: 1, ..Estate::default() };
        Self { host, primary, notes: Rc::default(), done: Rc::default(), estate }
    }

    /// A process of app 0 with a channel, by slot, generation and number.
    fn worker(&mut self, slot: u32, generation: u32, number: u32, script: &str) -> String {
        let mut spec = SpawnSpec::new("/bin/sh");
        spec.args = ["-c", script].map(Into::into).to_vec();
        spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
        spec.label = format!("{}/0:{slot}:{generation}:0.{number}", self.primary);
        (spec.channel, spec.parent_death_signal, spec.stdout) = (true, true, Output::Null);
        let Spawned { child, channel, .. } = self.host.spawn(&spec).unwrap();
        let channel = channel.map(|ends| ends.primary);
        self.estate.children.push(Heir {
            child,
            channel,
            worker_end: None,
            stdin: None,
            stdout: None,
            stderr: None,
        });
        spec.label
    }

    /// Counters that outlive their primary; they are part of the estate.
    fn counters(&mut self, label: &str) -> Counters {
        let (counters, fd) = Counters::shared().unwrap();
        let name = format!("counters/{label}");
        self.estate.entries.push(Entry { name, meta: Vec::new(), fd: Some(fd) });
        counters
    }

    /// The page of a worker of ours, likewise.
    fn page(&mut self, label: &str) -> SharedWords {
        let (words, fd) = SharedWords::new("page").unwrap();
        words.words()[oxherd_wire::load::WORD_MAGIC].store(oxherd_wire::load::MAGIC, Ordering::Relaxed);
        self.estate.entries.push(Entry { name: format!("load/{label}"), meta: Vec::new(), fd: Some(fd) });
        words
    }

    fn note(&mut self, name: &str, text: &str) {
        self.estate.entries.push(Entry { name: name.into(), meta: text.into(), fd: None });
    }

    fn want(&mut self, spec: AppSpec) {
        let instances = spec.instances;
        let app = DesiredApp { app: APP, generation: Generation(1), spec, instances, up: true };
        self.estate.desired = Some(Desired { apps: vec![app] });
    }

    fn control(self, witness: &mut Witness) -> (Heiress<'_>, Estate) {
        let settings = Settings { signals: false, ..Settings::default() };
        let Self { host, primary, notes, done, .. } = self;
        let host = Box::new(TestHost { host, primary, notes, done });
        let mut control = Control::new(&settings, host, Box::new(NoStash), witness).unwrap();
        let (traffic, orders) = TrafficHandle::idle();
        control.traffic = traffic;
        (Heiress { control, orders }, self.estate)
    }

    fn taken_over(self, witness: &mut Witness) -> Heiress<'_> {
        let (mut heiress, estate) = self.control(witness);
        heiress.control.take_over(estate);
        heiress
    }
}

impl Heiress<'_> {
    fn app(&self) -> AppStatus {
        self.control.fleet.status(now()).apps.remove(0)
    }

    fn instance(&self, number: u32) -> InstanceStatus {
        let slots = self.app().slots;
        let found =
            slots.into_iter().flat_map(|slot| slot.instances).find(|it| it.place.instance == id(number));
        found.unwrap()
    }

    fn attached(&self) -> Vec<Attachment> {
        let attachment = |order| if let Order::Attach(attachment) = order { Some(attachment) } else { None };
        self.orders.take().into_iter().filter_map(attachment).collect()
    }
}

fn id(number: u32) -> InstanceId {
    InstanceId { starts: 0, number }
}

fn app(change: impl FnOnce(&mut AppSpec)) -> AppSpec {
    let mut spec = AppSpec::new("web", "node");
    change(&mut spec);
    spec
}

/// The fleet with one app whose first worker serves.
fn serving(spec: AppSpec) -> Fleet {
    let mut fleet = Fleet::new(oxherd_core::Limits::default(), clock::boot_id(), 0);
    fleet.handle_request(Request::Start { spec: Box::new(spec) }, now()).unwrap();
    fleet.handle_event(Event::Spawned { instance: id(1) }, now());
    fleet.handle_event(Event::Online { instance: id(1) }, now());
    fleet.handle_event(Event::Listening { instance: id(1), address: ":80".into() }, now());
    fleet
}

const LISTENS: &str = r#"{"listeners":[0],"leaving":false}"#;
const LEAVES: &str = r#"{"listeners":[0],"leaving":true}"#;
const WAITS: &str = "exec sleep 1000";

#[test]
fn the_inventory_is_what_shows_on_the_processes() {
    let mut legacy = Legacy::new();
    let before = now();
    let ready = legacy.worker(0, 1, 1, WAITS);
    legacy.counters(&ready).mark_ready();
    let listens = legacy.worker(1, 1, 2, WAITS);
    legacy.counters(&listens);
    legacy.note(&format!("uses/{listens}"), LISTENS);
    let leaves = legacy.worker(2, 1, 3, WAITS);
    legacy.note(&format!("uses/{leaves}"), LEAVES);
    legacy.worker(3, 1, 4, "exit 3");
    let ended = legacy.estate.children.last().unwrap();
    let mut poll = [rustix::event::PollFd::new(&ended.child, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    assert_eq!(ended.child.exit(), None, "nobody has taken it");
    let after = now();

    let mut witness = Witness::default();
    let (mut heiress, mut estate) = legacy.control(&mut witness);
    let known = heiress.control.recognise(estate.children, &mut estate.entries);
    let looked = now();
    let children: Vec<Child> = known.iter().map(Known::child).collect();
    let delay = now().since(looked);
    let marks: Vec<_> = children.iter().map(|it| (it.listens, it.was_ready, it.leaving, it.ended)).collect();
    let expected = [
        (false, true, false, false),
        (true, false, false, false),
        (true, false, true, false),
        (false, false, false, true),
    ];
    assert_eq!(marks, expected);
    // The kernel dates processes by hundredths of a second.
    let earliest = before - (Span::from_millis(11) + delay);
    for child in &children {
        let born = child.born.unwrap();
        assert!((earliest..=after).contains(&born), "{before:?} {born:?} {after:?}");
    }
}

#[test]
fn without_an_image_who_was_ready_goes_on_with_its_age_and_its_slots_past() {
    let mut legacy = Legacy::new();
    let spec = app(|spec| (spec.wait_ready, spec.instances) = (true, 2));
    legacy.want(spec);
    let started = now();
    let label = legacy.worker(0, 1, 1, WAITS);
    let forked = now();
    legacy.counters(&label).mark_ready();
    let other = legacy.worker(1, 1, 2, WAITS);
    legacy.counters(&other);
    legacy.note("restarts", r#"[{"app":0,"slot":0,"restarts":3}]"#);
    let notes = Rc::clone(&legacy.notes);
    let mut witness = Witness::default();
    let looked = now();
    let heiress = legacy.taken_over(&mut witness);
    let (delay, kept) = (now().since(looked), heiress.instance(1));
    assert_eq!(kept.status, Status::Online);
    let most = now().since(started) + Span::from_millis(11) + delay;
    assert!(looked.since(forked) <= kept.uptime && kept.uptime <= most, "{}", kept.uptime);
    assert_eq!(heiress.instance(2).status, Status::Stopping, "nobody has left word of it");
    assert_eq!(heiress.app().slots[0].restarts, 3);
    assert!(!notes.borrow().contains_key("restarts"), "it is there as it is");
    drop(heiress);
    let adopted = |it: &Notice| matches!(it, Notice::Adopted { place } if place.instance == id(1));
    assert!(witness.0.iter().any(adopted));
}

#[test]
fn without_an_image_one_that_does_not_listen_is_told_by_the_listener() {
    let mut legacy = Legacy::new();
    legacy.want(app(|spec| spec.min_uptime = Span::ZERO));
    legacy.worker(0, 1, 1, WAITS);
    let record = r#"{"app":0,"address_type":"v4","address":null,"port":80,"v6_only":false,"index":null,"key":"L0",
        "sockname":null,"shown":":80","data":null,"kind":"handoff"}"#;
    legacy.note("listener/0", record);
    assert_eq!(legacy.taken_over(&mut Witness::default()).instance(1).status, Status::Stopping);
    let mut legacy = Legacy::new();
    legacy.want(app(|spec| spec.min_uptime = Span::ZERO));
    legacy.worker(0, 1, 1, WAITS);
    assert_eq!(legacy.taken_over(&mut Witness::default()).instance(1).status, Status::Online);
}

#[test]
fn whoever_serves_after_a_takeover_is_marked_for_the_next() {
    let mut legacy = Legacy::new();
    legacy.estate.image = Some(serving(app(|_| {})).image());
    let label = legacy.worker(0, 1, 1, WAITS);
    let counters = legacy.counters(&label);
    let mut witness = Witness::default();
    let heiress = legacy.taken_over(&mut witness);
    assert_eq!(heiress.instance(1).status, Status::Online);
    assert!(counters.was_ready());
}

#[test]
fn who_becomes_ready_is_marked_at_once() {
    let mut legacy = Legacy::new();
    legacy.want(app(|spec| (spec.sockets, spec.min_uptime) = (Sockets::None, Span::from_secs(3600))));
    let label = legacy.worker(0, 1, 1, WAITS);
    let counters = legacy.counters(&label);
    let mut witness = Witness::default();
    let mut heiress = legacy.taken_over(&mut witness);
    assert_eq!((heiress.instance(1).status, counters.was_ready()), (Status::Starting, false));
    heiress.control.take_in(Event::Listening { instance: id(1), address: ":80".into() });
    assert_eq!((heiress.instance(1).status, counters.was_ready()), (Status::Online, true));
}

#[test]
fn what_a_worker_counted_itself_outlives_it_and_its_primary() {
    let mut legacy = Legacy::new();
    legacy.want(app(|spec| spec.restart = oxherd_core::RestartWhen::Never));
    let label = legacy.worker(0, 1, 1, "exit 3");
    legacy.counters(&label).error_reports().count_one();
    let page = legacy.page(&label);
    let count = |word: usize, value| page.words()[word].store(value, Ordering::Relaxed);
    count(oxherd_wire::load::WORD_REQUESTS, 70);
    count(oxherd_wire::load::WORD_ERRORS, 2);
    let mut poll =
        [rustix::event::PollFd::new(&legacy.estate.children[0].child, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    let mut witness = Witness::default();
    let mut heiress = legacy.taken_over(&mut witness);
    let figures = |heiress: &Heiress<'_>| {
        let app = heiress.control.make_report(now()).apps.remove(0);
        (app.requests, app.errors)
    };
    // The first of the four tokens of the first instance: its process has ended.
    heiress.control.on_child(crate::control::CHILDREN + 4);
    heiress.control.on_detached(id(1));
    assert_eq!(figures(&heiress), (70, 3));
    count(oxherd_wire::load::WORD_REQUESTS, 99);
    assert_eq!(figures(&heiress), (70, 3), "its end was taken note of, once");
}

#[test]
fn an_heir_comes_with_the_configuration_of_its_own_generation() {
    let mut legacy = Legacy::new();
    let mut fleet = serving(app(|spec| spec.handoff_window = 3));
    let spec = Box::new(app(|spec| (spec.handoff_window, spec.max_message) = (7, 70)));
    fleet.handle_request(Request::Reload { app: APP, spec: Some(spec) }, now()).unwrap();
    fleet.handle_event(Event::Spawned { instance: id(2) }, now());
    legacy.estate.image = Some(fleet.image());
    legacy.worker(0, 1, 1, WAITS);
    legacy.worker(0, 2, 2, WAITS);
    legacy.worker(9, 1, 3, WAITS);
    let mut witness = Witness::default();
    let heiress = legacy.taken_over(&mut witness);
    let windows: Vec<_> =
        heiress.attached().iter().map(|it| (it.place.instance.number, it.spec.handoff_window)).collect();
    assert_eq!(windows, [(1, 3), (2, 7), (3, 3)]);
}

#[test]
fn the_end_of_a_channel_is_told_again() {
    for (is_condemned, is_told) in [(false, false), (true, true)] {
        let mut legacy = Legacy::new();
        legacy.estate.image = Some(serving(app(|_| {})).image());
        let label = legacy.worker(0, 1, 1, WAITS);
        let counters = legacy.counters(&label);
        let mut held = None;
        if is_condemned {
            counters.mark_condemned();
        } else {
            // The process goes on.
            held = legacy.estate.children[0].channel.take();
        }
        let mut witness = Witness::default();
        let heiress = legacy.taken_over(&mut witness);
        assert_eq!(heiress.instance(1).status, Status::Stopping);
        assert!(heiress.attached().is_empty());
        drop((heiress, held));
        let misbehaved = |it: &Notice| matches!(it, Notice::Misbehaved { .. });
        assert_eq!(witness.0.iter().any(misbehaved), is_told);
    }
}

#[test]
fn an_end_that_nobody_has_taken_note_of_is_judged_by_the_exit() {
    let mut legacy = Legacy::new();
    let mut fleet = Fleet::new(oxherd_core::Limits::default(), clock::boot_id(), 0);
    fleet.handle_request(Request::Start { spec: Box::new(app(|_| {})) }, now()).unwrap();
    fleet.handle_event(Event::Spawned { instance: id(1) }, now());
    legacy.estate.image = Some(fleet.image());
    legacy.worker(0, 1, 1, "exit 3");
    let mut poll =
        [rustix::event::PollFd::new(&legacy.estate.children[0].child, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    let mut witness = Witness::default();
    let heiress = legacy.taken_over(&mut witness);
    // Not replaced as one that was interrupted.
    assert_eq!(heiress.instance(1).status, Status::Starting);
    assert_eq!(heiress.app().slots[0].slot, Slot(0));
}

#[test]
fn what_is_noted_of_the_slots_past_changes_with_it() {
    let mut legacy = Legacy::new();
    legacy.estate.image = Some(serving(app(|_| {})).image());
    legacy.worker(0, 1, 1, WAITS);
    legacy.note("restarts", r#"[{"app":0,"slot":0,"restarts":3}]"#);
    let notes = Rc::clone(&legacy.notes);
    let mut witness = Witness::default();
    let mut heiress = legacy.taken_over(&mut witness);
    let noted = || notes.borrow().get("restarts").map(|it| String::from_utf8(it.clone()).unwrap());
    assert_eq!(noted().as_deref(), Some("[]"), "the image knows better");
    let exit = oxherd_core::Exit::Code(1);
    heiress.control.take_in(Event::Exited { instance: id(1), exit });
    heiress.control.keep_now();
    assert_eq!(noted().as_deref(), Some(r#"[{"app":0,"slot":0,"restarts":1}]"#));
}

#[test]
fn who_has_ended_is_held_until_the_image_knows() {
    let mut legacy = Legacy::new();
    legacy.estate.image = Some(serving(app(|_| {})).image());
    let label = legacy.worker(0, 1, 1, WAITS);
    let done = Rc::clone(&legacy.done);
    let mut witness = Witness::default();
    let mut heiress = legacy.taken_over(&mut witness);
    done.borrow_mut().clear();
    heiress.control.take_in(Event::Exited { instance: id(1), exit: oxherd_core::Exit::Code(0) });
    assert!(done.borrow().iter().all(|what| !what.starts_with("forget")), "{:?}", done.borrow());
    heiress.control.keep_now();
    assert_eq!(*done.borrow(), ["keep image".to_owned(), format!("forget {label}")]);
}
