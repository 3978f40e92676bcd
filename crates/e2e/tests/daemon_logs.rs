//! The daemon dies while log files are rotated as logrotate does it: renamed, then asked to be opened anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oxherd_e2e::deaths::replace;
use oxherd_e2e::{Chance, Home, eventually, http, places, turn};

/// What a pipe holds at most, and so what the daemon finds in it when it begins to read.
const READ_BYTES_MAX: u64 = 64 << 10;

/// All lines that were written, the oldest file first.
struct Written {
    numbers: Vec<u64>,
    /// What is no whole line of the worker's.
    torn: Vec<String>,
    /// How many the worker says it has written.
    total: u64,
}

impl Written {
    fn read(files: &[PathBuf]) -> Self {
        let mut written = Self { numbers: Vec::new(), torn: Vec::new(), total: 0 };
        let text: Vec<String> = files.iter().map(|file| fs::read_to_string(file).expect("text")).collect();
        for line in text.iter().flat_map(|text| text.lines()) {
            let number = line.strip_prefix("line ").and_then(|rest| rest.strip_suffix(REST)?.parse().ok());
            let total = line.strip_suffix(" lines in all").and_then(|number| number.parse().ok());
            match (number, total) {
                (Some(number), _) => written.numbers.push(number),
                (None, Some(total)) => written.total = total,
                (None, None) => written.torn.push(line.to_owned()),
            }
        }
        written
    }
}

const REST: &str = " of a worker that never stops counting";

fn has_grown(file: &Path, by: u64) {
    let length = || fs::metadata(file).map_or(0, |metadata| metadata.len());
    let before = length();
    eventually("more lines", || (length() >= before + by).then_some(()));
}

#[test]
fn while_logs_are_rotated() {
    let _turn = turn::alone();
    let home = Home::new();
    let mut chance = Chance::seeded();
    let script = places::fixture("counting.js");
    home.ok(&["start", script.to_str().expect("a plain path"), "--name", "web", "-i", "1"]);
    let current = home.path().join("logs/web-out.log");
    let mut files = Vec::new();
    let mut deaths = 0;
    let reopen = || http::try_once(&home.api(), "POST", "/v1/logs/reopen", "", b"");
    for rotation in 0..8 {
        has_grown(&current, 1000 + chance.below(20_000));
        let old = current.with_extension(format!("log.{rotation}"));
        fs::rename(&current, &old).expect("the file is there");
        files.push(old);
        match rotation % 4 {
            // Between the renaming and the asking.
            0 => replace(&home),
            // Right after it was asked.
            1 => {
                assert_eq!(reopen().map(|answer| answer.status), Ok(204));
                replace(&home);
            }
            // Asked, and killed without waiting for the answer.
            2 => {
                let mut client = http::Client::connect(&home.api()).expect("a daemon");
                client.send("POST", "/v1/logs/reopen", "", b"").expect("it reads");
                replace(&home);
            }
            // As it goes without a death.
            _ => assert_eq!(reopen().map(|answer| answer.status), Ok(204)),
        }
        deaths += u64::from(rotation % 4 != 3);
        eventually("a new file", || current.exists().then_some(()));
    }
    has_grown(&current, 1000);
    home.ok(&["stop", "web"]);
    files.push(current);
    let written = Written::read(&files);
    let numbers: BTreeSet<u64> = written.numbers.iter().copied().collect();
    let lost: Vec<u64> = (0..written.total).filter(|number| !numbers.contains(number)).collect();
    let bytes: u64 = lost.iter().map(|number| format!("line {number}{REST}\n").len() as u64).sum();
    println!(
        "rotation: {} lines, {deaths} deaths, {} lines ({bytes} bytes) lost, {} torn",
        written.total,
        lost.len(),
        written.torn.len()
    );
    assert!(
        written.total > 0 && written.numbers.is_sorted_by(|one, next| one < next),
        "lines in their order"
    );
    assert!(bytes <= deaths * READ_BYTES_MAX, "{lost:?}");
    // The rest of a line whose beginning a dead daemon had read.
    let torn =
        written.torn.iter().all(|rest| lost.iter().any(|it| format!("line {it}{REST}").ends_with(rest)));
    assert!(torn && written.torn.len() as u64 <= deaths, "{:?}", written.torn);
}
