//! The core's orders, one method each.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use oxherd_core::{Action, AppSpec, Event, InstanceId, Label, Place, Signal};
use oxherd_os::{Output, SpawnSpec, Spawned};

use crate::control::Control;
use crate::control::children::Process;
use crate::counters::Counters;
use crate::traffic::{Attachment, Order};

/// The channel's descriptor in the worker, as Node's own `fork` has it.
const CHANNEL_FD: &str = "3";
/// The variable that says how the channel is written.
pub(super) const SERIALIZATION: &str = "NODE_CHANNEL_SERIALIZATION_MODE";

impl Control<'_> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { place, spec, parks } => self.spawn(place, spec, parks),
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
        wanted.nofile_soft = self.host.workers_nofile();
        wanted.parent_death_signal = self.host.ties_workers();
        match self.host.spawn(&wanted) {
            Ok(Spawned { child, channel, stdout, stderr, .. }) => {
                let (counters, counters_fd) = self.new_counters(channel.is_some());
                let pid = child.pid;
                let has_channel = channel.is_some();
                self.add_child(place, Process { child, stdout, stderr }, Arc::clone(&counters), has_channel);
                if let Some(ends) = channel {
                    let label = wanted.label;
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
                }
                self.fleet.handle_event(Event::Spawned { instance }, super::now());
            }
            Err(cause) => self.fleet.handle_event(Event::SpawnFailed { instance, cause }, super::now()),
        }
    }

    /// Where somebody comes after this primary, the counters go on.
    fn new_counters(&self, has_channel: bool) -> (Arc<Counters>, Option<OwnedFd>) {
        let shared = (has_channel && !self.host.ties_workers()).then(|| Counters::shared().ok()).flatten();
        let (counters, fd) =
            shared.map_or((Counters::default(), None), |(counters, fd)| (counters, Some(fd)));
        (Arc::new(counters), fd)
    }

    fn order(&mut self, instance: InstanceId, order: Order) {
        if self.children.has_channel(instance) {
            self.traffic.orders.send(order);
        }
    }

    /// A worker without a channel is given nothing, so it has nothing to answer for.
    fn withdraw(&mut self, instance: InstanceId) {
        if self.children.has_channel(instance) {
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
    }

    fn kill(&mut self, instance: InstanceId) {
        if let Some(child) = self.children.process(instance) {
            self.host.kill_tree(child);
        }
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
    it.channel = spec.sockets == oxherd_core::Sockets::Channel;
    let mut own = vec![("NODE_APP_INSTANCE", slot.as_str()), ("OXHERD_SLOT", slot.as_str())];
    if it.channel {
        own.push(("NODE_CHANNEL_FD", CHANNEL_FD));
        own.push((SERIALIZATION, spec.serialization.name()));
        own.push(("NODE_UNIQUE_ID", worker.as_str()));
    }
    it.env.extend(own.into_iter().map(|(key, value)| (key.into(), value.into())));
    it.cwd = Some(PathBuf::from(&spec.cwd));
    it.label = format!("{herd}/{}", Label(place));
    it.stdout = Output::Pipe;
    it.stderr = Output::Pipe;
    it
}
