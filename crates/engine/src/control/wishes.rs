//! Wishes, from other threads or by signals: each is answered once what it changed is kept.

use std::time::{Duration, Instant};

use oxherd_core::{ChangeId, Refusal, Request};
use oxherd_os::{Events, Interest, Poller};

use crate::control::{Control, now};
#[cfg(debug_assertions)]
use crate::handle::Culprit;
use crate::handle::{Survey, Wish};
#[cfg(debug_assertions)]
use crate::traffic::Order;

/// How long the primary waits to be killed for an upgrade.
const LONGEST_END: Duration = Duration::from_secs(5);

impl Control<'_> {
    pub(super) fn on_wishes(&mut self) {
        for wish in self.wishes.take() {
            match wish {
                Wish::Request(request, reply) => reply(self.on_request(request)),
                Wish::Survey(asked, reply) => reply(self.survey(&asked)),
                Wish::Upgrade(program, reply) => {
                    self.keep_now();
                    self.settle_output();
                    let outcome = self.host.upgrade(program.as_deref());
                    let is_over = outcome.is_ok();
                    reply(outcome);
                    if is_over {
                        self.await_end();
                    }
                }
                Wish::Fork(app, env, reply) => reply(self.on_fork(app, env)),
                Wish::Signal(instance, signal, reply) => reply(self.signal_one(instance, signal)),
                Wish::KillTree(instance, reply) => reply(self.kill_one(instance)),
                Wish::Probed(instance) => self.on_probed(instance),
                Wish::WriteLine(instance, line, reply) => reply(self.write_line(instance, &line)),
                #[cfg(debug_assertions)]
                Wish::Panic(Culprit::Control) => panic!("planted on the control thread"),
                #[cfg(debug_assertions)]
                Wish::Panic(Culprit::Traffic) => self.traffic.orders.send(Order::Panic),
            }
        }
    }

    /// This primary is being killed. Whatever it read or decided meanwhile would end with it, so it does nothing: what
    /// workers write stays in their pipes. Returns only if the one who was to kill it is gone.
    fn await_end(&self) {
        let Some(loss) = self.host.loss() else { return };
        let given_up = Instant::now() + LONGEST_END;
        let watched = Poller::new().and_then(|poller| poller.add(loss, 0, Interest::READ).map(|()| poller));
        let Ok(poller) = watched else { return };
        let mut events = Events::with_capacity(1);
        loop {
            let left = given_up.saturating_duration_since(Instant::now());
            match poller.wait(&mut events, Some(left)) {
                Ok(0) if !left.is_zero() => {}
                _ => return,
            }
        }
    }

    /// What was accepted is kept before anybody sees or hears of it: a primary that ends here has not promised in
    /// vain.
    pub(super) fn on_request(&mut self, request: Request) -> Result<ChangeId, Refusal> {
        let adjusted = match &request {
            Request::Adjust { app, .. } => Some(*app),
            _ => None,
        };
        let change = self.fleet.handle_request(request, now())?;
        if let Some(app) = adjusted {
            self.arm_looks_of(app);
        }
        self.keeping.touch_desired();
        self.keep_now();
        // Whoever hears what comes of it knows whose workers they are.
        self.tell_desired();
        self.carry_out();
        self.keeping.touch();
        Ok(change)
    }

    fn survey(&self, asked: &[ChangeId]) -> Survey {
        let now = now();
        let status = self.fleet.status(now);
        let specs =
            status.apps.iter().filter_map(|app| Some((app.app, self.fleet.spec(app.app)?.clone()))).collect();
        let pending = asked.iter().copied().filter(|change| self.fleet.is_pending(*change)).collect();
        Survey {
            report: self.make_report(now),
            status,
            specs,
            last_change: self.fleet.last_change(),
            pending,
        }
    }
}
