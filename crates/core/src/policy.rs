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
        if is_final(spec, ended.exit) {
            return Verdict::Finish;
        }
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
        Verdict::Respawn { delay: pause(spec, self.streak), unstable }
    }

    /// How long a standby waits before it is booted again. It never gives up, so that a fixed pause is only the least.
    pub(crate) fn back_off(&mut self, spec: &AppSpec, stable: bool) -> Span {
        self.streak = if stable { 0 } else { self.streak.saturating_add(1) };
        pause(spec, self.streak).max(backoff(self.streak))
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
}

/// Whether an end of this kind is followed by another start.
pub(crate) fn is_restarted(when: RestartWhen, exit: Exit) -> bool {
    match when {
        RestartWhen::Always => true,
        RestartWhen::OnFailure => !exit.is_success(),
        RestartWhen::Never => false,
    }
}

/// Whether an exit with this code is the end of the slot, whatever the rule. A signal is no exit code.
pub(crate) fn is_final(spec: &AppSpec, exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => spec.stop_exit_codes.contains(&code),
        Exit::Signal(_) | Exit::Unknown => false,
    }
}

/// The pause before the respawn after so many unstable exits in a row.
fn pause(spec: &AppSpec, streak: u32) -> Span {
    match (spec.restart_delay, spec.exp_backoff_restart_delay) {
        (Some(fixed), _) => fixed,
        (None, Some(first)) => growing(first, streak),
        (None, None) => backoff(streak),
    }
}

/// `first` before the first respawn and after a stable life, half as much again each time.
fn growing(first: Span, streak: u32) -> Span {
    let last = LAST_BACKOFF.max(first);
    let mut pause = first;
    for _ in 1..streak {
        if pause >= last {
            break;
        }
        pause = Span::from_millis(pause.as_millis().saturating_mul(3).div_ceil(2)).min(last);
    }
    pause
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
    // A pause does not grow for ever.
    let many = spec.max_restarts.min(1000);
    let grown = (1..=many).fold(Span::ZERO, |sum, streak| sum + pause(spec, streak));
    let pauses = grown + pause(spec, many) * u64::from(spec.max_restarts - many);
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

    fn delays(spec: &AppSpec, lives: &[Ended]) -> Vec<u64> {
        let mut history = History::default();
        let delay = |ended: &Ended| match history.judge(spec, *ended, at(0)) {
            Verdict::Respawn { delay, .. } => delay.as_millis(),
            other => panic!("{other:?}"),
        };
        lives.iter().map(delay).collect()
    }

    #[test]
    fn a_growing_pause_begins_as_given_and_ends_with_a_stable_life() {
        let spec = |first| AppSpec {
            exp_backoff_restart_delay: Some(Span::from_millis(first)),
            ..AppSpec::new("a", "a")
        };
        assert_eq!(delays(&spec(100), &[UNSTABLE; 5]), [100, 150, 225, 338, 507]);
        assert_eq!(delays(&spec(6000), &[UNSTABLE; 5]), [6000, 9000, 13_500, 15_000, 15_000]);
        assert_eq!(delays(&spec(20_000), &[UNSTABLE; 3]), [20_000; 3], "what was asked for is not cut");
        assert_eq!(delays(&spec(1), &[UNSTABLE; 3]), [1, 2, 3]);
        let with_a_stable_one = [UNSTABLE, UNSTABLE, UNSTABLE, STABLE, UNSTABLE, UNSTABLE];
        assert_eq!(delays(&spec(100), &with_a_stable_one), [100, 150, 225, 100, 100, 150]);
    }

    #[test]
    fn pauses_that_grow_do_not_keep_a_crash_loop_going() {
        let first = Some(Span::from_secs(10));
        let spec = AppSpec { exp_backoff_restart_delay: first, ..AppSpec::new("a", "a") };
        let (mut history, mut now) = (History::default(), at(0));
        for _ in 1..16 {
            match history.judge(&spec, UNSTABLE, now) {
                Verdict::Respawn { delay, .. } => now = now + delay + Span::from_millis(900),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(history.judge(&spec, UNSTABLE, now), Verdict::GiveUp(_)));
    }

    #[test]
    fn a_crash_loop_after_a_long_healthy_life_gives_up() {
        let (mut history, spec) = (History::default(), AppSpec::new("a", "a"));
        let mut now = at(3600);
        assert!(matches!(history.judge(&spec, STABLE, now), Verdict::Respawn { .. }));
        let mut lives = 0;
        while let Verdict::Respawn { delay, .. } = history.judge(&spec, UNSTABLE, now) {
            now = now + delay;
            lives += 1;
            assert!(lives < 16, "it never gives up");
        }
        assert_eq!(lives, 15);
    }

    #[test]
    fn some_exit_codes_are_the_end_and_signals_have_none() {
        let stop = |codes: &[i32]| AppSpec { stop_exit_codes: codes.into(), ..AppSpec::new("a", "a") };
        let verdict =
            |spec: &AppSpec, exit| History::default().judge(spec, Ended { exit, ..UNSTABLE }, at(0));
        assert_eq!(verdict(&stop(&[0]), Exit::Code(0)), Verdict::Finish);
        assert_eq!(verdict(&stop(&[3, 143]), Exit::Code(143)), Verdict::Finish);
        for (codes, exit) in [
            (&[0, 9, 137][..], Exit::Signal(Signal::KILL)),
            (&[15, 143], Exit::Signal(Signal::TERM)),
            (&[0], Exit::Unknown),
            (&[0], Exit::Code(1)),
            (&[], Exit::Code(0)),
        ] {
            assert!(matches!(verdict(&stop(codes), exit), Verdict::Respawn { .. }), "{codes:?} {exit:?}");
        }
        let counted = AppSpec { max_errors: Some(1), ..stop(&[3]) };
        assert_eq!(verdict(&counted, Exit::Code(3)), Verdict::Finish, "it is no error");
    }
}
