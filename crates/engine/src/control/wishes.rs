//! Wishes, from other threads or by signals: each is answered once what it changed is kept.

use oxherd_core::{ChangeId, Refusal, Request};

use crate::control::{Control, now};
#[cfg(debug_assertions)]
use crate::handle::Culprit;
use crate::handle::{Survey, Wish};
#[cfg(debug_assertions)]
use crate::traffic::Order;

impl Control<'_> {
    pub(super) fn on_wishes(&mut self) {
        for wish in self.wishes.take() {
            match wish {
                Wish::Request(request, reply) => reply(self.on_request(request)),
                Wish::Survey(asked, reply) => reply(self.survey(&asked)),
                Wish::Upgrade(program, reply) => {
                    self.keep_now();
                    // Written while the keeper asks the other program what it knows.
                    self.hand_on_all_output();
                    reply(self.host.upgrade(program.as_deref()));
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
