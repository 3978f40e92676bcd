//! Taking a herd over: what another primary left becomes this one's; and the loss of who holds the processes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{
    AppSpec, Child, Desired, Event, Fleet, InstanceId, Inventory, Label, Moment, Place, Request,
    Serialization, Sockets, Span, Status,
};
use oxherd_os::{Interest, clock, proc};

use crate::Alert;
use crate::control::actions::SERIALIZATION;
use crate::control::children::{Process, Tie};
use crate::control::{Control, LOSS, now};
use crate::counters::Counters;
use crate::host::{Entry, Estate, Heir, HeirRef};
use crate::page::Page;
use crate::traffic::{
    Attachment, Bequest, Borrowing, NewStash, Order, counters_of, listener_of, page_of, standing_in,
    traps_of, uses_of,
};

/// When to look for another keeper again.
const RENEW_EVERY: Span = Span::from_secs(1);

/// A process that outlived its primary, with what is known of it.
struct Known {
    place: Place,
    heir: Heir,
    counters: Arc<Counters>,
    counters_fd: Option<OwnedFd>,
    page_fd: Option<OwnedFd>,
    traps: Option<OwnedFd>,
    listens: bool,
    leaving: bool,
}

impl Control<'_> {
    /// Goes on where another primary ended; from nothing where there was none.
    pub(super) fn take_over(&mut self, estate: Estate) {
        let Estate { starts, image, desired, children, mut entries, connections } = estate;
        self.inherit_totals(&mut entries);
        let restarts = self.inherit_restarts(&mut entries);
        let known = self.recognise(children, &mut entries);
        let inventory = Inventory {
            boot_id: clock::boot_id(),
            starts,
            children: known.iter().map(Known::child).collect(),
            listening: entries.iter().filter_map(|entry| listener_of(&entry.name, &entry.meta)).collect(),
            restarts,
        };
        let trusted = image.is_some();
        let is_first = !trusted && desired.is_none() && known.is_empty() && entries.is_empty();
        self.fleet = self.restore(image, desired, &inventory);
        if !is_first {
            let (workers, connections) = (known.len() as u32, connections.len() as u32);
            self.observer.alert(&Alert::TakenOver { workers, connections, trusted });
            // What the apps are called must be known before their news and their lines come.
            self.tell_desired();
        }
        self.traffic.orders.send(Order::TakeOver(Bequest { starts, entries, connections }));
        known.into_iter().for_each(|it| self.adopt(it));
        self.carry_out();
        self.reconcile();
        self.mark_ready_ones();
        self.keep_now();
    }

    /// The processes that are ours. What somebody else has left in our name is killed.
    fn recognise(&mut self, children: Vec<Heir>, entries: &mut Vec<Entry>) -> Vec<Known> {
        let mut counters = taken_out(entries, counters_of);
        let mut pages = taken_out(entries, page_of);
        let mut traps = taken_out(entries, traps_of);
        let uses: BTreeMap<&str, (bool, bool)> = entries.iter().filter_map(uses_in).collect();
        let mut known = Vec::new();
        for heir in children {
            let label = heir.child.label();
            let Some(place) = self.place_of(label) else {
                self.host.kill_tree(&heir.child);
                self.host.forget(&heir.child);
                continue;
            };
            let counters_fd = counters.remove(label);
            // Those of one that had ended are in the totals already.
            let open = counters_fd.as_ref().filter(|_| !self.is_counted(place.instance));
            let counters = Arc::new(open.and_then(|fd| Counters::of(fd).ok()).unwrap_or_default());
            let page_fd = pages.remove(label);
            if let Some(page) = page_fd.as_ref().filter(|_| open.is_some()).and_then(|fd| Page::of(fd).ok()) {
                counters.set_page(Arc::new(page));
            }
            let (listens, leaving) = uses.get(label).copied().unwrap_or_default();
            let traps = traps.remove(label);
            known.push(Known { place, heir, counters, counters_fd, page_fd, traps, listens, leaving });
        }
        known
    }

    fn restore(
        &mut self,
        image: Option<oxherd_core::Image>,
        desired: Option<Desired>,
        inventory: &Inventory,
    ) -> Fleet {
        let refused = match image.map(|image| Fleet::from_image(image, inventory, now())) {
            Some(Ok(fleet)) => return fleet,
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(error) = refused {
            self.observer.alert(&Alert::EstateRefused { why: error.to_string() });
        }
        Fleet::from_desired(desired.unwrap_or_default(), self.limits, inventory, now())
    }

    /// Where a process belongs, if it is one of ours.
    fn place_of(&self, label: &str) -> Option<Place> {
        let (primary, label) = label.split_once('/')?;
        let label: Label = label.parse().ok().filter(|_| primary == self.host.primary())?;
        Some(label.0)
    }

    fn adopt(&mut self, known: Known) {
        let Known { place, heir, counters, counters_fd, page_fd, traps, .. } = known;
        // A standby that was given a slot has it, whatever its label says.
        let place = self.fleet.place_of(place.instance).unwrap_or(place);
        let Heir { child, channel, worker_end, stdin, stdout, stderr } = heir;
        let (pid, label, has_ended) = (child.pid, child.label().to_owned(), child.has_ended());
        let is_condemned = counters.was_condemned();
        let channel = channel.filter(|_| !is_condemned);
        // One without an app is only there to be killed.
        let spec = self.fleet.spec_of(place.instance).or_else(|| self.fleet.spec(place.app)).cloned();
        let spec = spec.unwrap_or_else(|| Arc::new(AppSpec::new("stray", "")));
        let spec = as_started(spec, pid);
        let is_cut_off = channel.is_none() && spec.sockets == Sockets::Channel;
        let parks = self.fleet.holds(place.instance);
        let tie = Tie::of(channel.as_ref(), traps.as_ref(), &spec);
        self.add_child(place, Process { child, stdin, stdout, stderr }, Arc::clone(&counters), tie);
        if let Some(channel) = channel {
            self.traffic.orders.send(Order::Attach(Attachment {
                place,
                label,
                spec,
                pid,
                channel,
                worker_end,
                counters,
                counters_fd,
                page_fd,
                parks: false,
                is_heir: true,
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
                is_heir: true,
            }));
        } else if is_cut_off && !has_ended {
            self.tell_end_of_channel(place.instance, is_condemned);
        }
        if parks && tie == Tie::None {
            self.fleet.handle_event(Event::CannotPark { instance: place.instance }, now());
        }
    }

    /// That its channel had ended may have been lost with the old primary.
    fn tell_end_of_channel(&mut self, instance: InstanceId, is_condemned: bool) {
        let event = if is_condemned {
            Event::Misbehaved { instance, what: "it broke the protocol under the primary before".into() }
        } else {
            Event::ChannelClosed { instance }
        };
        self.fleet.handle_event(event, now());
    }

    /// Whoever serves needs no other word of it, even after a takeover without an image.
    fn mark_ready_ones(&mut self) {
        let status = self.fleet.status(now());
        let instances = status.apps.iter().flat_map(|app| &app.slots).flat_map(|slot| &slot.instances);
        let online = instances.filter(|it| it.status == Status::Online);
        online.for_each(|it| self.children.mark_ready(it.place.instance));
    }

    /// Orders about listeners that were lost with the old primary show in what is left of them.
    fn reconcile(&mut self) {
        let slots = |app: oxherd_core::AppStatus| {
            let targets = (0..app.instances).map(oxherd_core::Slot);
            (app.app, targets.chain(app.slots.iter().map(|slot| slot.slot)).collect::<BTreeSet<_>>())
        };
        let wanted = self.fleet.status(now()).apps.into_iter().map(slots).collect();
        self.traffic.orders.send(Order::Reconcile(wanted));
    }

    /// Who held the processes is gone. They live, and their ends still show.
    pub(super) fn on_loss(&mut self) {
        if let Some(loss) = self.host.loss() {
            // It stays readable for ever.
            drop(self.poller.remove(loss));
        }
        if self.stays {
            self.renew();
        } else {
            // Whoever started this herd waited for the one who is gone, and would find nothing to end it by.
            self.observer.alert(&Alert::Abandoned);
            self.ask("stop", Request::Shutdown);
        }
    }

    pub(super) fn renew_if_due(&mut self, now: Moment) {
        if self.renew_at.is_some_and(|due| due <= now) {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let heirs: Vec<HeirRef<'_>> = self
            .children
            .iter()
            .map(|state| HeirRef {
                child: &state.process,
                stdin: state.stdin.as_ref().map(|feed| feed.fd()),
                stdout: state.stdout.as_ref().map(|pump| pump.fd()),
                stderr: state.stderr.as_ref().map(|pump| pump.fd()),
            })
            .collect();
        match self.host.renew(&heirs) {
            Ok(stash) => {
                self.renew_at = None;
                self.traffic.orders.send(Order::Restash(NewStash(stash)));
                self.watch_loss();
                self.keep_now();
                self.observer.alert(&Alert::KeeperReplaced);
                self.reload_all();
            }
            Err(error) => {
                if self.renew_at.is_none() {
                    self.observer.alert(&Alert::KeeperLost { why: error.to_string() });
                }
                self.renew_at = Some(now() + RENEW_EVERY);
            }
        }
    }

    fn watch_loss(&self) {
        if let Some(loss) = self.host.loss() {
            // Without the event the loss shows when something is asked of it.
            drop(self.poller.add(loss, LOSS, Interest::READ));
        }
    }

    /// The workers of the lost keeper are nobody's children: their successors are the new one's.
    fn reload_all(&mut self) {
        for app in self.fleet.status(now()).apps.into_iter().filter(|app| app.up) {
            self.ask("reload", Request::Reload { app: app.app, spec: None });
        }
    }
}

/// The spec with the serialisation that the worker was started with. Where the image is lost it may be another's.
fn as_started(spec: Arc<AppSpec>, pid: u32) -> Arc<AppSpec> {
    let given = proc::variable_of(pid, SERIALIZATION).ok().flatten();
    match given.and_then(|value| value.to_str()?.parse::<Serialization>().ok()) {
        Some(serialization) if serialization != spec.serialization => {
            Arc::new(AppSpec { serialization, ..(*spec).clone() })
        }
        Some(_) | None => spec,
    }
}

/// The descriptors of workers' entries of one kind, by their labels.
fn taken_out(entries: &mut Vec<Entry>, label_of: fn(&str) -> Option<&str>) -> BTreeMap<String, OwnedFd> {
    let (mine, others) =
        std::mem::take(entries).into_iter().partition(|it: &Entry| label_of(&it.name).is_some());
    *entries = others;
    let labelled = |it: Entry| Some((label_of(&it.name)?.to_owned(), it.fd?));
    Vec::into_iter(mine).filter_map(labelled).collect()
}

/// Of an entry about what a worker uses: whose, whether it listens, whether it leaves.
fn uses_in(entry: &Entry) -> Option<(&str, (bool, bool))> {
    Some((uses_of(&entry.name)?, standing_in(&entry.meta)))
}

impl Known {
    /// As the core is told of it. That the machine was suspended counts to its age, as people count it.
    fn child(&self) -> Child {
        let Self { place, heir, counters, listens, leaving, .. } = self;
        let (now, age) = (now(), heir.child.age_millis().ok().map(Span::from_millis));
        Child {
            label: Label(*place),
            listens: *listens,
            was_ready: counters.was_ready(),
            leaving: *leaving,
            born: age.map(|age| now - age),
            ended: heir.child.has_ended(),
        }
    }
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
