//! What can be typed, as JSON: for tests that ask whether there is a case for each verb and each option.

use clap::{Arg, Command, CommandFactory};
use serde_json::{Value, json};

use crate::cli::{Cli, offer};
use crate::exit::ExitStatus;
use crate::voice::print;

pub(super) fn run() -> ExitStatus {
    let command = Cli::command();
    let globals: Vec<Value> = command.get_arguments().filter_map(flag).collect();
    let mut verbs = Vec::new();
    command.get_subcommands().for_each(|verb| gather(verb, "", &mut verbs));
    let names = |of: &[(&str, &str)]| of.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let tree = json!({
        "verbs": verbs,
        "globals": globals,
        "refused_verbs": names(offer::VERBS),
        "refused_flags": names(offer::FLAGS),
    });
    print(&format!("{tree}\n"));
    ExitStatus::Success
}

/// A verb, or those that it is only the first word of.
fn gather(verb: &Command, before: &str, all: &mut Vec<Value>) {
    let name = format!("{before}{}", verb.get_name());
    if verb.has_subcommands() {
        return verb.get_subcommands().for_each(|it| gather(it, &format!("{name} "), all));
    }
    all.push(json!({
        "name": name,
        "aliases": verb.get_all_aliases().collect::<Vec<_>>(),
        "hidden": verb.is_hide_set(),
        "wants_word": verb.get_positionals().any(Arg::is_required_set),
        "flags": verb.get_arguments().filter_map(flag).collect::<Vec<_>>(),
    }));
}

/// An option by all its names; nothing for what has its place.
fn flag(arg: &Arg) -> Option<Value> {
    let longs = arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten());
    let longs = longs.map(|long| format!("--{long}"));
    let names: Vec<String> = longs.chain(arg.get_short().map(|short| format!("-{short}"))).collect();
    (!names.is_empty()).then(|| json!({ "names": names, "hidden": arg.is_hide_set() }))
}
