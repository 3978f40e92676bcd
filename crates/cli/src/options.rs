//! The options of `oxherd run`, and those of an app for every verb that takes one. Each becomes a checked value here;
//! what they come to on this machine is found out by the crate `config`.

use clap::Args;
use oxherd_config::values::{self, Instances, Variable, Words};
use oxherd_config::{Origin, Wish};
use oxherd_engine::core::{AppSpec, Distribution, RestartWhen, Signal, Span, Strategy};

const AFTER_HELP: &str = "\
Times are written 250ms, 1.5s, 30s, 2m or 1h.

Signals:
  SIGHUP            reload: each worker is replaced by a successor that is ready first;
                    counts as SIGTERM when the terminal is gone
  SIGTERM, SIGINT   drain all workers and exit; a second one kills
  SIGTTIN, SIGTTOU  one worker more, one less

Exit codes:
  0  stopped on request, or every worker has ended and none is to be restarted
  1  killed by a second signal, or an internal error
  2  cannot start: a wrong option, a missing script or interpreter, an unknown strategy
  3  a slot has given up and no worker is left

Examples:
  oxherd run server.js                        one worker per CPU
  oxherd run -i 4 server.js -- --port 8080    four, with an argument for the script
  oxherd run --node-args '--max-old-space-size=512' --env NODE_ENV=production server.js
  oxherd run --restart on-failure -i 1 queue.py";

/// Runs a program as a herd of workers in the foreground.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) app: AppOptions,

    /// One more variable for the workers' environment; repeatable
    #[arg(long, value_name = "K=V")]
    pub(crate) env: Vec<Variable>,

    /// Leave handed-over connections with a worker that does not pick them up
    #[arg(long)]
    pub(crate) no_recall: bool,

    /// Time between two status reports; 0: none
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::parse_span)]
    pub(crate) status_interval: Span,
}

/// The options that describe an app. Which environment it gets is said by the verb that takes them.
#[derive(Args, Clone, Debug)]
pub(crate) struct AppOptions {
    /// Number of workers; max: the CPUs of the cgroup and affinity mask, io: twice that, -1: all but one
    #[arg(short, long, value_name = "N|max|io|-1", default_value = "max", allow_negative_numbers = true)]
    pub(crate) instances: Instances,

    /// How connections reach workers: handoff, kernel or shared [default: handoff]
    #[arg(long, value_name = "D")]
    pub(crate) distribution: Option<Distribution>,

    /// Which worker gets the next connection: round-robin
    #[arg(long, value_name = "S", default_value = "round-robin")]
    pub(crate) strategy: Strategy,

    /// Which exits are followed by a respawn: always, on-failure or never
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub(crate) restart: RestartWhen,

    /// Fixed wait before a respawn [default: 100ms, doubling to 15s]
    #[arg(long, value_name = "TIME", value_parser = values::parse_span)]
    pub(crate) restart_delay: Option<Span>,

    /// Time in which unstable exits are counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::parse_span)]
    pub(crate) restart_window: Span,

    /// A slot gives up at this many unstable exits within the restart window
    #[arg(long, value_name = "N", default_value = "16", value_parser = values::parse_positive)]
    pub(crate) max_restarts: u32,

    /// A slot gives up at this many reported errors and failures within the error window [default: off]
    #[arg(long, value_name = "N", value_parser = values::parse_positive)]
    pub(crate) max_errors: Option<u32>,

    /// Time in which errors are counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::parse_span)]
    pub(crate) error_window: Span,

    /// An exit before this age is unstable; a program that never listens is ready at this age
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::parse_span)]
    pub(crate) min_uptime: Span,

    /// A worker is ready when it sends `ready`, not when it listens
    #[arg(long)]
    pub(crate) wait_ready: bool,

    /// A successor that is not ready by then aborts the reload
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::parse_span)]
    pub(crate) listen_timeout: Span,

    /// Time to finish what is in hand
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::parse_span)]
    pub(crate) drain_timeout: Span,

    /// Time from the stop signal to SIGKILL
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::parse_span)]
    pub(crate) kill_timeout: Span,

    /// The polite signal, by name or number
    #[arg(long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub(crate) stop_signal: Signal,

    /// Ask a worker to stop with the plain message "shutdown" in place of {type: "shutdown"}
    #[arg(long)]
    pub(crate) shutdown_with_message: bool,

    /// Number of slots that a reload replaces at a time
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::parse_positive)]
    pub(crate) parallel: u32,

    /// How workers come by their sockets: channel (Node's cluster protocol) or none (the program binds its own)
    /// [default: channel for Node, none for others]
    #[arg(long, value_name = "auto|channel|none", value_parser = values::parse_sockets, default_value = "auto", hide_default_value = true)]
    pub(crate) sockets: values::SocketsChoice,

    /// Number of handed-over connections that a worker may leave unanswered
    #[arg(long, value_name = "N", default_value = "2", value_parser = values::parse_positive)]
    pub(crate) handoff_window: u32,

    /// The longest message a worker may send, in bytes, or with K, M or G (times 1024)
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = values::parse_size)]
    pub(crate) max_message: usize,

    /// Folder of the workers [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,

    /// Name of the app [default: the script's name without its extension]
    #[arg(long, value_name = "NAME", value_parser = values::parse_name)]
    pub(crate) name: Option<String>,

    /// Program that runs the script, or none [default: by the script's extension or its #! line]
    #[arg(long, value_name = "PROG|none")]
    pub(crate) interpreter: Option<String>,

    /// Arguments of the interpreter, split at spaces outside quotes; repeatable
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) node_args: Vec<Words>,

    /// Program to run; relative to the current folder, not to --cwd
    #[arg(value_name = "SCRIPT")]
    pub(crate) script: String,

    /// Arguments of the script
    #[arg(value_name = "ARGS", last = true)]
    pub(crate) args: Vec<String>,
}

impl AppOptions {
    /// What they come to, with these variables for the workers.
    pub(crate) fn wish(&self, env: &[Variable]) -> Wish {
        let node_args = self.node_args.iter().flat_map(|words| words.0.iter().cloned());
        Wish {
            name: self.name.clone(),
            interpreter: self.interpreter.clone(),
            interpreter_args: node_args.collect(),
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            env: env.to_vec(),
            instances: self.instances,
            distribution: self.distribution,
            sockets: self.sockets.get(),
            rest: self.rest(),
            ..Wish::new(Origin::CommandLine, &self.script)
        }
    }

    fn rest(&self) -> AppSpec {
        AppSpec {
            strategy: self.strategy,
            restart: self.restart,
            restart_delay: self.restart_delay,
            restart_window: self.restart_window,
            max_restarts: self.max_restarts,
            max_errors: self.max_errors,
            error_window: self.error_window,
            min_uptime: self.min_uptime,
            wait_ready: self.wait_ready,
            listen_timeout: self.listen_timeout,
            drain_timeout: self.drain_timeout,
            kill_timeout: self.kill_timeout,
            stop_signal: self.stop_signal,
            shutdown_with_message: self.shutdown_with_message,
            parallel: self.parallel,
            handoff_window: self.handoff_window,
            max_message: self.max_message,
            ..AppSpec::new("", "")
        }
    }
}
