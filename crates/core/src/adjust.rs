//! A configuration that changes under running workers: what the primary goes by itself is so from the next moment on.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::settle::Goal;
use crate::{AppId, AppSpec, ChangeId, ChangeOutcome, Moment, Refusal};

impl Fleet {
    /// Takes over a configuration that no worker has to be replaced for. While a reload is under way it follows that, as
    /// another: the one that runs may still be taken back.
    pub(crate) fn adjust(
        &mut self,
        id: AppId,
        spec: Box<AppSpec>,
        change: ChangeId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let limits = self.state.limits;
        let app = self.app_mut(id)?;
        spec.check(limits)?;
        if app.reload.is_some() {
            return self.request_reload(id, Some(spec), change, now);
        }
        if !app.is_up() {
            return self.take_over_stopped(id, *spec, change);
        }
        if app.spec().adjusted_to(&spec) != *spec {
            return Err(Refusal::NeedsWorkers(app.spec().name.clone()));
        }
        let to = match spec.scaling {
            Some(_) => spec.kept_within(app.instances),
            None => spec.instances,
        };
        app.specs.insert(app.generation, Arc::new(*spec));
        let resizes = app.instances != to;
        self.resize(id, to);
        self.await_goal(change, id, Goal::Serving);
        if !resizes {
            self.conclude(change, ChangeOutcome::Done);
        }
        Ok(())
    }

    /// No worker goes by what it was, and none is started by what it is.
    fn take_over_stopped(&mut self, id: AppId, spec: AppSpec, change: ChangeId) -> Result<(), Refusal> {
        if self.app_mut(id)?.spec().name != spec.name {
            return Err(Refusal::Fixed("name"));
        }
        self.adopt_spec(id, spec);
        self.await_goal(change, id, Goal::Gone);
        self.conclude(change, ChangeOutcome::Done);
        Ok(())
    }
}
