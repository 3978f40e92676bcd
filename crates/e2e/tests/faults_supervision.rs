//! What follows when workers end, will not end, never listen, or are no Node at all.

use std::io::{BufRead, Read, Write};
use std::time::{Duration, Instant};

use oxherd_e2e::http::Client;
use oxherd_e2e::places::Folder;
use oxherd_e2e::{Builder, DEADLINE, Event, Herd, Line, Mark, eventually, eventually_within, procs, workers};
use rustix::process::Signal;

/// A herd of a shell script, by whatever shell `oxherd` finds.
fn shell(folder: &Folder, text: &str) -> Builder {
    Herd::run(["-i", "1"], folder.write("work.sh", text))
}

/// The primary's lines that contain `part`, in order.
fn with<'a>(lines: &'a [Line], part: &str) -> Vec<&'a str> {
    let found = lines.iter().filter(|line| line.is_of_primary() && line.text.contains(part));
    found.map(|line| line.text.as_str()).collect()
}

fn last_error(lines: &[Line]) -> &str {
    &lines.iter().rfind(|line| line.is_error).expect("something went wrong").text
}

#[test]
fn back_off_doubles_and_ends_with_giving_up() {
    let folder = Folder::new();
    let started = Instant::now();
    let mut herd = shell(&folder, "exit 7\n").args(["--max-restarts", "4"]).start();
    let lines = herd.wait_code(3);
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    assert_eq!(
        with(&lines, "respawn"),
        [
            "Slot 0: respawn 1 of 4 in 100 ms",
            "Slot 0: respawn 2 of 4 in 200 ms",
            "Slot 0: respawn 3 of 4 in 400 ms"
        ]
    );
    assert_eq!(with(&lines, "ended with code 7 after").len(), 4);
    assert_eq!(with(&lines, "gives up"), ["Slot 0 gives up: 4 unstable exits within 1 min 0 s"]);
    assert_eq!(
        last_error(&lines),
        "Gave up on 1 slot, no worker is left: slot 0: 4 unstable exits within 1 min 0 s, its last worker ended with \
         code 7"
    );
}

#[test]
fn a_fixed_delay_stays() {
    let folder = Folder::new();
    let args = ["--max-restarts", "4", "--restart-delay", "30ms"];
    let lines = shell(&folder, "exit 1\n").args(args).start().wait_code(3);
    let waits: Vec<_> =
        with(&lines, "respawn").iter().filter_map(|text| Some(text.rsplit_once(" in ")?.1)).collect();
    assert_eq!(waits, ["30 ms"; 3]);
}

#[test]
fn a_clean_exit_too_soon_is_unstable_when_it_should_always_run() {
    let folder = Folder::new();
    let args = ["--max-restarts", "3", "--restart-delay", "10ms"];
    let lines = shell(&folder, "exit 0\n").args(args).start().wait_code(3);
    assert!(
        last_error(&lines).ends_with("3 unstable exits within 1 min 0 s, its last worker ended with code 0")
    );
}

#[test]
fn a_crash_before_anything_runs_is_an_exit_like_any_other() {
    let folder = Folder::new();
    let script = folder.write("broken.js", "this is no program\n");
    let args = ["--max-restarts", "2", "--restart-delay", "10ms"];
    let lines = Herd::of(script).workers(2).args(args).start().wait_code(3);
    assert!(lines.iter().any(|line| line.is_of_worker() && line.text.contains("SyntaxError")));
    assert_eq!(with(&lines, "gives up").len(), 2);
    assert!(
        last_error(&lines).starts_with("Gave up on 2 slots, no worker is left: slot 0: 2 unstable exits")
    );
}

#[test]
fn when_all_have_ended_and_none_is_wanted_it_ends_too() {
    for (when, text, how) in [
        ("on-failure", "exit 0\n", "ended with code 0"),
        ("never", "exit 0\n", "ended with code 0"),
        ("never", "exit 5\n", "ended with code 5"),
        ("never", "kill -TERM $$\n", "was ended by SIGTERM"),
    ] {
        let folder = Folder::new();
        let lines = shell(&folder, text).args(["--restart", when]).start().wait_code(0);
        let finished = format!("Slot 0 is finished and not respawned: its worker {how}");
        assert_eq!(with(&lines, "is finished"), [finished.as_str()], "{when} {text}");
        assert_eq!(
            lines.last().expect("it says so").text,
            "Every worker has ended and none is to be restarted"
        );
    }
}

#[test]
fn a_signal_is_never_a_success() {
    let folder = Folder::new();
    let args = ["--restart", "on-failure", "--max-restarts", "2", "--restart-delay", "10ms"];
    let lines = shell(&folder, "kill -TERM $$\n").args(args).start().wait_code(3);
    assert_eq!(with(&lines, "was ended by SIGTERM after").len(), 2);
    assert_eq!(with(&lines, "respawn"), ["Slot 0: respawn 1 of 2 in 10 ms"]);
}

#[test]
fn reported_errors_fill_a_window() {
    let args = ["--max-errors", "5", "--error-window", "20s"];
    let lines = Herd::of("faults/errors.js").workers(1).args(args).script_args(["5"]).start().wait_code(3);
    assert_eq!(with(&lines, "reports an error: the disk is slow").len(), 5);
    assert_eq!(with(&lines, "gives up"), ["Slot 0 gives up: 5 errors and failures within 20 s"]);
    assert_eq!(with(&lines, " forked").len(), 1, "it is not respawned");
}

#[test]
fn reported_errors_stop_a_worker_that_goes_on() {
    let args = ["--max-errors", "5", "--error-window", "20s"];
    let lines = Herd::of("faults/errors.js").workers(1).args(args).script_args(["1000"]).start().wait_code(3);
    assert_eq!(with(&lines, "gives up"), ["Slot 0 gives up: 5 errors and failures within 20 s"]);
}

#[test]
fn failures_fill_the_window_of_errors_too() {
    let folder = Folder::new();
    let args = ["--max-errors", "3", "--restart-delay", "10ms"];
    let lines = shell(&folder, "exit 1\n").args(args).start().wait_code(3);
    assert_eq!(with(&lines, "gives up"), ["Slot 0 gives up: 3 errors and failures within 1 min 0 s"]);
}

#[test]
fn programs_that_never_listen_are_ready_by_age_and_supervised() {
    let folder = Folder::new();
    let script = folder.write("loop.sh", "echo works\nwhile :; do sleep 0.1; done\n");
    let herd = Herd::run(["-i", "2", "--min-uptime", "300ms"], script).start();
    let (line, _) = herd.wait_text(Mark::START, "none listens yet, after");
    assert!(line.text.starts_with("2 workers run, "), "{}", line.text);
    let before = herd.wait_count(2);
    let mark = herd.mark();
    procs::kill(before[0], Signal::KILL);
    herd.wait_event(mark, Event::Ready);
    let after = herd.wait_count(2);
    assert!(after.contains(&before[1]) && !after.contains(&before[0]));
    let lines = herd.stop();
    assert_eq!(lines.iter().filter(|line| line.is_of_worker() && line.text == "works").count(), 3);
}

#[test]
fn a_node_program_that_never_listens_is_asked_to_stop() {
    let herd = Herd::of("faults/queue.js").workers(2).args(["--min-uptime", "200ms"]).start();
    herd.wait_text(Mark::START, "2 workers run, none listens yet");
    let lines = herd.stop();
    assert_eq!(lines.iter().filter(|line| line.text == "puts its work away").count(), 2);
    assert_eq!(with(&lines, "ended with code 0").len(), 2);
}

#[test]
fn python_is_supervised_where_there_is_one() {
    if !procs::is_on_path("python3") {
        return println!("skipped: there is no python3");
    }
    let folder = Folder::new();
    let text = "import time\nprint('python works', flush=True)\nwhile True:\n    time.sleep(0.1)\n";
    let script = folder.write("work.py", text);
    let herd = Herd::run(["-i", "1", "--min-uptime", "100ms"], script).start();
    herd.wait_text(Mark::START, "python works");
    herd.wait_count(1);
    herd.stop();
}

/// A worker with descendants, some of which have left its process group and its session.
const WITH_DESCENDANTS: &str = "sleep 1000 &\n\
    setsid sh -c 'sleep 1000 & setsid sleep 1000 & wait' &\n\
    echo has descendants\n\
    wait\n";
const DESCENDANTS: usize = 4;

/// What is killed last may take a moment to vanish when the primary has gone already.
fn stop_with_all_descendants(mut herd: Herd) {
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait_exit(DEADLINE).code(), Some(0), "{}", herd.tail());
    let gone = || herd.processes().is_empty().then_some(());
    eventually_within(Duration::from_secs(2), "all descendants are gone", gone);
}

#[test]
fn descendants_are_gone_after_a_stop() {
    let folder = Folder::new();
    let herd = shell(&folder, WITH_DESCENDANTS).args(["--min-uptime", "100ms"]).start();
    herd.wait_text(Mark::START, "has descendants");
    eventually("all descendants", || (herd.processes().len() == 2 + DESCENDANTS).then_some(()));
    stop_with_all_descendants(herd);
}

#[test]
fn descendants_are_gone_after_a_crash() {
    let folder = Folder::new();
    let herd = shell(&folder, WITH_DESCENDANTS).args(["--min-uptime", "100ms"]).start();
    herd.wait_text(Mark::START, "has descendants");
    let all = || (herd.processes().len() == 2 + DESCENDANTS).then(|| herd.processes());
    let before = eventually("all descendants", all);
    let victim = herd.wait_count(1)[0];
    procs::kill(victim, Signal::KILL);
    for pid in before.into_iter().filter(|pid| *pid != herd.pid()) {
        assert!(procs::wait_gone(pid, DEADLINE), "{} is left\n{}", procs::describe(pid), herd.tail());
    }
    eventually("its successor with its own", all);
    stop_with_all_descendants(herd);
}

#[test]
fn who_ignores_the_polite_signal_is_killed_in_time() {
    let folder = Folder::new();
    let text = "trap '' TERM\necho is deaf\nwhile :; do sleep 0.1; done\n";
    let herd = shell(&folder, text).args(["--kill-timeout", "300ms", "--min-uptime", "100ms"]).start();
    herd.wait_text(Mark::START, "is deaf");
    herd.wait_count(1);
    let stopped = Instant::now();
    let lines = herd.stop();
    let took = stopped.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!((with(&lines, "is sent SIGTERM").len(), with(&lines, "is killed").len()), (1, 1));
    assert_eq!(with(&lines, "was ended by SIGKILL").len(), 1);
}

#[test]
fn the_stop_signal_can_be_chosen() {
    let folder = Folder::new();
    let text = "trap 'echo goes on int; exit 0' INT\nwhile :; do sleep 0.1; done\n";
    let args = ["--stop-signal", "SIGINT", "--min-uptime", "100ms"];
    let herd = shell(&folder, text).args(args).start();
    herd.wait_count(1);
    let lines = herd.stop();
    assert!(lines.iter().any(|line| line.is_of_worker() && line.text == "goes on int"));
    assert_eq!(with(&lines, "is sent SIGINT").len(), 1);
}

/// A connection that would last for ever is served through the time for draining, and no longer.
#[test]
fn a_long_connection_has_the_time_for_draining() {
    const DRAIN: Duration = Duration::from_millis(800);
    let args = ["--drain-timeout", "800ms"];
    let mut herd = Herd::of("faults/holder.js").workers(2).args(args).start();
    let address = herd.address();
    let mut client = Client::connect(&address).expect("it is let in");
    client.send("GET", "/", "Connection: Upgrade\r\nUpgrade: echo\r\n", b"").expect("it is sent");
    let mut stream = client.into_stream();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).expect("the answer comes");
    }
    let mut echo = || -> std::io::Result<()> {
        stream.get_mut().write_all(b"ping")?;
        stream.read_exact(&mut [0; 4])
    };
    echo().expect("it echoes");
    let stopped = Instant::now();
    herd.signal(Signal::TERM);
    herd.wait_text(Mark::START, "Stopping");
    let mut echoes = 0;
    while echo().is_ok() {
        echoes += 1;
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let lasted = stopped.elapsed();
    let lines = herd.wait_code(0);
    println!("{echoes} echoes while draining, for {lasted:?}");
    assert!(lasted >= DRAIN && lasted < DRAIN + Duration::from_secs(2), "{lasted:?}");
    assert!(echoes > 10);
    let ended: Vec<_> = workers::of(&lines).into_iter().filter(|it| it.event == Event::Ended).collect();
    assert_eq!(ended.len(), 2);
}

#[test]
fn much_memory_is_told_once_and_nothing_is_done_about_it() {
    let herd = Herd::of("app.js").workers(1).args(["--memory-warning", "1M", "--status-interval", "100ms"]);
    let herd = herd.start();
    let mark = herd.mark();
    herd.address();
    // Two looks at the memory have passed by then.
    herd.wait_text(mark, "Report after 3.");
    let lines = herd.stop();
    let told = with(&lines, "more than 1.0 MiB");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Worker 1 (slot 0, pid "), "{told:?}");
    assert_eq!(with(&lines, "forked").len(), 1);
}
