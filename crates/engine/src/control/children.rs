//! The processes: what is known of each, what it writes, and how its end is noticed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{AppSpec, Event, Exit, InstanceId, Notice, Place, Signal, Sockets};
use oxherd_os::{Child, ExitStatus, Interest};

use crate::Stream;
use crate::control::input::Feed;
use crate::control::looks::Seen;
use crate::control::now;
use crate::control::output::Pump;
use crate::control::{CHILDREN, Control};
use crate::counters::Counters;
use crate::traffic::Order;

/// What of a child an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Process,
    Stdout,
    Stderr,
    Stdin,
}

const PARTS: u64 = 4;

/// One process.
#[derive(Debug)]
pub(super) struct ChildState {
    pub(super) place: Place,
    pub(super) process: Child,
    pub(super) counters: Arc<Counters>,
    pub(super) stdin: Option<Feed>,
    pub(super) stdout: Option<Pump>,
    pub(super) stderr: Option<Pump>,
    tie: Tie,
    /// The end of its channel was told.
    pub(super) disconnected: bool,
    /// As long as it is there, the thread that probes the worker goes on.
    pub(super) probe: Option<Arc<()>>,
    /// What was seen of it when it was looked at last.
    pub(super) seen: Seen,
    ending: Ending,
}

impl ChildState {
    pub(super) fn had_channel(&self) -> bool {
        self.tie == Tie::Channel
    }

    pub(super) fn pump(&self, stream: Stream) -> Option<&Pump> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    pub(super) fn pump_mut(&mut self, stream: Stream) -> Option<&mut Pump> {
        match stream {
            Stream::Stdout => self.stdout.as_mut(),
            Stream::Stderr => self.stderr.as_mut(),
        }
    }
}

/// What ties a process to the traffic thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// Nothing: it binds its own sockets.
    None,
    Channel,
    /// It is lent its listeners, by its trapped calls or from its start.
    Loan,
}

impl Tie {
    pub(super) fn of<C, T>(channel: Option<&C>, traps: Option<&T>, spec: &AppSpec) -> Self {
        if channel.is_some() {
            Self::Channel
        } else if traps.is_some() || spec.sockets == Sockets::ListenFds {
            Self::Loan
        } else {
            Self::None
        }
    }
}

/// A process with our ends of its streams.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// How far the end of a process has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Alive,
    /// It has ended like this; its channel is being read to its end.
    Detaching(Exit),
    /// The core knows.
    Told,
}

/// All processes that are not forgotten yet.
#[derive(Debug, Default)]
pub(super) struct Children {
    states: BTreeMap<InstanceId, ChildState>,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub(super) fn pid(&self, instance: InstanceId) -> Option<u32> {
        self.states.get(&instance).map(|state| state.process.pid)
    }

    pub(super) fn tie(&self, instance: InstanceId) -> Tie {
        self.states.get(&instance).map_or(Tie::None, |state| state.tie)
    }

    /// Whether traffic knows of it.
    pub(super) fn is_known(&self, instance: InstanceId) -> bool {
        self.tie(instance) != Tie::None
    }

    pub(super) fn process(&self, instance: InstanceId) -> Option<&Child> {
        self.states.get(&instance).map(|state| &state.process)
    }

    pub(super) fn get(&self, instance: InstanceId) -> Option<&ChildState> {
        self.states.get(&instance)
    }

    pub(super) fn get_mut(&mut self, instance: InstanceId) -> Option<&mut ChildState> {
        self.states.get_mut(&instance)
    }

    pub(super) fn remove(&mut self, instance: InstanceId) -> Option<ChildState> {
        self.states.remove(&instance)
    }

    /// News that whoever comes after this primary must know without an image.
    pub(super) fn note(&self, notice: &Notice) {
        if let Notice::Ready { place, .. } = notice {
            self.mark_ready(place.instance);
        }
    }

    pub(super) fn mark_ready(&self, instance: InstanceId) {
        if let Some(state) = self.states.get(&instance) {
            state.counters.mark_ready();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ChildState> {
        self.states.values()
    }
}

impl Control<'_> {
    pub(super) fn add_child(&mut self, place: Place, process: Process, counters: Arc<Counters>, tie: Tie) {
        let Process { child, stdin, stdout, stderr } = process;
        let watch = |fd: &dyn std::os::fd::AsFd, part| {
            // Without its event a pipe is still read when the process ends; a pidfd can always be added.
            drop(self.poller.add(fd.as_fd(), token(place.instance, part), Interest::READ));
        };
        watch(&child.pidfd, Part::Process);
        stdout.iter().for_each(|fd| watch(fd, Part::Stdout));
        stderr.iter().for_each(|fd| watch(fd, Part::Stderr));
        for (pipe, stream) in [(&stdout, Stream::Stdout), (&stderr, Stream::Stderr)] {
            if pipe.is_some() && counters.is_amid(stream) {
                self.observer.begun(place, stream);
            }
        }
        let state = ChildState {
            place,
            process: child,
            stdin: stdin.map(Feed::new),
            stdout: stdout.map(|pipe| Pump::new(pipe, counters.is_amid(Stream::Stdout))),
            stderr: stderr.map(|pipe| Pump::new(pipe, counters.is_amid(Stream::Stderr))),
            counters,
            tie,
            disconnected: false,
            probe: None,
            seen: Seen::default(),
            ending: Ending::Alive,
        };
        self.children.states.insert(place.instance, state);
        self.arm_looks(place.instance);
        self.hear_words_of(place.instance);
    }

    pub(super) fn on_child(&mut self, token: u64) {
        let Some((instance, part)) = self.untoken(token) else { return };
        match part {
            Part::Process => self.on_process_end(instance),
            Part::Stdout => self.pump_output(instance, Stream::Stdout, true),
            Part::Stderr => self.pump_output(instance, Stream::Stderr, true),
            Part::Stdin => self.on_input_room(instance),
        }
    }

    fn on_process_end(&mut self, instance: InstanceId) {
        let Some(state) = self.children.states.get_mut(&instance) else { return };
        if state.ending != Ending::Alive {
            return;
        }
        let waited = self.host.try_wait(&mut state.process);
        self.host.alerts().iter().for_each(|alert| self.observer.alert(alert));
        let exit = match waited {
            Ok(Some(ExitStatus::Code(code))) => Exit::Code(code),
            Ok(Some(ExitStatus::Signal { signal, .. })) => Exit::Signal(Signal(signal)),
            Ok(None) => return,
            Err(_) => Exit::Unknown,
        };
        state.ending = Ending::Detaching(exit);
        // The pidfd stays readable for ever.
        drop(self.poller.remove(&state.process.pidfd));
        if state.tie != Tie::None {
            self.traffic.orders.send(Order::Detach(instance));
        } else {
            self.on_detached(instance);
        }
    }

    /// Everything that the process has said is known: now the core hears of its end.
    pub(super) fn on_detached(&mut self, instance: InstanceId) {
        self.pump_output(instance, Stream::Stdout, false);
        self.pump_output(instance, Stream::Stderr, false);
        self.flush_output(instance);
        self.tell_disconnected(instance);
        let Some(state) = self.children.states.get_mut(&instance) else { return };
        let Ending::Detaching(exit) = state.ending else { return };
        state.ending = Ending::Told;
        self.keep_totals(instance);
        self.take_in(Event::Exited { instance, exit });
        // Orphans of its tree became our children.
        self.host.reap_strangers();
    }

    /// Reads pipes that were left alone, where there is room by now or the time is up.
    pub(super) fn resume_output(&mut self) {
        for (instance, stream) in std::mem::take(&mut self.held_back) {
            let Some(state) = self.children.states.get_mut(&instance) else { continue };
            let (pump, part) = match stream {
                Stream::Stdout => (&state.stdout, Part::Stdout),
                Stream::Stderr => (&state.stderr, Part::Stderr),
            };
            let Some(pump) = pump else { continue };
            // As when it was first watched.
            drop(self.poller.add(pump.fd(), token(instance, part), Interest::READ));
            self.pump_output(instance, stream, true);
        }
    }

    pub(super) fn pump_output(&mut self, instance: InstanceId, stream: Stream, may_wait: bool) {
        let Some(state) = self.children.states.get_mut(&instance) else { return };
        let place = state.place;
        let slot = match stream {
            Stream::Stdout => &mut state.stdout,
            Stream::Stderr => &mut state.stderr,
        };
        let Some(pump) = slot else { return };
        let (observer, now) = (&mut *self.observer, now());
        if may_wait && !pump.may_flow(|| observer.has_room(place.app), now) {
            // A pipe that is left alone must not wake the thread.
            drop(self.poller.remove(pump.fd()));
            self.held_back.insert((instance, stream));
            return;
        }
        let open = pump.read(now, !may_wait, |piece| observer.output(&piece.of(place, stream)));
        if !open && let Some(pump) = slot.take() {
            drop(self.poller.remove(pump.fd()));
        }
        self.note_unended(instance, stream);
    }

    /// Half a line that nobody will finish is a line.
    fn flush_output(&mut self, instance: InstanceId) {
        let Some(state) = self.children.states.get_mut(&instance) else { return };
        let place = state.place;
        for (slot, stream) in [(&mut state.stdout, Stream::Stdout), (&mut state.stderr, Stream::Stderr)] {
            if let Some(mut pump) = slot.take() {
                drop(self.poller.remove(pump.fd()));
                let observer = &mut *self.observer;
                pump.finish(|piece| observer.output(&piece.of(place, stream)));
            }
            self.unended.remove(&(instance, stream));
        }
    }

    fn untoken(&self, token: u64) -> Option<(InstanceId, Part)> {
        let number = token.checked_sub(CHILDREN)?;
        let part = match number % PARTS {
            0 => Part::Process,
            1 => Part::Stdout,
            2 => Part::Stderr,
            _ => Part::Stdin,
        };
        let instance = number / PARTS;
        Some((InstanceId { starts: (instance >> 32) as u32, number: instance as u32 }, part))
    }
}

pub(super) fn token(instance: InstanceId, part: Part) -> u64 {
    let number = u64::from(instance.starts) << 32 | u64::from(instance.number);
    let part = match part {
        Part::Process => 0,
        Part::Stdout => 1,
        Part::Stderr => 2,
        Part::Stdin => 3,
    };
    CHILDREN + number * PARTS + part
}
