//! The core's orders, one method each.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use oxherd_core::{Action, AppSpec, Event, InstanceId, Label, Place, Signal, Sockets, SpawnFailure};
use oxherd_os::{Identity, Input, Lending, Output, SpawnSpec, Spawned};

use crate::Alert;
use crate::control::Control;
use crate::control::children::{Process, Tie};
use crate::control::notify;
use crate::counters::Counters;
use crate::traffic::{Attachment, Borrowing, Opening, Order};

/// How long the traffic thread may take to open a worker's listeners: far longer than it does.
const LONGEST_OPENING: Duration = Duration::from_secs(5);
/// The channel's descriptor in the worker, as Node's own `fork` has it.
const CHANNEL_FD: &str = "3";
/// The variable that says how the channel is written.
pub(super) const SERIALIZATION: &str = "NODE_CHANNEL_SERIALIZATION_MODE";

impl Control<'_> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { place, spec, parks } => self.spawn(place, spec, parks),
            Action::Probe { instance } => self.probe(instance),
            Action::Admit { instance } => self.order(instance, Order::Admit(instance)),
            Action::Withdraw { instance } => self.withdraw(instance),
            Action::Disconnect { instance, parting } => {
                self.order(instance, Order::Disconnect(instance, parting))
            }
            Action::Terminate { instance, signal } => self.terminate(instance, signal),
            Action::Kill { instance } => self.kill(instance),
            Action::Sweep { instance } => self.sweep(instance),
            Action::Unpark { instance, slot } => self.order(instance, Order::Unpark(instance, slot)),
            Action::CloseDoors { app } => self.traffic.orders.send(Order::CloseDoors(app)),
            Action::CloseListeners { app } => self.traffic.orders.send(Order::CloseListeners(app)),
            Action::RetireSlot { app, slot } => self.traffic.orders.send(Order::RetireSlot(app, slot)),
        }
    }

    fn spawn(&mut self, place: Place, spec: Arc<AppSpec>, parks: bool) {
        let instance = place.instance;
        let mut wanted = spawn_spec(self.host.primary(), place, &spec);
        if let Some(address) = self.notify_address(&spec) {
            wanted.env.push((notify::VARIABLE.into(), address.into()));
        }
        wanted.nofile_soft = self.host.workers_nofile();
        wanted.parent_death_signal = self.host.ties_workers();
        let handed = self.listeners_for(place, &spec);
        let spawned = handed.and_then(|fds| {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            self.host.spawn(&wanted, &fds)
        });
        match spawned {
            Ok(Spawned { child, channel, lending, stdin, stdout, stderr }) => {
                let traps = self.traps_of(place, &spec, lending);
                let tie = Tie::of(channel.as_ref(), traps.as_ref(), &spec);
                let (counters, counters_fd) = self.new_counters(tie != Tie::None);
                let (pid, label) = (child.pid, wanted.label);
                self.add_child(place, Process { child, stdin, stdout, stderr }, Arc::clone(&counters), tie);
                if let Some(ends) = channel {
                    let (channel, worker_end) = (ends.primary, Some(ends.worker));
                    self.traffic.orders.send(Order::Attach(Attachment {
                        place,
                        label,
                        spec,
                        pid,
                        channel,
                        worker_end,
                        counters,
                        counters_fd,
                        page_fd: None,
                        parks,
                        is_heir: false,
                    }));
                } else if tie == Tie::Loan {
                    self.traffic.orders.send(Order::Borrow(Borrowing {
                        place,
                        label,
                        spec,
                        pid,
                        traps,
                        counters_fd,
                        parks,
                        is_heir: false,
                    }));
                }
                self.fleet.handle_event(Event::Spawned { instance }, super::now());
                if parks && tie == Tie::None {
                    self.fleet.handle_event(Event::CannotPark { instance }, super::now());
                }
            }
            Err(cause) => {
                // What was opened for it is free for the next.
                self.traffic.orders.send(Order::Detach(instance));
                self.fleet.handle_event(Event::SpawnFailed { instance, cause }, super::now());
            }
        }
    }

    /// The listeners that a worker is started with: traffic has them.
    fn listeners_for(&self, place: Place, spec: &Arc<AppSpec>) -> Result<Vec<OwnedFd>, SpawnFailure> {
        if spec.sockets != Sockets::ListenFds {
            return Ok(Vec::new());
        }
        let (reply, answer) = mpsc::channel();
        self.traffic.orders.send(Order::Open(Opening { place, spec: Arc::clone(spec), reply }));
        let failure = |message| SpawnFailure { message, lasting: false };
        let opened = answer.recv_timeout(LONGEST_OPENING);
        opened.map_err(|error| failure(format!("its listeners are not opened: {error}")))?.map_err(failure)
    }

    /// Where a worker's calls are heard of. Where that cannot be, it runs as one that binds its own sockets, and
    /// people hear of it once.
    fn traps_of(&mut self, place: Place, spec: &AppSpec, lending: Lending) -> Option<OwnedFd> {
        match lending {
            Lending::On(traps) => Some(traps),
            Lending::Off => None,
            Lending::Impossible(why) => {
                if self.told_unlent.insert(place.app) {
                    self.observer.alert(&Alert::CannotLend { app: spec.name.clone(), why });
                }
                None
            }
        }
    }

    /// Where somebody comes after this primary, the counters go on.
    fn new_counters(&self, is_known: bool) -> (Arc<Counters>, Option<OwnedFd>) {
        let shared = (is_known && !self.host.ties_workers()).then(|| Counters::shared().ok()).flatten();
        let (counters, fd) =
            shared.map_or((Counters::default(), None), |(counters, fd)| (counters, Some(fd)));
        (Arc::new(counters), fd)
    }

    fn order(&mut self, instance: InstanceId, order: Order) {
        if self.children.is_known(instance) {
            self.traffic.orders.send(order);
        }
    }

    /// A worker that traffic does not know is given nothing, so it has nothing to answer for.
    fn withdraw(&mut self, instance: InstanceId) {
        if self.children.is_known(instance) {
            self.traffic.orders.send(Order::Withdraw(instance));
        } else {
            self.fleet.handle_event(Event::Withdrawn { instance }, super::now());
        }
    }

    fn terminate(&mut self, instance: InstanceId, signal: Signal) {
        if let Some(child) = self.children.process(instance) {
            // It may have ended just now; then its exit is on its way.
            drop(self.host.signal(child, signal.0));
        }
        // While its call is held the signal waits, and it comes through when the call has returned.
        self.interrupt(instance);
    }

    fn interrupt(&mut self, instance: InstanceId) {
        if self.children.tie(instance) == Tie::Loan {
            self.traffic.orders.send(Order::Interrupt(instance));
        }
    }

    fn kill(&mut self, instance: InstanceId) {
        if let Some(child) = self.children.process(instance) {
            self.host.kill_tree(child);
        }
        self.interrupt(instance);
    }

    fn sweep(&mut self, instance: InstanceId) {
        self.kill(instance);
        if let Some(state) = self.children.remove(instance) {
            self.forget_later(state.process);
        }
    }
}

/// `herd` sets this primary's workers apart from those of another: ending one kills all that carry its label.
fn spawn_spec(herd: &str, place: Place, spec: &AppSpec) -> SpawnSpec {
    let mut it = SpawnSpec::new(&spec.program);
    it.args = spec.args.iter().map(OsString::from).collect();
    it.env = spec.env.iter().map(|(key, value)| (key.into(), value.into())).collect();
    let slot = place.slot.0.to_string();
    let worker = place.instance.worker_id().to_string();
    it.channel = spec.sockets == Sockets::Channel;
    it.lend = spec.sockets == Sockets::Universal;
    it.listen_pid = spec.sockets == Sockets::ListenFds;
    let listeners = spec.listen.len().to_string();
    let names = spec.listen.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(":");
    let mut own = vec![("OXHERD_SLOT", slot.as_str())];
    if it.channel {
        own.push(("NODE_CHANNEL_FD", CHANNEL_FD));
        own.push((SERIALIZATION, spec.serialization.name()));
        own.push(("NODE_UNIQUE_ID", worker.as_str()));
    }
    if it.listen_pid {
        own.extend([("LISTEN_FDS", listeners.as_str()), ("LISTEN_FDNAMES", names.as_str())]);
    }
    it.env.extend(spec.numbering(place.slot).into_iter().map(|(key, value)| (key.into(), value.into())));
    it.env.extend(own.into_iter().map(|(key, value)| (key.into(), value.into())));
    it.cwd = Some(PathBuf::from(&spec.cwd));
    it.label = format!("{herd}/{}", Label(place));
    it.owner = spec.owner.as_ref().map(|owner| Identity {
        uid: owner.uid,
        gid: owner.gid,
        groups: owner.groups.clone(),
    });
    it.stdin = Input::Pipe;
    it.stdout = Output::Pipe;
    it.stderr = Output::Pipe;
    it
}
