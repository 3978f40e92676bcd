//! The options of an app that only a daemon can obey: where its output goes, when it is reloaded by itself, what it is
//! grouped with.

use std::path::Path;

use clap::Args;
use oxherd_config::values::{NOWHERE, TIME_FORMAT, is_nowhere, parse_cron, usual_log};
use oxherd_engine::core::{LogSpec, Span, Upkeep, WatchSpec};

use super::put;
use super::values::parse_delay;

/// In place of a cron expression, as PM2 has it.
const NEVER: &str = "0";

/// What `start` can be told beyond what an app is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeepOptions {
    /// The group of the app, by which it can be selected [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// File of what workers write to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<String>,

    /// File of what workers write to standard error
    #[arg(short, long, value_name = "FILE")]
    pub(crate) error: Option<String>,

    /// One more file, with both [default: logs/NAME.log in the home folder]
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub(crate) log: Option<String>,

    /// How lines are written to files: raw or json
    #[arg(long, value_name = "TYPE", value_parser = ["raw", "json"])]
    pub(crate) log_type: Option<String>,

    /// A date before each line, such as "YYYY-MM-DD HH:mm:ss"
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_date_format: Option<String>,

    /// The same as --log-date-format YYYY-MM-DDTHH:mm:ss
    #[arg(long)]
    pub(crate) time: bool,

    /// Keep nothing of what workers write
    #[arg(long)]
    pub(crate) disable_logs: bool,

    /// One file for all workers, not one for each
    #[arg(long)]
    pub(crate) merge_logs: bool,

    /// File with the pid of the worker; -N goes before its extension where there are several
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pid: Option<String>,

    /// When to reload by the clock, such as "0 3 * * *"; 0: never
    #[arg(short, long, visible_alias = "cron-restart", value_name = "CRON", value_parser = checked_cron)]
    pub(crate) cron: Option<String>,

    /// Reload when a file changes: in the app's folder, or at this path; repeatable
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "")]
    pub(crate) watch: Vec<String>,

    /// What is not watched, beside dotfiles and node_modules; repeatable
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) ignore_watch: Vec<String>,

    /// The pause after a change; a bare number is in seconds
    #[arg(long, value_name = "TIME", value_parser = parse_delay)]
    pub(crate) watch_delay: Option<Span>,
}

impl KeepOptions {
    /// The first option that was given, for those who cannot obey any.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.namespace.is_some(), "--namespace"),
            (self.output.is_some(), "--output"),
            (self.error.is_some(), "--error"),
            (self.log.is_some(), "--log"),
            (self.log_type.is_some(), "--log-type"),
            (self.log_date_format.is_some(), "--log-date-format"),
            (self.time, "--time"),
            (self.disable_logs, "--disable-logs"),
            (self.merge_logs, "--merge-logs"),
            (self.pid.is_some(), "--pid"),
            (self.cron.is_some(), "--cron"),
            (!self.watch.is_empty(), "--watch"),
            (!self.ignore_watch.is_empty(), "--ignore-watch"),
            (self.watch_delay.is_some(), "--watch-delay"),
        ];
        given.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }

    /// Writes what was given over what is there. Paths are relative to `folder`; `cwd` is the app's, and `logs` has the
    /// files of those who name none.
    pub(crate) fn put(&self, upkeep: &mut Upkeep, name: &str, places: Places<'_>) {
        let at = |path: &str| absolute(places.folder, path);
        put(&mut upkeep.namespace, self.namespace.clone());
        self.put_logs(&mut upkeep.logs, name, places);
        put(&mut upkeep.pid_file, self.pid.as_deref().map(|path| Some(at(path))));
        put(&mut upkeep.cron, self.cron.clone().map(|cron| Some(cron).filter(|cron| cron != NEVER)));
        if self.watch.is_empty() && (!self.ignore_watch.is_empty() || self.watch_delay.is_some()) {
            upkeep.watch.get_or_insert_with(WatchSpec::default);
        }
        if !self.watch.is_empty() {
            let paths = self.watch.iter().map(|path| match path.as_str() {
                "" => places.cwd.to_owned(),
                path => at(path),
            });
            upkeep.watch.get_or_insert_default().paths = paths.collect();
        }
        if let Some(watch) = &mut upkeep.watch {
            watch.ignore.extend(self.ignore_watch.iter().cloned());
            put(&mut watch.delay, self.watch_delay);
            if watch.paths.is_empty() {
                watch.paths = vec![places.cwd.to_owned()];
            }
        }
    }

    fn put_logs(&self, logs: &mut LogSpec, name: &str, places: Places<'_>) {
        let file = |path: &str| match path {
            path if is_nowhere(path) => NOWHERE.to_owned(),
            path => absolute(places.folder, path),
        };
        put(&mut logs.out, self.output.as_deref().map(|path| Some(file(path))));
        put(&mut logs.err, self.error.as_deref().map(|path| Some(file(path))));
        let both = self.log.as_deref().map(|path| match path {
            "" => absolute(places.logs, &usual_log(name)),
            path => file(path),
        });
        put(&mut logs.both, both.map(Some));
        put(&mut logs.json, self.log_type.as_deref().map(|kind| kind == "json"));
        put(&mut logs.date_format, self.time.then(|| Some(TIME_FORMAT.to_owned())));
        put(&mut logs.date_format, self.log_date_format.clone().map(Some));
        logs.disabled |= self.disable_logs;
        if self.merge_logs {
            logs.per_slot = false;
        }
    }
}

/// A cron expression, kept as it is written, or the word for none.
fn checked_cron(text: &str) -> Result<String, String> {
    if text == NEVER { Ok(text.to_owned()) } else { parse_cron(text).map(|_| text.to_owned()) }
}

/// What paths are relative to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// The current folder.
    pub(crate) folder: &'a Path,
    /// The app's folder.
    pub(crate) cwd: &'a str,
    /// The folder of log files.
    pub(crate) logs: &'a Path,
}

fn absolute(folder: &Path, path: &str) -> String {
    let path = match path.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => Path::new(&home).join(rest),
        None => folder.join(path),
    };
    path.to_string_lossy().into_owned()
}
