//! The environment that workers get: the caller's, without what belongs to another primary, and the variables
//! given on the command line. Values are never printed.

use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::values::Variable;

/// What the engine sets for each worker, and what a worker of another primary would have inherited.
const OURS: [&str; 4] =
    ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID", "NODE_APP_INSTANCE"];
const OUR_PREFIX: &str = "OXHERD_";
/// What a service manager says to the process that it started, and to no other (`systemd.exec(5)`, `sd_notify(3)`): where
/// the caller is a service, its workers are none.
const OF_A_SERVICE: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
];

/// What is left out of the caller's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EnvFilter {
    /// Nothing.
    #[default]
    Nothing,
    /// All of it.
    Everything,
    /// This variable.
    Named(String),
    /// Those with any of these in their name.
    Containing(Vec<String>),
}

impl EnvFilter {
    /// Whether a variable is passed on.
    pub fn lets(&self, key: &OsStr) -> bool {
        match self {
            Self::Nothing => true,
            Self::Everything => false,
            Self::Named(name) => key != name.as_str(),
            Self::Containing(parts) => {
                let key = key.to_string_lossy();
                !parts.iter().any(|part| key.contains(part.as_str()))
            }
        }
    }
}

impl fmt::Display for EnvFilter {
    /// Nothing at all, `*`, `NAME`, or `*PART* *PART*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Everything => f.write_str("*"),
            Self::Named(name) => f.write_str(name),
            Self::Containing(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("*{part}*")).collect();
                f.write_str(&parts.join(" "))
            }
        }
    }
}

/// Whether a variable is set by oxherd, and never taken from elsewhere.
pub fn is_ours(key: &str) -> bool {
    OURS.contains(&key) || key.starts_with(OUR_PREFIX)
}

/// The workers' environment, and one line for each entry that had to be left out.
pub fn compose(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    given: &[Variable],
) -> (Vec<(String, String)>, Vec<String>) {
    let (mut env, mut left_out) = (Vec::new(), Vec::new());
    for (key, value) in inherited {
        match (key.into_string(), value.into_string()) {
            (Ok(key), _) if OF_A_SERVICE.contains(&key.as_str()) => {}
            (Ok(key), Ok(value)) => put(&mut env, key, value),
            (Ok(key), Err(_)) if is_ours(&key) => {}
            (Ok(key), Err(_)) => left_out.push(format!("{key} is left out: its value is not UTF-8")),
            (Err(key), _) => left_out.push(format!("{} is left out: its name is not UTF-8", key.display())),
        }
    }
    env.retain(|(key, _)| !is_ours(key));
    for variable in given {
        put(&mut env, variable.key.clone(), variable.value.clone());
    }
    (env, left_out.into_iter().map(|why| format!("environment variable {why}")).collect())
}

/// What a variable is set to.
pub fn get<'a>(env: &'a [(String, String)], key: &str) -> Option<&'a str> {
    env.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Sets a variable, in its old place when it has one.
pub fn put(env: &mut Vec<(String, String)>, key: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == key) {
        Some(entry) => entry.1 = value,
        None => env.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn os(text: &str) -> OsString {
        OsString::from(text)
    }

    #[test]
    fn another_primary_s_variables_stay_out_and_given_ones_win() {
        let inherited =
            ["PATH", "NODE_CHANNEL_FD", "OXHERD_SLOT", "NODE_UNIQUE_ID", "NOTIFY_SOCKET", "NODE_ENV"];
        let inherited = inherited.map(|key| (os(key), os("old")));
        let given = ["NODE_ENV=production", "NEW=1", "NEW=2"].map(|text| text.parse().unwrap());
        let (env, left_out) = compose(inherited, &given);
        let shown: Vec<_> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["PATH=old", "NODE_ENV=production", "NEW=2"]);
        assert_eq!(get(&env, "NEW"), Some("2"));
        assert!(left_out.is_empty());
    }

    #[test]
    fn entries_that_are_no_text_are_told_by_name_only() {
        let bytes = || OsString::from_vec(vec![0xff, b'x']);
        let inherited = [(os("A"), bytes()), (bytes(), os("b")), (os("OXHERD_SLOT"), bytes())];
        let (env, left_out) = compose(inherited, &[]);
        assert!(env.is_empty());
        let first = "environment variable A is left out: its value is not UTF-8";
        assert_eq!(left_out.len(), 2);
        assert_eq!(left_out[0], first);
    }
}
