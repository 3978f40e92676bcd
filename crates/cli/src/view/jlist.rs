//! PM2's `jlist` and `prettylist`: one entry for each worker, with the fields that tools read.
//!
//! What PM2 has and oxherd has not is there with a neutral value only where tools need its type.

use std::collections::BTreeMap;

use oxherd::api::{AppView, Herd, SlotView};
use oxherd_engine::core::{AppSpec, Exit, RestartWhen, Sockets};
use serde_json::{Map, Value, json};

use super::list::split;
use super::pm2;

/// All workers. `specs` has the configurations by the ids of the apps.
pub(crate) fn entries(herd: &Herd, specs: &BTreeMap<u32, AppSpec>, version: &str) -> Value {
    let rows = pm2::rows(herd, None).into_iter();
    Value::Array(rows.map(|(app, slot)| entry(app, slot, specs.get(&app.app.0), version)).collect())
}

fn entry(app: &AppView, slot: &SlotView, spec: Option<&AppSpec>, version: &str) -> Value {
    let (worker, _) = split(slot);
    json!({
        "pid": worker.and_then(|it| it.pid).unwrap_or(0),
        "name": app.name,
        "pm2_env": Value::Object(pm2_env(app, slot, spec, version)),
        "pm_id": slot.number,
        "monit": {
            "memory": worker.and_then(|it| it.memory).unwrap_or(0),
            "cpu": worker.and_then(|it| it.cpu_percent).unwrap_or(0.0),
        },
    })
}

/// The environment first, so that what tools read is never a variable of the app's.
fn pm2_env(app: &AppView, slot: &SlotView, spec: Option<&AppSpec>, version: &str) -> Map<String, Value> {
    let env = spec.map(environment).unwrap_or_default();
    let mut all = env.clone();
    all.insert("env".into(), Value::Object(env));
    put(&mut all, of_state(app, slot, version));
    put(&mut all, of_files(app, slot));
    put(&mut all, of_program(app));
    if let Some(spec) = spec {
        put(&mut all, of_spec(app, spec));
    }
    put(&mut all, neutral());
    all
}

fn environment(spec: &AppSpec) -> Map<String, Value> {
    spec.env.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

fn put(all: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        all.extend(more);
    }
}

fn of_state(app: &AppView, slot: &SlotView, version: &str) -> Value {
    let (worker, _) = split(slot);
    let mut state = json!({
        "name": app.name,
        "namespace": pm2::namespace(app),
        "version": pm2::version(app),
        "pm_id": slot.number,
        "NODE_APP_INSTANCE": slot.slot.0,
        "status": pm2::status(slot.status),
        "pm_uptime": worker.map(|it| it.started_at_ms).or(slot.last_exit_at_ms).or(slot.created_at_ms).unwrap_or(0),
        "created_at": slot.created_at_ms.unwrap_or(0),
        "restart_time": slot.renewals,
        "unstable_restarts": slot.unstable,
        "unique_id": format!("{}-{}", app.name, slot.number.unwrap_or(slot.slot.0)),
        "username": pm2::user_name(),
        "_pm2_version": version,
    });
    if let Some(exit) = slot.last_exit {
        state["exit_code"] = exit_code(exit).into();
    }
    state
}

/// A signal is never exit code 0: 128 and its number, as shells have it.
fn exit_code(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal.0,
        Exit::Unknown => -1,
    }
}

fn of_files(app: &AppView, slot: &SlotView) -> Value {
    let mut files = json!({
        "pm_out_log_path": slot.out_file,
        "pm_err_log_path": slot.error_file,
        "pm_pid_path": slot.pid_file.clone().unwrap_or_default(),
        "merge_logs": slot.out_file == app.out_file,
    });
    if let Some(both) = &slot.both_file {
        files["pm_log_path"] = both.clone().into();
    }
    files
}

fn of_program(app: &AppView) -> Value {
    let script = if app.about.script.is_empty() { app.command.first() } else { Some(&app.about.script) };
    let mut program = json!({
        "pm_exec_path": script,
        "pm_cwd": app.cwd,
        "exec_interpreter": if app.about.interpreter.is_empty() { "none" } else { &app.about.interpreter },
        "exec_mode": format!("{}_mode", pm2::mode(app)),
        "node_args": app.about.interpreter_args,
        "instances": app.instances,
        "watch": app.watches,
    });
    if !app.about.args.is_empty() {
        program["args"] = json!(app.about.args);
    }
    program
}

fn of_spec(app: &AppView, spec: &AppSpec) -> Value {
    let mut more = json!({
        "autorestart": spec.restart != RestartWhen::Never,
        "autostart": spec.autostart,
        "instance_var": spec.instance_var.as_deref().unwrap_or("NODE_APP_INSTANCE"),
        "kill_timeout": spec.kill_timeout.as_millis(),
        "listen_timeout": spec.listen_timeout.as_millis(),
        "min_uptime": spec.min_uptime.as_millis(),
        "max_restarts": spec.max_restarts,
        "wait_ready": spec.wait_ready,
        "shutdown_with_message": spec.shutdown_with_message,
    });
    let optional = [
        ("max_memory_restart", spec.max_memory_restart.map(Value::from)),
        ("cron_restart", spec.upkeep.cron.clone().map(Value::from)),
        ("restart_delay", spec.restart_delay.map(|span| span.as_millis().into())),
        ("exp_backoff_restart_delay", spec.exp_backoff_restart_delay.map(|span| span.as_millis().into())),
        ("increment_var", spec.increment_var.clone().map(Value::from)),
        ("uid", spec.owner.as_ref().map(|owner| owner.uid.into())),
        ("gid", spec.owner.as_ref().map(|owner| owner.gid.into())),
        ("log_date_format", spec.upkeep.logs.date_format.clone().map(Value::from)),
        ("stop_exit_codes", (!spec.stop_exit_codes.is_empty()).then(|| json!(spec.stop_exit_codes))),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            more[key] = value;
        }
    }
    if app.sockets != Sockets::Channel {
        more["treekill"] = true.into();
    }
    more
}

/// What tools expect to be there.
fn neutral() -> Value {
    json!({
        "automation": false,
        "axm_actions": [],
        "axm_dynamic": {},
        "axm_monitor": {},
        "axm_options": {},
        "filter_env": [],
        "kill_retry_time": 100,
        "km_link": false,
        "node_version": "N/A",
        "pmx": false,
        "pmx_module": false,
        "treekill": true,
        "vizion": false,
        "vizion_running": false,
        "windowsHide": true,
    })
}

/// As Node's `util.inspect` writes a value: keys without quotes where they need none, strings in single quotes, two
/// blanks for each level.
pub(crate) fn inspect(value: &Value, level: usize) -> String {
    let pad = "  ".repeat(level + 1);
    let end = "  ".repeat(level);
    match value {
        Value::Null => "null".into(),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "[]".into(),
        Value::Object(fields) if fields.is_empty() => "{}".into(),
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| format!("{pad}{}", inspect(item, level + 1))).collect();
            format!("[\n{}\n{end}]", items.join(",\n"))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{pad}{}: {}", key_of(key), inspect(value, level + 1))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{\n{}\n{end}}}", fields.join(",\n"))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn key_of(key: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    match key.chars().next() {
        Some(first) if !first.is_ascii_digit() && key.chars().all(is_plain) => key.to_owned(),
        _ => quoted(key),
    }
}

fn quoted(text: &str) -> String {
    let mark = match (text.contains('\''), text.contains('"')) {
        (false, _) => '\'',
        (true, false) => '"',
        (true, true) if !text.contains('`') => '`',
        (true, true) => '\'',
    };
    let mut quoted = String::from(mark);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\\' => quoted.push_str("\\\\"),
            c if c == mark => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push(mark);
    quoted
}

/// `2026-11-26T07:23:00.000Z`
pub(crate) fn date(at_ms: u64) -> String {
    let (secs, ms) = (at_ms / 1000, at_ms % 1000);
    let (days, second) = (secs / 86_400, secs % 86_400);
    // Days since 1 March of the year 0, in cycles of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{ms:03}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [0, 951_782_399_999, 951_782_400_000, 1_795_677_742_236].map(date);
        assert_eq!(
            dates,
            [
                "1970-01-01T00:00:00.000Z",
                "2000-02-28T23:59:59.999Z",
                "2000-02-29T00:00:00.000Z",
                "2026-11-26T07:22:22.236Z"
            ]
        );
    }

    #[test]
    fn values_are_written_as_node_does() {
        let value = json!([{"pid": 1, "a-b": "it's", "n": null, "e": {}, "l": [], "s": "a\n\\"}]);
        let wanted = "[\n  {\n    'a-b': \"it's\",\n    e: {},\n    l: [],\n    n: null,\n    pid: 1,\n    s: 'a\\n\\\\'\n  }\n]";
        assert_eq!(inspect(&value, 0), wanted);
    }

    #[test]
    fn a_signal_is_never_code_0() {
        use oxherd_engine::core::Signal;
        assert_eq!([Exit::Code(0), Exit::Signal(Signal::KILL), Exit::Unknown].map(exit_code), [0, 137, -1]);
    }
}
