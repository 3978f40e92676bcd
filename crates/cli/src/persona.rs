//! Who this program is called as: by its own name, or through a link as PM2, whose habits it then has.
//!
//! Decided once, from the name of the program in the command line. Nothing else tells the two apart. With it goes the
//! home, which is found once likewise.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oxherd_daemon::home::{Home, HomeError};

/// The names by which PM2's programs are called.
const PM2: &str = "pm2";
const RUNTIMES: [&str; 2] = ["pm2-runtime", "pm2-docker"];

/// Whose habits the command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persona {
    Oxherd,
    Pm2,
}

static PERSONA: OnceLock<Persona> = OnceLock::new();
static HOME: OnceLock<Home> = OnceLock::new();

/// Recognises the name that the program is called by; `pm2-runtime` is the verb `runtime` of the others.
pub(crate) fn enter(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|program| Path::new(program).file_name()).and_then(OsStr::to_str);
    let is_runtime = name.is_some_and(|name| RUNTIMES.contains(&name));
    let persona = if name == Some(PM2) || is_runtime { Persona::Pm2 } else { Persona::Oxherd };
    // This is the only place that sets it.
    let _set_before = PERSONA.set(persona);
    if is_runtime {
        as_runtime(&mut args);
    }
    args
}

/// `pm2-runtime [start] WHAT`, which prints lines as they are unless `--formatted` is given.
fn as_runtime(args: &mut Vec<OsString>) {
    if args.get(1).is_none_or(|word| word == "--help" || word == "-h" || word == "--version" || word == "-v")
    {
        return;
    }
    if args[1] == "start" {
        args.remove(1);
    }
    args.insert(1, "runtime".into());
    let own = args.iter().position(|word| word == "--").unwrap_or(args.len());
    let formatted = args[..own].iter().position(|word| word == "--formatted");
    match formatted {
        Some(at) => drop(args.remove(at)),
        None if args[..own].iter().any(|word| word == "--raw") => {}
        None => args.insert(2, "--raw".into()),
    }
}

/// Whether PM2's habits are wanted.
pub(crate) fn is_pm2() -> bool {
    PERSONA.get() == Some(&Persona::Pm2)
}

/// What to type to get here, in texts.
pub(crate) fn program() -> &'static str {
    if is_pm2() { PM2 } else { "oxherd" }
}

/// Goes before a sentence on stdout.
pub(crate) fn news_prefix() -> &'static str {
    if is_pm2() { "[PM2] " } else { "" }
}

/// Goes before a complaint on stderr.
pub(crate) fn complaint_prefix() -> &'static str {
    if is_pm2() { "[PM2][ERROR] " } else { "oxherd: " }
}

/// Goes before a doubt on stderr.
pub(crate) fn doubt_prefix() -> &'static str {
    if is_pm2() { "[PM2][WARN] " } else { "oxherd: " }
}

/// The home of the daemon that a command talks to, which may be one that a herd in the foreground has made up; as PM2
/// that is PM2's. Found once: what a command does may change where another search would end.
pub(crate) fn home() -> Result<Home, HomeError> {
    if let Some(home) = HOME.get() {
        return Ok(home.clone());
    }
    let found = pm2_home().unwrap_or_else(Home::find_served)?;
    Ok(HOME.get_or_init(|| found).clone())
}

/// The home for what lasts: where daemons are started, and settings are kept.
pub(crate) fn lasting_home() -> Result<Home, HomeError> {
    pm2_home().unwrap_or_else(Home::find)
}

fn pm2_home() -> Option<Result<Home, HomeError>> {
    pm2_folder().filter(|_| is_pm2()).map(|folder| Home::at(&folder))
}

/// As PM2, the home that was named for a herd in the foreground.
pub(crate) fn chosen_home() -> Option<Result<Home, HomeError>> {
    let named = env::var_os("PM2_HOME").filter(|value| !value.is_empty())?;
    is_pm2().then(|| Home::at(Path::new(&named)))
}

/// The variable that names the home.
pub(crate) fn home_variable() -> &'static str {
    if is_pm2() { "PM2_HOME" } else { "OXHERD_HOME" }
}

fn pm2_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PM2_HOME").or_else(|| Some(set("HOME")?.join(".pm2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(args: &[&str]) -> Vec<String> {
        let mut args: Vec<OsString> = ["pm2-runtime"].iter().chain(args).map(OsString::from).collect();
        as_runtime(&mut args);
        args.into_iter().map(|arg| arg.into_string().unwrap()).skip(1).collect()
    }

    #[test]
    fn the_runtime_is_a_verb() {
        assert_eq!(runtime(&["app.js"]), ["runtime", "--raw", "app.js"]);
        assert_eq!(runtime(&["start", "app.js", "--formatted"]), ["runtime", "app.js"]);
        assert_eq!(
            runtime(&["app.js", "--", "--formatted"]),
            ["runtime", "--raw", "app.js", "--", "--formatted"]
        );
        assert_eq!(runtime(&["--help"]), ["--help"]);
    }
}
