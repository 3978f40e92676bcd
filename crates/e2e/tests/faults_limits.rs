//! Running out of file descriptors, and not losing any.

use std::time::Duration;

use oxherd_e2e::http::Client;
use oxherd_e2e::{Address, Herd, Load, Mark, eventually, procs, turn};
use rustix::process::Signal;

const AT_THE_LIMIT: &str = "open files: no connection is accepted until some are closed";
const BELOW_AGAIN: &str = "Open files are below the limit again";

/// Clients that have connected and sent a request; nobody has accepted all of them yet.
fn waiting(address: &Address, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = Client::connect(address).expect("the kernel's queue takes it");
        client.send("GET", "/", "Connection: close\r\n", b"").expect("the kernel takes it");
        client
    };
    (0..count).map(client).collect()
}

#[test]
fn at_the_limit_it_waits_without_spinning_and_goes_on() {
    const LOOK: Duration = Duration::from_secs(1);
    const CPU_MAX: Duration = Duration::from_millis(100);
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let workers = herd.wait_count(2);
    let limit = procs::leave_open_files(herd.pid(), 1);
    workers.iter().for_each(|pid| procs::kill(*pid, Signal::STOP));
    // Room for one: the others wait in the kernel's queue.
    let clients = waiting(&address, 40);
    let (line, mark) = herd.wait_text(Mark::START, AT_THE_LIMIT);
    assert!(
        line.is_error && line.text.contains(&format!("the limit of {limit} open files")),
        "{}",
        line.text
    );

    // Spinning is seen over a span of time, and in nothing else.
    let before = procs::cpu_time(herd.pid());
    std::thread::sleep(LOOK);
    let used = procs::cpu_time(herd.pid()) - before;
    println!("at the limit: {used:?} of CPU time in {LOOK:?}");
    assert!(used < CPU_MAX, "{used:?}");

    workers.iter().for_each(|pid| procs::kill(*pid, Signal::CONT));
    for mut client in clients {
        assert_eq!(client.receive("GET").expect("everybody is answered").status, 200);
    }
    herd.wait_text(mark, BELOW_AGAIN);
    let told = herd.lines().iter().filter(|line| line.text.contains(AT_THE_LIMIT)).count();
    assert_eq!(told, 1, "it is said once\n{}", herd.tail());
    procs::leave_open_files(herd.pid(), 100);
    let load = Load::short(&address, "/", 2);
    load.wait_more(50);
    assert_eq!(load.stop().failed(), 0);
    assert_eq!(herd.wait_count(2), workers, "nobody was replaced");
    herd.stop();
}

#[test]
fn started_with_a_low_hard_limit_it_serves_many_clients() {
    let herd = Herd::of("app.js").workers(2).under(["prlimit", "--nofile=64:64"]).start();
    let address = herd.address();
    let mut clients = waiting(&address, 300);
    for client in &mut clients {
        assert_eq!(client.receive("GET").expect("everybody is answered").status, 200);
    }
    herd.stop();
}

/// A crash at the limit: the slot is filled as soon as there are descriptors for it.
#[test]
fn a_crash_at_the_limit_is_repaired_once_there_is_room() {
    let herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let workers = herd.wait_count(2);
    procs::leave_open_files(herd.pid(), 0);
    let mark = herd.mark();
    procs::kill(workers[0], Signal::KILL);
    let (line, _) = herd.wait_text(mark, "a limit of the system is reached");
    assert!(line.is_error && line.text.contains("(slot 0)"), "{}", line.text);
    assert_eq!(herd.pids_that_answer(&address, 1), [workers[1]], "the other serves");
    procs::leave_open_files(herd.pid(), 100);
    herd.wait_count(2);
    herd.pids_that_answer(&address, 2);
    herd.stop();
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_behind() {
    const CONNECTIONS: u64 = 10_000;
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let count = |clients: usize, more: u64| {
        let load = Load::short(&address, "/", clients);
        load.wait_more(more);
        let tally = load.stop();
        assert_eq!(tally.failed(), 0, "{tally}");
        tally
    };
    let primary = procs::open_files(herd.pid());
    // What Node opens only once it works is open then, and every connection is closed: its channel is left.
    count(4, 500);
    let workers = herd.wait_count(2);
    let sockets = |pid: &u32| {
        procs::files(*pid).values().filter(|path| path.to_string_lossy().starts_with("socket:")).count()
    };
    eventually("idle workers", || workers.iter().all(|pid| sockets(pid) == 1).then_some(()));
    let open = || workers.iter().map(|pid| procs::open_files(*pid)).collect::<Vec<_>>();
    let before = open();
    println!("{}", count(8, CONNECTIONS));
    eventually(&format!("{before:?} open files in the workers again"), || (open() == before).then_some(()));
    eventually(&format!("{primary} open files in the primary again"), || {
        (procs::open_files(herd.pid()) == primary).then_some(())
    });
    herd.stop();
}
