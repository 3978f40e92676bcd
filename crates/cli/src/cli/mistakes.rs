//! What is told of a command line that cannot be followed: what PM2 has and oxherd does not offer, or a mistake.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, offer};
use crate::exit::ExitStatus;
use crate::persona;
use crate::voice;

/// More verbs than these are no help.
const TIPS_MAX: usize = 2;

/// Tells what is wrong; returns the exit code.
pub(super) fn tell(error: &clap::Error) -> ExitStatus {
    if let Some(refusal) = not_offered(error) {
        voice::complain(&format!("not offered: {refusal}"));
        return ExitStatus::Failure;
    }
    voice::complain(&match word(error, ContextKind::InvalidSubcommand) {
        Some(verb) => unknown_verb(verb),
        None => in_one_line(error),
    });
    ExitStatus::Usage
}

/// Something of PM2's that is not there, or not with this verb.
fn not_offered(error: &clap::Error) -> Option<String> {
    if let Some(verb) = word(error, ContextKind::InvalidSubcommand) {
        return offer::refused_verb(verb).map(|why| format!("`{verb}`: {why}; {}", offer::GUIDE));
    }
    // Other mistakes name options that are there.
    let flag = word(error, ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
    if let Some(why) = offer::refused_flag(flag) {
        return Some(format!("{flag}: {why}; {}", offer::GUIDE));
    }
    offer::is_flag_of_pm2(flag).then(|| format!("{flag} has no effect with this verb; {}", offer::GUIDE))
}

fn word(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word),
        _ => None,
    }
}

/// With the verbs that were meant, perhaps: the nearest first, and none twice by its other names.
pub(super) fn unknown_verb(verb: &str) -> String {
    let command = Cli::command();
    let mut shown: Vec<_> = command.get_subcommands().filter(|it| !it.is_hide_set()).collect();
    let mut meant = Vec::new();
    while meant.len() < TIPS_MAX {
        let names_of = |it: &clap::Command| {
            let aliases = it.get_visible_aliases().map(str::to_owned);
            std::iter::once(it.get_name().to_owned()).chain(aliases).collect::<Vec<_>>()
        };
        let names: Vec<String> = shown.iter().flat_map(|it| names_of(it)).collect();
        let Some(name) = oxherd_config::nearest_of(verb, names.iter().map(String::as_str)) else { break };
        shown.retain(|it| !names_of(it).iter().any(|other| other == name));
        meant.push(format!("`{name}`"));
    }
    match meant.is_empty() {
        true => format!("unrecognized subcommand '{verb}'; `{} --help` lists the verbs", persona::program()),
        false => format!("unrecognized subcommand '{verb}'; did you mean {}?", meant.join(" or ")),
    }
}

/// The explanation and the tips of a usage error, without the usage text.
pub(super) fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.lines().map(str::trim).take_while(|line| {
        let is_general = line.starts_with("Usage:") || line.starts_with("For more information");
        !is_general
    });
    let mut line = String::new();
    for part in told.filter(|part| !part.is_empty()) {
        match line.chars().last() {
            None => {}
            Some(':') => line.push(' '),
            Some(_) => line.push_str("; "),
        }
        line.push_str(part.trim_start_matches("error: "));
    }
    line
}
