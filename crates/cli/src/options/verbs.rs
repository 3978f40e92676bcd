//! The options of the verbs that start nothing new.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use oxherd_engine::core::Span;

use super::{ChangeOptions, KeepOptions};

/// Which apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selectors {
    /// Names, namespaces or ids of apps, /regular expressions/ for names, all, files of apps, or - for one on stdin
    #[arg(required = true, value_name = "APP")]
    pub(crate) apps: Vec<String>,

    /// Words after `--`: never selectors
    #[arg(last = true, value_name = "ARGS", hide = true)]
    pub(crate) args: Vec<String>,
}

/// Which app or apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selector {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    pub(crate) app: String,
}

/// Which apps, or all.
#[derive(Args, Clone, Debug)]
pub(crate) struct MaybeSelector {
    /// The name or id of an app; all apps without it
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,
}

/// What `restart` and `reload` are told beside the apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct RenewOptions {
    #[command(flatten)]
    pub(crate) of: Selectors,

    #[command(flatten)]
    pub(crate) file: FileChoice,

    /// Lay the caller's environment over the app's
    #[arg(short = 'a', long)]
    pub(crate) update_env: bool,

    /// Number of slots that are replaced at a time
    #[arg(long, value_name = "N", value_parser = oxherd_config::values::parse_positive)]
    pub(crate) parallel: Option<u32>,

    #[command(flatten)]
    pub(crate) change: ChangeOptions,

    #[command(flatten)]
    pub(crate) keep: KeepOptions,
}

impl RenewOptions {
    /// Whether the apps get another configuration.
    pub(crate) fn has_changes(&self) -> bool {
        let is_other = self.update_env || self.parallel.is_some() || !self.of.args.is_empty();
        is_other || self.changing_option().is_some()
    }

    /// The first option that changes what an app is.
    pub(crate) fn changing_option(&self) -> Option<&'static str> {
        self.change.given().or_else(|| self.keep.given())
    }
}

/// Which apps of a file, in which of its environments.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FileChoice {
    /// Only these apps of a file
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Which `env_NAME` of a file to use
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
}

/// A file of apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct FileOptions {
    /// The file, or - for JSON on stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) choice: FileChoice,
}

/// Lists apps and their workers.
#[derive(Args, Clone, Debug, Default)]
#[command(visible_aliases = ["ls", "l", "ps", "status"], after_help = super::LIST_HELP)]
pub(crate) struct ListOptions {
    /// As the control API tells it
    #[arg(long)]
    pub(crate) json: bool,

    /// One block of lines for each worker
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) mini_list: bool,

    /// In which order: name, id, pid, memory, cpu, status, uptime or namespace, and :asc or :desc
    #[arg(long, value_name = "FIELD:ORDER", conflicts_with = "json")]
    pub(crate) sort: Option<crate::view::order::Order>,

    /// Again and again, until q or Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}

/// Sends a signal to the workers of apps.
#[derive(Args, Clone, Debug)]
pub(crate) struct SignalOptions {
    /// The signal, by name or number
    #[arg(value_name = "SIGNAL")]
    pub(crate) signal: oxherd_engine::core::Signal,

    #[command(flatten)]
    pub(crate) of: Selectors,
}

/// Writes a line to the standard input of workers.
#[derive(Args, Clone, Debug)]
pub(crate) struct SendOptions {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    pub(crate) app: String,

    /// The line, without its end
    #[arg(value_name = "LINE", allow_hyphen_values = true)]
    pub(crate) line: String,
}

/// Shows what workers write, and sends what is typed to them, line by line.
#[derive(Args, Clone, Debug)]
pub(crate) struct AttachOptions {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    pub(crate) app: String,

    /// What ends a line that is sent, in place of a line's end
    #[arg(value_name = "SEPARATOR")]
    pub(crate) separator: Option<String>,
}

/// Has workers do an action that their program has a name for: the message "ACTION", or {msg, opts}, as PM2 sends it.
#[derive(Args, Clone, Debug)]
pub(crate) struct TriggerOptions {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    pub(crate) app: String,

    /// The action's name
    #[arg(value_name = "ACTION")]
    pub(crate) action: String,

    /// What it is told
    #[arg(value_name = "PARAMS", allow_hyphen_values = true)]
    pub(crate) params: Option<String>,

    /// How long replies are waited for, 20 s at most
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_wait)]
    pub(crate) wait: Span,
}

/// The daemon waits no longer.
fn parse_wait(text: &str) -> Result<Span, String> {
    let wait = oxherd_config::values::parse_span(text)?;
    if wait > Span::from_secs(20) {
        return Err("replies are waited for 20 s at most".into());
    }
    Ok(wait)
}

/// Keeps a setting for tools.
#[derive(Args, Clone, Debug)]
pub(crate) struct SetOptions {
    /// The key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,

    /// The value
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
}

/// Keeps several settings.
#[derive(Args, Clone, Debug)]
pub(crate) struct MultisetOptions {
    /// Keys and values in turn
    #[arg(value_name = "KEY VALUE", required = true, allow_hyphen_values = true)]
    pub(crate) pairs: Vec<String>,
}

/// Shows a setting, or all.
#[derive(Args, Clone, Debug)]
pub(crate) struct GetOptions {
    /// The key; all settings without it
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// Shows the settings, or changes one.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfOptions {
    /// The key; all settings without it
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// The value; shows the setting without it
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
}

/// Forgets a setting.
#[derive(Args, Clone, Debug)]
pub(crate) struct UnsetOptions {
    /// The key, or all
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

/// Writes a file of apps to begin with: ecosystem.config.js in the current folder.
#[derive(Args, Clone, Debug)]
pub(crate) struct EcosystemOptions {
    /// With explanations, or simple
    #[arg(value_name = "MODE", value_parser = ["simple"])]
    pub(crate) mode: Option<String>,

    /// Write over a file that is there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Which system starts the daemon at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    Systemd,
    Openrc,
}

/// Which daemon the system starts at boot.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceOptions {
    /// The system [default: the one that runs]
    #[arg(value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,

    /// Whose daemon [default: the one who calls]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// That user's home folder [default: from the user database]
    #[arg(long, value_name = "DIR")]
    pub(crate) hp: Option<String>,

    /// The daemon's home folder itself [default: `.oxherd` in the user's, `.pm2` when called as pm2]
    #[arg(long, value_name = "DIR", conflicts_with = "hp")]
    pub(crate) home: Option<PathBuf>,

    /// Name of the service [default: oxherd-USER, pm2-USER when called as pm2]
    #[arg(long, value_name = "NAME")]
    pub(crate) service_name: Option<String>,

    /// A unit of the user's own systemd, which needs no root
    #[arg(long)]
    pub(crate) user_unit: bool,
}

/// Has the system start the daemon at boot, with what ran: writes a unit, or prints the line that does so as root.
#[derive(Args, Clone, Debug)]
pub(crate) struct StartupOptions {
    #[command(flatten)]
    pub(crate) service: ServiceOptions,

    /// Begin when the network is up
    #[arg(long)]
    pub(crate) wait_ip: bool,

    /// Print the unit, and change nothing
    #[arg(long)]
    pub(crate) print: bool,
}

/// Serves the files of a folder over HTTP, as an app.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) files: FilesOptions,

    /// Name of the app [default: static-page-server-PORT]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Number of workers
    #[arg(short, long, value_name = "N|max|io|-1", default_value = "1", allow_negative_numbers = true)]
    #[arg(value_parser = super::values::parse_instances)]
    pub(crate) instances: oxherd_config::values::Instances,
}

/// What a server of files is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct FilesOptions {
    /// The folder
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) path: String,

    /// The port
    #[arg(value_name = "PORT", default_value = "8080", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) at_port: u16,

    /// The port, likewise
    #[arg(long, value_name = "PORT", conflicts_with = "at_port")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// The address [default: all]
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0", hide_default_value = true)]
    pub(crate) host: std::net::IpAddr,

    /// Answer /index.html where there is no such file
    #[arg(long)]
    pub(crate) spa: bool,

    /// With --spa, this file in place of /index.html
    #[arg(long, value_name = "FILE", requires = "spa")]
    pub(crate) homepage: Option<String>,

    /// List folders
    #[arg(long)]
    pub(crate) ftp: bool,

    /// Ask for this user
    #[arg(long, value_name = "NAME", requires = "basic_auth_password")]
    pub(crate) basic_auth_username: Option<String>,

    /// and this password
    #[arg(long, value_name = "PASSWORD", requires = "basic_auth_username")]
    pub(crate) basic_auth_password: Option<String>,
}

/// A shell to write completions for.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionOptions {
    /// The shell [default: the one in $SHELL]
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Option<clap_complete::Shell>,
}

/// Shows the list again and again; q or Ctrl-C ends it. In a pipe it is printed once.
#[derive(Args, Clone, Debug)]
pub(crate) struct MonitOptions {
    /// Time between two pictures
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = super::values::parse_ms)]
    pub(crate) interval: Span,
}

/// Writes apps as others read them: for Kubernetes.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExportOptions {
    #[command(subcommand)]
    pub(crate) what: Export,
}

/// For whom.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Export {
    Kubernetes(KubernetesOptions),
}

/// Deployments of apps, as YAML.
#[derive(Args, Clone, Debug)]
pub(crate) struct KubernetesOptions {
    /// A file of apps, or apps that the daemon knows
    #[arg(value_name = "FILE|APP", required = true)]
    pub(crate) of: Vec<String>,

    #[command(flatten)]
    pub(crate) choice: FileChoice,

    /// The image
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// The port that the app serves [default: PORT of its environment]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// The port that answers /livez and /readyz
    #[arg(long, value_name = "PORT", default_value = "9614")]
    pub(crate) probe_port: u16,
}

/// Writes the man pages into a folder.
#[derive(Args, Clone, Debug)]
pub(crate) struct ManOptions {
    /// The folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: String,
}
