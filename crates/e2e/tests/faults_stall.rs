//! A worker that stops reading its channel gets no connections, and costs no more than a bounded memory.

use std::time::Duration;

use oxherd_e2e::http::Client;
use oxherd_e2e::{DEADLINE, Herd, Load, Mark, WorkerLine, http, procs, turn, workers};
use rustix::process::Signal;

const MIB: u64 = 1 << 20;
const STOPPED: &str = "stopped reading its channel and gets no connections";
const GOES_ON: &str = "reads its channel again";

/// A worker that lies still under load: others take over, and it comes back.
#[test]
fn a_stopped_worker_is_withdrawn_and_comes_back() {
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(3).start();
    let address = herd.address();
    let before = herd.wait_count(3);
    let load = Load::short(&address, "/", 6);
    load.wait_more(100);
    let (victim, mark) = (before[1], herd.mark());
    procs::kill(victim, Signal::STOP);
    let (line, mark) = herd.wait_text(mark, STOPPED);
    assert!(line.is_error && line.text.contains(&format!("(slot 1, pid {victim})")), "{}", line.text);
    load.wait_more(200);
    procs::kill(victim, Signal::CONT);
    herd.wait_text(mark, GOES_ON);
    load.wait_more(600);
    let tally = load.stop();
    println!("one of three stopped: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    // What the stopped one had picked up waited for it; all else went to others at once.
    assert!(tally.slower_than(Duration::from_secs(1)) <= 2, "{tally}");
    let late = Load::short(&address, "/", 6);
    late.wait_more(300);
    let late = late.stop();
    assert!(late.by_pid.contains_key(&victim), "it serves again: {late}");
    assert_eq!(herd.wait_count(3), before, "nobody was replaced");
    herd.stop();
}

/// A worker that is busy for ever: others serve, and a reload gets rid of it.
#[test]
fn a_worker_that_never_reads_again_is_withdrawn_and_replaced() {
    let args = ["--drain-timeout", "500ms"];
    let herd = Herd::of("faults/holder.js").workers(2).args(args).start();
    let address = herd.address();
    herd.wait_count(2);
    let mut client = Client::connect(&address).expect("it is let in");
    client.send("GET", "/busy?ms=3600000", "", b"").expect("it is sent");
    herd.wait_text(Mark::START, "is busy");
    let load = Load::short(&address, "/", 2);
    let (line, _) = herd.wait_text(Mark::START, STOPPED);
    let blocked = WorkerLine::parse(&line).expect("it is about a worker").pid;
    load.wait_more(100);
    herd.reload();
    assert!(procs::wait_gone(blocked, DEADLINE));
    load.wait_more(100);
    let tally = load.stop();
    println!("one of two busy for ever, and a reload: {tally}");
    assert_eq!((tally.failed(), tally.by_pid.contains_key(&blocked)), (0, false), "{tally}");
    assert_eq!(herd.pids_that_answer(&address, 2).len(), 2);
    herd.stop();
}

/// Nobody reads: the memory that messages may take is bounded, and what is dropped is told.
#[test]
fn a_flood_for_a_stopped_worker_is_bounded() {
    const FLOOD_MIB: u64 = 160;
    let herd = Herd::of("faults/flood.js")
        .workers(3)
        .env("FLOOD_MIB", FLOOD_MIB.to_string())
        .env("FLOOD_TARGET", "2")
        .start();
    let address = herd.address();
    herd.wait_count(3);
    let pids = herd.serving();
    let by_worker = workers::of(&herd.lines());
    let target = by_worker.iter().find(|it| it.worker == 2).expect("there is a second").pid;
    let source = *pids.values().find(|pid| **pid != target).expect("there are others");
    procs::kill(target, Signal::STOP);
    procs::kill(source, Signal::USR2);
    herd.wait_text(Mark::START, "reports an error: all is sent");
    let peak = procs::peak_bytes(herd.pid());
    println!("{FLOOD_MIB} MiB for a worker that does not read: the primary's peak is {} MiB", peak / MIB);
    assert!(peak < 48 * MIB, "{peak}");
    // The flooded one apart, everybody is well.
    assert_eq!(herd.pids_that_answer(&address, 2).len(), 2);

    procs::kill(target, Signal::CONT);
    herd.wait_text(Mark::START, "the flood arrives");
    let (line, _) = herd.wait_text(Mark::START, "dropped");
    assert!(line.is_error && line.text.starts_with("Worker 2 (slot "), "{}", line.text);
    let answers = herd.pids_that_answer(&address, 3);
    assert!(answers.contains(&target));
    let dropped: u64 =
        line.text.split(' ').find_map(|word| word.parse().ok().filter(|n| *n > 2)).expect("a count");
    let got = loop {
        let body = http::get(&address, "/").json();
        if body["pid"].as_u64() == Some(u64::from(target)) {
            break body["got"].as_u64().expect("it counts");
        }
    };
    println!("{got} arrived, {dropped} were dropped");
    assert_eq!(got + dropped, FLOOD_MIB * 16);
    herd.stop();
}
