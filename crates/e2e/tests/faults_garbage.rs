//! Workers that do not speak the protocol are dropped and respawned; odd but legal ones are not.
//! Others never notice either, and the primary keeps its memory and its descriptors.

use std::path::PathBuf;

use oxherd_e2e::places::Folder;
use oxherd_e2e::{DEADLINE, Event, Herd, Load, Mark, eventually, http, procs, turn, workers};

const MIB: u64 = 1 << 20;
const NOTHING: &str = "";

/// The helper that puts descriptors on frames.
fn fd_sender() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_fd-sender").expect("cargo sets it for tests").into()
}

/// What slot 0 does in each of its lives, and the words for it in the log. Without words it just exits.
const GARBAGE: [(&str, &str); 11] = [
    ("invalid-json", "line is not JSON"),
    ("not-utf8", "line is not UTF-8"),
    ("empty-line", "empty line"),
    ("bad-internal", "internal message with a bad"),
    ("endless-line", "67108864 bytes"),
    ("half-then-whole", "line is not JSON"),
    ("half-then-exit", NOTHING),
    ("two-on-one-frame", "more than one file descriptor on a frame"),
    ("without-a-handle-frame", "a file descriptor without a NODE_HANDLE frame"),
    ("thousands", "more than one file descriptor on a frame"),
    ("half-then-exit", NOTHING),
];

#[test]
fn garbage_ends_its_worker_and_nobody_else() {
    let _turn = turn::alone();
    let folder = Folder::new();
    let kinds = GARBAGE.map(|(kind, _)| kind);
    let args = ["--restart-delay", "20ms", "--max-restarts", "100"];
    let herd = Herd::of("faults/garbage.js")
        .workers(3)
        .args(args)
        .script_args([fd_sender(), folder.path().join("lives")])
        .script_args(kinds)
        .start();
    let (first, mark) = herd.wait_event(Mark::START, Event::Listening);
    let (_, _) = herd.wait_event(mark, Event::Listening);
    let address = oxherd_e2e::Address::reach(first.what.trim_start_matches("listens on "));
    let load = Load::short(&address, "/", 4);

    for (life, (kind, words)) in GARBAGE.into_iter().enumerate() {
        let pid = pid_of_life(&herd, life);
        let ended = format!(
            "(slot 0, pid {pid}) {}",
            if words == NOTHING { "ended with code 0" } else { "was ended by SIGKILL" }
        );
        herd.wait_text(Mark::START, &ended);
        if words != NOTHING {
            let blamed = format!("(slot 0, pid {pid}) breaks the protocol and is killed: ");
            let (line, _) = herd.wait_text(Mark::START, &blamed);
            assert!(line.is_error && line.text.contains(words), "{kind}: {}", line.text);
        }
    }
    // Its last life serves, so all do.
    herd.wait_count(3);
    load.wait_more(200);
    let tally = load.stop();
    println!("garbage beside it: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    let peak = procs::peak_bytes(herd.pid());
    println!("the primary's memory: peak {} MiB", peak / MIB);
    assert!(peak < 256 * MIB, "{peak}");
    let resident = eventually("memory is given back", || {
        let resident = procs::resident_bytes(herd.pid());
        (resident < 48 * MIB).then_some(resident)
    });
    println!("and in the end {} MiB", resident / MIB);

    // As many descriptors as one that never saw garbage.
    let peer = Herd::of("app.js").workers(3).start();
    peer.wait_serving();
    let wanted = procs::open_files(peer.pid());
    eventually(&format!("{wanted} open files"), || (procs::open_files(herd.pid()) == wanted).then_some(()));
    let lines = workers::of(&herd.stop());
    assert!(
        lines.iter().all(|it| it.slot == 0 || it.event != Event::Ended || it.what.ends_with("as expected"))
    );
    peer.stop();
}

/// The process of slot 0 in one of its lives.
fn pid_of_life(herd: &Herd, life: usize) -> u32 {
    eventually(&format!("life {life} of slot 0"), || {
        let lines = workers::of(&herd.lines());
        let mut forked = lines.iter().filter(|it| it.slot == 0 && it.event == Event::Forked);
        forked.nth(life).map(|it| it.pid)
    })
}

/// Legal things, in the order in which they are said.
const ODD: [&str; 15] = [
    "lone surrogate",
    "lone surrogate as a key",
    "raw lone surrogate",
    "every kind of value",
    "spaces around",
    "deep nesting",
    "deep nesting in an object",
    "ten megabytes",
    "unknown internal frames",
    "answers to nobody",
    "messages for nobody",
    "a handle with its descriptor",
    "a handle without its descriptor",
    "a socket",
    "a server",
];

#[test]
fn odd_is_not_garbage() {
    let herd = Herd::of("faults/odd.js").workers(2).script_args([fd_sender()]).start();
    let address = herd.address();
    let before = herd.pids_that_answer(&address, 2);
    let files = procs::open_files(herd.pid());
    for what in ODD {
        let path = format!("/say?what={}", what.replace(' ', "%20"));
        let mark = herd.mark();
        let answer = http::try_once(&address, "GET", &path, "", b"");
        // A socket that was sent away is closed here and there, unanswered.
        assert!(answer.is_ok() || what == "a socket", "{what}: {answer:?}\n{}", herd.tail());
        herd.wait_text(mark, &format!("reports an error: said {what}"));
    }
    assert_eq!(herd.pids_that_answer(&address, 2), before, "nobody was replaced");
    eventually(&format!("{files} open files"), || (procs::open_files(herd.pid()) == files).then_some(()));

    let lines = herd.stop();
    let said = |text: &str| lines.iter().filter(|line| line.is_of_worker() && line.text == text).count();
    assert_eq!(said(r#"answered {"cmd":"NODE_HANDLE_ACK"}"#), 1);
    assert_eq!(said("closed true"), 1, "a descriptor that nobody wants is closed");
    assert_eq!(said(r#"answered {"cmd":"NODE_HANDLE_NACK"}"#), 1);
    assert!(
        workers::of(&lines).iter().all(|it| it.event != Event::Ended || it.what.ends_with("as expected"))
    );
}

/// At its limit the primary cannot take what a worker sends; that is not the worker's fault.
#[test]
fn a_primary_without_free_descriptors_refuses_a_handle_and_blames_nobody() {
    let herd = Herd::of("faults/odd.js").workers(1).script_args([fd_sender()]).start();
    let address = herd.address();
    let before = herd.wait_count(1);
    let files = procs::open_files(herd.pid());
    let mut client = http::Client::connect(&address).expect("it is let in");
    client.get("/").expect("it is answered");
    eventually("only the worker has the connection", || {
        (procs::open_files(herd.pid()) == files).then_some(())
    });
    procs::leave_open_files(herd.pid(), 0);
    client.get("/say?what=a%20handle%20with%20its%20descriptor").expect("it is answered");
    herd.wait_line(Mark::START, DEADLINE, "a refusal", |line| {
        line.is_of_worker() && line.text == r#"answered {"cmd":"NODE_HANDLE_NACK"}"#
    });
    client.get("/").expect("it is answered");
    assert_eq!(herd.wait_count(1), before);
    drop(client);
    herd.stop();
}
