//! How many connections wait for an app: what the kernel holds ready to be accepted, and what came back and nobody has yet.
//!
//! A glance at a queue says little, because who comes waits for a moment even for an idle worker. So it is looked again
//! and again while somebody waits, and the least that was seen counts: those have waited all the time. Where nobody
//! does, one look is enough.

use oxherd_core::AppId;
use oxherd_os::socket;

use crate::traffic::Traffic;
use crate::traffic::listener::{Listener, Socket};
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;

/// Together shorter than the second between two questions.
const LOOKS: u32 = 12;
const LOOK_EVERY_MS: u64 = 40;

/// A count under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    least: u32,
    looks_left: u32,
}

impl Traffic {
    pub(super) fn count_waiting(&mut self, app: AppId) {
        // One that is under way answers for both.
        let is_new = !self.counts.contains_key(&app);
        self.counts.entry(app).or_insert(Count { least: u32::MAX, looks_left: LOOKS });
        if is_new {
            self.look_at_queues(app);
        }
    }

    pub(super) fn look_at_queues(&mut self, app: AppId) {
        let Some(Count { least, looks_left }) = self.counts.remove(&app) else { return };
        let waiting = self.waiting_for(app);
        let (least, looks_left) = (least.min(waiting), looks_left.saturating_sub(1));
        if least == 0 || looks_left == 0 {
            return self.tell(News::Waiting(app, least));
        }
        self.counts.insert(app, Count { least, looks_left });
        self.timers.set(self.now + LOOK_EVERY_MS, Timer::Waiting(app));
    }

    fn waiting_for(&self, app: AppId) -> u32 {
        let listeners =
            self.listeners.of_app(app).into_iter().filter_map(|number| self.listeners.get(number));
        listeners.map(Listener::waiting).fold(0, u32::saturating_add)
    }
}

impl Listener {
    /// Of sockets that are not TCP the kernel does not tell.
    fn waiting(&self) -> u32 {
        let queue = |fd| socket::accept_queue_len(fd).ok().flatten().unwrap_or(0);
        let in_kernel = match &self.socket {
            Socket::Handoff(source) => queue(&source.fd),
            Socket::Shared(fd) => queue(fd),
            Socket::Udp(_) | Socket::Closed => 0,
            Socket::Kernel(group) if group.is_udp() => 0,
            Socket::Kernel(group) => {
                group.members().iter().map(|member| queue(&member.source.fd)).fold(0, u32::saturating_add)
            }
        };
        in_kernel.saturating_add(u32::try_from(self.returned.len()).unwrap_or(u32::MAX))
    }
}
