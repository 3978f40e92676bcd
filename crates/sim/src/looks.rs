//! Once a second the fake machine is looked at, as an engine does: how busy an app is, what its workers use and have
//! served, and who does not answer any more. What is seen depends on the seed and the time alone.

use oxherd_core::{AppId, AppSpec, Event, InstanceId, Moment};

use crate::process::Life;
use crate::{Rng, World};

const EVERY_MS: u64 = 1000;
/// The memory of a worker that has grown, in bytes; no limit is above it.
pub(crate) const LARGE: u64 = 1000;
/// For so long an app's load is of one kind: it takes a minute of idleness until a slot is taken away.
const WEATHER_MS: u64 = 80_000;

impl World {
    /// Sees to it that it is looked while there is a reason to, at full seconds.
    pub(crate) fn arm_looks(&mut self) {
        let someone = self.os.alive().any(|it| it.hung || !self.os.calm && is_watched(&it.spec));
        let wanted = someone || !self.os.calm && self.apps_with(is_watched).next().is_some();
        let next = Moment::from_millis((self.now.as_millis() / EVERY_MS + 1) * EVERY_MS);
        self.look_at = if wanted { self.look_at.or(Some(next)) } else { None };
    }

    pub(crate) fn look(&mut self) {
        self.look_at = None;
        let mut rng = Rng::new(self.os.seed ^ self.now.as_millis().wrapping_mul(0x9e37_79b9));
        let serving: Vec<InstanceId> =
            self.os.alive().map(|it| it.place.instance).filter(|id| self.fleet.serves(*id)).collect();
        let mut seen: Vec<Event> =
            serving.into_iter().filter_map(|id| self.look_at_worker(id, &mut rng)).collect();
        if !self.os.calm {
            let apps: Vec<AppId> = self.apps_with(|spec| spec.scaling.is_some()).collect();
            seen.extend(apps.into_iter().map(|app| self.look_at_app(app, &mut rng)));
        }
        seen.into_iter().for_each(|event| self.take_in(event));
    }

    fn look_at_worker(&mut self, id: InstanceId, rng: &mut Rng) -> Option<Event> {
        let calm = self.os.calm;
        let it = self.os.processes.get_mut(&id)?;
        it.served += rng.below(3);
        if it.hung {
            return Some(Event::Hung { instance: id });
        }
        let measured = !calm && (it.spec.max_memory_restart.is_some() || it.spec.max_requests.is_some());
        let memory = Some(if it.large { LARGE } else { 0 });
        measured.then_some(Event::Measured { instance: id, memory, requests: Some(it.served) })
    }

    /// Also of one that is stopped: what was seen may be heard of late.
    fn look_at_app(&mut self, app: AppId, rng: &mut Rng) -> Event {
        let weather = self.now.as_millis() / WEATHER_MS;
        let mut slow = Rng::new(self.os.seed ^ weather << 8 ^ u64::from(app.0));
        let drawn = match slow.below(3) {
            0 => rng.below(100),
            1 => 700 + rng.below(301),
            _ => rng.below(1001),
        };
        let waiting = if rng.chance(80) || self.load.is_some() { 0 } else { rng.below(9) as u32 };
        Event::Loaded { app, busy: self.load.unwrap_or(drawn as u32), waiting }
    }

    /// The apps whose configuration is of a kind, whatever they do.
    pub(crate) fn apps_with(&self, is_such: impl Fn(&AppSpec) -> bool) -> impl Iterator<Item = AppId> {
        let apps = self.fleet.status(self.now).apps.into_iter().map(|app| app.app);
        apps.filter(move |app| self.fleet.spec(*app).is_some_and(|spec| is_such(spec)))
    }

    /// It serves and answers nobody.
    pub(crate) fn is_hung(&self, id: InstanceId) -> bool {
        let is_hung = self.os.processes.get(&id).is_some_and(|it| it.hung && it.life == Life::Alive);
        is_hung && self.fleet.serves(id)
    }
}

fn is_watched(spec: &AppSpec) -> bool {
    spec.scaling.is_some() || spec.max_memory_restart.is_some() || spec.max_requests.is_some()
}
