//! The keys of an app in a file: which there are, by all their names, and what somebody may have meant by another.

mod table;

pub(crate) use table::{Form, IDLE, KEYS, REFUSED, Row};

/// What an app can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Script,
    Name,
    NamePrefix,
    AppendEnv,
    Namespace,
    Cwd,
    Args,
    Interpreter,
    NodeArgs,
    ExecMode,
    Owner,
    Gid,
    Instances,
    Standby,
    Autostart,
    Env,
    Port,
    FilterEnv,
    InstanceVar,
    IncrementVar,
    Autorestart,
    Restart,
    RestartDelay,
    BackoffDelay,
    StopExitCodes,
    MinUptime,
    MaxRestarts,
    RestartWindow,
    MaxErrors,
    ErrorWindow,
    MaxMemory,
    MemoryWarning,
    MaxRequests,
    MaxLifetime,
    HealthCheck,
    Cron,
    Watch,
    IgnoreWatch,
    WatchDelay,
    WatchOptions,
    WaitReady,
    ReadyProbe,
    ListenTimeout,
    DrainTimeout,
    KillTimeout,
    StopSignal,
    ShutdownWithMessage,
    Parallel,
    Distribution,
    Strategy,
    Weights,
    Sockets,
    Ports,
    Listen,
    Serialization,
    HandoffWindow,
    MaxMessage,
    OutFile,
    ErrorFile,
    LogFile,
    MergeLogs,
    DisableLogs,
    LogType,
    LogDateFormat,
    Time,
    LogRotate,
    PidFile,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    Key(Key),
    /// `env_<name>`.
    Overlay(&'a str),
    /// A key of PM2's that has no effect here, by design; and the value that would need one.
    Idle {
        refused: &'static str,
    },
    /// A key of PM2's that is not offered, and what to do.
    Refused {
        instead: &'static str,
    },
    Unknown,
}

const OVERLAY_PREFIX: &str = "env_";

impl Key {
    /// Its first name.
    pub(crate) fn name(self) -> &'static str {
        KEYS.iter().find(|row| row.key == self).and_then(|row| row.names.first()).map_or("", |name| *name)
    }
}

/// Looks a name up, in snake_case or camelCase.
pub(crate) fn meaning_of(name: &str) -> Meaning<'_> {
    let snake = snake_case(name);
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(known, _)| *known == snake).map(|(_, value)| *value)
    };
    if let Some(row) = KEYS.iter().find(|row| row.names.contains(&snake.as_str())) {
        return Meaning::Key(row.key);
    }
    if let Some(overlay) = name.strip_prefix(OVERLAY_PREFIX).filter(|overlay| !overlay.is_empty()) {
        return Meaning::Overlay(overlay);
    }
    if let Some(instead) = find(&REFUSED) {
        return Meaning::Refused { instead };
    }
    find(&IDLE).map_or(Meaning::Unknown, |refused| Meaning::Idle { refused })
}

/// The known name that is nearest to this one, if one is near.
pub(crate) fn nearest(name: &str) -> Option<String> {
    if let Some(overlay) = name.strip_prefix("env").filter(|rest| rest.starts_with(char::is_uppercase)) {
        return Some(format!("{OVERLAY_PREFIX}{}", overlay.to_lowercase()));
    }
    let others = IDLE.iter().map(|(known, _)| *known);
    let known = KEYS.iter().flat_map(|row| row.names).copied().chain(others);
    // The first of equals: keys that have an effect come before those that have none.
    nearest_of(name, known).map(str::to_owned)
}

/// The name that is nearest to this one, if one is near: it was meant, perhaps.
pub fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = bare(name);
    let distances = known.map(|known| (distance(&wanted, &bare(known)), known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    let limit = (wanted.chars().count().max(nearest.len()) / 3).max(1);
    (distance <= limit).then_some(nearest)
}

/// Whether `apps` may have been meant. Old files of PM2's have `pm2` in its place.
pub(crate) fn means_apps(name: &str) -> bool {
    name == "pm2" || distance(&bare(name), "apps") <= 1
}

/// `maxRestarts` as `max_restarts`. A name with capitals and underscores is left as it is: it is neither.
fn snake_case(name: &str) -> String {
    if name.contains('_') || name.starts_with(char::is_uppercase) {
        return name.into();
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Small letters without `_` and `-`, and no more of them than any key has.
fn bare(name: &str) -> String {
    const CHARS_MAX: usize = 40;
    name.chars().filter(|c| !matches!(c, '_' | '-')).take(CHARS_MAX).collect::<String>().to_lowercase()
}

/// Letters to put in, leave out, change, or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(one[i - 1] != other[j - 1]);
                let plain = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
                let swaps = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                if swaps { plain.min(rows[i - 2][j - 2] + 1) } else { plain }
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::camel_case;

    #[test]
    fn every_key_has_both_spellings_and_one_meaning() {
        let mut names: Vec<&str> = KEYS.iter().flat_map(|row| row.names).copied().collect();
        names.extend(IDLE.iter().chain(&REFUSED).map(|(name, _)| *name));
        for name in &names {
            let camel = camel_case(name);
            assert_eq!(meaning_of(&camel), meaning_of(name), "{camel}");
            assert_ne!(meaning_of(name), Meaning::Unknown, "{name}");
        }
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../docs/configuration.md");
        let is_missing = |name: &&str| !page.contains(&format!("`{name}`"));
        let named = KEYS.iter().flat_map(|row| row.names).copied();
        let others = IDLE.iter().chain(&REFUSED).map(|(name, _)| *name);
        let missing: Vec<&str> = named.chain(others).filter(is_missing).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn overlays_are_named() {
        assert_eq!(meaning_of("env_production"), Meaning::Overlay("production"));
        assert_eq!(meaning_of("env_Prod_2"), Meaning::Overlay("Prod_2"));
        assert_eq!(meaning_of("env_"), Meaning::Unknown);
        assert_eq!(meaning_of("windowsHide"), Meaning::Idle { refused: "" });
    }

    #[test]
    fn the_nearest_key_is_found_unless_none_is_near() {
        let names = [
            ("instnces", Some("instances")),
            ("instance", Some("instances")),
            ("max-restarts", Some("max_restarts")),
            ("MaxRestarts", Some("max_restarts")),
            ("Script", Some("script")),
            ("scirpt", Some("script")),
            ("wacth", Some("watch")),
            ("envProduction", Some("env_production")),
            ("agrs", Some("args")),
            ("envs", Some("env")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (name, wanted) in names {
            assert_eq!(nearest(name).as_deref(), wanted, "{name}");
        }
    }
}
