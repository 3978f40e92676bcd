//! Booted workers that wait: what a crash costs with one, and without.

use std::time::{Duration, Instant};

use oxherd_e2e::{DEADLINE, Event, Herd, Load, Mark, Program, Tally, ports, procs, turn};
use rustix::process::Signal;

const BOOT: Duration = Duration::from_millis(1500);
const KILLS: usize = 5;
const CLIENTS: usize = 2;
/// What must hold on a busy machine; what is hoped for is printed.
const GENEROUS: Duration = Duration::from_millis(750);

/// The only worker of an app that is slow to boot is killed again and again. The longest time without an answer around
/// each kill, and how long an answer takes otherwise.
fn gaps(standbys: u32) -> (Vec<Duration>, Duration, Tally) {
    let program = Program::python_script("serve.py", ports::free())
        .more(["slow-boot", &BOOT.as_secs_f32().to_string()]);
    let herd = program.herd(1).args(["--standby", &standbys.to_string(), "--restart-delay", "0"]).start();
    let mut parked = Mark::START;
    let load = Load::short(&herd.address(), "/", CLIENTS);
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        if standbys > 0 {
            (_, parked) = herd.wait_text(parked, "is booted and waits for a slot");
        }
        load.wait_more(200);
        let mark = herd.mark();
        let victim = herd.serving()[&0];
        kills.push(Instant::now());
        procs::kill(victim, Signal::KILL);
        herd.wait_event(mark, Event::Ready);
        load.wait_more(200);
    }
    let tally = load.stop();
    herd.stop();
    let mut answered: Vec<Instant> = tally.latencies.iter().map(|(asked, took)| *asked + *took).collect();
    answered.sort_unstable();
    let around = |kill: &Instant| {
        let near = answered.windows(2).filter(|pair| pair[1] > *kill && pair[0] < *kill + BOOT * 2);
        near.map(|pair| pair[1] - pair[0]).max().expect("there are answers around a kill")
    };
    let mut gaps: Vec<Duration> = kills.iter().map(around).collect();
    gaps.sort_unstable();
    let mut took: Vec<Duration> = tally.latencies.iter().map(|(_, took)| *took).collect();
    took.sort_unstable();
    let usual = took[took.len() / 2];
    (gaps, usual, tally)
}

#[test]
fn a_standby_takes_over_at_once() {
    let _turn = turn::alone();
    for (standbys, name) in [(0, "without a standby"), (1, "with a standby   ")] {
        let (gaps, usual, tally) = gaps(standbys);
        let over = |gap: Duration| gap.saturating_sub(usual).as_secs_f64() * 1000.0;
        let (median, worst) = (gaps[KILLS / 2], gaps[KILLS - 1]);
        println!(
            "boot of {BOOT:?}, {KILLS} kills {name}: longest gap over the usual {usual:?}: median {:.1} ms, worst {:.1} ms; {tally}",
            over(median),
            over(worst)
        );
        assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally}");
        assert!(tally.failed() <= (CLIENTS * KILLS) as u64, "only what was in hand may be lost: {tally}");
        match standbys {
            0 => assert!(gaps[0] >= BOOT - Duration::from_millis(100), "it has to boot: {gaps:?}"),
            _ => assert!(worst < GENEROUS, "somebody is booted already: {gaps:?}"),
        }
    }
}

fn slow(boot: &str) -> Program {
    Program::python_script("serve.py", ports::free()).more(["slow-boot", boot])
}

fn pid_in(text: &str) -> u32 {
    let rest = text.split_once(", pid ").expect("it names a process").1;
    rest.split_once(')').and_then(|(pid, _)| pid.parse().ok()).expect("it names a process")
}

/// The one that waits, as soon as it does.
fn wait_parked(herd: &Herd, mark: Mark) -> u32 {
    let (line, _) = herd.wait_text(mark, "is booted and waits for a slot");
    pid_in(&line.text)
}

#[test]
fn a_standby_that_is_killed_is_booted_again() {
    let program = slow("0.2");
    let herd = program.herd(1).args(["--standby", "1", "--restart-delay", "0"]).start();
    let address = herd.address();
    let mut parked = wait_parked(&herd, Mark::START);
    for _ in 0..3 {
        let mark = herd.mark();
        procs::kill(parked, Signal::KILL);
        let again = wait_parked(&herd, mark);
        assert_ne!(again, parked);
        assert!(procs::wait_gone(parked, DEADLINE));
        herd.pids_that_answer(&address, 1);
        parked = again;
    }
    herd.stop();
}

#[test]
fn standbys_end_with_their_app_and_are_reloaded_with_it() {
    let _turn = turn::alone();
    let program = slow("0.2");
    let herd = program.herd(2).args(["--standby", "2", "--parallel", "2"]).start();
    let load = Load::short(&herd.address(), "/", 3);
    let (first, mark) = herd.wait_text(Mark::START, "is booted and waits for a slot");
    let (second, _) = herd.wait_text(mark, "is booted and waits for a slot");
    let old = [pid_in(&first.text), pid_in(&second.text)];
    let mark = herd.mark();
    herd.reload();
    for pid in old {
        assert!(procs::wait_gone(pid, DEADLINE), "a standby of the last generation is left\n{}", herd.tail());
    }
    // Booted with the new code.
    let is_new = |line: &oxherd_e2e::Line| {
        line.text.contains("is booted and waits for a slot") && !old.contains(&pid_in(&line.text))
    };
    let (_, mark) = herd.wait_line(mark, DEADLINE, "a new standby", is_new);
    herd.wait_line(mark, DEADLINE, "another new standby", is_new);
    load.wait_more(50);
    let tally = load.stop();
    println!("a reload with standbys: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    herd.stop();
}

#[test]
fn a_standby_of_node_waits_before_it_listens() {
    let herd = Herd::of("app.js").workers(1).args(["--standby", "1", "--restart-delay", "0"]).start();
    let address = herd.address();
    let parked = wait_parked(&herd, Mark::START);
    let mark = herd.mark();
    procs::kill(herd.serving()[&0], Signal::KILL);
    let (ready, _) = herd.wait_event(mark, Event::Ready);
    assert_eq!(ready.pid, parked);
    assert_eq!(herd.pids_that_answer(&address, 1), [parked]);
    herd.stop();
}
