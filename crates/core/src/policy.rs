//! When a slot is filled again, and when it gives up. Counts and spans only; it starts nothing.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{AppSpec, Exit, GiveUp, Moment, RestartWhen, Span};

const FIRST_BACKOFF: Span = Span::from_millis(100);
const LAST_BACKOFF: Span = Span::from_secs(15);

/// What a slot remembers of its past exits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    unstable: VecDeque<Moment>,
    errors: VecDeque<Moment>,
    /// Unstable exits since the last stable one; the exponent of the back-off.
    streak: u32,
    /// Respawns ever, for the status.
    pub(crate) restarts: u32,
    /// How the last worker ended that nobody had asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_exit: Option<Exit>,
}

/// What an unwanted exit leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Respawn { delay: Span, unstable: u32 },
    Finish,
    GiveUp(GiveUp),
}

/// What the policy looks at in an ended instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stable: bool,
    /// It reported an error itself, which is counted already.
    pub(crate) reported: bool,
}

impl History {
    pub(crate) fn judge(&mut self, spec: &AppSpec, ended: Ended, now: Moment) -> Verdict {
        self.last_exit = Some(ended.exit);
        if !ended.exit.is_success() && !ended.reported {
            self.count_error(spec, now);
        }
        if !is_restarted(spec.restart, ended.exit) {
            return Verdict::Finish;
        }
        if let Some(give_up) = self.too_many_errors(spec, now) {
            return Verdict::GiveUp(give_up);
        }
        if ended.stable {
            self.streak = 0;
        } else {
            self.streak = self.streak.saturating_add(1);
            self.unstable.push_back(now);
        }
        let window = restart_window(spec);
        forget_before(&mut self.unstable, now - window);
        let unstable = self.unstable.len() as u32;
        if !ended.stable && unstable >= spec.max_restarts {
            return Verdict::GiveUp(GiveUp::UnstableExits { count: unstable, window });
        }
        self.restarts = self.restarts.saturating_add(1);
        Verdict::Respawn { delay: self.delay(spec), unstable }
    }

    /// How long a standby waits before it is booted again. It never gives up, so that a fixed pause is only the least.
    pub(crate) fn back_off(&mut self, spec: &AppSpec, stable: bool) -> Span {
        self.streak = if stable { 0 } else { self.streak.saturating_add(1) };
        spec.restart_delay.unwrap_or(Span::ZERO).max(backoff(self.streak))
    }

    pub(crate) fn count_error(&mut self, spec: &AppSpec, now: Moment) {
        if let Some(max) = spec.max_errors {
            self.errors.push_back(now);
            forget_before(&mut self.errors, now - spec.error_window);
            while self.errors.len() > max as usize {
                self.errors.pop_front();
            }
        }
    }

    /// Starts afresh, as after a wish of the user; the respawn count stays.
    pub(crate) fn pardon(&mut self) {
        *self = Self { restarts: self.restarts, last_exit: self.last_exit, ..Self::default() };
    }

    /// Whether the errors within the window are too many.
    pub(crate) fn too_many_errors(&mut self, spec: &AppSpec, now: Moment) -> Option<GiveUp> {
        forget_before(&mut self.errors, now - spec.error_window);
        let count = self.errors.len() as u32;
        let reached = spec.max_errors.is_some_and(|max| count >= max);
        reached.then_some(GiveUp::Errors { count, window: spec.error_window })
    }

    fn delay(&self, spec: &AppSpec) -> Span {
        match spec.restart_delay {
            Some(fixed) => fixed,
            None => backoff(self.streak),
        }
    }
}

/// Whether an end of this kind is followed by another start.
pub(crate) fn is_restarted(when: RestartWhen, exit: Exit) -> bool {
    match when {
        RestartWhen::Always => true,
        RestartWhen::OnFailure => !exit.is_success(),
        RestartWhen::Never => false,
    }
}

fn backoff(streak: u32) -> Span {
    match streak {
        0 => Span::ZERO,
        n => (FIRST_BACKOFF * (1 << (n - 1).min(20))).min(LAST_BACKOFF),
    }
}

/// The configured window, or as long as `max_restarts` unstable lives with their pauses can take: a shorter
/// one would never fill up.
fn restart_window(spec: &AppSpec) -> Span {
    let pauses = match spec.restart_delay {
        Some(fixed) => fixed * u64::from(spec.max_restarts),
        None => (1..=spec.max_restarts.min(1000)).fold(Span::ZERO, |sum, streak| sum + backoff(streak)),
    };
    spec.restart_window.max(pauses + spec.min_uptime * u64::from(spec.max_restarts))
}

fn forget_before(moments: &mut VecDeque<Moment>, start: Moment) {
    while moments.front().is_some_and(|first| *first < start) {
        moments.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signal;

    const UNSTABLE: Ended = Ended { exit: Exit::Code(1), stable: false, reported: false };
    const STABLE: Ended = Ended { stable: true, ..UNSTABLE };

    fn at(secs: u64) -> Moment {
        Moment::from_millis(secs * 1000)
    }

    #[test]
    fn the_back_off_doubles_to_fifteen_seconds_and_ends_with_a_stable_life() {
        let (mut history, spec) = (History::default(), AppSpec::new("a", "a"));
        let mut delays = Vec::new();
        for second in 0..10 {
            match history.judge(&spec, UNSTABLE, at(second)) {
                Verdict::Respawn { delay, .. } => delays.push(delay.as_millis()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        let stable = history.judge(&spec, STABLE, at(11));
        assert_eq!(stable, Verdict::Respawn { delay: Span::ZERO, unstable: 10 });
    }

    #[test]
    fn sixteen_unstable_exits_are_the_end_however_long_the_pauses() {
        let (mut history, spec) = (History::default(), AppSpec::new("a", "a"));
        let mut now = at(0);
        for _ in 1..16 {
            match history.judge(&spec, UNSTABLE, now) {
                Verdict::Respawn { delay, .. } => now = now + delay + Span::from_millis(900),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            history.judge(&spec, UNSTABLE, now),
            Verdict::GiveUp(GiveUp::UnstableExits { count: 16, .. })
        ));
    }

    #[test]
    fn rare_unstable_exits_are_forgiven() {
        let (mut history, spec) = (History::default(), AppSpec::new("a", "a"));
        for hour in 0..100 {
            assert!(matches!(
                history.judge(&spec, UNSTABLE, at(hour * 3600)),
                Verdict::Respawn { unstable: 1, .. }
            ));
        }
    }

    #[test]
    fn the_restart_rule_looks_at_the_exit() {
        let mut spec = AppSpec { restart: RestartWhen::OnFailure, ..AppSpec::new("a", "a") };
        let clean = Ended { exit: Exit::Code(0), ..STABLE };
        assert_eq!(History::default().judge(&spec, clean, at(0)), Verdict::Finish);
        let killed = Ended { exit: Exit::Signal(Signal::TERM), ..STABLE };
        assert!(matches!(History::default().judge(&spec, killed, at(0)), Verdict::Respawn { .. }));
        spec.restart = RestartWhen::Never;
        assert_eq!(History::default().judge(&spec, killed, at(0)), Verdict::Finish);
    }

    #[test]
    fn reports_and_failures_fill_the_error_window_once_each() {
        let spec = AppSpec { max_errors: Some(3), ..AppSpec::new("a", "a") };
        let mut history = History::default();
        history.count_error(&spec, at(0));
        let reported = Ended { reported: true, ..STABLE };
        assert!(matches!(history.judge(&spec, reported, at(1)), Verdict::Respawn { .. }));
        assert!(matches!(history.judge(&spec, STABLE, at(2)), Verdict::Respawn { .. }));
        assert!(matches!(
            history.judge(&spec, STABLE, at(3)),
            Verdict::GiveUp(GiveUp::Errors { count: 3, .. })
        ));
    }
}
