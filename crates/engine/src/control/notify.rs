//! Words that workers say by `sd_notify(3)`. `READY=1` is the word of readiness; all others are for nobody here.

use std::os::fd::AsFd;

use oxherd_core::{AppSpec, Event, InstanceId};
use oxherd_os::host::LABEL_VARIABLE;
use oxherd_os::notify::NotifySocket;
use oxherd_os::{Interest, proc};

use crate::control::{Control, NOTIFY};

/// The variable by which programs find the socket.
pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";
/// So many words are read at a time: who never stops talking keeps nobody waiting.
const WORDS_AT_ONCE: usize = 64;

impl Control<'_> {
    /// What a worker that is to say when it is ready finds the socket by. Where it cannot be had, such workers have
    /// their channel only.
    pub(super) fn notify_address(&mut self, spec: &AppSpec) -> Option<String> {
        if !spec.wait_ready {
            return None;
        }
        let name = format!("oxherd/{}/notify", self.host.primary());
        if self.notify.is_none() {
            // By this name the workers that a primary before this one has started find it, too.
            let socket = NotifySocket::bind(&name).ok()?;
            self.poller.add(socket.as_fd(), NOTIFY, Interest::READ).ok()?;
            self.notify = Some(socket);
        }
        Some(format!("@{name}"))
    }

    /// A worker that was told of it before this primary may speak yet.
    pub(super) fn hear_words_of(&mut self, instance: InstanceId) {
        if let Some(spec) = self.fleet.spec_of(instance).cloned() {
            drop(self.notify_address(&spec));
        }
    }

    pub(super) fn on_words(&mut self) {
        for _ in 0..WORDS_AT_ONCE {
            let word = self.notify.as_ref().and_then(|socket| socket.next().ok().flatten());
            let Some(word) = word else { return };
            if word.is_ready()
                && let Some(instance) = self.speaker(word.pid)
            {
                self.take_in(Event::Ready { instance });
            }
        }
    }

    /// The worker to whose tree a process belongs: its own, or one that carries its label.
    fn speaker(&self, pid: u32) -> Option<InstanceId> {
        let own = self.children.iter().find(|child| child.process.pid == pid);
        let found = own.or_else(|| {
            let label = proc::variable_of(pid, LABEL_VARIABLE).ok().flatten()?;
            self.children.iter().find(|child| label == *child.process.label())
        });
        found.map(|child| child.place.instance)
    }
}
