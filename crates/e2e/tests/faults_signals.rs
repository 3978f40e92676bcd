//! Signals to the primary, terminals that go away, readers that stop reading, and the primary's own death.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use oxherd_e2e::http::{self, Client};
use oxherd_e2e::places::{self, Folder};
use oxherd_e2e::terminal::{CTRL_C, CTRL_Q, CTRL_S};
use oxherd_e2e::{Address, Event, Herd, Load, Mark, eventually, procs, turn, workers};
use rustix::process::Signal;

#[test]
fn a_stop_under_load_serves_whoever_was_let_in() {
    let _turn = turn::alone();
    for signal in [Signal::TERM, Signal::INT] {
        let mut herd = Herd::of("app.js").workers(2).start();
        let address = herd.address();
        let load = Load::short(&address, "/", 8);
        load.wait_more(500);
        herd.signal(signal);
        herd.wait_code(0);
        let tally = load.stop();
        println!("{signal:?} under load: {tally}");
        // Whoever came when it was closed was refused, and knows it.
        assert_eq!(tally.failed() - tally.refused, 0, "{signal:?}: {tally}");
    }
}

#[test]
fn who_waits_in_the_queue_at_a_stop_is_served() {
    const WAITING: usize = 60;
    let herd = Herd::of("faults/holder.js").workers(2).start();
    let address = herd.address();
    let send = |path: &str| {
        let mut client = Client::connect(&address).expect("the kernel's queue takes it");
        client.send("GET", path, "Connection: close\r\n", b"").expect("the kernel takes it");
        client
    };
    let mut mark = Mark::START;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(send("/busy?ms=700"));
        mark = herd.wait_text(mark, "is busy").1;
    }
    clients.extend((0..WAITING).map(|_| send("/")));
    herd.signal(Signal::TERM);
    herd.wait_text(mark, "Stopping");
    for mut client in clients {
        assert_eq!(client.receive("GET").expect("everybody is answered").status, 200);
    }
    let mut herd = herd;
    herd.wait_code(0);
}

/// A request that is answered only on demand keeps a worker from ending.
fn with_a_request_held() -> (Herd, Client) {
    let herd = Herd::of("faults/holder.js").workers(2).start();
    let mut client = Client::connect(&herd.address()).expect("it is let in");
    client.send("GET", "/hold", "Connection: close\r\n", b"").expect("it is sent");
    herd.wait_text(Mark::START, "holds one");
    (herd, client)
}

#[test]
fn a_request_in_hand_is_finished_before_the_end() {
    let (mut herd, mut client) = with_a_request_held();
    herd.signal(Signal::TERM);
    // The other worker has nothing in hand and leaves at once.
    herd.wait_event(Mark::START, Event::Ended);
    for pid in herd.processes() {
        if pid != herd.pid() {
            procs::kill(pid, Signal::USR2);
        }
    }
    assert_eq!(client.receive("GET").expect("it is answered").status, 200);
    herd.wait_code(0);
}

#[test]
fn a_second_signal_kills() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let (mut herd, mut client) = with_a_request_held();
        herd.signal(first);
        herd.wait_text(Mark::START, "Stopping");
        let again = Instant::now();
        herd.signal(second);
        let lines = herd.wait_code(1);
        assert!(again.elapsed() < Duration::from_secs(3), "{:?}", again.elapsed());
        assert!(client.receive("GET").is_err());
        let last = lines.iter().rfind(|line| line.is_error).expect("it says so");
        assert!(last.text.starts_with("Killed on request: "), "{}", last.text);
    }
}

#[test]
fn scaling_stops_at_one() {
    let herd = Herd::of("app.js").workers(1).start();
    let address = herd.address();
    herd.signal(Signal::TTOU);
    // Signals that wait together are not taken in their order.
    eventually("it is taken", || (procs::signal_mask(herd.pid(), "ShdPnd") == 0).then_some(()));
    herd.signal(Signal::TTIN);
    let (_, mark) = herd.wait_text(Mark::START, "Scaled from 1 to 2 slots");
    herd.pids_that_answer(&address, 2);
    herd.signal(Signal::TTOU);
    let (_, mark) = herd.wait_text(mark, "Scaled from 2 to 1 slot");
    herd.wait_count(1);
    herd.signal(Signal::TTOU);
    herd.signal(Signal::HUP);
    herd.wait_text(mark, "Reload is done");
    assert_eq!(herd.wait_count(1).len(), 1);
    let lines = herd.stop();
    assert_eq!(lines.iter().filter(|line| line.text.starts_with("Scaled")).count(), 2);
}

#[test]
fn ctrl_c_reaches_the_primary_only() {
    let (mut herd, terminal) = Herd::of("faults/holder.js").workers(2).start_on_terminal();
    let mut client = Client::connect(&herd.address()).expect("it is let in");
    client.send("GET", "/hold", "Connection: close\r\n", b"").expect("it is sent");
    herd.wait_text(Mark::START, "holds one");
    terminal.press(CTRL_C);
    herd.wait_event(Mark::START, Event::Ended);
    for pid in herd.processes() {
        if pid != herd.pid() {
            procs::kill(pid, Signal::USR2);
        }
    }
    assert_eq!(client.receive("GET").expect("no worker was interrupted").status, 200);
    let lines = herd.wait_code(0);
    let events = workers::of(&lines);
    assert!(events.iter().all(|it| it.event != Event::Ended || it.what.contains("ended with code 0")));
}

#[test]
fn a_stalled_terminal_stalls_nobody() {
    let (herd, terminal) = Herd::of("faults/holder.js").workers(2).start_on_terminal();
    let address = herd.address();
    let before = herd.pids_that_answer(&address, 2);
    terminal.press(CTRL_S);
    // More output than a terminal holds, so that nothing can be written any more.
    for _ in 0..1000 {
        http::get(&address, "/busy?ms=0");
    }
    procs::kill(before[0], Signal::KILL);
    eventually("a successor answers", || {
        let pid = http::get(&address, "/").json()["pid"].as_u64()? as u32;
        (!before.contains(&pid)).then_some(())
    });
    let told =
        |lines: Vec<oxherd_e2e::Line>| lines.iter().any(|line| line.text.contains("was ended by SIGKILL"));
    assert!(!told(herd.lines()), "the terminal was stalled all the time");
    terminal.press(CTRL_Q);
    herd.wait_text(Mark::START, "was ended by SIGKILL");
    herd.stop();
}

#[test]
fn a_terminal_that_goes_away_means_stop() {
    let (mut herd, terminal) = Herd::of("app.js").workers(2).start_on_terminal();
    herd.wait_serving();
    drop(terminal);
    herd.wait_code(0);
}

#[test]
fn in_a_terminal_sighup_still_reloads() {
    let (herd, _terminal) = Herd::of("app.js").workers(1).start_on_terminal();
    herd.wait_serving();
    herd.reload();
    herd.stop();
}

/// `| head` and a pager that was left: nobody reads, and nothing else changes.
#[test]
fn a_closed_stdout_stops_nobody() {
    let (mut herd, [stdout, stderr]) = Herd::of("faults/holder.js").workers(2).start_piped();
    let mut stdout = BufReader::new(std::fs::File::from(stdout));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("it is readable") > 0, "no address");
        if let Some((_, rest)) = line.split_once(" serve ") {
            break Address::reach(rest.split(',').next().expect("there is a first"));
        }
    };
    drop((stdout, stderr));
    let before = herd.pids_that_answer(&address, 2);
    for _ in 0..50 {
        http::get(&address, "/busy?ms=0");
    }
    procs::kill(before[0], Signal::KILL);
    eventually("a successor answers", || {
        let pid = http::get(&address, "/").json()["pid"].as_u64()? as u32;
        (!before.contains(&pid)).then_some(())
    });
    herd.signal(Signal::TERM);
    herd.wait_code(0);
}

/// A reader that is there and does not read.
#[test]
fn an_unread_stdout_stops_nobody() {
    let (mut herd, [stdout, stderr]) = Herd::of("faults/holder.js").workers(1).start_piped();
    let mut lines = BufReader::new(std::fs::File::from(stdout));
    let mut line = String::new();
    while !line.contains(" serves ") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("it is readable") > 0, "no address");
    }
    let address = line.split(" serves ").nth(1).and_then(|rest| rest.split(',').next()).expect("an address");
    let address = Address::reach(address);
    // A pipe holds 64 KiB.
    for _ in 0..4000 {
        http::get(&address, "/busy?ms=0");
    }
    herd.signal(Signal::TERM);
    herd.wait_code(0);
    drop((lines, stderr));
}

#[test]
fn workers_die_with_their_primary() {
    let folder = Folder::new();
    let deaf = folder.write("deaf.sh", "trap '' TERM HUP\necho is deaf\nwhile :; do sleep 0.05; done\n");
    let herds = [
        Herd::of("app.js").workers(2).start(),
        Herd::of("faults/queue.js").workers(2).args(["--min-uptime", "100ms"]).start(),
        Herd::run(["-i", "2", "--min-uptime", "100ms"], deaf).start(),
    ];
    for mut herd in herds {
        let pids = herd.wait_count(2);
        let killed = Instant::now();
        herd.signal(Signal::KILL);
        herd.wait_exit(Duration::from_secs(5));
        for pid in pids {
            assert!(procs::wait_gone(pid, Duration::from_secs(1)), "{}", procs::describe(pid));
        }
        println!("gone after {:?}", killed.elapsed());
        eventually("nothing is left", || herd.processes().is_empty().then_some(()));
    }
}

/// What the kernel knows of a worker that does nothing by itself.
#[test]
fn a_worker_has_what_it_should_and_nothing_else() {
    let folder = Folder::new();
    // A shell under the name of Node, so that it is given a channel.
    let text = "#!/bin/sh\necho is here\nwhile :; do sleep 0.05; done\n";
    let shell = folder.write("node", text);
    std::fs::set_permissions(&shell, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    let script = folder.write("any.js", "");
    let args = ["--min-uptime", "50ms", "--interpreter"];
    let herd = Herd::run(args, script).args([&shell]).workers(2).start();
    let pids = herd.wait_count(2);
    for pid in pids {
        let mut files = procs::files(pid);
        // A shell keeps the script that it reads open.
        files.retain(|_, path| !path.starts_with(folder.path()));
        assert_eq!(files.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "{files:?}");
        let kinds = [0, 1, 2, 3].map(|number| files[&number].display().to_string());
        assert!(kinds[..3].iter().all(|kind| kind.starts_with("pipe:")), "{kinds:?}");
        assert!(kinds[3].starts_with("socket:"), "{kinds:?}");
        assert_eq!(procs::group_of(pid), Some(pid), "it leads a group of its own");
        assert_eq!(procs::signal_mask(pid, "SigIgn"), 0);
        // A shell blocks signals for a moment when it starts something.
        eventually("no blocked signal", || (procs::signal_mask(pid, "SigBlk") == 0).then_some(()));
    }
    herd.stop();
}

/// Nothing of the primary's reaches Node but its channel and its output.
#[test]
fn node_shares_nothing_else_with_the_primary() {
    let herd = Herd::of("app.js").workers(3).start();
    herd.wait_serving();
    let ours = procs::files(herd.pid());
    let mut inputs = BTreeSet::new();
    for pid in herd.wait_count(3) {
        let files = procs::files(pid);
        let input = files[&0].clone();
        assert!(input.to_string_lossy().starts_with("pipe:"), "{}", input.display());
        assert!(inputs.insert(input), "an input of its own: {inputs:?}");
        for (number, path) in files.iter().filter(|(number, _)| **number > 3) {
            let shared = ours.values().any(|own| own == path);
            let is_file =
                path.to_string_lossy().contains(":[") && !path.to_string_lossy().starts_with("anon_inode");
            assert!(!(shared && is_file), "descriptor {number} of {pid} is {}", path.display());
        }
    }
    herd.stop();
}

#[test]
fn a_symbolic_link_to_node_is_node() {
    let folder = Folder::new();
    let link = folder.path().join("node");
    symlink(places::node(places::DEFAULT_NODE), &link).expect("the folder is writable");
    let herd = Herd::run(["--interpreter"], places::fixture("app.js")).args([&link]).workers(1).start();
    herd.address();
    herd.stop();
}
