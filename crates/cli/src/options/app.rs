//! The options that describe an app, for every verb that takes one.

use clap::Args;
use oxherd_config::environment::EnvFilter;
use oxherd_config::values::{self as written, Instances, SocketsChoice, Variable, Weights, Words};
use oxherd_config::{Origin, Wish};
use oxherd_engine::core::{
    AppSpec, Distribution, ListenAt, Ports, RestartWhen, Serialization, Signal, Span, Strategy,
};

use super::values;

/// The options that describe an app. Which environment it gets is said by the verb that takes them.
#[derive(Args, Clone, Debug)]
pub(crate) struct AppOptions {
    /// Number of workers; max: the CPUs of the cgroup and affinity mask, io: twice that, -1: all but one [default: max;
    /// 1 when called as pm2]
    #[arg(short, long, value_name = "N|max|io|-1", value_parser = values::parse_instances)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) instances: Option<Instances>,

    /// How connections reach workers: handoff, kernel or shared [default: handoff; kernel with --sockets universal or
    /// listen-fds]
    #[arg(long, value_name = "D")]
    pub(crate) distribution: Option<Distribution>,

    /// Which worker gets the next connection: least-busy, round-robin, least-connections, weighted, random, or
    /// sticky, which needs --distribution kernel
    #[arg(long, value_name = "S", default_value = "least-busy")]
    pub(crate) strategy: Strategy,

    /// Each slot's share under --strategy weighted, such as 3,1; a slot beyond them has 1
    #[arg(long, value_name = "N,N")]
    pub(crate) weights: Option<Weights>,

    /// Which exits are followed by a respawn: always, on-failure or never
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub(crate) restart: RestartWhen,

    /// The same as --restart never
    #[arg(long, conflicts_with = "restart")]
    pub(crate) no_autorestart: bool,

    /// Exit codes that are not followed by a respawn
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', allow_negative_numbers = true)]
    #[arg(value_parser = values::parse_exit_code)]
    pub(crate) stop_exit_codes: Vec<i32>,

    /// Fixed wait before a respawn; a bare number is in milliseconds [default: 100ms, doubling to 15s]
    #[arg(long, value_name = "TIME", value_parser = values::parse_ms)]
    pub(crate) restart_delay: Option<Span>,

    /// Wait before a respawn that grows by half each time, up to 15s
    #[arg(long, value_name = "TIME", value_parser = values::parse_ms, conflicts_with = "restart_delay")]
    pub(crate) exp_backoff_restart_delay: Option<Span>,

    /// Time in which unstable exits are counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = written::parse_span)]
    pub(crate) restart_window: Span,

    /// A slot gives up at this many unstable exits within the restart window
    #[arg(long, value_name = "N", default_value = "16", value_parser = written::parse_positive)]
    pub(crate) max_restarts: u32,

    /// A slot gives up at this many reported errors and failures within the error window [default: off]
    #[arg(long, value_name = "N", value_parser = written::parse_positive)]
    pub(crate) max_errors: Option<u32>,

    /// Time in which errors are counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = written::parse_span)]
    pub(crate) error_window: Span,

    /// An exit before this age is unstable; a program that never listens is ready at this age
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = written::parse_span)]
    pub(crate) min_uptime: Span,

    /// A worker is ready when it sends `ready`, not when it listens
    #[arg(long)]
    pub(crate) wait_ready: bool,

    /// A successor that is not ready by then aborts the reload
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::parse_ms)]
    pub(crate) listen_timeout: Span,

    /// Time to finish what is in hand
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = written::parse_span)]
    pub(crate) drain_timeout: Span,

    /// Time from the stop signal to SIGKILL
    #[arg(short, long, value_name = "TIME", default_value = values::usual_kill_timeout())]
    #[arg(value_parser = values::parse_ms)]
    pub(crate) kill_timeout: Span,

    /// The polite signal, by name or number
    #[arg(long, value_name = "SIGNAL", default_value = values::usual_stop_signal())]
    pub(crate) stop_signal: Signal,

    /// Ask a worker to stop with the plain message "shutdown" in place of {type: "shutdown"}
    #[arg(long)]
    pub(crate) shutdown_with_message: bool,

    /// Number of slots that a reload replaces at a time
    #[arg(long, value_name = "N", default_value = "1", value_parser = written::parse_positive)]
    pub(crate) parallel: u32,

    /// How workers come by their sockets: auto, channel (Node's cluster protocol), universal (the program binds, and is lent
    /// the slot's listener in place of its own), listen-fds (it is started with those of --listen) or none (it binds
    /// its own) [default: channel for Node, universal for others]
    #[arg(long, value_name = "HOW", value_parser = written::parse_sockets, default_value = "auto", hide_default_value = true)]
    pub(crate) sockets: SocketsChoice,

    /// The ports at which workers are lent listeners, such as 80,443,8000-8999; others are their own [default: all]
    #[arg(long, value_name = "PORTS")]
    pub(crate) ports: Option<Ports>,

    /// A listener for --sockets listen-fds, such as web=0.0.0.0:8080 or admin=/run/admin.sock; repeatable
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(crate) listen: Vec<ListenAt>,

    /// Number of booted workers that wait, ready to take a slot when its worker dies
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) standby: u32,

    /// How messages of workers are written: json, or advanced (structured clone: Map, Date, BigInt, Buffer stay)
    #[arg(long, value_name = "MODE", default_value = "json")]
    pub(crate) serialization: Serialization,

    /// Number of handed-over connections that a worker may leave unanswered
    #[arg(long, value_name = "N", default_value = "2", value_parser = written::parse_positive)]
    pub(crate) handoff_window: u32,

    /// The longest message a worker may send, in bytes, or with K, M or G (times 1024)
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = written::parse_size)]
    pub(crate) max_message: usize,

    /// Tell when a worker holds more memory than this [default: off]
    #[arg(long, value_name = "SIZE", value_parser = written::parse_size)]
    pub(crate) memory_warning: Option<usize>,

    /// Replace a worker whose processes hold more memory than this [default: off]
    #[arg(long, value_name = "SIZE", value_parser = written::parse_size)]
    pub(crate) max_memory_restart: Option<usize>,

    /// Replace a worker after about so many requests [default: off]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_requests: Option<u64>,

    /// Replace a worker after about so long [default: off]
    #[arg(long, value_name = "TIME", value_parser = written::parse_span)]
    pub(crate) max_lifetime: Option<Span>,

    /// Run as this user, by name or number
    #[arg(short, long, visible_alias = "uid", value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Run as this group, likewise [default: the user's]
    #[arg(long, value_name = "GROUP")]
    pub(crate) gid: Option<String>,

    /// Leave variables with this in their name out of the caller's environment; all of it without a word; repeatable
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "")]
    pub(crate) filter_env: Vec<String>,

    /// Folder of the workers [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,

    /// Name of the app [default: the script's name without its extension, or the program's]
    #[arg(short, long, value_name = "NAME", value_parser = written::parse_name)]
    pub(crate) name: Option<String>,

    /// Program that runs the script, or none [default: by the script's extension or its #! line]
    #[arg(long, value_name = "PROG|none")]
    pub(crate) interpreter: Option<String>,

    /// Arguments of the interpreter, split at spaces outside quotes; repeatable
    #[arg(long, alias = "interpreter-args", value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) node_args: Vec<Words>,

    /// Have Node read source maps: --node-args --enable-source-maps
    #[arg(long)]
    pub(crate) source_map_support: bool,

    /// What PM2 has and oxherd has no need to switch off
    #[command(flatten)]
    pub(crate) without: Without,
}

/// What PM2's options switch off that is not there in the first place: they ask for what is so anyway.
#[derive(Args, Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word of a command line")]
pub(crate) struct Without {
    #[arg(long, hide = true)]
    no_vizion: bool,
    #[arg(long, hide = true)]
    no_pmx: bool,
    #[arg(long, hide = true)]
    no_automation: bool,
    #[arg(long, hide = true)]
    disable_trace: bool,
    #[arg(long, hide = true, conflicts_with = "source_map_support")]
    disable_source_map_support: bool,
}

/// What is to be run: one script, or a program.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScriptArgs {
    /// Program to run; relative to the current folder, not to --cwd; where there is no such file, a program on PATH or, with a
    /// space in it, a line for the shell
    #[arg(value_name = "SCRIPT", required_unless_present = "args")]
    pub(crate) script: Option<String>,

    /// Arguments of the script; without a script, the program, which may be on PATH, and its arguments
    #[arg(value_name = "ARGS", last = true)]
    pub(crate) args: Vec<String>,
}

impl ScriptArgs {
    /// What they come to.
    pub(crate) fn what(&self) -> What<'_> {
        What::of(self.script.as_deref(), &self.args)
    }
}

/// Where the script stands, it, and its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct What<'a> {
    pub(crate) origin: Origin,
    pub(crate) script: &'a str,
    pub(crate) args: &'a [String],
}

impl<'a> What<'a> {
    /// A script with its arguments, or the program in its place.
    pub(crate) fn of(script: Option<&'a str>, args: &'a [String]) -> Self {
        match (script, args) {
            (Some(script), args) => Self { origin: Origin::CommandLine, script, args },
            (None, [script, args @ ..]) => Self { origin: Origin::Words, script, args },
            // The parser asks for one of the two.
            (None, []) => Self { origin: Origin::CommandLine, script: "", args: &[] },
        }
    }
}

impl AppOptions {
    /// What they come to, with these variables for the workers.
    pub(crate) fn wish(&self, what: What<'_>, env: &[Variable]) -> Wish {
        let node_args = self.node_args.iter().flat_map(|words| words.0.iter().cloned());
        let maps = self.source_map_support.then(|| "--enable-source-maps".to_owned());
        Wish {
            name: self.name.clone(),
            interpreter: self.interpreter.clone(),
            interpreter_args: node_args.chain(maps).collect(),
            args: what.args.to_vec(),
            cwd: self.cwd.clone(),
            env: env.to_vec(),
            filter_env: self.filter(),
            user: self.user.clone(),
            group: self.gid.clone(),
            instances: self.instances.unwrap_or_else(values::usual_instances),
            distribution: self.distribution,
            sockets: self.sockets.get(),
            rest: self.rest(),
            ..Wish::new(what.origin, what.script)
        }
    }

    fn filter(&self) -> EnvFilter {
        match &self.filter_env[..] {
            [] => EnvFilter::Nothing,
            parts if parts.iter().any(String::is_empty) => EnvFilter::Everything,
            parts => EnvFilter::Containing(parts.to_vec()),
        }
    }

    fn rest(&self) -> AppSpec {
        AppSpec {
            strategy: self.strategy,
            weights: self.weights.clone().unwrap_or_default().0,
            restart: if self.no_autorestart { RestartWhen::Never } else { self.restart },
            stop_exit_codes: self.stop_exit_codes.clone(),
            exp_backoff_restart_delay: self.exp_backoff_restart_delay,
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
            serialization: self.serialization,
            ports: self.ports.clone().unwrap_or_default(),
            listen: self.listen.clone(),
            standby: self.standby,
            handoff_window: self.handoff_window,
            max_message: self.max_message,
            memory_warning: self.memory_warning.map(|bytes| bytes as u64),
            max_memory_restart: self.max_memory_restart.map(|bytes| bytes as u64),
            max_requests: self.max_requests,
            max_lifetime: self.max_lifetime,
            ..AppSpec::new("", "")
        }
    }
}
