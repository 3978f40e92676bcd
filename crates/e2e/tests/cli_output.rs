//! What a run prints: where, in which shape, in which colours.

use std::time::Duration;

use oxherd_e2e::{DEADLINE, Herd, Line, Mark, http};

/// The lines of the first report after `mark`: the head, the app's figures, the table.
fn report(herd: &Herd) -> Vec<String> {
    let is_head = |line: &Line| line.is_of_primary() && line.text.starts_with("Report after ");
    let (head, mark) = herd.wait_line(Mark::START, DEADLINE, "a report", is_head);
    assert!(!head.is_error);
    let (_, after_names) = herd.wait_text(mark, "slot  worker");
    herd.wait_line(after_names, DEADLINE, "the second row", |line| line.text.starts_with("     1 "));
    let lines = herd.since(mark);
    let own = lines.into_iter().filter(Line::is_of_primary).map(|line| line.text);
    [head.text].into_iter().chain(own.take(4)).collect()
}

#[test]
fn the_status_report_is_a_table() {
    let herd = Herd::of("app.js").workers(2).args(["--status-interval", "1500ms"]).start();
    let address = herd.address();
    let pids = herd.pids_that_answer(&address, 2);
    let report = report(&herd);
    println!("{}", report.join("\n"));
    assert!(report[0].starts_with("Report after 1.") && report[0].ends_with(" MiB"), "{}", report[0]);
    assert!(report[0].contains(": the primary uses "), "{}", report[0]);
    let figures = "app: 2 active workers, 0 requests, 0 errors, error rate 0.00 %, ";
    assert!(
        report[1].starts_with(figures) && report[1].ends_with(" connections handed over"),
        "{}",
        report[1]
    );
    let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        words(&report[2]),
        ["slot", "worker", "pid", "status", "requests", "connections", "handed", "over", "uptime", "memory"]
    );
    for (slot, row) in report[3..].iter().enumerate() {
        let row = words(row);
        assert_eq!((row[0].as_str(), row[3].as_str()), (slot.to_string().as_str(), "online"));
        assert!(pids.iter().any(|pid| pid.to_string() == row[2]), "{row:?}");
        // Neither requests nor connections are reported by this program.
        assert_eq!((row[4].as_str(), row[5].as_str()), ("-", "-"));
        assert_eq!(row.last().map(String::as_str), Some("MiB"));
    }
    herd.stop();
}

#[test]
fn no_report_when_none_is_wanted() {
    let herd = Herd::of("app.js").workers(1).args(["--status-interval", "0"]).start();
    http::get(&herd.address(), "/slow?ms=300");
    let lines = herd.stop();
    assert!(!lines.iter().any(|line| line.text.starts_with("Report")));
}

const ESCAPE: char = '\x1b';

#[test]
fn colours_are_for_terminals() {
    let coloured = |lines: &[Line]| lines.iter().any(|line| line.text.contains(ESCAPE));
    // A pipe.
    let herd = Herd::of("app.js").workers(1).start();
    herd.wait_serving();
    assert!(!coloured(&herd.stop()));
    // A terminal, with and without.
    for (no_color, wanted) in [("", true), ("1", false)] {
        let start = Herd::of("app.js").workers(1).env("NO_COLOR", no_color).env("TERM", "xterm");
        let (herd, _terminal) = start.start_on_terminal();
        herd.wait_text(Mark::START, "1 worker serves ");
        assert_eq!(coloured(&herd.stop()), wanted, "NO_COLOR={no_color}");
    }
}

#[test]
fn lines_of_workers_keep_their_stream_and_carry_their_slot() {
    let folder = oxherd_e2e::places::Folder::new();
    let text = "echo out\necho err >&2\nprintf 'no end'\nwhile :; do sleep 0.05; done\n";
    let herd = Herd::run(["-i", "1", "--min-uptime", "100ms"], folder.write("talk.sh", text)).start();
    let said =
        |text: &str| herd.wait_line(Mark::START, Duration::from_secs(20), text, |line| line.text == text).0;
    let (out, err) = (said("out"), said("err"));
    assert_eq!((out.who.as_str(), out.is_error), ("slot 0", false));
    assert_eq!((err.who.as_str(), err.is_error), ("slot 0", true));
    herd.wait_count(1);
    let lines = herd.stop();
    assert!(
        lines.iter().any(|line| line.is_of_worker() && line.text == "no end"),
        "its last line has no end"
    );
}
