//! The options of `restart` and `reload` that change what an app is: those of `start`, where a known app can be given
//! another value. What is not given stays.

use clap::Args;
use oxherd_config::values::{self as written, Instances, Words};
use oxherd_engine::core::{AppSpec, RestartWhen, Signal, Span};

use super::{put, values};

/// What is to be different from now on.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "From now on, as with start")]
pub(crate) struct ChangeOptions {
    /// Number of workers
    #[arg(short, long, value_name = "N|max|io|-1", value_parser = values::parse_instances)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) instances: Option<Instances>,

    /// Arguments of the interpreter, in place of all that it has; repeatable
    #[arg(long, alias = "interpreter-args", value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) node_args: Vec<Words>,

    /// Replace a worker whose processes hold more memory than this
    #[arg(long, value_name = "SIZE", value_parser = written::parse_size)]
    pub(crate) max_memory_restart: Option<usize>,

    /// Time from the stop signal to SIGKILL
    #[arg(short, long, value_name = "TIME", value_parser = values::parse_ms)]
    pub(crate) kill_timeout: Option<Span>,

    /// The polite signal, by name or number
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<Signal>,

    /// A successor that is not ready by then aborts the reload
    #[arg(long, value_name = "TIME", value_parser = values::parse_ms)]
    pub(crate) listen_timeout: Option<Span>,

    /// A worker is ready when it sends `ready`, not when it listens
    #[arg(long)]
    pub(crate) wait_ready: bool,

    /// No worker is started again after it has ended
    #[arg(long)]
    pub(crate) no_autorestart: bool,

    /// Exit codes that are not followed by a respawn
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', allow_negative_numbers = true)]
    #[arg(value_parser = values::parse_exit_code)]
    pub(crate) stop_exit_codes: Vec<i32>,

    /// Fixed wait before a respawn
    #[arg(long, value_name = "TIME", value_parser = values::parse_ms)]
    pub(crate) restart_delay: Option<Span>,

    /// Wait before a respawn that grows by half each time, up to 15s
    #[arg(long, value_name = "TIME", value_parser = values::parse_ms, conflicts_with = "restart_delay")]
    pub(crate) exp_backoff_restart_delay: Option<Span>,

    /// A slot gives up at this many unstable exits within the restart window
    #[arg(long, value_name = "N", value_parser = written::parse_positive)]
    pub(crate) max_restarts: Option<u32>,
}

impl ChangeOptions {
    /// The first option that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.instances.is_some(), "--instances"),
            (!self.node_args.is_empty(), "--node-args"),
            (self.max_memory_restart.is_some(), "--max-memory-restart"),
            (self.kill_timeout.is_some(), "--kill-timeout"),
            (self.stop_signal.is_some(), "--stop-signal"),
            (self.listen_timeout.is_some(), "--listen-timeout"),
            (self.wait_ready, "--wait-ready"),
            (self.no_autorestart, "--no-autorestart"),
            (!self.stop_exit_codes.is_empty(), "--stop-exit-codes"),
            (self.restart_delay.is_some(), "--restart-delay"),
            (self.exp_backoff_restart_delay.is_some(), "--exp-backoff-restart-delay"),
            (self.max_restarts.is_some(), "--max-restarts"),
        ];
        given.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }

    /// Writes what was given over what is there.
    ///
    /// # Errors
    /// Why this app cannot have it.
    pub(crate) fn put(&self, spec: &mut AppSpec, cpus: usize) -> Result<(), String> {
        if let Some(instances) = self.instances {
            if spec.scaling.is_some() {
                return Err(format!("--instances: the number of workers of {} follows the load", spec.name));
            }
            spec.instances = instances.resolve(cpus);
        }
        self.put_node_args(spec)?;
        put(&mut spec.max_memory_restart, self.max_memory_restart.map(|bytes| Some(bytes as u64)));
        put(&mut spec.kill_timeout, self.kill_timeout);
        put(&mut spec.stop_signal, self.stop_signal);
        put(&mut spec.listen_timeout, self.listen_timeout);
        put(&mut spec.max_restarts, self.max_restarts);
        spec.wait_ready |= self.wait_ready;
        if self.no_autorestart {
            spec.restart = RestartWhen::Never;
        }
        if !self.stop_exit_codes.is_empty() {
            spec.stop_exit_codes.clone_from(&self.stop_exit_codes);
        }
        if self.restart_delay.is_some() || self.exp_backoff_restart_delay.is_some() {
            spec.restart_delay = self.restart_delay;
            spec.exp_backoff_restart_delay = self.exp_backoff_restart_delay;
        }
        Ok(())
    }

    fn put_node_args(&self, spec: &mut AppSpec) -> Result<(), String> {
        if self.node_args.is_empty() {
            return Ok(());
        }
        let about = &mut spec.upkeep.about;
        let old = about.interpreter_args.len();
        let runs_by_itself = matches!(about.interpreter.as_str(), "" | "none");
        if runs_by_itself || !spec.args.starts_with(&about.interpreter_args) {
            return Err(format!("--node-args: {} runs without an interpreter", spec.name));
        }
        about.interpreter_args = self.node_args.iter().flat_map(|words| words.0.iter().cloned()).collect();
        spec.args.splice(..old, about.interpreter_args.iter().cloned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let mut spec = AppSpec::new("web", "/usr/bin/node");
        spec.args = ["--inspect", "/a.js", "1"].map(str::to_owned).to_vec();
        spec.upkeep.about.interpreter = "node".into();
        spec.upkeep.about.interpreter_args = vec!["--inspect".into()];
        spec.restart_delay = Some(Span::from_secs(1));
        let before = spec.clone();
        assert_eq!(ChangeOptions::default().put(&mut spec, 4), Ok(()));
        assert_eq!(spec, before);
        let change = ChangeOptions {
            instances: Some(Instances::AllBut(1)),
            node_args: vec![Words(vec!["-a".into(), "-b".into()])],
            exp_backoff_restart_delay: Some(Span::from_secs(2)),
            ..ChangeOptions::default()
        };
        assert_eq!(change.put(&mut spec, 4), Ok(()));
        assert_eq!((spec.instances, spec.args.join(" ").as_str()), (3, "-a -b /a.js 1"));
        assert_eq!((spec.restart_delay, spec.kill_timeout), (None, before.kill_timeout));
        spec.upkeep.about.interpreter = "none".into();
        assert!(change.put(&mut spec, 4).is_err());
    }
}
