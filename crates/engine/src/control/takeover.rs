//! Taking a herd over: what another primary left becomes this one's; and the loss of who holds the processes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{
    AppSpec, Child as CoreChild, Desired, Fleet, Inventory, Label, Limits, Moment, Place, Request, Span,
};
use oxherd_os::{Interest, clock};

use crate::Alert;
use crate::control::children::Process;
use crate::control::{Control, LOSS, now};
use crate::counters::Counters;
use crate::host::{Entry, Estate, Heir, HeirRef};
use crate::traffic::{Attachment, Bequest, NewStash, Order, counters_of, uses_of};

/// When to look for another keeper again.
const RENEW_EVERY: Span = Span::from_secs(1);

impl Control<'_> {
    /// Goes on where another primary ended; from nothing where there was none.
    pub(super) fn take_over(&mut self, estate: Estate) {
        let Estate { starts, image, desired, children, mut entries, connections } = estate;
        self.inherit_totals(&mut entries);
        let mut counters = counters_in(&mut entries);
        let (known, strangers): (Vec<_>, Vec<_>) = children
            .into_iter()
            .map(|heir| (self.place_of(&heir), heir))
            .partition(|(place, _)| place.is_some());
        let known: Vec<(Place, Heir)> =
            known.into_iter().filter_map(|(place, heir)| Some((place?, heir))).collect();
        for (_, heir) in strangers {
            self.host.kill_tree(&heir.child);
            self.host.forget(&heir.child);
        }
        let listening = listening_labels(&entries);
        let child = |(place, heir): &(Place, Heir)| CoreChild {
            label: Label(*place),
            ready: listening.contains(heir.child.label()),
            born: None,
            ended: heir.child.exit().is_some(),
        };
        let inventory =
            Inventory { boot_id: clock::boot_id(), starts, children: known.iter().map(child).collect() };
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
        for (place, heir) in known {
            let counters = counters.remove(heir.child.label());
            self.adopt(place, heir, counters);
        }
        self.carry_out();
        self.reconcile();
        self.keep_now();
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
        Fleet::from_desired(desired.unwrap_or_default(), Limits::default(), inventory, now())
    }

    /// Where a process belongs, if it is one of ours.
    fn place_of(&self, heir: &Heir) -> Option<Place> {
        let (primary, label) = heir.child.label().split_once('/')?;
        let label: Label = label.parse().ok().filter(|_| primary == self.host.primary())?;
        Some(label.0)
    }

    fn adopt(&mut self, place: Place, heir: Heir, counters_fd: Option<OwnedFd>) {
        let Heir { child, channel, worker_end, stdout, stderr } = heir;
        let (pid, label) = (child.pid, child.label().to_owned());
        // Those of one that had ended are in the totals already.
        let counters = counters_fd.as_ref().filter(|_| !self.is_counted(place.instance));
        let counters = Arc::new(counters.and_then(|fd| Counters::of(fd).ok()).unwrap_or_default());
        let spec = self.fleet.spec(place.app).cloned();
        let has_channel = channel.is_some();
        self.add_child(place, Process { child, stdout, stderr }, Arc::clone(&counters), has_channel);
        if let Some(channel) = channel {
            // One without an app is only there to be killed.
            let spec = spec.unwrap_or_else(|| Arc::new(AppSpec::new("stray", "")));
            self.traffic.orders.send(Order::Attach(Attachment {
                place,
                label,
                spec,
                pid,
                channel,
                worker_end,
                counters,
                counters_fd,
                is_heir: true,
            }));
        }
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

/// The counters of workers, by their labels.
fn counters_in(entries: &mut Vec<Entry>) -> BTreeMap<String, OwnedFd> {
    let (counters, others) =
        std::mem::take(entries).into_iter().partition(|it: &Entry| counters_of(&it.name).is_some());
    *entries = others;
    let labelled = |it: Entry| Some((counters_of(&it.name)?.to_owned(), it.fd?));
    Vec::into_iter(counters).filter_map(labelled).collect()
}

/// The labels of the workers that were lent a listener.
fn listening_labels(entries: &[Entry]) -> BTreeSet<&str> {
    let uses = entries.iter().filter_map(|entry| Some((uses_of(&entry.name)?, entry)));
    uses.filter(|(_, entry)| crate::traffic::lists_listeners(&entry.meta)).map(|(label, _)| label).collect()
}
