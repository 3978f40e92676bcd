//! What is told of a command line that cannot be followed: what PM2 has and oxherd does not offer, or a mistake.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue};

use super::{Cli, offer};
use crate::exit::ExitStatus;
use crate::voice;

/// Tells what is wrong; returns the exit code.
pub(super) fn tell(error: &clap::Error) -> ExitStatus {
    if let Some(refusal) = not_offered(error) {
        voice::complain(&format!("not offered: {refusal}"));
        return ExitStatus::Failure;
    }
    let is_suggested = error.get(ContextKind::SuggestedSubcommand).is_some();
    let tip = word(error, ContextKind::InvalidSubcommand).filter(|_| !is_suggested).and_then(verb_tip);
    voice::complain(&(in_one_line(error) + &tip.unwrap_or_default()));
    ExitStatus::Usage
}

/// Something of PM2's that is not there, or not with this verb.
fn not_offered(error: &clap::Error) -> Option<String> {
    if let Some(verb) = word(error, ContextKind::InvalidSubcommand) {
        return offer::refused_verb(verb).map(|why| format!("`{verb}`: {why}; {}", offer::GUIDE));
    }
    let flag = word(error, ContextKind::InvalidArg)?;
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

/// The verb that was meant, perhaps, where the parser suggests none.
fn verb_tip(verb: &str) -> Option<String> {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    let names = shown.flat_map(|it| std::iter::once(it.get_name()).chain(it.get_all_aliases()));
    oxherd_config::nearest_of(verb, names).map(|meant| format!("; did you mean `{meant}`?"))
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
