//! The daemon dies while it answers its control API.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use oxherd_e2e::deaths::{replace, start_web};
use oxherd_e2e::http::Client;
use oxherd_e2e::{Chance, DEADLINE, Failure, Home, Load, Roll, eventually, http, places, procs, turn};
use rustix::process::Signal;
use serde_json::Value;

fn generation(home: &Home) -> u64 {
    home.herd()["apps"][0]["generation"].as_u64().expect("a number")
}

/// Asks for a reload under this key, and returns the change.
fn reload(home: &Home, key: &str) -> u64 {
    let key = format!("Idempotency-Key: {key}\r\n");
    let answer = http::try_once(&home.api(), "POST", "/v1/apps/web/reload", &key, b"").expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["changes"][0]["change"].as_u64().expect("a change")
}

fn outcome(home: &Home, change: u64) -> Value {
    let place = format!("/v1/changes/{change}?wait=10");
    eventually("the outcome", || {
        let answer = http::try_once(&home.api(), "GET", &place, "", b"").ok()?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Some(answer.json()["outcome"].clone()).filter(|outcome| !outcome.is_null())
    })
}

/// A connection to a daemon that dies ends, or was answered before.
fn is_cut(failure: &Failure) -> bool {
    matches!(failure, Failure::EarlyEof | Failure::Reset)
}

/// Asks for a reload, and kills the daemon before or after it answers; returns whether it has.
fn reload_and_kill(home: &Home, key: &str, wait: impl Fn()) -> bool {
    let before = generation(home);
    let (daemon, _, starts) = home.ping().expect("a daemon");
    let mut client = Client::connect(&home.api()).expect("a daemon");
    let fields = format!("Idempotency-Key: {key}\r\n");
    client.send("POST", "/v1/apps/web/reload", &fields, b"").expect("it reads");
    wait();
    procs::kill(daemon, Signal::KILL);
    let heard = client.receive("POST");
    eventually("another daemon", || home.ping().filter(|(_, _, now)| *now > starts));
    let change = reload(home, key);
    match &heard {
        Ok(answer) => assert_eq!(answer.json()["changes"][0]["change"], change, "the answer is the same"),
        Err(failure) => assert!(is_cut(failure), "{failure:?}"),
    }
    assert_eq!(outcome(home, change), "done");
    Roll::settled(home, "web", 2);
    assert_eq!(reload(home, key), change, "asked a third time");
    assert_eq!(generation(home), before + 1, "it was made once");
    heard.is_ok()
}

#[test]
fn a_change_whose_answer_is_lost_is_made_once() {
    let _turn = turn::alone();
    let mut chance = Chance::seeded();
    let mut answered = 0;
    for _home in 0..3 {
        let home = Home::new();
        start_web(&home, "2");
        let load = Load::short(&home.address("web"), "/", 4);
        // A third death within ten seconds would have reloads that are under way given up.
        for key in ["one", "two"] {
            let more = chance.below(6);
            answered += u32::from(reload_and_kill(&home, key, || load.wait_more(more)));
        }
        let tally = load.stop();
        println!("2 changes: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
    }
    println!("6 changes, {answered} answered before the death");
}

#[test]
fn who_waits_for_a_change_asks_again() {
    let _turn = turn::alone();
    let home = Home::new();
    let gate = home.folder().write("gate", "");
    let home = home.with("GATE", &gate);
    let script = places::fixture("gated.js");
    home.ok(&["start", script.to_str().expect("a plain path"), "--name", "web", "-i", "2"]);
    std::fs::remove_file(&gate).expect("it was open");
    let mut command = home.command(&["reload", "web"]).stdout(Stdio::null()).spawn().expect("it runs");
    eventually("a successor", || {
        Roll::of(&home, "web").seats.iter().any(|seat| seat.status == "starting").then_some(())
    });
    let change = reload(&home, "the-next");
    let mut waiting = Client::connect(&home.api()).expect("a daemon");
    waiting.send("GET", &format!("/v1/changes/{change}?wait=60"), "", b"").expect("it reads");
    replace(&home);
    let failure = waiting.receive("GET").expect_err("it was not through");
    assert!(is_cut(&failure), "{failure:?}");
    home.folder().write("gate", "");
    assert_eq!(outcome(&home, change), "done");
    let status = eventually("the end of the command", || command.try_wait().expect("it is our child"));
    assert!(status.success(), "{status}");
    Roll::settled(&home, "web", 2);
}

#[test]
fn streams_break_off_and_begin_anew() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "2");
    let mut news = Client::connect(&home.api()).expect("a daemon");
    news.send("GET", "/v1/events", "", b"").expect("it reads");
    let mut logs = home.command(&["logs", "web", "--raw"]);
    let mut logs = logs.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let (lines, shown) = mpsc::channel();
    let out = BufReader::new(logs.stdout.take().expect("a pipe"));
    let reader =
        thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    let see = |text: &str| {
        eventually(text, || shown.try_iter().any(|line| line.contains(text)).then_some(()));
    };
    let busy = |ms: u32| assert_eq!(http::get(&home.address("web"), &format!("/busy?ms={ms}")).status, 200);
    eventually("the stream of lines", || {
        busy(1);
        shown.try_iter().any(|line| line.contains("busy for 1 ms")).then_some(())
    });
    replace(&home);
    let mut rest = Vec::new();
    // It ends, with an error or without; the bound of each step is far shorter than the stream would be.
    drop(news.into_stream().read_to_end(&mut rest));
    assert!(rest.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&rest));
    // The command finds the next daemon by itself. Lines from before it did are in the file only.
    eventually("the stream of lines", || {
        busy(2);
        shown.try_iter().any(|line| line.contains("busy for 2 ms")).then_some(())
    });
    busy(3);
    see("busy for 3 ms");
    let mut news = Client::connect(&home.api()).expect("a daemon");
    news.send("GET", "/v1/events", "", b"").expect("it reads");
    let mut stream = news.into_stream();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a head") > 0);
    }
    home.ok(&["scale", "web", "3"]);
    while !line.contains("\"notice\"") {
        line.clear();
        assert!(stream.read_line(&mut line).expect("news") > 0);
    }
    procs::kill(logs.id(), Signal::INT);
    assert!(procs::wait_gone(logs.id(), DEADLINE));
    assert!(logs.try_wait().expect("it is our child").expect("it has ended").success());
    reader.join().expect("it does not panic");
}
