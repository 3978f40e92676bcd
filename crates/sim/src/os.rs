//! The fake operating system and the fake traffic: they carry actions out, live each process's plan on virtual
//! time, and check from their side what no order may break. They know nothing of the core's state.

use std::collections::{BTreeMap, BTreeSet};

use oxherd_core::{AppId, Event, Exit, InstanceId, Moment, Sockets, Span, SpawnFailure};

use crate::plan::{Plan, Program};
use crate::process::{Life, Process};
use crate::{Mode, Rng};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Step(InstanceId, Step),
    Tell(Event),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Born,
    Online,
    Listen,
    Ready,
    Error,
    Stall,
    /// A new primary finds out that it does not read.
    SeeStall,
    Resume,
    Misbehave,
    Depart,
    Hang,
    Grow,
    CloseChannel,
    /// By its plan, as a fault.
    End(Exit),
    /// Its channel, as a fault.
    HangUp,
    /// In obedience.
    Obey(Exit),
}

/// The fake operating system.
#[derive(Clone, Debug)]
pub struct Os {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    /// Every process ever ordered.
    pub processes: BTreeMap<InstanceId, Process>,
    /// Whom the traffic gives connections to.
    pub admitted: BTreeSet<InstanceId>,
    /// Apps that were stopped: nothing may be spawned for them.
    pub stopped: BTreeSet<AppId>,
    /// Apps that have a listener.
    pub(crate) listening: BTreeSet<AppId>,
    /// Apps whose doors are closing or closed.
    pub(crate) closing: BTreeSet<AppId>,
    /// Whether anything was ever lost: then some orders may come twice or without their forerunners.
    pub lossy: bool,
    /// A kill of everything was asked for.
    pub killing: bool,
    pub(crate) queue: BTreeMap<(Moment, u64), Happening>,
    sequence: u64,
    /// All faults are over.
    pub(crate) calm: bool,
}

impl Os {
    /// An empty machine.
    pub fn new(seed: u64, mode: Mode) -> Self {
        Self {
            seed,
            mode,
            processes: BTreeMap::new(),
            admitted: BTreeSet::new(),
            stopped: BTreeSet::new(),
            listening: BTreeSet::new(),
            closing: BTreeSet::new(),
            lossy: false,
            killing: false,
            queue: BTreeMap::new(),
            sequence: 0,
            calm: false,
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Moment> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets the next thing happen; tells what the core hears of it.
    pub fn happen(&mut self, now: Moment) -> Option<Event> {
        let (_, happening) = self.queue.pop_first()?;
        match happening {
            Happening::Step(id, step) => {
                self.step(id, step, now);
                None
            }
            Happening::Tell(event) => {
                self.note_told(&event);
                Some(event)
            }
        }
    }

    /// Every process that lives.
    pub fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|it| it.life == Life::Alive)
    }

    /// Whether every order to start is carried out and every end told: what a primary that leaves in order waits for.
    pub fn host_is_idle(&self) -> bool {
        let ordered = self.processes.values().any(|it| it.life == Life::Ordered);
        let told = self.queue.values().all(|it| {
            !matches!(
                it,
                Happening::Tell(Event::Exited { .. } | Event::SpawnFailed { .. } | Event::Spawned { .. })
            )
        });
        told && !ordered
    }

    /// From now on nothing fails any more, and what hangs comes loose.
    pub fn calm_down(&mut self, now: Moment) {
        self.calm = true;
        let (mut steps, mut well) = (Vec::new(), Vec::new());
        for (id, it) in &mut self.processes {
            if it.life == Life::Ordered {
                it.plan = Plan::calm(&mut Rng::new(self.seed), &it.spec);
            }
            if it.life != Life::Alive {
                continue;
            }
            if it.asked {
                well.push(*id);
            }
            let speaks = it.spec.sockets == Sockets::Channel && Program::of(&it.spec) == Program::Speaks;
            if it.stalled {
                steps.push((*id, Step::Resume));
            }
            if !it.channel && it.spec.sockets == Sockets::Channel || it.departed || it.disconnected {
                steps.push((*id, Step::Obey(Exit::Code(0))));
            } else if speaks && !it.ready {
                steps.push((*id, Step::Online));
                steps.push((*id, Step::Ready));
            }
            let is_silent = Program::of(&it.spec) == Program::Silent;
            let may_listen = it.parks || it.borrows() && !it.listens;
            if may_listen && !it.parked && !is_silent {
                steps.push((*id, Step::Listen));
            }
        }
        for (id, step) in steps {
            self.schedule(now + Span::from_millis(100), Happening::Step(id, step));
        }
        well.into_iter().for_each(|instance| self.tell(Event::Probed { instance }, now, 100));
    }

    pub(crate) fn schedule(&mut self, at: Moment, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    pub(crate) fn tell(&mut self, event: Event, now: Moment, lag: u64) {
        let at = now + Span::from_millis(lag);
        if self.mode.echoes() && !self.calm && is_harmless_twice(&event) {
            let mut rng = Rng::new(self.seed ^ self.sequence.wrapping_mul(0x5851_f42d));
            if rng.chance(5) {
                let later = at + Span::from_millis(rng.below(5000));
                self.schedule(later, Happening::Tell(event.clone()));
            }
        }
        self.schedule(at, Happening::Tell(event));
    }

    fn note_told(&mut self, event: &Event) {
        match event {
            Event::Withdrawn { instance } => {
                let admitted = self.admitted.contains(instance);
                self.processes.entry(*instance).and_modify(|it| it.withdrawn |= !admitted);
            }
            Event::Listening { instance, .. } => {
                self.processes.entry(*instance).and_modify(|it| it.told_listens = it.life == Life::Alive);
            }
            Event::Exited { instance, .. } => {
                self.processes.entry(*instance).and_modify(|it| it.untold = false);
            }
            Event::Ready { .. }
            | Event::Parked { .. }
            | Event::CannotPark { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Online { .. }
            | Event::Departing { .. }
            | Event::ChannelClosed { .. }
            | Event::Stalled { .. }
            | Event::Resumed { .. }
            | Event::Misbehaved { .. }
            | Event::ErrorReported { .. }
            | Event::Probed { .. }
            | Event::Measured { .. }
            | Event::Loaded { .. }
            | Event::Hung { .. }
            | Event::DoorsClosed { .. } => {}
        }
    }

    fn step(&mut self, id: InstanceId, step: Step, now: Moment) {
        let calm = self.calm;
        let Some(it) = self.processes.get_mut(&id) else { return };
        let (host, channel) = (it.plan.host_lag, it.plan.channel_lag);
        let open = it.life == Life::Alive && it.channel;
        let boots = (open || it.borrows() && it.life == Life::Alive) && !it.stuck;
        match step {
            Step::Born => self.be_born(id, now),
            Step::End(exit) if !calm => self.end(id, exit, now, host),
            Step::Obey(exit) => self.end(id, exit, now, host),
            Step::Online if boots => {
                it.spoke = true;
                self.tell(Event::Online { instance: id }, now, channel);
            }
            Step::Listen if boots => self.listen(id, now),
            // While it is held it does not get so far.
            Step::Ready if boots && !it.ready && !it.parked => self.be_ready(id, now),
            Step::Error if open && !calm => {
                self.tell(Event::ErrorReported { instance: id, error: "oh".into() }, now, channel);
            }
            Step::Stall if open && !calm => {
                it.stalled = true;
                self.tell(Event::Stalled { instance: id }, now, channel);
            }
            Step::SeeStall if open && it.stalled => {
                self.tell(Event::Stalled { instance: id }, now, channel);
            }
            Step::Resume if open && it.stalled => {
                it.stalled = false;
                self.tell(Event::Resumed { instance: id }, now, channel);
            }
            Step::Misbehave if open && !calm => {
                (it.channel, it.misbehaved) = (false, true);
                self.tell(Event::Misbehaved { instance: id, what: "garbage".into() }, now, channel);
            }
            Step::Depart if open && !calm => {
                it.departed = true;
                let leaves = it.plan.leaves_after;
                self.tell(Event::Departing { instance: id }, now, channel);
                if let Some(after) = leaves {
                    self.leave(id, now, after);
                }
            }
            Step::Hang if it.life == Life::Alive && !calm => it.hung = true,
            Step::Grow if it.life == Life::Alive && !calm => it.large = true,
            Step::HangUp if open && !calm => {
                it.channel = false;
                self.tell(Event::ChannelClosed { instance: id }, now, channel);
            }
            Step::CloseChannel if open => {
                it.channel = false;
                self.tell(Event::ChannelClosed { instance: id }, now, channel);
            }
            Step::End(_)
            | Step::Online
            | Step::Listen
            | Step::Ready
            | Step::Error
            | Step::Stall
            | Step::SeeStall
            | Step::Resume
            | Step::Misbehave
            | Step::Depart
            | Step::Hang
            | Step::Grow
            | Step::HangUp
            | Step::CloseChannel => {}
        }
    }

    fn listen(&mut self, id: InstanceId, now: Moment) {
        let Some(it) = self.processes.get_mut(&id) else { return };
        let (app, lag) = (it.place.app, it.plan.channel_lag);
        it.parks &= !it.unlent;
        if it.parks {
            it.parked = true;
            return self.tell(Event::Parked { instance: id }, now, lag);
        }
        it.listens = true;
        self.listening.insert(app);
        self.tell(listening(id), now, lag);
    }

    fn be_ready(&mut self, id: InstanceId, now: Moment) {
        let Some(it) = self.processes.get_mut(&id) else { return };
        it.ready = !it.parks || it.spec.wait_ready;
        if !it.spec.wait_ready {
            return self.listen(id, now);
        }
        let lag = it.plan.channel_lag;
        self.tell(Event::Ready { instance: id }, now, lag);
    }

    fn be_born(&mut self, id: InstanceId, now: Moment) {
        let calm = self.calm;
        let Some(it) = self.processes.get_mut(&id) else { return };
        let plan = it.plan.clone();
        if let Some(lasting) = plan.fails.filter(|_| !calm) {
            it.life = Life::Over;
            let cause = SpawnFailure { message: "no such program".into(), lasting };
            return self.tell(Event::SpawnFailed { instance: id, cause }, now, plan.host_lag);
        }
        it.life = Life::Alive;
        it.born_at = Some(now);
        let (channel, borrows) = (it.channel, it.borrows());
        // Whoever starts it knows at once that nobody will see it want to listen.
        let unlent = it.parks && plan.cannot_park;
        it.unlent = unlent;
        self.tell(Event::Spawned { instance: id }, now, if unlent { 0 } else { plan.host_lag });
        if unlent {
            self.tell(Event::CannotPark { instance: id }, now, 0);
        }
        let mut steps: Vec<(u64, Step)> =
            plan.ends.map(|(at, exit)| (at, Step::End(exit))).into_iter().collect();
        steps.extend(plan.hangs_after.map(|at| (at, Step::Hang)));
        steps.extend(plan.grows_after.map(|at| (at, Step::Grow)));
        if channel {
            steps.push((plan.online_after, Step::Online));
            steps.extend(plan.listens_after.map(|at| (at, Step::Listen)));
            steps.extend(plan.ready_after.map(|at| (at, Step::Ready)));
            steps.extend(plan.departs_after.map(|at| (at, Step::Depart)));
            steps.extend(plan.closes_after.map(|at| (at, Step::HangUp)));
            steps.extend(plan.misbehaves_after.map(|at| (at, Step::Misbehave)));
            steps.extend(plan.errors.iter().map(|at| (*at, Step::Error)));
            if let Some((at, lasts)) = plan.stalls {
                steps.extend([(at, Step::Stall), (at + lasts, Step::Resume)]);
            }
        }
        if borrows {
            steps.extend(plan.ready_after.map(|at| (at, Step::Listen)));
        }
        for (after, step) in steps {
            self.schedule(now + Span::from_millis(after), Happening::Step(id, step));
        }
    }

    fn end(&mut self, id: InstanceId, exit: Exit, now: Moment, lag: u64) {
        let Some(it) = self.processes.get_mut(&id) else { return };
        if it.life == Life::Alive {
            it.life = Life::Over;
            it.channel = false;
            it.exit = Some(exit);
            self.tell(Event::Exited { instance: id, exit }, now, lag);
        }
    }

    pub(crate) fn leave(&mut self, id: InstanceId, now: Moment, after: u64) {
        self.schedule(now + Span::from_millis(after), Happening::Step(id, Step::CloseChannel));
        self.schedule(now + Span::from_millis(after + 10), Happening::Step(id, Step::Obey(Exit::Code(0))));
    }
}

fn listening(instance: InstanceId) -> Event {
    Event::Listening { instance, address: "127.0.0.1:3000".into() }
}

/// Stalls and withdrawals come from one thread that never repeats itself; the rest may.
fn is_harmless_twice(event: &Event) -> bool {
    match event {
        Event::Stalled { .. }
        | Event::Resumed { .. }
        | Event::Withdrawn { .. }
        | Event::ErrorReported { .. } => false,
        Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::Online { .. }
        | Event::Listening { .. }
        | Event::Parked { .. }
        | Event::CannotPark { .. }
        | Event::Ready { .. }
        | Event::Departing { .. }
        | Event::ChannelClosed { .. }
        | Event::Misbehaved { .. }
        | Event::Probed { .. }
        | Event::Measured { .. }
        | Event::Loaded { .. }
        | Event::Hung { .. }
        | Event::Exited { .. }
        | Event::DoorsClosed { .. } => true,
    }
}
