//! The one table of keys: their names, what they take, and what they do. Diagnostics, the JSON Schema and the test of the
//! documentation are made of it.

use super::Key;

/// What a key takes, as editors are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Flag,
    /// A whole number from this one.
    Count(u32),
    /// Milliseconds, or a text with a unit.
    Span,
    /// Bytes, or a text with K, M or G.
    Size,
    /// One string, or a list of strings and numbers.
    Words,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A string or a number.
    TextOrNumber,
    /// A string or a list of strings.
    Texts,
    /// true, false, or a list of strings, or one.
    FlagOrTexts,
    /// A number or a list of numbers.
    Numbers,
    /// true, false, or a string.
    FlagOrText,
    /// How many, or between which bounds.
    Instances,
    /// Variables.
    Environment,
    /// Names and addresses.
    Listeners,
    /// A number, a text, or a list of both.
    Ports,
    /// A list of numbers, or a string with commas.
    Weights,
    /// A cron expression, or 0 or false.
    Cron,
    /// A URL, or an object with one.
    Probe,
    /// true, false, or a pause.
    FlagOrSpan,
    /// When to put a log file aside.
    Rotate,
    /// How to watch.
    WatchOptions,
}

/// A key as people write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    /// All its names in snake_case, the usual one first.
    pub(crate) names: &'static [&'static str],
    pub(crate) form: Form,
    /// What it does, in a phrase.
    pub(crate) says: &'static str,
}

const fn row(key: Key, names: &'static [&'static str], form: Form, says: &'static str) -> Row {
    Row { key, names, form, says }
}

const DISTRIBUTIONS: Form = Form::Choice(&["handoff", "kernel", "shared"]);
const STRATEGIES: Form =
    Form::Choice(&["least-busy", "round-robin", "least-connections", "weighted", "random", "sticky"]);

/// All keys of an app that have an effect. Nearest names are looked for in this order.
pub(crate) const KEYS: &[Row] = &[
    // What to run.
    row(
        Key::Script,
        &["script", "exec", "cmd", "command"],
        Form::Text,
        "A path relative to `cwd`, a program on PATH, or, with a space in it, a line for the shell",
    ),
    row(Key::Name, &["name"], Form::Text, "What the app is called; the script's name when left out"),
    row(Key::NamePrefix, &["name_prefix"], Form::Text, "Put before the name, with a colon between"),
    row(Key::AppendEnv, &["append_env_to_name"], Form::Flag, "With --env NAME, `-NAME` ends the app's name"),
    row(Key::Namespace, &["namespace"], Form::Text, "The group that the app belongs to, for selectors"),
    row(Key::Cwd, &["cwd"], Form::Text, "Folder of the workers, relative to the file's folder"),
    row(Key::Args, &["args"], Form::Words, "Arguments of the script"),
    row(
        Key::Interpreter,
        &["interpreter", "exec_interpreter"],
        Form::Text,
        "What runs the script; `none`: itself",
    ),
    row(Key::NodeArgs, &["node_args", "interpreter_args"], Form::Words, "The interpreter's own arguments"),
    row(
        Key::ExecMode,
        &["exec_mode"],
        Form::Choice(&["cluster", "fork", "cluster_mode", "fork_mode"]),
        "`cluster`: workers share their ports; `fork`: each worker binds its own sockets",
    ),
    row(
        Key::Owner,
        &["uid", "user"],
        Form::TextOrNumber,
        "The user that workers run as, by name or number; as root only",
    ),
    row(
        Key::Gid,
        &["gid"],
        Form::TextOrNumber,
        "The group that workers run as, by name or number; as root only",
    ),
    // How many.
    row(
        Key::Instances,
        &["instances"],
        Form::Instances,
        "How many workers: a number, `max`, `io`, -1 (all CPUs but one), or {min, max}, between which it follows the load",
    ),
    row(
        Key::Standby,
        &["standby"],
        Form::Count(0),
        "Booted workers that wait, ready to take the slot of one that dies",
    ),
    row(Key::Autostart, &["autostart"], Form::Flag, "false: it runs only once it is started by name"),
    // The environment.
    row(Key::Env, &["env"], Form::Environment, "Variables added to the caller's environment"),
    row(Key::Port, &["port"], Form::TextOrNumber, "Sets the variable PORT"),
    row(
        Key::FilterEnv,
        &["filter_env"],
        Form::FlagOrTexts,
        "What workers do not get of the caller's environment: true, all; a string, that variable; a list, those with any of these in their name",
    ),
    row(
        Key::InstanceVar,
        &["instance_var"],
        Form::Text,
        "The variable that has the slot's number, in place of NODE_APP_INSTANCE",
    ),
    row(Key::IncrementVar, &["increment_var"], Form::Text, "A variable to whose number the slot's is added"),
    // When to start again.
    row(Key::Autorestart, &["autorestart"], Form::Flag, "false is `restart: never`"),
    row(
        Key::Restart,
        &["restart"],
        Form::Choice(&["always", "on-failure", "never"]),
        "Which exits are followed by a respawn",
    ),
    row(Key::RestartDelay, &["restart_delay"], Form::Span, "A fixed pause before a respawn"),
    row(
        Key::BackoffDelay,
        &["exp_backoff_restart_delay"],
        Form::Span,
        "The first pause before a respawn; each is half as long again, up to 15s",
    ),
    row(
        Key::StopExitCodes,
        &["stop_exit_codes"],
        Form::Numbers,
        "Exit codes that are followed by no respawn",
    ),
    row(Key::MinUptime, &["min_uptime"], Form::Span, "An exit before this is unstable"),
    row(
        Key::MaxRestarts,
        &["max_restarts"],
        Form::Count(1),
        "So many unstable exits within `restart_window` and the slot gives up",
    ),
    row(Key::RestartWindow, &["restart_window"], Form::Span, "The time in which unstable exits are counted"),
    row(
        Key::MaxErrors,
        &["max_errors"],
        Form::Count(1),
        "So many reported errors within `error_window` and the slot gives up",
    ),
    row(Key::ErrorWindow, &["error_window"], Form::Span, "The time in which errors are counted"),
    // When to replace.
    row(
        Key::MaxMemory,
        &["max_memory_restart"],
        Form::Size,
        "A worker whose processes hold more memory is replaced, successor first",
    ),
    row(Key::MemoryWarning, &["memory_warning"], Form::Size, "A worker that holds more memory is told of"),
    row(
        Key::MaxRequests,
        &["max_requests"],
        Form::Count(1),
        "A worker that has served about so many requests is replaced, successor first",
    ),
    row(
        Key::MaxLifetime,
        &["max_lifetime"],
        Form::Span,
        "A worker that has lived for about so long is replaced, successor first",
    ),
    row(
        Key::HealthCheck,
        &["health_check"],
        Form::FlagOrSpan,
        "How often a worker is asked over its channel whether it is well; true: every 10s",
    ),
    row(
        Key::Cron,
        &["cron_restart", "cron"],
        Form::Cron,
        "When the app is reloaded by the clock; 0 or false: never",
    ),
    row(
        Key::Watch,
        &["watch"],
        Form::FlagOrTexts,
        "Files and folders whose changes reload the app; true: `cwd`",
    ),
    row(Key::IgnoreWatch, &["ignore_watch"], Form::Texts, "What is not watched: globs or parts of paths"),
    row(Key::WatchDelay, &["watch_delay"], Form::Span, "The pause after the last change"),
    row(Key::WatchOptions, &["watch_options"], Form::WatchOptions, "More of how to watch"),
    // Starting and stopping a worker.
    row(
        Key::WaitReady,
        &["wait_ready"],
        Form::Flag,
        "A worker is ready when it sends `ready`, not when it listens",
    ),
    row(
        Key::ReadyProbe,
        &["ready_probe"],
        Form::Probe,
        "What must answer before a worker counts as ready: an http or tcp URL, or {url, interval, timeout}",
    ),
    row(
        Key::ListenTimeout,
        &["listen_timeout"],
        Form::Span,
        "A successor that is not ready by then aborts the reload",
    ),
    row(Key::DrainTimeout, &["drain_timeout"], Form::Span, "Time to finish what is in hand"),
    row(Key::KillTimeout, &["kill_timeout"], Form::Span, "From the stop signal to SIGKILL"),
    row(Key::StopSignal, &["stop_signal"], Form::TextOrNumber, "The polite signal, by name or number"),
    row(
        Key::ShutdownWithMessage,
        &["shutdown_with_message"],
        Form::Flag,
        "Workers are told to stop by the message `shutdown`",
    ),
    row(Key::Parallel, &["parallel"], Form::Count(1), "Slots that a reload replaces at a time"),
    // Connections.
    row(Key::Distribution, &["distribution"], DISTRIBUTIONS, "How connections reach workers"),
    row(Key::Strategy, &["strategy"], STRATEGIES, "Which worker gets the next connection"),
    row(Key::Weights, &["weights"], Form::Weights, "Each slot's share under the strategy `weighted`"),
    row(
        Key::Sockets,
        &["sockets"],
        Form::Choice(&["auto", "channel", "universal", "listen-fds", "none"]),
        "How workers come by their sockets",
    ),
    row(
        Key::Ports,
        &["ports"],
        Form::Ports,
        "The ports at which workers are lent listeners under `universal`",
    ),
    row(
        Key::Listen,
        &["listen"],
        Form::Listeners,
        "The listeners that workers are started with under `listen-fds`",
    ),
    row(
        Key::Serialization,
        &["serialization"],
        Form::Choice(&["json", "advanced"]),
        "How messages of workers are written",
    ),
    row(
        Key::HandoffWindow,
        &["handoff_window"],
        Form::Count(1),
        "Handed-over connections that a worker may leave unanswered",
    ),
    row(Key::MaxMessage, &["max_message"], Form::Size, "The longest message a worker may send"),
    // Output.
    row(
        Key::OutFile,
        &["out_file", "out", "output", "out_log"],
        Form::Text,
        "File of standard output; /dev/null keeps nothing",
    ),
    row(
        Key::ErrorFile,
        &["error_file", "error", "err", "err_file", "err_log"],
        Form::Text,
        "File of standard error; /dev/null keeps nothing",
    ),
    row(
        Key::LogFile,
        &["log_file", "log"],
        Form::FlagOrText,
        "One more file, with both; true: by the app's name, beside the others",
    ),
    row(Key::MergeLogs, &["merge_logs", "combine_logs"], Form::Flag, "false: a file for each slot"),
    row(Key::DisableLogs, &["disable_logs"], Form::Flag, "Nothing is kept"),
    row(Key::LogType, &["log_type"], Form::Choice(&["raw", "json"]), "`json`: a line is a JSON object"),
    row(
        Key::LogDateFormat,
        &["log_date_format"],
        Form::Text,
        "What goes before each line, such as `YYYY-MM-DD HH:mm:ss`",
    ),
    row(Key::Time, &["time"], Form::Flag, "true is `log_date_format: YYYY-MM-DDTHH:mm:ss`"),
    row(
        Key::LogRotate,
        &["log_rotate"],
        Form::Rotate,
        "When a log file is put aside: {size, every, keep, gzip}, or false",
    ),
    row(Key::PidFile, &["pid_file", "pid"], Form::Text, "Where the pid of each worker is written"),
];

/// Keys of PM2's that have no effect here, by design; and the value that would need one, empty where there is none.
pub(crate) const IDLE: [(&str, &str); 18] = [
    ("automation", ""),
    ("deep_monitoring", ""),
    ("disable_source_map_support", ""),
    ("disable_trace", ""),
    ("event_loop_inspector", ""),
    ("execute_command", "true"),
    ("force", "true"),
    ("io", ""),
    ("kill_retry_time", ""),
    ("pmx", ""),
    ("source_map_support", ""),
    ("trace", ""),
    ("treekill", "false"),
    ("username", ""),
    ("v8", ""),
    ("vizion", ""),
    ("windows_hide", ""),
    ("write", "true"),
];

/// Keys of PM2's that are not offered, and what to do.
pub(crate) const REFUSED: [(&str, &str); 2] = [
    ("install_url", "install what the app needs before it is started, and remove the key"),
    ("post_update", "run the lines after the code was updated, then `oxherd reload`, and remove the key"),
];
