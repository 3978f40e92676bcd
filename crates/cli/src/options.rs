//! The options of `oxherd run`, and those of an app for every verb that takes one. Each becomes a checked value here;
//! what they come to on this machine is found out by the crate `config`.

mod app;
mod apply;
mod change;
mod help;
mod keep;
mod values;
mod verbs;

use std::net::SocketAddr;

use clap::Args;
use oxherd_config::values::{self as written, EnvChoice, Variable};
use oxherd_engine::core::Span;

pub(crate) use app::{AppOptions, ScriptArgs, What};
pub(crate) use apply::{ApplyOptions, CheckOptions};
pub(crate) use change::ChangeOptions;
pub(crate) use help::*;
pub(crate) use keep::{KeepOptions, Places};
pub(crate) use verbs::*;

/// Writes what was given over what is there.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// An address with a port, or a port at all addresses.
fn parse_probes(text: &str) -> Result<SocketAddr, String> {
    let at_all = || text.parse().ok().map(|port: u16| SocketAddr::from(([0, 0, 0, 0], port)));
    let address = text.parse().ok().or_else(at_all);
    address.ok_or_else(|| "give a port, or an address with one, such as 0.0.0.0:9614".into())
}

/// Starts an app, or all apps of a file, under the daemon.
#[derive(Args, Clone, Debug)]
#[command(after_help = START_HELP)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    pub(crate) what: WhatOptions,

    #[command(flatten)]
    pub(crate) keep: KeepOptions,

    /// Know the app, and start it later
    #[arg(long)]
    pub(crate) no_autostart: bool,

    /// Start another app of a name that is taken, as NAME-1
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Lay the caller's environment over that of an app that is known already
    #[arg(short = 'a', long)]
    pub(crate) update_env: bool,

    /// Show what workers write afterwards
    #[arg(long)]
    pub(crate) attach: bool,

    /// Run in the foreground, as `oxherd runtime` does
    #[arg(long, conflicts_with_all = ["attach", "no_autostart", "force", "update_env"])]
    pub(crate) no_daemon: bool,

    /// The options that stand on the command line, as they are written.
    #[arg(skip)]
    pub(crate) given: Vec<String>,
}

/// What is to run, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhatOptions {
    #[command(flatten)]
    pub(crate) app: AppOptions,

    /// Only these apps of a file
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// One more variable for the workers of a script, or which `env_NAME` of a file to use; repeatable
    #[arg(long, value_name = "K=V|NAME")]
    pub(crate) env: Vec<EnvChoice>,

    /// Programs to run, relative to the current folder, not to --cwd; files of apps; names of apps that are known; - for
    /// JSON on stdin [default: ecosystem.config.js]
    #[arg(value_name = "SCRIPT")]
    pub(crate) scripts: Vec<String>,

    /// Arguments of the script; without a script, the program, which may be on PATH, and its arguments
    #[arg(value_name = "ARGS", last = true)]
    pub(crate) args: Vec<String>,
}

/// Runs an app, or all apps of a file, in the foreground under a keeper: the main process of a container.
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeOptions {
    #[command(flatten)]
    pub(crate) what: WhatOptions,

    /// Print workers' lines as they are, without whose they are
    #[arg(long)]
    pub(crate) raw: bool,

    /// Answer /livez and /readyz over HTTP at this address or port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = parse_probes)]
    pub(crate) probes: Option<SocketAddr>,

    /// The options that stand on the command line, as they are written.
    #[arg(skip)]
    pub(crate) given: Vec<String>,
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

/// Shows what workers wrote, and what they write.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOGS_HELP)]
pub(crate) struct LogsOptions {
    /// A name, id, namespace or /expression/; all apps without it
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,

    /// How many of the last lines of each file come first
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub(crate) lines: u64,

    /// End after the last lines
    #[arg(long, visible_alias = "nostream")]
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

    /// Each line as a JSON record
    #[arg(long, conflicts_with_all = ["raw", "format"])]
    pub(crate) json: bool,

    /// Each line as `key=value` pairs
    #[arg(long, conflicts_with = "raw")]
    pub(crate) format: bool,

    /// When each line came, by a format such as `HH:mm:ss`; lines from the files have the dates that they have there
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "YYYY-MM-DDTHH:mm:ss")]
    pub(crate) timestamp: Option<String>,

    /// Mark this text where it occurs, on a terminal with colours
    #[arg(long, value_name = "TEXT")]
    pub(crate) highlight: Option<String>,
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

    #[command(flatten)]
    pub(crate) what: ScriptArgs,

    /// One more variable for the workers' environment; repeatable
    #[arg(long, value_name = "K=V")]
    pub(crate) env: Vec<Variable>,

    /// Leave handed-over connections with a worker that does not pick them up
    #[arg(long)]
    pub(crate) no_recall: bool,

    /// Time between two status reports; 0: none
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = written::parse_span)]
    pub(crate) status_interval: Span,
}
