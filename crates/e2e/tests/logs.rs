//! What workers write: whole lines, in order, none lost without being counted, and nobody held up.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oxherd_e2e::told::on_paper;
use oxherd_e2e::{Home, eventually, eventually_within, procs};
use rustix::process::Signal;

/// Long waits, for machines that are busy with other things.
const LONG: Duration = Duration::from_secs(60);

fn start(home: &Home, script: &str, instances: &str) {
    let script = home.write("talk.sh", script);
    home.ok(&["start", &script, "-i", instances, "--restart", "never", "--min-uptime", "10ms"]);
}

fn out_file(home: &Home) -> PathBuf {
    home.path().join("logs/talk-out.log")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// How many lines a text says were lost.
fn told_lost(text: &str) -> u64 {
    let counts = text
        .lines()
        .filter_map(|line| line.strip_prefix("[oxherd] ")?.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn count(home: &Home, figure: &str) -> u64 {
    home.herd()["apps"][0][figure].as_u64().expect("a number")
}

#[test]
fn lines_of_two_writers_stay_whole_and_in_order() {
    const LINES: u64 = 20_000;
    let home = Home::new();
    // Written in blocks: most of them end within a line.
    let script = "awk -v who=$OXHERD_SLOT 'BEGIN {
        for (i = 0; i < 200; i++) pad = pad \"x\"
        for (i = 1; i <= 20000; i++) print who, i, pad, \"end\"
    }'; sleep 600";
    start(&home, script, "2");
    let (kept, lost) = eventually_within(LONG, "all lines", || {
        let text = read(&out_file(&home));
        let lost = told_lost(&text);
        let lines = text.lines().count() - text.lines().filter(|line| line.starts_with('[')).count();
        (lines as u64 + lost == 2 * LINES).then_some((lines, lost))
    });
    println!("{kept} lines, {lost} lost and counted");
    assert_eq!(count(&home, "dropped_lines"), lost);
    let pad = "x".repeat(200);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in read(&out_file(&home)).lines().filter(|line| !line.starts_with('[')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [who, number, padding, "end"] = words[..] else { panic!("a torn line: {line}") };
        assert_eq!(padding, pad);
        let number = number.parse().expect("a number");
        let before = last.insert(who.to_owned(), number).unwrap_or(0);
        assert!(number > before && (number == before + 1 || lost > 0), "{who}: {number} after {before}");
    }
    assert_eq!(last.len(), 2);
}

#[test]
fn long_lines_stay_whole_and_a_last_one_gets_its_end() {
    let home = Home::new();
    // It ends by itself, and must not do so before it counts as started.
    let wait = "until [ -e \"$0.go\" ]; do sleep 0.01; done";
    let speak = "head -c 200000 /dev/zero | tr '\\0' x; echo y; echo short; printf 'no end'";
    start(&home, &format!("{wait}; {speak}"), "1");
    home.write("talk.sh.go", "");
    let text =
        eventually("the last line", || Some(read(&out_file(&home))).filter(|text| text.contains("no end\n")));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[lines.len() - 2..], ["short", "no end"]);
    assert_eq!(lines[..lines.len() - 2], ["x".repeat(200_000) + "y"]);
    assert_eq!(count(&home, "dropped_lines"), 0);
}

/// Numbered lines, as fast as a shell writes.
const COUNTING: &str = "i=0; while :; do i=$((i+1)); echo \"line $i of many\"; done";

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("line ")?.strip_suffix(" of many")?.parse().ok()
}

fn last_number(path: &Path) -> Option<u64> {
    read(path).lines().rev().find_map(number)
}

#[test]
fn a_killed_daemon_loses_at_most_what_it_had_in_hand() {
    const KILLS: usize = 5;
    // What a daemon reads of one worker before it turns to others.
    const IN_HAND_BYTES: u64 = 256 << 10;
    let home = Home::new();
    start(&home, COUNTING, "1");
    for _ in 0..KILLS {
        let before = eventually("lines", || last_number(&out_file(&home)));
        let (_, starts) = home.kill_daemon();
        eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
        eventually("more lines", || last_number(&out_file(&home)).filter(|now| *now > before + 100));
    }
    home.ok(&["stop", "talk"]);
    let logs = fs::read_dir(home.path().join("logs")).expect("it is there");
    assert_eq!(logs.count(), 1, "every daemon knows whose lines these are");
    let text = read(&out_file(&home));
    let (mut torn, mut missing, mut doubled, mut last) = (0, 0, 0, 0);
    let counted = told_lost(&text);
    for line in text.lines().filter(|line| !line.starts_with("[oxherd] ")) {
        match number(line) {
            None => torn += 1,
            Some(number) if number <= last => doubled += 1,
            Some(number) => {
                missing += number - last - 1;
                last = number;
            }
        }
    }
    println!(
        "{KILLS} kills, {last} lines: {missing} missing ({counted} counted), {doubled} doubled, {torn} torn"
    );
    let in_hand = IN_HAND_BYTES / "line 100 of many\n".len() as u64;
    assert!(missing - counted <= KILLS as u64 * in_hand, "{missing}");
    assert_eq!(doubled, 0);
    assert!(torn <= KILLS, "the one line that a read had begun");
}

#[test]
fn a_disk_that_takes_nothing_holds_up_no_worker_and_takes_no_memory() {
    const MEGABYTES: u64 = 200;
    let home = Home::new();
    let idle = home.write("idle.sh", "while :; do sleep 1; done\n");
    home.ok(&["start", &idle, "-i", "1", "--min-uptime", "10ms"]);
    let made = Command::new("mkfifo").arg(out_file(&home)).status().expect("it runs");
    assert!(made.success());
    let (daemon, _, _) = home.ping().expect("it serves");
    let before = procs::resident_bytes(daemon);
    let done = home.surroundings().join("done");
    let script = format!(
        "line=$(printf '%999s' x); yes \"$line\" | head -c {MEGABYTES}000000; echo > {}; sleep 600",
        done.display()
    );
    start(&home, &script, "1");
    eventually_within(LONG, "a worker that has written everything", || done.exists().then_some(()));
    let (now, peak) = (procs::resident_bytes(daemon), procs::peak_bytes(daemon));
    let apps = home.herd()["apps"].clone();
    let lost = apps
        .as_array()
        .expect("a list")
        .iter()
        .find(|app| app["name"] == "talk")
        .expect("it is there")["dropped_lines"]
        .as_u64()
        .expect("a number");
    println!(
        "{MEGABYTES} MB into a disk that takes nothing: {lost} lines lost; VmRSS {} KiB before, {} KiB after, VmHWM {} KiB",
        before >> 10,
        now >> 10,
        peak >> 10
    );
    assert!(peak < before + (8 << 20), "the daemon's memory is bounded");
    let lines = MEGABYTES * 1_000_000 / 1000;
    assert!(lost > lines * 9 / 10, "{lost}");
    // The disk is there again, and is told what it has missed.
    let path = out_file(&home);
    let reader = std::thread::spawn(move || {
        let file = fs::File::open(path).expect("it is ours");
        BufReader::new(file).lines().map_while(Result::ok).find(|line| line.starts_with("[oxherd] "))
    });
    home.ok(&["restart", "talk"]);
    let told = reader.join().expect("it does not panic").expect("it is told");
    println!("{told}");
    assert!(told.ends_with(" lines lost: the disk was too slow"), "{told}");
}

/// `oxherd logs` that follows.
struct Reader(Child, BufReader<std::process::ChildStdout>);

impl Reader {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(&[&["logs"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let stdout = child.stdout.take().expect("it is piped");
        Self(child, BufReader::new(stdout))
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("it can be read");
        line.trim_end().to_owned()
    }

    /// What comes next, which must be this: it need not end a line.
    fn expect(&mut self, text: &str) {
        let mut read = vec![0; text.len()];
        self.1.read_exact(&mut read).expect("it can be read");
        assert_eq!(String::from_utf8_lossy(&read), text);
    }

    fn errors(mut self) -> String {
        procs::kill(self.0.id(), Signal::INT);
        let status = eventually("its end", || self.0.try_wait().expect("it is our child"));
        assert_eq!(status.code(), Some(0));
        let mut text = String::new();
        self.0.stderr.take().expect("it is piped").read_to_string(&mut text).expect("it is text");
        text
    }
}

#[test]
fn logs_follow_beyond_the_daemons_death_and_a_file_that_is_moved() {
    let home = Home::new();
    start(&home, "i=0; while :; do i=$((i+1)); echo \"line $i of many\"; sleep 0.005; done", "1");
    let mut reader = Reader::start(&home, &["talk", "--raw", "--lines", "3"]);
    let mut last = number(&reader.next()).expect("a line");
    let mut follow = |reader: &mut Reader, lines: u32| {
        for _ in 0..lines {
            let next = number(&reader.next()).expect("a whole line");
            assert_eq!(next, last + 1, "none is missing, none comes twice");
            last = next;
        }
        last
    };
    follow(&mut reader, 20);
    let old = home.path().join("old.log");
    fs::rename(out_file(&home), &old).expect("it is ours");
    let moved_at = follow(&mut reader, 20);
    // Written to a new file within a second or so, and the old one ends with a whole line.
    eventually("a new file", || last_number(&out_file(&home)));
    let first_of_new = read(&out_file(&home)).lines().find_map(number).expect("a line");
    assert_eq!(last_number(&old), Some(first_of_new - 1), "no line is lost in between");
    assert!(first_of_new > moved_at.saturating_sub(1000));

    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
    let now = eventually("more lines", || last_number(&out_file(&home)));
    let after = eventually("lines of the new daemon", || number(&reader.next()).filter(|after| *after > now));
    println!("line {after} is read from the daemon after the one that was killed");
    assert_eq!(
        reader.errors(),
        "oxherd: the daemon has ended: looking for it again (what is written meanwhile is in the files)\n"
    );
}

#[test]
fn files_that_logrotate_moves_are_opened_anew_when_it_says_so() {
    let home = Home::new();
    start(&home, "i=0; while :; do i=$((i+1)); echo \"line $i of many\"; sleep 0.002; done", "1");
    let mut reader = Reader::start(&home, &["talk", "--raw", "--lines", "1"]);
    let mut last = number(&reader.next()).expect("a line");
    let mut files = Vec::new();
    for turn in 0..6 {
        eventually("lines", || last_number(&out_file(&home)));
        let old = home.path().join(format!("old-{turn}.log"));
        fs::rename(out_file(&home), &old).expect("it is ours");
        files.push(old);
        if turn % 2 == 0 {
            home.ok(&["reloadLogs"]);
        } else {
            // As its script does it, to whom the file of the pid names.
            let text = fs::read_to_string(home.path().join("oxherd.pid")).expect("it is there");
            procs::kill(text.trim().parse().expect("a pid"), Signal::USR2);
        }
        for _ in 0..20 {
            let next = number(&reader.next()).expect("a whole line");
            assert_eq!(next, last + 1, "followers notice nothing");
            last = next;
        }
    }
    assert_eq!(reader.errors(), "");
    home.ok(&["stop", "talk"]);
    files.push(out_file(&home));
    let numbers: Vec<u64> =
        files.iter().flat_map(|file| read(file).lines().map(number).collect::<Vec<_>>()).flatten().collect();
    assert!(
        numbers.iter().copied().eq(1..=numbers.len() as u64),
        "none is lost, none torn, none comes twice"
    );
    assert!(numbers.len() as u64 >= last);
    // Nobody writes: nothing is opened either, until somebody does.
    fs::rename(out_file(&home), home.path().join("old.log")).expect("it is ours");
    home.ok(&["reloadLogs"]);
    assert!(!out_file(&home).exists());
    home.ok(&["restart", "talk"]);
    eventually("a new file", || read(&out_file(&home)).starts_with("line 1 of many\n").then_some(()));
}

/// Asks, and does not go on before it is answered: by files.
const ASKING: &str = "
answered() { until [ -e \"$0.$1\" ]; do sleep 0.01; done; }
printf 'name? '; answered 1; echo Ada
printf 'age? '; answered 2; echo 36
printf 'bye'; answered 3; echo ' bye'; sleep 600";

#[test]
fn a_prompt_is_seen_before_it_is_answered_and_its_line_goes_on() {
    let home = Home::new();
    start(&home, ASKING, "1");
    let answer = |number: u32| home.write(&format!("talk.sh.{number}"), "");
    let becomes = |text: &str| eventually(text, || (read(&out_file(&home)) == text).then_some(()));
    becomes("name? ");
    let mut reader = Reader::start(&home, &["talk"]);
    reader.expect("talk | name? ");
    answer(1);
    reader.expect("Ada\ntalk:0 | age? ");
    assert_eq!(reader.errors(), "");
    becomes("name? Ada\nage? ");
    assert_eq!(home.ok(&["logs", "--no-follow", "--lines", "1", "--raw"]), "age? \n");
    // The next daemon knows whose line that is.
    let (_, starts) = home.kill_daemon();
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
    answer(2);
    eventually("the answer", || read(&out_file(&home)).starts_with("name? Ada\nage? 36\n").then_some(()));
    // What was read and not handed on yet does not end with its daemon.
    home.ok(&["upgrade"]);
    answer(3);
    becomes("name? Ada\nage? 36\nbye bye\n");
    assert_eq!(count(&home, "dropped_lines"), 0);
}

/// Numbered lines: slowly, each in three writes and a character in two of them; and as fast as a shell writes.
const COUNTING_TWICE: &str = "
i=0; while :; do i=$((i+1)); echo \"line $i of many\"; done >&2 &
i=0; while :; do i=$((i+1)); printf \"line $i \\342\"; sleep 0.003; printf '\\202'; sleep 0.003; printf '\\254\\n'; done";

#[test]
fn an_upgrade_loses_no_line() {
    let home = Home::new();
    start(&home, COUNTING_TWICE, "1");
    let lines = || read(&out_file(&home)).lines().count();
    for _ in 0..4 {
        let before = lines();
        eventually("more lines", || (lines() > before + 20).then_some(()));
        home.ok(&["upgrade"]);
    }
    home.ok(&["stop", "talk"]);
    home.ok(&["kill"]);
    let slow = read(&out_file(&home));
    for (index, line) in slow.lines().enumerate() {
        let is_last = index + 1 == slow.lines().count();
        assert!(is_last || line == format!("line {} \u{20ac}", index + 1), "line {}: {line:?}", index + 1);
    }
    let fast = read(&home.path().join("logs/talk-error.log"));
    let numbers = || fast.lines().filter_map(number);
    assert_eq!(
        numbers().max(),
        Some(numbers().count() as u64 + told_lost(&fast)),
        "all are there or counted"
    );
}

/// The first one asks, and the others write a line.
const ASKING_BESIDE: &str = "
if [ $OXHERD_SLOT = 0 ]; then printf 'name? '; else echo whole; fi
sleep 600";

#[test]
fn what_one_has_begun_is_no_beginning_of_anothers_line() {
    let home = Home::new();
    let script = home.write("talk.sh", ASKING_BESIDE);
    home.ok(&["start", &script, "-i", "1", "--restart", "never", "--log-date-format", "[D]"]);
    let becomes = |text: &str| eventually(text, || (read(&out_file(&home)) == text).then_some(()));
    becomes("D: name? ");
    home.ok(&["scale", "talk", "2"]);
    becomes("D: name? \nD: whole\n");
    home.ok(&["upgrade"]);
    home.ok(&["stop", "talk"]);
    home.ok(&["kill"]);
    assert_eq!(read(&out_file(&home)), "D: name? \nD: whole\n", "that it has ended is no line");
}

#[test]
fn logs_show_what_is_asked_for() {
    let home = Home::new();
    start(&home, "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; echo last; sleep 600", "1");
    eventually("all lines", || {
        let error = read(&home.path().join("logs/talk-error.log"));
        (read(&out_file(&home)).contains("last") && error.contains("err 5")).then_some(())
    });
    let told = |args: &[&str]| {
        let output = home.run(&[&["logs", "--no-follow"], args].concat());
        on_paper(&home, &output)
    };
    assert_eq!(told(&["--lines", "2"]), "talk | out 5\ntalk | last\ntalk ! err 4\ntalk ! err 5\n[0]\n");
    assert_eq!(told(&["talk", "--lines", "1", "--out"]), "talk | last\n[0]\n");
    assert_eq!(told(&["0", "--lines", "1", "--err"]), "talk ! err 5\n[0]\n");
    assert_eq!(told(&["all", "--lines", "1", "--raw"]), "last\nerr 5\n[0]\n");
    assert_eq!(told(&["--lines", "0"]), "[0]\n");
    assert_eq!(told(&["--lines", "100", "--out", "--raw"]), "out 1\nout 2\nout 3\nout 4\nout 5\nlast\n[0]\n");
    assert_eq!(
        told(&["--lines", "many"]),
        "! oxherd: invalid value 'many' for '--lines <N>': invalid digit found in string\n[2]\n"
    );
    home.ok(&["delete", "talk"]);
    assert_eq!(told(&[]), "[0]\n");
}

#[test]
fn logs_into_a_pipe_that_is_closed_end_cleanly() {
    let home = Home::new();
    start(&home, COUNTING, "1");
    for follow in [&["--no-follow"][..], &[]] {
        let mut reader = Reader::start(&home, &[&["--lines", "100"], follow].concat());
        assert!(reader.next().starts_with("talk"));
        let Reader(mut child, stdout) = reader;
        drop(stdout);
        let status = eventually("its end", || child.try_wait().expect("it is our child"));
        let mut text = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut text).expect("it is text");
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(text.is_empty() || text.contains(" lines were not read fast enough"), "{text}");
    }
}
