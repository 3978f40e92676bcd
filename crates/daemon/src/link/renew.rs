//! A new keeper for a daemon whose keeper is gone.
//!
//! Workers run on meanwhile, and are nobody's children. Must never leave the daemon between two keepers: until the
//! new one has everything, the old link stays as it is, and all can be tried again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxherd_engine::host::HeirRef;
use oxherd_os::host::LABEL_VARIABLE;
use oxherd_os::{detach, exit_watch, packet};

use super::message::{Answer, Ask, Greeting, Succession};
use super::{KeeperHost, KeeperStash, Link, LinkError};
use crate::home::{Home, in_time};
use crate::keeper::own_program;

/// How long the disk may take to take the pid file.
const PID_FILE_TIME: Duration = Duration::from_secs(1);

/// Starts a keeper, detached from this process, and gives it these processes.
pub(super) fn renew(host: &mut KeeperHost, heirs: &[HeirRef<'_>]) -> io::Result<KeeperStash> {
    let (link, its_link) = packet::pair()?;
    let (stash, its_stash) = packet::pair()?;
    let mut order = Command::new(own_program());
    order.args(["keeper", "--successor"]).stdin(Stdio::from(its_link)).env_remove(LABEL_VARIABLE);
    // The process that is waited for only starts the keeper, which is nobody's child then.
    let status = order.status()?;
    // It holds the keeper's end of the link.
    drop(order);
    if !status.success() {
        return Err(io::Error::other(format!("cannot start a keeper: {status}")));
    }
    let link = Link::new(link);
    let greeting = succeed(&link, host, its_stash.as_fd()).map_err(io::Error::other)?;
    // Where tracing is restricted the keeper needs this to hold the daemon at its exit.
    drop(exit_watch::allow_tracer(greeting.keeper_pid));
    heirs.iter().try_for_each(|heir| adopt(&link, heir)).map_err(io::Error::other)?;
    expect_done(&link, &Ask::Settled, &[]).map_err(io::Error::other)?;
    // The file is for people and for systemd; nothing of ours needs it.
    let (home, keeper) = (greeting.home.clone(), greeting.keeper_pid);
    let write = move || drop(Home::at(Path::new(&home)).and_then(|home| home.write_pid(keeper)));
    in_time(PID_FILE_TIME, write);
    host.keeper.store(greeting.keeper_pid, Ordering::Relaxed);
    (host.link, host.greeting) = (link, greeting);
    Ok(KeeperStash::new(stash))
}

fn succeed(link: &Link, host: &KeeperHost, its_stash: BorrowedFd<'_>) -> Result<Greeting, LinkError> {
    let pidfd = detach::own_pidfd()?;
    let succession = Succession {
        daemon_pid: std::process::id(),
        lock: host.lock.is_some(),
        greeting: host.greeting.clone(),
    };
    let fds: Vec<_> =
        [its_stash, pidfd.as_fd()].into_iter().chain(host.lock.as_ref().map(AsFd::as_fd)).collect();
    match link.ask(&Ask::Succeed(Box::new(succession)), &fds)?.answer {
        Answer::Greeting(greeting) => Ok(*greeting),
        other => Err(LinkError::unexpected(&other)),
    }
}

fn adopt(link: &Link, heir: &HeirRef<'_>) -> Result<(), LinkError> {
    let ask = Ask::Adopt {
        label: heir.child.label().to_owned(),
        pid: heir.child.pid,
        stdout: heir.stdout.is_some(),
        stderr: heir.stderr.is_some(),
        stdin: heir.stdin.is_some(),
    };
    let streams = [heir.stdout, heir.stderr, heir.stdin].into_iter().flatten();
    let fds: Vec<_> = [heir.child.as_fd()].into_iter().chain(streams).collect();
    expect_done(link, &ask, &fds)
}

fn expect_done(link: &Link, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
    match link.ask(ask, fds)?.answer {
        Answer::Done => Ok(()),
        other => Err(LinkError::unexpected(&other)),
    }
}
