//! Node's `cluster`, member by member: one story of a cluster, and what each row of the guide's table says is held
//! against it. A row without a check fails, and so does a check without a row.
//!
//! The test program is also the workers, so it reads its command line itself.

mod story;

use std::process::ExitCode;

use story::Story;

const GUIDE: &str = include_str!("../../../../docs/library.md");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        println!("parity: test");
        return ExitCode::SUCCESS;
    }
    // In a worker process this does not return.
    let story = story::tell();
    let rows: Vec<&str> = rows(GUIDE).collect();
    let mut failed: Vec<&str> = rows.iter().copied().filter(|row| !is_kept(row, &story)).collect();
    failed.extend(CHECKS.iter().map(|(row, _)| *row).filter(|row| !rows.contains(row)));
    for row in &rows {
        println!("test {row} ... {}", if failed.contains(row) { "FAILED" } else { "ok" });
    }
    println!("\ntest result: {} passed; {} failed {failed:?}", rows.len() - failed.len(), failed.len());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{story:#?}");
    ExitCode::FAILURE
}

/// The first cells of the table below the heading of the guide.
fn rows(guide: &str) -> impl Iterator<Item = &str> {
    let table = guide.split_once("| Node | here | |").map_or("", |(_, rest)| rest);
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.filter_map(|line| line.split('|').nth(1).map(|cell| cell.trim().trim_start_matches("&nbsp; ")))
}

fn is_kept(row: &str, story: &Story) -> bool {
    CHECKS.iter().find(|(name, _)| *name == row).is_some_and(|(_, check)| check(story))
}

type Check = fn(&Story) -> bool;

/// What a row promises, in the order of the table. Rows that say that something is not offered have nothing to be held
/// against.
const CHECKS: &[(&str, Check)] = &[
    ("`cluster.isPrimary`, `cluster.isMaster`", |it| it.primary_is_no_worker),
    ("`cluster.isWorker`", |it| it.hellos.len() >= 2 && it.hellos.values().all(|hello| hello.is_worker)),
    ("`cluster.worker`", |it| it.hellos.iter().all(|(id, hello)| hello.id == *id)),
    ("`cluster.fork([env])`", |it| it.forked().is_some_and(|hello| hello.role == "forked")),
    ("`cluster.workers`", |it| it.listed == it.hellos_before_ends && it.found_by_id),
    ("`cluster.disconnect([callback])`", |it| it.ended_cleanly && it.left_at_the_end >= 2),
    ("`cluster.settings`, `cluster.setupPrimary()`, `cluster.setupMaster()`", |it| it.name == "parity"),
    ("`exec`, `args`, `execArgv`", |it| it.hellos.values().all(|hello| hello.args == ["as", "worker"])),
    ("`cwd`", |it| it.hellos.values().all(|hello| hello.cwd == "/")),
    ("`serialization`", |it| it.hellos.values().all(|hello| hello.mode == "advanced")),
    ("`silent`, `stdio`", |it| it.hellos.values().all(|hello| hello.stdout.starts_with("pipe:"))),
    ("`uid`, `gid`, `inspectPort`, `windowsHide`", |_| true),
    ("`cluster.schedulingPolicy`", |it| it.served_when_shared),
    ("event `'fork'`", |it| it.saw("fork")),
    ("event `'online'`", |it| it.saw("online")),
    ("event `'listening'`", |it| it.saw("listening")),
    ("event `'message'`", |it| it.saw("message") && it.attachment_came),
    ("event `'disconnect'`", |it| it.saw("disconnect")),
    ("event `'exit'`", |it| it.saw("exit") && it.killed_by == Some(9)),
    ("event `'setup'`", |_| true),
    ("`worker.id`", |it| it.hellos.iter().all(|(id, hello)| hello.id == *id && *id > 0)),
    ("`worker.process`", |it| it.hellos.values().all(|hello| hello.pid_told == Some(hello.pid))),
    ("`worker.send(message[, handle])`", |it| it.echoed && it.attachment_came && it.attachment_went),
    ("`worker.disconnect()`", |it| it.disconnected_by_primary && it.disconnected_by_itself),
    ("`worker.exitedAfterDisconnect`", |it| {
        it.disconnected_by_primary && it.killed_was_voluntary == Some(false) && it.living_is_undecided
    }),
    ("`worker.isConnected()`", |it| {
        it.was_connected && it.worker_was_connected && !it.is_connected_after_end
    }),
    ("`worker.isDead()`", |it| !it.was_dead && it.is_dead_after_end),
    ("`worker.kill([signal])`, `worker.destroy()`", |it| {
        it.killed_by == Some(9) && it.terminated_by == Some(15)
    }),
    ("Worker event `'message'`", |it| it.echoed),
    ("Worker events `'online'`, `'listening'`, `'disconnect'`, `'exit'`, `'error'`", |it| {
        ["online", "listening", "disconnect", "exit", "error"].iter().all(|kind| it.saw(kind))
    }),
];
