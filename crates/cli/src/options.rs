//! The options of `oxherd run`, and those of an app for every verb that takes one. Each becomes a checked value here;
//! what they come to on this machine is found out by the crate `config`.

use clap::Args;
use oxherd_config::values::{self, EnvChoice, Instances, Variable, Weights, Words};
use oxherd_config::{Origin, Wish};
use oxherd_engine::core::{
    AppSpec, Distribution, ListenAt, Ports, RestartWhen, Serialization, Signal, Span, Strategy,
};

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
  oxherd run -i 4 -- ./any-server --port 80   any program: four processes on one port
  oxherd run --node-args '--max-old-space-size=512' --env NODE_ENV=production server.js
  oxherd run --restart on-failure -i 1 queue.py";

const START_HELP: &str = "\
Exit codes:
  0  every worker is ready
  1  a slot gave up, or the daemon cannot be started
  2  a wrong command line, file or script

Examples:
  oxherd start server.js -i 4                 four workers on one port
  oxherd start server.js --name web -- --port 8080
  oxherd start -i 2 -- gunicorn app:web       any program on PATH
  oxherd start ecosystem.json                 all apps of a file
  oxherd start ecosystem.json --only web --env production
  oxherd start web                            an app that was stopped
  oxherd start all                            all that were";
pub(crate) const RUNTIME_HELP: &str = "\
What workers write goes to stdout and stderr, and signals do what they do for `oxherd run`; but
the daemon may be killed or upgraded, and workers and connections go on. `oxherd ls` and all other
commands work beside it. Nothing is saved: each start runs what it is given. Where the home folder
cannot be written one below the temporary folder or /dev/shm is used.

Exit codes:
  0    stopped on request, or every worker has ended well and none is to be restarted
  1    killed by a second signal, or an internal error
  2    cannot start: a wrong option, file or script
  3    a slot has given up and no worker is left, though none has failed
  N    what the first worker that failed for good ended with; 128 and its number for a signal

Examples:
  oxherd runtime ecosystem.json
  oxherd runtime server.js -i 2 --raw
  ENTRYPOINT [\"oxherd\", \"runtime\", \"ecosystem.json\"]       in a Dockerfile";
pub(crate) const STOP_HELP: &str = "Examples:\n  oxherd stop web\n  oxherd stop web api\n  oxherd stop all";
pub(crate) const RESTART_HELP: &str = "\
With clients waiting meanwhile; `oxherd reload` makes nobody wait.

Examples:
  oxherd restart web";
pub(crate) const RELOAD_HELP: &str = "\
Exit code 1 when it is aborted: a successor was not ready, and the old workers go on.

Examples:
  oxherd reload web
  oxherd reload all";
pub(crate) const DELETE_HELP: &str = "Examples:\n  oxherd delete web\n  oxherd delete all";
pub(crate) const DESCRIBE_HELP: &str = "Examples:\n  oxherd describe web";
const SCALE_HELP: &str = "Examples:\n  oxherd scale web 4\n  oxherd scale web +2\n  oxherd scale web -1";
const LOGS_HELP: &str = "\
Examples:
  oxherd logs                     the last lines of all apps, and those that come
  oxherd logs web --lines 100
  oxherd logs web --err --no-follow | less";
const LIST_HELP: &str = "\
Examples:
  oxherd ls
  oxherd ls --json | jq '.apps[].name'";
pub(crate) const PING_HELP: &str = "Examples:\n  oxherd ping || oxherd resurrect";
pub(crate) const RESURRECT_HELP: &str = "\
What was stopped stays stopped, and what runs is left alone.

Examples:
  oxherd resurrect                at boot, as the user whose apps they are";
pub(crate) const KILL_HELP: &str = "\
What ran is remembered: `oxherd resurrect` starts it again.

Examples:
  oxherd kill";
const UPGRADE_HELP: &str = "\
No connection is lost: workers and listeners go on under the new program.

Examples:
  oxherd upgrade                  to the program that now stands where the old one was started from
  oxherd upgrade ./oxherd-2";

const DOCTOR_HELP: &str = "\
Everything is tried with a process that is made for it and ends right after. `mind` means that it
works, and that something should be known.

Exit codes:
  0  the program, or any, can be lent sockets, or needs none lent
  1  it cannot: one of the ways that are listed is left
  2  a wrong command line, or no such program

Examples:
  oxherd doctor
  oxherd doctor -- python3 -m http.server
  oxherd doctor ./server && oxherd run -i 4 ./server";

/// Starts an app, or all apps of a file, under the daemon.
#[derive(Args, Clone, Debug)]
#[command(after_help = START_HELP)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    pub(crate) app: AppOptions,

    /// Only these apps of a file
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// One more variable for the workers of a script, or which `env_NAME` of a file to use; repeatable
    #[arg(long, value_name = "K=V|NAME")]
    pub(crate) env: Vec<EnvChoice>,
}

/// Runs an app, or all apps of a file, in the foreground under a keeper: the main process of a container.
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeOptions {
    #[command(flatten)]
    pub(crate) what: StartOptions,

    /// Print workers' lines as they are, without whose they are
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Which apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selectors {
    /// Names or ids of apps, or all
    #[arg(required = true, value_name = "APP")]
    pub(crate) apps: Vec<String>,
}

/// Which app.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selector {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    pub(crate) app: String,
}

/// Changes how many workers an app has.
#[derive(Args, Clone, Debug)]
#[command(after_help = SCALE_HELP)]
pub(crate) struct ScaleOptions {
    /// The name or id of an app, or all
    #[arg(value_name = "APP")]
    pub(crate) app: String,

    /// How many workers: a number, or how many more or fewer
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    pub(crate) instances: Target,
}

/// How many slots an app is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Exactly(u32),
    More(u32),
    Fewer(u32),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            digits.parse().map_err(|_| format!("`{text}` is no number of workers: 4, +2 and -1 are"))
        };
        if let Some(more) = text.strip_prefix('+') {
            return number(more).map(Self::More);
        }
        if let Some(fewer) = text.strip_prefix('-') {
            return number(fewer).map(Self::Fewer);
        }
        match number(text)? {
            0 => Err("at least 1 worker must be left: `oxherd stop` stops an app".into()),
            exactly => Ok(Self::Exactly(exactly)),
        }
    }
}

/// Lists apps and their workers.
#[derive(Args, Clone, Debug)]
#[command(visible_alias = "ls", after_help = LIST_HELP)]
pub(crate) struct ListOptions {
    /// As the control API tells it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows what workers wrote, and what they write.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOGS_HELP)]
pub(crate) struct LogsOptions {
    /// The name or id of an app; all apps without it
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,

    /// How many of the last lines of each file come first
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub(crate) lines: u64,

    /// End after the last lines
    #[arg(long)]
    pub(crate) no_follow: bool,

    /// Only what was written to standard output
    #[arg(long, conflicts_with = "err")]
    pub(crate) out: bool,

    /// Only what was written to standard error
    #[arg(long)]
    pub(crate) err: bool,

    /// The lines alone, without whose they are
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Replaces keeper and daemon by another program, in place.
#[derive(Args, Clone, Debug)]
#[command(after_help = UPGRADE_HELP)]
pub(crate) struct UpgradeOptions {
    /// The program to go on as
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: Option<String>,
}

/// Says what this machine allows of lending sockets, and what is left where it does not.
#[derive(Args, Clone, Debug)]
#[command(after_help = DOCTOR_HELP)]
pub(crate) struct DoctorOptions {
    /// A script or program to be looked at, with its arguments
    #[arg(value_name = "PROGRAM", trailing_var_arg = true)]
    pub(crate) program: Vec<String>,
}

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

    /// How workers come by their sockets: auto, channel (Node's cluster protocol), universal (the program binds, and is lent
    /// the slot's listener in place of its own), listen-fds (it is started with those of --listen) or none (it binds
    /// its own) [default: channel for Node, universal for others]
    #[arg(long, value_name = "HOW", value_parser = values::parse_sockets, default_value = "auto", hide_default_value = true)]
    pub(crate) sockets: values::SocketsChoice,

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
    #[arg(long, value_name = "N", default_value = "2", value_parser = values::parse_positive)]
    pub(crate) handoff_window: u32,

    /// The longest message a worker may send, in bytes, or with K, M or G (times 1024)
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = values::parse_size)]
    pub(crate) max_message: usize,

    /// Tell when a worker holds more memory than this [default: off]
    #[arg(long, value_name = "SIZE", value_parser = values::parse_size)]
    pub(crate) memory_warning: Option<usize>,

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
    #[arg(value_name = "SCRIPT", required_unless_present = "args")]
    pub(crate) script: Option<String>,

    /// Arguments of the script; without a script, the program, which may be on PATH, and its arguments
    #[arg(value_name = "ARGS", last = true)]
    pub(crate) args: Vec<String>,
}

impl AppOptions {
    /// What they come to, with these variables for the workers.
    pub(crate) fn wish(&self, env: &[Variable]) -> Wish {
        let (origin, script, args) = self.words();
        let node_args = self.node_args.iter().flat_map(|words| words.0.iter().cloned());
        Wish {
            name: self.name.clone(),
            interpreter: self.interpreter.clone(),
            interpreter_args: node_args.collect(),
            args: args.to_vec(),
            cwd: self.cwd.clone(),
            env: env.to_vec(),
            instances: self.instances,
            distribution: self.distribution,
            sockets: self.sockets.get(),
            rest: self.rest(),
            ..Wish::new(origin, script)
        }
    }

    /// The script, or the program in its place.
    pub(crate) fn script(&self) -> &str {
        self.words().1
    }

    /// Where the script stands, it, and its arguments.
    fn words(&self) -> (Origin, &str, &[String]) {
        match (&self.script, &self.args[..]) {
            (Some(script), args) => (Origin::CommandLine, script, args),
            (None, [program, args @ ..]) => (Origin::Words, program, args),
            // The parser asks for one of the two.
            (None, []) => (Origin::CommandLine, "", &[]),
        }
    }

    fn rest(&self) -> AppSpec {
        AppSpec {
            strategy: self.strategy,
            weights: self.weights.clone().unwrap_or_default().0,
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
            serialization: self.serialization,
            ports: self.ports.clone().unwrap_or_default(),
            listen: self.listen.clone(),
            standby: self.standby,
            handoff_window: self.handoff_window,
            max_message: self.max_message,
            memory_warning: self.memory_warning.map(|bytes| bytes as u64),
            ..AppSpec::new("", "")
        }
    }
}
