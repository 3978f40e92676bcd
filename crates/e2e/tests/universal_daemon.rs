//! A daemon with workers that borrow and standbys that wait is killed again and again, and nobody notices.

use oxherd_e2e::deaths::{calm_down, replace, replace_amid_changes};
use oxherd_e2e::{Address, Chance, Home, Load, Program, Roll, eventually, ports, procs, turn};
use rustix::process::Signal;

const WORKERS: usize = 3;
const DEATHS: usize = 16;

/// Starts a program as the app `web`, with a standby.
fn start(program: &Program, workers: usize) -> Home {
    let home = program.environment().iter().fold(Home::new(), |home, (key, value)| home.with(key, value));
    let (workers, words) = (workers.to_string(), program.words());
    let mut args = vec!["start", "--name", "web", "-i", &workers, "--sockets", "universal", "--standby", "1"];
    args.extend(["--restart-delay", "0", "--interpreter", "none", &words[0], "--"]);
    args.extend(words[1..].iter().map(String::as_str));
    home.ok(&args);
    home
}

/// The only standby, once it waits.
fn standby(home: &Home) -> u32 {
    eventually("a standby that waits", || {
        let herd = home.herd();
        let waiting = herd["apps"][0]["standbys"].as_array()?.iter().map(|it| it["worker"].clone());
        let mut waiting = waiting.filter(|it| it["status"] == "standby");
        waiting.next()?["pid"].as_u64().map(|pid| pid as u32)
    })
}

#[test]
fn twenty_deaths_of_the_daemon_cost_no_request_of_any_program() {
    let _turn = turn::alone();
    let program = Program::go();
    let home = start(&program, WORKERS);
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", WORKERS);
    standby(&home);
    let load = Load::short(program.address(), "/", 6);
    for _ in 0..DEATHS {
        load.wait_more(50 + chance.below(200));
        replace(&home);
        // After three deaths within ten seconds a daemon goes on from what lives, and boots its standby again.
        Roll::settled(&home, "web", WORKERS).assert_same_workers(&workers);
        standby(&home);
    }
    replace_amid_changes(&home, &load, &mut chance);
    load.wait_more(200);
    let tally = load.stop();
    println!("20 deaths with universal workers and a standby: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    let after = Roll::settled(&home, "web", 2);
    assert!(after.pids().is_disjoint(&workers.pids()), "{after:?}");
}

/// What was parked under one daemon takes a slot under the next.
#[test]
fn a_standby_outlives_the_daemon_and_takes_over() {
    let _turn = turn::alone();
    let program = Program::python_script("serve.py", ports::free()).more(["slow-boot", "0.5"]);
    let home = start(&program, 1);
    for _ in 0..3 {
        let waiting = standby(&home);
        replace(&home);
        let worker = Roll::settled(&home, "web", 1);
        let load = Load::short(program.address(), "/", 2);
        load.wait_more(20);
        let victim = *worker.pids().first().expect("there is one");
        procs::kill(victim, Signal::KILL);
        eventually("the standby in the slot", || {
            Roll::of(&home, "web").pids().contains(&waiting).then_some(())
        });
        load.wait_more(20);
        let tally = load.stop();
        assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally}");
        assert!(tally.failed() <= 2 && tally.by_pid.contains_key(&waiting), "{tally}");
        calm_down();
    }
}

/// The daemon dies between a worker's call and its answer: the next one answers.
#[test]
fn calls_of_starting_workers_outlive_the_daemon() {
    let _turn = turn::alone();
    let program = Program::python_http();
    let home = start(&program, 2);
    let mut chance = Chance::seeded();
    let load = Load::short(program.address(), "/", 2);
    for _ in 0..6 {
        calm_down();
        let victim = *Roll::settled(&home, "web", 2).pids().first().expect("there are two");
        procs::kill(victim, Signal::KILL);
        load.wait_more(chance.below(40));
        replace(&home);
    }
    let after = Roll::settled(&home, "web", 2);
    let tally = load.stop();
    println!("6 deaths while a worker starts: {tally}");
    assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally}");
    assert!(tally.failed() <= 12, "only what was in hand of the killed may be lost: {tally}");
    let Address::Tcp(_) = program.address() else { panic!("it is at a port") };
    eventually("answers of both", || {
        let load = Load::short(program.address(), "/", 2);
        load.wait_more(40);
        let tally = load.stop();
        (tally.failed() == 0 && after.pids().iter().all(|pid| tally.by_pid.contains_key(pid))).then_some(())
    });
}
