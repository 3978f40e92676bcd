//! What programs do with their sockets, and what they see of being lent others: nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use oxherd_e2e::load::pid_of;
use oxherd_e2e::places;
use oxherd_e2e::{Event, Herd, Line, Load, Mark, Program, eventually, http, ports, procs, turn};
use rustix::process::Signal;

/// How many connections wait for a stopped worker.
const WAITING: usize = 40;

/// A server with a quirk, and more arguments for it.
fn quirky(quirk: &str, more: &[&str]) -> Program {
    Program::python_script("serve.py", ports::free()).more([quirk]).more(more)
}

/// Waits until workers have printed so many lines that begin with this word, and gives them back without it, sorted.
fn said(herd: &Herd, word: &str, count: usize) -> Vec<String> {
    let mut said = eventually(&format!("{count} times {word:?}"), || {
        let lines = herd.lines().into_iter().filter(Line::is_of_worker);
        let said = lines.filter_map(|line| line.text.strip_prefix(word).map(str::to_owned));
        Some(said.collect::<Vec<_>>()).filter(|said| said.len() >= count)
    });
    said.sort_unstable();
    said
}

#[test]
fn the_command_line_is_the_program_behind_two_dashes() {
    let port = ports::free().to_string();
    let words = [
        "-i",
        "2",
        "--",
        "python3",
        "-m",
        "http.server",
        "--directory",
        "/proc/self/task",
        "--bind",
        "127.0.0.1",
    ];
    let herd = Herd::run(words, &port).start();
    assert_eq!(herd.wait_serving(), [format!("127.0.0.1:{port}")]);
    herd.pids_that_answer(&herd.address(), 2);
    herd.stop();
}

/// A worker is stopped, so that connections wait in its queue, and killed: whoever comes after it answers them.
#[test]
fn a_queue_outlives_its_worker() {
    for workers in [1, 3] {
        let program = Program::go();
        let herd = program.herd(workers).start();
        let address = herd.address();
        let victim = herd.serving()[&0];
        procs::stop(victim);
        let mut waiting: Vec<http::Client> = Vec::new();
        for _ in 0..WAITING {
            let mut client = http::Client::connect(&address).expect("it is in a queue");
            client.send("GET", "/", "Connection: close\r\n", b"").expect("it is open");
            waiting.push(client);
        }
        let mark = herd.mark();
        procs::kill(victim, Signal::KILL);
        let (successor, _) = herd.wait_event(mark, Event::Ready);
        let answers = waiting.iter_mut().map(|client| client.receive("GET").expect("it is answered"));
        let pids: Vec<u32> = answers.map(|answer| pid_of(&answer).expect("it tells its process")).collect();
        let inherited = pids.iter().filter(|pid| **pid == successor.pid).count();
        println!(
            "{workers} workers, one stopped and killed: {WAITING} answered, {inherited} by the replacement"
        );
        assert!(!pids.contains(&victim));
        assert!(inherited > 0 && (workers > 1 || inherited == WAITING), "{inherited} of {pids:?}");
        herd.stop();
    }
}

/// Go ends at once when it is told to: only that nobody is being served by then keeps requests whole.
#[test]
fn requests_in_hand_are_finished_before_a_program_is_told_to_end() {
    let _turn = turn::alone();
    for program in [Program::go(), Program::axum()] {
        let herd = program.herd(2).start();
        let load = Load::short(&herd.address(), "/?ms=300", 6);
        load.wait_more(6);
        for _ in 0..3 {
            herd.reload();
            load.wait_more(6);
        }
        let tally = load.stop();
        println!("3 reloads under requests of 300 ms: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        herd.stop();
    }
}

#[test]
fn other_ports_are_the_programs_own() {
    let other = ports::free();
    let program = quirky("more-sockets", &[&other.to_string()]);
    let only = program.address().port().to_string();
    let herd = program.herd(2).args(["--ports", &only]).start();
    assert_eq!(herd.wait_serving(), [program.shown()]);
    let mut chosen = said(&herd, "chosen ", 2);
    chosen.dedup();
    assert_eq!(chosen.len(), 2, "the kernel chooses a port for each: {chosen:?}");
    let others = said(&herd, "other ", 2);
    assert_eq!(others, ["Address already in use", "bound"], "only one can have a port that is not lent");
    herd.pids_that_answer(program.address(), 2);
    herd.stop();
}

#[test]
fn all_ports_are_lent_without_a_choice() {
    let other = ports::free();
    let program = quirky("more-sockets", &[&other.to_string()]);
    let herd = program.herd(2).start();
    for port in [other, program.address().port()] {
        let text = format!(") listens on 127.0.0.1:{port}");
        let (_, mark) = herd.wait_text(Mark::START, &text);
        herd.wait_text(mark, &text);
    }
    assert_eq!(said(&herd, "other ", 2), ["bound", "bound"]);
    herd.stop();
}

/// Python's own server at this port, of which a slot gives up at its first failure.
fn no_second_try(workers: &str, more: &[&str], port: u16) -> Herd {
    let once = ["-i", workers, "--max-restarts", "1", "--restart-delay", "0"];
    let program = ["--", "/usr/bin/python3", "-m", "http.server"];
    let words = once.iter().chain(&program).chain(more);
    Herd::run(words, port.to_string()).start()
}

/// The error comes from the program itself, in its own words.
#[test]
fn a_port_of_somebody_else_is_in_use() {
    let foreign = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = foreign.local_addr().expect("it is bound").port();
    let mut herd = no_second_try("2", &["--bind", "127.0.0.1"], port);
    let lines = herd.wait_code(3);
    let said =
        lines.iter().filter(|line| line.is_of_worker() && line.text.contains("Address already in use"));
    assert!(said.count() >= 2, "{lines:#?}");
    // It was not disturbed.
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let (mut accepted, _) = foreign.accept().expect("it accepts");
    accepted.write_all(b"here").expect("it is connected");
    drop(accepted);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("it is connected");
    assert_eq!(text, "here");
}

#[test]
fn a_port_that_only_root_may_have_is_forbidden() {
    if procs::is_root() || TcpListener::bind((Ipv4Addr::LOCALHOST, 81)).is_ok() {
        println!("not run: this user may bind port 81");
        return;
    }
    let mut herd = no_second_try("1", &[], 81);
    let lines = herd.wait_code(3);
    assert!(
        lines.iter().any(|line| line.is_of_worker() && line.text.contains("Permission denied")),
        "{lines:#?}"
    );
}

/// Serves before and after a reload, and after a kill.
fn goes_on(program: &Program) -> Herd {
    let herd = program.herd(2).start();
    assert_eq!(herd.wait_serving(), [program.shown()]);
    herd.pids_that_answer(program.address(), 2);
    let load = Load::short(program.address(), "/", 3);
    for _ in 0..3 {
        load.wait_more(20);
        herd.reload();
    }
    load.wait_more(20);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    let mark = herd.mark();
    procs::kill(herd.serving()[&0], Signal::KILL);
    herd.wait_event(mark, Event::Ready);
    herd.pids_that_answer(program.address(), 2);
    herd
}

#[test]
fn options_from_before_the_bind_are_there_after_it() {
    let herd = goes_on(&quirky("options", &[]));
    let mut said = said(&herd, "options ", 2 * 4 + 1);
    said.dedup();
    assert_eq!(
        said,
        ["[1, 1, 100000] True False False"],
        "the same for the adopted and for those who came later"
    );
    herd.stop();
}

#[test]
fn a_socket_in_an_epoll_set_stays_there() {
    goes_on(&quirky("watched", &[])).stop();
}

#[test]
fn multipath_tcp_is_served_as_tcp() {
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    if enabled.trim() != "1" {
        println!("not run: this kernel has no multipath TCP");
        return;
    }
    goes_on(&quirky("mptcp", &[])).stop();
}

/// Children accept too; what they have in hand ends with them.
#[test]
fn children_of_a_worker_are_covered() {
    let program = quirky("forks", &[]);
    let herd = goes_on(&program);
    herd.stop();
    assert!(ports::is_free(program.address().port()));
}

/// A kernel lets only one program watch a process: inside another oxherd, the inner one does without.
#[test]
fn an_oxherd_inside_an_oxherd_says_so_in_one_line() {
    let program = Program::go();
    let oxherd = places::oxherd();
    let words = program.words();
    let own = [
        "run",
        "-i",
        "2",
        "--sockets",
        "universal",
        "--interpreter",
        "none",
        "--max-restarts",
        "2",
        &words[0],
        "--",
    ];
    let args = own.into_iter().chain(words[1..].iter().map(String::as_str));
    let herd = Herd::run(["-i", "1", "--sockets", "universal", "--interpreter", "none"], &oxherd);
    let herd = herd.script_args(args).start();
    let (line, _) = herd.wait_text(Mark::START, "cannot be lent sockets");
    assert!(line.text.contains("oxherd doctor"), "{}", line.text);
    eventually("an answer", || http::try_once(program.address(), "GET", "/", "", b"").ok());
    let told = herd.lines().iter().filter(|line| line.text.contains("cannot be lent sockets")).count();
    assert_eq!(told, 1, "{}", herd.tail());
    herd.stop();
}

#[test]
fn a_program_can_be_left_alone() {
    let program = Program::go();
    let herd = program.herd_with(["-i", "1", "--sockets", "none"]).start();
    eventually("an answer", || http::try_once(program.address(), "GET", "/", "", b"").ok());
    herd.wait_text(Mark::START, "none listens yet");
    herd.stop();
}

/// A program that takes long to boot is not taken for ready, and the one before it serves so long.
#[test]
fn a_slow_successor_is_waited_for() {
    let _turn = turn::alone();
    let program = quirky("slow-boot", &["1.5"]);
    let herd = program.herd(1).start();
    let load = Load::short(&herd.address(), "/", 2);
    for _ in 0..2 {
        load.wait_more(10);
        herd.reload();
    }
    load.wait_more(10);
    let tally = load.stop();
    println!("2 reloads of a program with a boot of 1.5 s: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(tally.slowest() < Duration::from_millis(1200), "somebody has waited for a boot: {tally}");
    herd.stop();
}
