//! Completions for shells and man pages, made from the definition of the command line.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::ExitStatus;
use crate::options::{CompletionOptions, ManOptions};
use crate::persona;
use crate::voice::{complain, print};

/// Has bash complete names of apps where a verb takes them.
const NAMES_OF_BASH: &str = r#"
_PROGRAM_names() {
    _PROGRAM "$@"
    case "${COMP_WORDS[1]}" in
        VERBS) ;;
        *) return ;;
    esac
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    if [[ ${COMP_CWORD} -ge 2 && ${word} != -* && ${before} != -* ]]; then
        COMPREPLY+=( $(compgen -W "$(PROGRAM complete-names 2>/dev/null)" -- "${word}") )
    fi
}
complete -F _PROGRAM_names -o bashdefault -o default PROGRAM
"#;
/// The same for fish.
const NAMES_OF_FISH: &str = "
complete -c PROGRAM -n '__fish_seen_subcommand_from VERBS' -f -a '(PROGRAM complete-names 2>/dev/null)'
";
/// The same for zsh, after what is there for the verbs.
const NAMES_OF_ZSH: &str = r#"
_PROGRAM_names() {
    _PROGRAM "$@"
    case "${words[2]}" in
        VERBS) ;;
        *) return ;;
    esac
    if (( CURRENT > 2 )); then
        local -a names
        names=(${(f)"$(PROGRAM complete-names 2>/dev/null)"})
        compadd -a names
    fi
}
compdef _PROGRAM_names PROGRAM
"#;
/// What stands for apps among what a verb takes.
const APP: &str = "APP";

pub(super) fn run(options: &CompletionOptions) -> ExitStatus {
    let shell = options.shell.or_else(Shell::from_env);
    let Some(shell) = shell else {
        complain(
            "which shell is not known: `completion bash`, `completion zsh` and `completion fish` are there",
        );
        return ExitStatus::Usage;
    };
    let (names, between) = match shell {
        Shell::Bash => (NAMES_OF_BASH, "|"),
        Shell::Fish => (NAMES_OF_FISH, " "),
        Shell::Zsh => (NAMES_OF_ZSH, "|"),
        other => {
            complain(&format!("not offered: completions for {other}; bash, zsh and fish have some"));
            return ExitStatus::Failure;
        }
    };
    let names = names.replace("PROGRAM", persona::program()).replace("VERBS", &verbs_of_apps().join(between));
    print(&(script(shell) + &names));
    ExitStatus::Success
}

/// The verbs that take names of apps, by all their names; `start` takes those that are known too.
fn verbs_of_apps() -> Vec<String> {
    let takes_apps = |verb: &&Command| {
        let is_app = |arg: &clap::Arg| arg.get_value_names().is_some_and(|names| names.contains(&APP.into()));
        verb.get_name() == "start" || verb.get_positionals().any(is_app)
    };
    let command = shown();
    let verbs = command.get_subcommands().filter(takes_apps);
    verbs
        .flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_all_aliases()))
        .map(str::to_owned)
        .collect()
}

fn script(shell: Shell) -> String {
    let mut command = shown();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, persona::program(), &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What people are to see of the command line.
fn shown() -> Command {
    let command = Cli::command();
    let hidden: Vec<String> =
        command.get_subcommands().filter(|it| it.is_hide_set()).map(|it| it.get_name().to_owned()).collect();
    let mut shown = Command::new("oxherd");
    for argument in command.get_arguments() {
        shown = shown.arg(argument.clone());
    }
    shown = shown.about(command.get_about().cloned().unwrap_or_default()).version(env!("CARGO_PKG_VERSION"));
    shown.subcommands(
        command.get_subcommands().filter(|it| !hidden.contains(&it.get_name().to_owned())).cloned(),
    )
}

/// Writes a page for each verb, and one for all.
pub(super) fn man(options: &ManOptions) -> ExitStatus {
    let folder = Path::new(&options.folder);
    let written = fs::create_dir_all(folder)
        .and_then(|()| pages().into_iter().try_for_each(|(name, page)| fs::write(folder.join(name), page)));
    match written {
        Ok(()) => ExitStatus::Success,
        Err(error) => {
            complain(&format!("cannot write man pages to {}: {error}", folder.display()));
            ExitStatus::Failure
        }
    }
}

/// The man pages by the names of their files.
pub(crate) fn pages() -> Vec<(String, Vec<u8>)> {
    let command = shown();
    let mut pages = vec![page(command.clone(), "oxherd".to_owned())];
    for verb in command.get_subcommands() {
        let name = format!("oxherd-{}", verb.get_name());
        // Clap keeps names for as long as the program runs; there are few.
        let leaked: &'static str = Box::leak(name.clone().into_boxed_str());
        pages.push(page(verb.clone().name(leaked), name));
    }
    pages
}

fn page(command: Command, name: String) -> (String, Vec<u8>) {
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    drop(clap_mangen::Man::new(command).render(&mut page));
    (format!("{name}.1"), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_verbs_and_names() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["startOrReload", "sendSignal", "jlist"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(!script.contains("serve-files"), "{shell}");
        }
    }

    #[test]
    fn every_verb_that_is_shown_has_a_man_page() {
        let pages = pages();
        assert!(pages.iter().all(|(_, page)| page.starts_with(b".ie") || page.starts_with(b".TH")));
        for name in ["oxherd.1", "oxherd-reload.1", "oxherd-startOrReload.1"] {
            let page = pages.iter().find(|(page, _)| page == name).map(|(_, page)| page.as_slice());
            let text = String::from_utf8_lossy(page.unwrap_or_default()).into_owned();
            assert!(text.contains("SYNOPSIS"), "{name}: {text}");
        }
        assert!(!pages.iter().any(|(name, _)| name.contains("serve-files")));
    }
}
