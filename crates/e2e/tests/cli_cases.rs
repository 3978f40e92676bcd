//! Every verb and every option, in a pipe and on a terminal: what is typed and all that is said is in
//! `fixtures/cases/*.case`. What is in no case fails here.

use std::collections::BTreeSet;

use oxherd_e2e::cases::{self, Flag, Tree, Typed, Verb};
use oxherd_e2e::{Home, Pm2, places, procs};

/// A test for each file, so that they run side by side and can be asked for by name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                cases::assert_case(stringify!($name));
            }
        )*
    };
}

cases![
    completion,
    files,
    lists,
    logs,
    mistakes,
    nodaemon,
    reload,
    restart,
    run,
    runtime,
    saved,
    serve,
    start,
    start_env,
    start_lives,
    start_logs,
    start_serving,
    system,
    workers,
];

#[test]
fn every_file_is_gone_through() {
    let files: BTreeSet<String> = cases::all().into_iter().collect();
    assert_eq!(files, CASES.iter().map(|name| (*name).to_owned()).collect());
}

/// What is seen to work by a test of its own, because it takes keys, traffic, another user or the system: verb, option (or
/// `-` for the verb), file and function. The file must have the function, and name the option.
const ELSEWHERE: &str = include_str!("../fixtures/cases/elsewhere.txt");

#[test]
fn every_verb_and_every_option_has_a_case() {
    let home = Home::new();
    let tree = Tree::of(&home);
    let typed = cases::all_typed();
    let mut missing = Vec::new();
    for verb in &tree.verbs {
        if verb.hidden {
            continue;
        }
        let calls: Vec<&Typed> = typed.iter().filter(|call| is_of(call, verb)).collect();
        let elsewhere = elsewhere(&verb.name);
        for name in verb.names().filter(|name| !calls.iter().any(|call| names(call).any(|it| it == *name))) {
            if !elsewhere.contains("-") {
                missing.push(name.to_owned());
            }
        }
        for flag in verb.flags.iter().filter(|flag| !is_typed(flag, &calls)) {
            if !flag.names.iter().any(|name| elsewhere.contains(name.as_str())) {
                missing.push(format!("{} {}", verb.name, flag.names[0]));
            }
        }
        if verb.wants_word && !calls.iter().any(|call| call.words.len() == verb.name.split(' ').count()) {
            missing.push(format!("{} without a word", verb.name));
        }
    }
    let all: Vec<&Typed> = typed.iter().collect();
    let globals = tree.globals.iter().filter(|flag| !is_typed(flag, &all));
    missing.extend(globals.map(|flag| flag.names[0].clone()));
    assert!(missing.is_empty(), "{} have no case:\n{}", missing.len(), missing.join("\n"));
}

/// All that a call may be the verb of: one word, or two.
fn names(call: &Typed) -> impl Iterator<Item = String> {
    let words: Vec<&str> = call.verbs().collect();
    words.first().map(|word| (*word).to_owned()).into_iter().chain(Some(words.join(" ")))
}

fn is_of(call: &Typed, verb: &Verb) -> bool {
    names(call).any(|name| verb.names().any(|it| it == name))
}

fn is_typed(flag: &Flag, calls: &[&Typed]) -> bool {
    calls.iter().any(|call| call.options().any(|option| flag.names.iter().any(|name| name == option)))
}

/// The options of a verb that other tests see to.
fn elsewhere(verb: &str) -> BTreeSet<&'static str> {
    let rows = ELSEWHERE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let fields = rows.map(|row| row.split('\t').collect::<Vec<_>>());
    let of_verb = fields.filter(|fields| fields[0].split(',').any(|it| it == verb));
    of_verb.flat_map(|fields| fields[1].split(' ')).collect()
}

#[test]
fn what_is_seen_to_elsewhere_is_there() {
    let tests = places::fixture("").parent().expect("the package has a folder").join("tests");
    // A copy that runs as another user has no sources beside it.
    if !tests.is_dir() {
        return;
    }
    for row in ELSEWHERE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [_verbs, _options, file, function] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four fields: {row}")
        };
        let text = std::fs::read_to_string(tests.join(file)).expect(file);
        assert!(text.contains(&format!("fn {function}(")) || CASES.contains(&function), "{row}");
    }
}

/// Workers of other users, which only root can start.
#[test]
fn workers_run_as_others() {
    if !procs::is_root() {
        return println!("skipped: only root can start workers of others");
    }
    let home = Home::new();
    let script = home.write("idle.sh", "exec sleep 600\n");
    let ways: [&[&str]; 4] = [
        &["--user", "nobody", "--gid", "nogroup"],
        &["-u", "nobody"],
        &["--uid", "65534"],
        &["--gid", "65534"],
    ];
    for (at, way) in ways.into_iter().enumerate() {
        let name = format!("app-{at}");
        home.ok(&[&["start", &script, "-i", "1", "--min-uptime", "50ms", "--cwd", "/", "-n", &name], way]
            .concat());
        let pid = home.pids(&name)[0];
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let (user, group) = if way.len() == 2 && way[0] == "--gid" { (0, 65534) } else { (65534, 65534) };
        assert!(status.contains(&format!("Uid:\t{user}\t{user}")), "{way:?}: {status}");
        assert!(status.contains(&format!("Gid:\t{group}\t{group}")), "{way:?}: {status}");
    }
}

/// Values may begin with `-` there.
const TAKES_ANY_WORD: [&str; 1] = ["multiset"];

/// Help of each verb names its options; one that nobody knows is refused, and nothing is started.
#[test]
fn every_verb_has_help_and_refuses_what_it_does_not_know() {
    let pm2 = Pm2::new();
    let tree = Tree::of(pm2.home());
    for verb in tree.verbs.iter().filter(|verb| !verb.hidden && !TAKES_ANY_WORD.contains(&verb.name.as_str()))
    {
        let words = |more: &'static str| verb.name.split(' ').chain([more]).collect::<Vec<_>>();
        let help = pm2.home().ok(&words("--help"));
        assert!(help.contains(&format!("Usage: oxherd {} ", verb.name)) || verb.flags.is_empty(), "{help}");
        for flag in verb.flags.iter().filter(|flag| !flag.hidden) {
            assert!(help.contains(&flag.names[0]), "{}: {flag:?}: {help}", verb.name);
        }
        for (program, prefix, code) in
            [(places::oxherd(), "oxherd: ", 2), (pm2.link().to_owned(), "[PM2][ERROR] ", 1)]
        {
            let output = pm2.called(&program, &words("--no-such-thing")).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let wanted = format!("{prefix}unexpected argument '--no-such-thing' found");
            assert!(said.starts_with(&wanted) && said.lines().count() == 1, "{}: {said}", verb.name);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{}", verb.name);
        }
    }
    assert!(!pm2.home().path().exists(), "no daemon was started");
}

/// Each is refused with code 1 and a way out, and nothing is started by it.
#[test]
fn what_is_not_offered_says_so() {
    let pm2 = Pm2::new();
    let tree = Tree::of(pm2.home());
    let refused = |args: &[&str]| {
        for (program, prefix) in [(pm2.link().to_owned(), "[PM2][ERROR] "), (places::oxherd(), "oxherd: ")] {
            let output = pm2.called(&program, args).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            assert!(said.starts_with(&format!("{prefix}not offered: ")), "{args:?}: {said}");
            assert!(said.trim_end().ends_with("see docs/from-pm2.md") && said.lines().count() == 1, "{said}");
            assert!(output.stdout.is_empty());
        }
    };
    tree.refused_verbs.iter().for_each(|verb| refused(&[verb, "web"]));
    tree.refused_flags.iter().for_each(|flag| refused(&["start", "web.js", flag]));
    // PM2 takes all its options with every verb.
    refused(&["stop", "web", "--name", "x"]);
    refused(&["ls", "--watch-delay", "3"]);
    assert!(!pm2.home().path().exists(), "no daemon was started");
}
