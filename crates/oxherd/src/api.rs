//! What the control API speaks: the bodies of its requests and answers. Data only.
//!
//! The core's own types ([`AppSpec`], [`Notice`], [`Status`], …) are spoken as they are.

use oxherd_core::{
    About, AppId, AppSpec, ChangeId, ChangeOutcome, Distribution, Exit, Generation, InstanceId, ListenAt,
    Notice, Ports, ReloadStatus, Slot, Sockets, Status, Strategy,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version in every path: `/v1/…`.
pub const API_VERSION: u32 = 1;

/// The daemon itself: `GET /v1/ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Its keeper's process.
    pub keeper_pid: u32,
    /// How many daemons the keeper had started before this one.
    pub starts: u32,
    /// How often keeper and daemon have become another program.
    pub upgrades: u32,
    /// Why an upgrade has failed, if that was just before this daemon.
    pub upgrade_failure: Option<String>,
    /// How long this daemon has run, in milliseconds.
    pub uptime_ms: u64,
    /// Its home folder.
    pub home: String,
}

/// All apps: `GET /v1/apps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Herd {
    /// In order of their ids.
    pub apps: Vec<AppView>,
    /// Resident memory of the daemon, in bytes.
    pub daemon_memory: u64,
    /// How long this daemon has run, in milliseconds.
    pub uptime_ms: u64,
    /// What is wrong with the saved state, in sentences: it could not be read, or cannot be saved.
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// One app: `GET /v1/apps/{selector}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppView {
    /// Its id, which a selector may be.
    pub app: AppId,
    /// Its name, which a selector may be.
    pub name: String,
    /// The group that it belongs to, which a selector may be.
    #[serde(default)]
    pub namespace: String,
    /// What was asked for, as people wrote it.
    #[serde(default)]
    pub about: About,
    /// How connections reach its workers.
    pub distribution: Distribution,
    /// Which worker gets the next connection.
    #[serde(default)]
    pub strategy: Strategy,
    /// Each slot's share, where the strategy is `weighted`; a slot beyond the list has 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
    /// How its workers come by their sockets.
    pub sockets: Sockets,
    /// The ports at which workers are lent listeners.
    #[serde(default, skip_serializing_if = "Ports::is_all")]
    pub ports: Ports,
    /// The listeners that workers are started with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<ListenAt>,
    /// How many standbys are to be there.
    #[serde(default)]
    pub standby: u32,
    /// The generation that respawns use.
    pub generation: Generation,
    /// How many slots are to be filled.
    pub instances: u32,
    /// Whether its slots are to be filled at all.
    pub up: bool,
    /// The reload that runs, if any.
    pub reload: Option<ReloadStatus>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder it runs in.
    pub cwd: String,
    /// Whether changed files reload it.
    #[serde(default)]
    pub watches: bool,
    /// When it is reloaded by the clock next, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub cron_at_ms: Option<u64>,
    /// The file that its workers' output goes to; of the first slot, where each slot has its own.
    pub out_file: String,
    /// The same for the error stream.
    pub error_file: String,
    /// One more file, with both.
    #[serde(default)]
    pub both_file: Option<String>,
    /// Lines of output that were lost, because the disk was too slow or full.
    pub dropped_lines: u64,
    /// Requests that workers reported, ever.
    pub requests: u64,
    /// Errors that workers reported, ever.
    pub errors: u64,
    /// Connections that were handed over and accepted, ever.
    pub handed_over: u64,
    /// Its slots in order.
    pub slots: Vec<SlotView>,
    /// Its standbys in order of their numbers, then those on their way out.
    #[serde(default)]
    pub standbys: Vec<StandbyView>,
}

/// A worker beside the slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandbyView {
    /// The number in its environment, in place of a slot's.
    pub slot: Slot,
    /// Who it is.
    pub worker: WorkerView,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotView {
    /// Its number.
    pub slot: Slot,
    /// Its number among the slots of all apps, in the order in which they came; a slot that is on its way out has none.
    #[serde(default)]
    pub number: Option<u32>,
    /// The word for it.
    pub status: Status,
    /// How often it was filled again after an unwanted exit, since it came or was reset.
    pub restarts: u32,
    /// How often another worker was started in it for whatever reason, since it came or was reset.
    #[serde(default)]
    pub renewals: u32,
    /// How many unstable exits were counted when the last worker ended that nobody had asked to.
    #[serde(default)]
    pub unstable: u32,
    /// How its last worker ended.
    #[serde(default)]
    pub last_exit: Option<Exit>,
    /// When that was, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub last_exit_at_ms: Option<u64>,
    /// When the slot came, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub created_at_ms: Option<u64>,
    /// The files that its output goes to: output, errors, and both if there is such a file.
    #[serde(default)]
    pub out_file: String,
    /// The same for the error stream.
    #[serde(default)]
    pub error_file: String,
    /// One more file, with both.
    #[serde(default)]
    pub both_file: Option<String>,
    /// The file with the pid of its worker.
    #[serde(default)]
    pub pid_file: Option<String>,
    /// The occupant first, then the successor, then those on their way out.
    pub workers: Vec<WorkerView>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its own id, never used again.
    pub instance: InstanceId,
    /// `cluster.worker.id`.
    pub worker: u64,
    /// Its generation.
    pub generation: Generation,
    /// Its process, once there is one.
    pub pid: Option<u32>,
    /// The word for it.
    pub status: Status,
    /// How long its process has lived, in milliseconds.
    pub uptime_ms: u64,
    /// When its process was started, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub started_at_ms: u64,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// CPU use in percent of one CPU: since somebody last asked, or over its life if that is long ago.
    pub cpu_percent: Option<f64>,
    /// Resident memory in bytes.
    pub memory: Option<u64>,
    /// Requests, if the worker reports them.
    pub requests: Option<u64>,
    /// Errors, if the worker reports them.
    pub errors: Option<u64>,
    /// Open connections, if the worker reports them.
    pub connections: Option<u64>,
    /// Connections handed over to it and accepted.
    pub handed_over: u64,
}

/// Start an app: `POST /v1/apps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartApp {
    /// Its configuration.
    pub spec: AppSpec,
}

/// Start several apps, all of them or none: `POST /v1/apps` as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartApps {
    /// Their configurations.
    pub specs: Vec<AppSpec>,
}

/// Reload: the optional body of `POST /v1/apps/{selector}/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadApp {
    /// The new configuration; the old one with the program as it is now when left out.
    #[serde(default)]
    pub spec: Option<AppSpec>,
}

/// Restart: the optional body of `POST /v1/apps/{selector}/restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartApp {
    /// The new configuration; the old one when left out.
    #[serde(default)]
    pub spec: Option<AppSpec>,
}

/// Adjust: `POST /v1/apps/{selector}/adjust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustApp {
    /// The new configuration; it differs in nothing that workers were started with.
    pub spec: AppSpec,
}

/// Scale: `POST /v1/apps/{selector}/scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleApp {
    /// How many slots are to be filled.
    pub instances: u32,
}

/// A signal: `POST /v1/apps/{selector}/signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalApp {
    /// By name or number: `SIGUSR2`, `USR2`, `12`.
    pub signal: String,
    /// To the workers of one slot only.
    #[serde(default)]
    pub slot: Option<Slot>,
}

/// A line for the standard input of workers: `POST /v1/apps/{selector}/send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendLine {
    /// Without its newline, which is added.
    pub line: String,
    /// To the workers of one slot only.
    #[serde(default)]
    pub slot: Option<Slot>,
}

/// A message over the channel: `POST /v1/apps/{selector}/message`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// Any JSON value, which arrives as it is written.
    pub message: Box<RawValue>,
    /// To the workers of one slot only.
    #[serde(default)]
    pub slot: Option<Slot>,
}

/// An action that programs have a name for: `POST /v1/apps/{selector}/trigger`. It goes over the channel as a message: the
/// name as a text, or `{"msg": name, "opts": params, "name": app}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerApp {
    /// Its name.
    pub action: String,
    /// What the program is told.
    #[serde(default)]
    pub params: Option<String>,
    /// To the worker of one slot only.
    #[serde(default)]
    pub slot: Option<Slot>,
    /// How long replies are waited for, in milliseconds; 20 s at most.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Who was reached by an action, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Triggered {
    /// One for each app that the selector names.
    pub apps: Vec<ReachedApp>,
    /// In the order in which they came.
    pub replies: Vec<ActionReply>,
}

/// What one worker's program made of an action: the `return` of its message
/// `{"type": "axm:reply", "data": {"action_name": …, "return": …}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActionReply {
    /// The app's id.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// Whose worker.
    pub slot: Slot,
    /// Any JSON value.
    pub value: Box<RawValue>,
}

/// Who was reached: the answer to a signal, a line, a message, a reset and a flush.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// One for each app that the selector names.
    pub apps: Vec<ReachedApp>,
}

/// An app of which something was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedApp {
    /// Its id.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// How many of its workers; of its slots after a reset, of its files after a flush.
    pub count: u32,
}

/// The configuration of apps: `GET /v1/apps/{selector}/spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specs {
    /// One for each app that the selector names.
    pub apps: Vec<SpecView>,
}

/// The configuration of one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecView {
    /// Its id.
    pub app: AppId,
    /// That of its last good generation. How many slots are to be filled by now the app's view says.
    pub spec: AppSpec,
}

/// The environment of one worker: `GET /v1/apps/{selector}/env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvView {
    /// The app's id.
    pub app: AppId,
    /// The app's name.
    pub name: String,
    /// The slot.
    pub slot: Slot,
    /// The worker's process, if it is its environment.
    pub pid: Option<u32>,
    /// What it was started with. Where there is no worker, or its environment cannot be read, what the app's
    /// configuration has.
    pub env: Vec<(String, String)>,
}

/// What was saved: the answer to `POST /v1/save` and `DELETE /v1/save`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where.
    pub file: String,
    /// How many apps are in it; 0 when it was deleted, or was not there.
    pub apps: u32,
}

/// Replace one slot's worker: `POST /v1/apps/{selector}/recycle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecycleApp {
    /// Which.
    pub slot: Slot,
}

/// Upgrade: `POST /v1/upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The program to go on as; the one at the path that the keeper was started from when left out.
    #[serde(default)]
    pub program: Option<String>,
}

/// The answer `202` to every change: the changes can be waited on at `GET /v1/changes/{change}?wait=30`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// One for each app that the selector names.
    pub changes: Vec<AcceptedChange>,
}

/// One change that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedChange {
    /// What to wait for.
    pub change: ChangeId,
    /// The app it is about.
    pub app: AppId,
    /// Its name.
    pub name: String,
}

/// A change: `GET /v1/changes/{change}`. With `?wait=SECONDS` the answer comes when it is through, or then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Its id.
    pub change: ChangeId,
    /// How it ended; nothing while it is under way.
    pub outcome: Option<ChangeOutcome>,
}

/// A piece of news: an event of the stream `GET /v1/events`, named `notice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsItem {
    /// The news.
    pub notice: Notice,
    /// The process that it is about.
    pub pid: Option<u32>,
    /// The name of the app that it is about.
    pub name: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// One of a worker's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A line of a worker's output: an event of the stream `GET /v1/logs`, named `line`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// The slot of the worker; unknown for lines that were read from the file.
    pub slot: Option<Slot>,
    /// On which stream.
    pub stream: OutputStream,
    /// The number of the slot among those of all apps, where the slot is known.
    #[serde(default)]
    pub number: Option<u32>,
    /// When it was written, in milliseconds since the Unix epoch; unknown for lines that were read from the file.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// The text; bytes that are not UTF-8 are replaced. One that was read from the file is as it is there, with its date.
    pub text: String,
    /// It goes on where the line before it of its worker and stream has ended.
    #[serde(default)]
    pub goes_on: bool,
    /// The line goes on in the next event of its stream: those longer than 64 KiB come in pieces, and those that are not
    /// ended a second after they were begun. The last one of a file may have no end yet, or none at all.
    #[serde(default)]
    pub more: bool,
}

/// Something is missing at this point of a stream, because the client read too slowly: an event named `dropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many events.
    pub count: u64,
}

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the thing, the cause and the way out.
    pub error: String,
}
