//! What of a specification can change under running workers: all that the primary goes by itself, and nothing that a
//! process was started with.

use super::AppSpec;
use crate::{About, Upkeep};

impl AppSpec {
    /// This specification with what `new` says of everything that no worker has to be replaced for. All that a process
    /// was started with stays.
    #[must_use]
    pub fn adjusted_to(&self, new: &Self) -> Self {
        // Each field is named, so that one that is added is put on one side or the other.
        let Self {
            name,
            program,
            args,
            cwd,
            env,
            distribution,
            strategy,
            weights,
            sockets,
            serialization,
            wait_ready,
            handoff_window,
            max_message,
            ports,
            listen,
            owner,
            instance_var,
            increment_var,
            upkeep,
            instances: _,
            restart: _,
            restart_delay: _,
            restart_window: _,
            max_restarts: _,
            max_errors: _,
            error_window: _,
            min_uptime: _,
            listen_timeout: _,
            drain_timeout: _,
            kill_timeout: _,
            stop_signal: _,
            shutdown_with_message: _,
            parallel: _,
            memory_warning: _,
            standby: _,
            stop_exit_codes: _,
            exp_backoff_restart_delay: _,
            max_memory_restart: _,
            max_requests: _,
            max_lifetime: _,
            scaling: _,
            ready_probe: _,
            health_interval: _,
            autostart: _,
        } = self.clone();
        let upkeep = upkeep.adjusted_to(&new.upkeep);
        Self {
            name,
            program,
            args,
            cwd,
            env,
            distribution,
            strategy,
            weights,
            sockets,
            serialization,
            wait_ready,
            handoff_window,
            max_message,
            ports,
            listen,
            owner,
            instance_var,
            increment_var,
            upkeep,
            ..new.clone()
        }
    }
}

impl Upkeep {
    /// The file with a worker's pid is written when it starts; of what was asked for, only where it was written is no
    /// matter of processes.
    fn adjusted_to(self, new: &Self) -> Self {
        let Self { pid_file, about, namespace: _, logs: _, cron: _, watch: _ } = self;
        let About { file, env_name, .. } = new.about.clone();
        Self { pid_file, about: About { file, env_name, ..about }, ..new.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scaling, Sockets};

    #[test]
    fn what_a_process_was_started_with_stays_and_all_else_is_taken_over() {
        let old = AppSpec::new("web", "node");
        let adjusted = |change: fn(&mut AppSpec)| {
            let mut new = old.clone();
            change(&mut new);
            let adjusted = old.adjusted_to(&new);
            assert!(adjusted == new || adjusted == old);
            adjusted == new
        };
        let changes: [fn(&mut AppSpec); 8] = [
            |it| it.upkeep.logs.date_format = Some("HH".into()),
            |it| it.upkeep.cron = Some("0 3 * * *".into()),
            |it| it.upkeep.namespace = "shop".into(),
            |it| it.upkeep.about.file = Some("/srv/app.json".into()),
            |it| it.max_memory_restart = Some(1 << 30),
            |it| it.scaling = Some(Scaling { min: 1, max: 4 }),
            |it| (it.kill_timeout, it.parallel) = (crate::Span::from_secs(9), 2),
            |it| it.instances = 4,
        ];
        assert!(changes.into_iter().all(adjusted));
        let other_processes: [fn(&mut AppSpec); 7] = [
            |it| it.env.push(("A".into(), "1".into())),
            |it| it.args.push("x".into()),
            |it| it.cwd = "/srv".into(),
            |it| it.sockets = Sockets::None,
            |it| it.wait_ready = true,
            |it| it.upkeep.about.env.extend([("A".to_owned(), "1".to_owned())]),
            |it| it.upkeep.pid_file = Some("/run/web.pid".into()),
        ];
        assert!(!other_processes.into_iter().any(adjusted));
    }
}
