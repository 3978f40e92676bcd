//! PM2 takes options before the verb too: the verb goes first here, and the rest stays in its order.

use std::ffi::OsString;

use clap::CommandFactory;

use super::Cli;

/// What the parser reads before a verb itself.
const OWN: [&str; 7] = ["-h", "--help", "-V", "--version", "-s", "--silent", "--no-color"];

/// The same words with the verb first. `-v` asks for the version, as PM2 has it.
pub(super) fn verb_first(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.len() == 2 && args[1] == "-v" {
        args[1] = "--version".into();
    }
    let is_option = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-') && word != "-");
    if !args.get(1).is_some_and(is_option) {
        return args;
    }
    let takes_value = Takers::new();
    let mut at = 1;
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        match word {
            "--" => return args,
            word if OWN.contains(&word) => at += 1,
            word if word.starts_with('-') && word != "-" => at += 1 + usize::from(takes_value.has(word)),
            _ => {
                let verb = args.remove(at);
                args.insert(1, verb);
                return args;
            }
        }
    }
    args
}

/// The options of any verb that take a value.
struct Takers(Vec<String>);

impl Takers {
    fn new() -> Self {
        let command = Cli::command();
        let mut options = Vec::new();
        for arg in command.get_subcommands().flat_map(clap::Command::get_arguments) {
            let needs_value = arg.get_action().takes_values()
                && arg.get_num_args().is_none_or(|range| range.min_values() > 0);
            if needs_value {
                options.extend(
                    arg.get_long_and_visible_aliases().into_iter().flatten().map(|it| format!("--{it}")),
                );
                options.extend(arg.get_all_aliases().into_iter().flatten().map(|it| format!("--{it}")));
                options.extend(arg.get_short().map(|it| format!("-{it}")));
            }
        }
        Self(options)
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|option| option == word)
    }
}
