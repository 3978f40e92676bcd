//! When the clock reloads which app. In local time; it only calculates.

use std::collections::BTreeMap;
use std::time::Duration;

use croner::Cron;
use jiff::Zoned;
use oxherd_core::AppId;
use oxherd_os::clock::wall_millis;

/// What is planned.
#[derive(Debug, Default)]
pub(super) struct Clock {
    plans: BTreeMap<AppId, Plan>,
}

#[derive(Debug)]
struct Plan {
    expression: String,
    cron: Cron,
    /// In milliseconds since the Unix epoch; nothing when the time never comes again.
    due_ms: Option<u64>,
}

impl Clock {
    /// Plans for these apps and no others. Returns those whose expression cannot be read, told once each.
    pub(super) fn plan<'a>(
        &mut self,
        wanted: impl Iterator<Item = (AppId, Option<&'a str>)>,
    ) -> Vec<(AppId, String)> {
        let mut before = std::mem::take(&mut self.plans);
        let mut refused = Vec::new();
        for (app, expression) in wanted.filter_map(|(app, expression)| Some((app, expression?))) {
            match before.remove(&app).filter(|plan| plan.expression == expression) {
                Some(plan) => drop(self.plans.insert(app, plan)),
                None => match expression.parse::<Cron>() {
                    Ok(cron) => {
                        let due_ms = next(&cron);
                        let plan = Plan { expression: expression.to_owned(), cron, due_ms };
                        self.plans.insert(app, plan);
                    }
                    Err(error) => refused.push((app, format!("`{expression}` is no time: {error}"))),
                },
            }
        }
        refused
    }

    pub(super) fn due(&self) -> BTreeMap<AppId, u64> {
        self.plans.iter().filter_map(|(app, plan)| Some((*app, plan.due_ms?))).collect()
    }

    /// How long nothing is due.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.plans.values().filter_map(|plan| plan.due_ms).min()?;
        Some(Duration::from_millis(next.saturating_sub(wall_millis())))
    }

    /// The apps whose time has come, each once however often it came.
    pub(super) fn take_due(&mut self) -> Vec<(AppId, String)> {
        let now = wall_millis();
        let mut due = Vec::new();
        for (app, plan) in &mut self.plans {
            if plan.due_ms.is_some_and(|at| at <= now) {
                plan.due_ms = next(&plan.cron);
                due.push((*app, plan.expression.clone()));
            }
        }
        due
    }
}

fn next(cron: &Cron) -> Option<u64> {
    let at = cron.find_next_occurrence(&Zoned::now(), false).ok()?;
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_planned_kept_and_refused() {
        let (web, api, odd) = (AppId(1), AppId(2), AppId(3));
        let mut clock = Clock::default();
        let wanted =
            [(web, Some("0 3 * * *")), (api, Some("* * * * * *")), (odd, Some("no time")), (AppId(4), None)];
        let refused = clock.plan(wanted.into_iter());
        assert!(
            refused.len() == 1 && refused[0].0 == odd && refused[0].1.starts_with("`no time` is no time: ")
        );
        let due = clock.due();
        assert!(due[&web] > wall_millis() && due[&web] <= wall_millis() + 25 * 3_600_000);
        assert!(clock.wait().unwrap() <= Duration::from_secs(1));
        // Known again, nothing changes; what is not wanted any more is gone.
        clock.plan([(web, Some("0 3 * * *"))].into_iter());
        assert_eq!(clock.due(), BTreeMap::from([(web, due[&web])]));
        assert!(clock.take_due().is_empty());
    }
}
