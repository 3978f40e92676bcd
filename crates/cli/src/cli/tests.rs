//! The command line as a whole: what is read, what is refused, and in which words.

use super::mistakes::in_one_line;
use super::*;

fn refused(args: &[&str]) -> String {
    let line = ["oxherd"].iter().chain(args).map(OsString::from);
    in_one_line(&parse(line).expect_err("the line is wrong"))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn help_reads_well() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!("help", command.render_help());
    let run = command.find_subcommand_mut("run").expect("there is a `run`");
    insta::assert_snapshot!("help_run", run.render_help());
}

#[test]
fn mistakes_are_one_line_that_names_the_thing() {
    let lines = [
        refused(&["run", "-i", "0", "a.js"]),
        refused(&["run", "-i", "x", "a.js"]),
        refused(&["run", "--strategy", "sticki", "a.js"]),
        refused(&["run", "--strategy", "best", "a.js"]),
        refused(&["run", "--weights", "3,x", "a.js"]),
        refused(&["run", "--weights", "", "a.js"]),
        refused(&["run", "--distribution", "magic", "a.js"]),
        refused(&["run", "--restart", "sometimes", "a.js"]),
        refused(&["run", "--drain-timeout", "30", "a.js"]),
        refused(&["run", "--stop-signal", "SIGFOO", "a.js"]),
        refused(&["run", "--max-restarts", "0", "a.js"]),
        refused(&["run", "--env", "FOO", "a.js"]),
        refused(&["run", "--env", "OXHERD_SLOT=1", "a.js"]),
        refused(&["run", "--node-args", "'--title=a b", "a.js"]),
        refused(&["run", "--instance", "2", "a.js"]),
        refused(&["run", "a.js", "--port", "3000"]),
        refused(&["run"]),
        refused(&["delete", "web", "--", "all"]),
        refused(&["sendSignal", "SIGHUP", "web", "--", "-x"]),
    ];
    assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:#?}");
    insta::assert_snapshot!("mistakes", lines.join("\n"));
}

#[test]
fn a_mistyped_verb_leads_to_the_nearest() {
    let tips = ["staart", "rnu", "reloa", "startorreload2", "sav", "quux"].map(mistakes::unknown_verb);
    insta::assert_snapshot!("verbs", tips.join("\n"));
}

#[test]
fn the_short_way_leads_where_the_long_one_does() {
    for verb in ["ls", "list", "l", "ps", "status", "jlist"] {
        let args = ["oxherd", verb].map(OsString::from);
        let long = Cli::try_parse_from(&args).unwrap().command;
        assert_eq!(format!("{:?}", plain(&args).unwrap()), format!("{long:?}"));
    }
    assert!(plain(&["oxherd", "ls", "--json"].map(OsString::from)).is_none());
}

#[test]
fn nothing_to_do_is_a_mistake_and_help_is_none() {
    let kind = |args: &[&str]| parse(args.iter().map(OsString::from)).map(drop).map_err(|error| error.kind());
    let missing = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    assert_eq!(kind(&["oxherd"]), Err(missing));
    assert_eq!(kind(&["oxherd", "help", "run"]), Err(ErrorKind::DisplayHelp));
    assert_eq!(kind(&["oxherd", "--version"]), Err(ErrorKind::DisplayVersion));
    assert_eq!(kind(&["oxherd", "run", "a.js", "-i", "-1", "--", "--port", "3000"]), Ok(()));
    assert_eq!(kind(&["oxherd", "start", "a.js", "--cron", "0 4 * * *"]), Ok(()));
    assert_eq!(kind(&["oxherd", "start", "a.js", "--cron", "0 4 * *"]), Err(ErrorKind::ValueValidation));
}

fn words(args: &[&str]) -> Vec<String> {
    let line = order::verb_first(args.iter().map(OsString::from).collect());
    line.into_iter().map(|word| word.into_string().unwrap()).collect()
}

#[test]
fn options_may_come_before_the_verb() {
    assert_eq!(
        words(&["pm2", "-s", "--name", "web", "-f", "start", "a.js", "--", "-x"]),
        ["pm2", "start", "-s", "--name", "web", "-f", "a.js", "--", "-x"]
    );
    assert_eq!(words(&["pm2", "--name=web", "start", "a.js"]), ["pm2", "start", "--name=web", "a.js"]);
    assert_eq!(words(&["pm2", "start", "--name", "web"]), ["pm2", "start", "--name", "web"]);
    assert_eq!(words(&["pm2", "-v"]), ["pm2", "--version"]);
    assert_eq!(words(&["pm2", "--help"]), ["pm2", "--help"]);
    assert_eq!(words(&["pm2", "--watch"]), ["pm2", "--watch"]);
}

/// Nothing is both offered and refused.
#[test]
fn what_is_not_offered_is_nowhere() {
    let command = Cli::command();
    for (verb, _) in offer::VERBS {
        let names = command
            .get_subcommands()
            .flat_map(|it| std::iter::once(it.get_name()).chain(it.get_all_aliases()));
        assert!(!names.into_iter().any(|name| name == *verb), "{verb}");
    }
    for (flag, _) in offer::FLAGS {
        let all = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let is_there = all.into_iter().any(|arg| {
            arg.get_long().is_some_and(|long| format!("--{long}") == *flag)
                || arg.get_short().is_some_and(|short| format!("-{short}") == *flag)
        });
        assert!(!is_there || FOR_OTHERS.contains(flag), "{flag}");
    }
}

/// Options of PM2's that are refused with one verb, and mean something else with another.
const FOR_OTHERS: [&str; 1] = ["--format"];

#[test]
fn what_is_not_offered_is_in_the_guide() {
    let guide = include_str!("../../../../docs/from-pm2.md");
    let names = offer::VERBS.iter().chain(offer::FLAGS).map(|(name, _)| *name);
    let missing: Vec<&str> = names.filter(|name| !guide.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/from-pm2.md does not name {missing:?}");
}
