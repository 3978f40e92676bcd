//! An app as the options of `oxherd runtime`: for where there is no file of it. Data in, words out.
//!
//! What there is no option for is told, never dropped in silence.

use std::path::Path;

use oxherd_config::{Difference, differences};
use oxherd_engine::core::{AppSpec, Sockets};

/// Keys whose option is called the same and takes the value as it is.
const PLAIN: [&str; 15] = [
    "distribution",
    "handoff_window",
    "max_errors",
    "max_memory_restart",
    "max_message",
    "max_requests",
    "max_restarts",
    "memory_warning",
    "parallel",
    "ports",
    "restart",
    "serialization",
    "standby",
    "stop_signal",
    "strategy",
];
/// Keys that are times, which are written in milliseconds.
const TIMES: [&str; 9] = [
    "drain_timeout",
    "error_window",
    "exp_backoff_restart_delay",
    "kill_timeout",
    "listen_timeout",
    "max_lifetime",
    "min_uptime",
    "restart_delay",
    "restart_window",
];
/// Keys whose option takes no value.
const SWITCHES: [&str; 2] = ["wait_ready", "shutdown_with_message"];
/// Where output goes is a container's affair, not its file's.
const OF_FILES: [&str; 9] = [
    "disable_logs",
    "error_file",
    "log_date_format",
    "log_file",
    "log_rotate",
    "log_type",
    "merge_logs",
    "out_file",
    "pid_file",
];

/// A command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// What comes after `oxherd runtime`.
    pub(crate) words: Vec<String>,
    /// Keys of the app that no option has.
    pub(crate) left_out: Vec<String>,
}

/// The app, with the folder that it runs in as the current one.
pub(crate) fn flags(spec: &AppSpec) -> Flags {
    let mut flags = Flags::default();
    let words = &mut flags.words;
    words.push(format!("--name={}", spec.name));
    words.push(format!("--instances={}", spec.instances));
    let mut usual = AppSpec::new(spec.name.clone(), spec.program.clone());
    usual.sockets = spec.sockets;
    usual.distribution = AppSpec::usual_distribution(spec.sockets);
    if spec.sockets != Sockets::Channel {
        words.extend(name_of(spec.sockets).map(|name| format!("--sockets={name}")));
    }
    for difference in differences(&usual, spec) {
        put(&mut flags, spec, &difference);
    }
    put_command(&mut flags.words, spec);
    flags
}

fn put(flags: &mut Flags, spec: &AppSpec, difference: &Difference) {
    let key = difference.key.as_str();
    let (name, value) = (key.replace('_', "-"), difference.new.as_deref().unwrap_or_default());
    let is_known = |keys: &[&str]| keys.iter().any(|it| key == *it || key.starts_with(&format!("{it}.")));
    match key {
        _ if PLAIN.contains(&key) => flags.words.push(format!("--{name}={value}")),
        _ if TIMES.contains(&key) => flags.words.push(format!("--{name}={value}ms")),
        _ if SWITCHES.contains(&key) => flags.words.push(format!("--{name}")),
        // JSON's list of numbers, without its brackets.
        "weights" => flags.words.push(format!("--weights={}", value.trim_matches(['[', ']']))),
        "stop_exit_codes" => {
            flags.words.extend(spec.stop_exit_codes.iter().map(|code| format!("--stop-exit-codes={code}")));
        }
        "listen" => {
            let all = spec.listen.iter();
            flags.words.extend(all.map(|it| format!("--listen={}={}", it.name, it.address)));
        }
        "owner.uid" => flags.words.push(format!("--user={value}")),
        "owner.gid" => flags.words.push(format!("--gid={value}")),
        // Of the user's; of the command; of the caller, whom a container does not have.
        "owner.groups" | "cwd" | "script" | "args" | "interpreter" | "node_args" | "instances" => {}
        "namespace" => {}
        _ if key.starts_with("env.") || is_known(&OF_FILES) => {}
        _ => flags.left_out.push(key.to_owned()),
    }
}

/// The interpreter, the script, and its arguments.
fn put_command(words: &mut Vec<String>, spec: &AppSpec) {
    let about = &spec.upkeep.about;
    let is_written = !about.script.is_empty();
    let (script, args) = if is_written { (&about.script, &about.args) } else { (&spec.program, &spec.args) };
    if !matches!(about.interpreter.as_str(), "" | "none") {
        words.push(format!("--interpreter={}", about.interpreter));
        words.extend(about.interpreter_args.iter().map(|it| format!("--node-args={}", quoted(it))));
    }
    let inside = Path::new(script).strip_prefix(&spec.cwd).ok().filter(|_| spec.cwd != "/");
    words.push(inside.map_or_else(|| script.clone(), |path| path.to_string_lossy().into_owned()));
    if !args.is_empty() {
        words.push("--".into());
        words.extend(args.iter().cloned());
    }
}

/// As `--node-args` takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'');
    match word {
        _ if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        _ if !word.contains('\'') => format!("'{word}'"),
        _ => format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\"")),
    }
}

fn name_of(sockets: Sockets) -> Option<String> {
    let value = serde_json::to_value(sockets).ok()?;
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use oxherd_config::values::Words;
    use oxherd_engine::core::{Scaling, Span};

    use super::*;

    #[test]
    fn words_of_the_interpreter_come_back_as_they_were() {
        for word in ["-r", r"C:\x", "", "a b", "it's", "it's a", r#"say "hi""#, r#"it's "a" \ b\"#, "\t\n"] {
            let words: Words = quoted(word).parse().unwrap();
            assert_eq!(words.0, [word], "{}", quoted(word));
        }
    }

    #[test]
    fn what_an_option_has_is_said_and_the_rest_is_told() {
        let mut spec = AppSpec::new("web", "/usr/bin/node");
        spec.cwd = "/srv/app".into();
        spec.upkeep.about.script = "/srv/app/lib/server.js".into();
        spec.upkeep.about.interpreter = "node".into();
        spec.upkeep.about.interpreter_args = vec!["--title=a b".into()];
        spec.upkeep.about.args = vec!["-1".into()];
        spec.kill_timeout = Span::from_millis(1600);
        spec.max_memory_restart = Some(1 << 20);
        spec.stop_exit_codes = vec![3, 4];
        spec.wait_ready = true;
        spec.scaling = Some(Scaling { min: 1, max: 4 });
        spec.upkeep.cron = Some("0 4 * * *".into());
        spec.upkeep.logs.out = Some("/var/log/out".into());
        let flags = flags(&spec);
        let words = "--name=web --instances=1 --kill-timeout=1600ms --max-memory-restart=1048576 \
                     --stop-exit-codes=3 --stop-exit-codes=4 --wait-ready --interpreter=node \
                     --node-args='--title=a b' lib/server.js -- -1";
        assert_eq!(flags.words.join(" "), words);
        assert_eq!(flags.left_out, ["cron_restart", "scaling.max", "scaling.min"]);
    }
}
