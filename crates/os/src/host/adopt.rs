//! Processes that somebody else has started: an earlier keeper, or this very process before it became another
//! program.
//!
//! Must never take a process for the one meant by its bare number: a pidfd comes along, or nothing is done.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spec::path_bytes;
use super::tree;
use super::{Child, ExitStatus, Host};
use crate::cgroup::Group;
use crate::host::kill_labelled;
use crate::sys;

/// What of a [`Child`] must survive an exec or a change of its holder, beside the pidfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// Its number.
    pub pid: u32,
    /// The label it was started with.
    pub label: String,
    /// How it ended, if that was found out: its exit is taken then, and cannot be asked for again.
    pub exit: Option<ExitStatus>,
    /// The folder of its cgroup.
    #[serde(with = "path_bytes")]
    pub cgroup: Option<PathBuf>,
}

impl Child {
    /// A process that another started with `label`. Works without a Host of one's own; whoever waits for it, or
    /// kills its tree, needs one.
    pub fn adopt(pid: u32, pidfd: OwnedFd, label: &str) -> Self {
        let group = Group::of(pid, label);
        // While the pidfd answers the number was not another's when its group was looked up.
        let certain = sys::pidfd_send_signal(pidfd.as_fd(), 0, 0).is_ok();
        Self {
            pid,
            pidfd,
            label: label.to_owned(),
            exit: None,
            group: group.filter(|_| certain),
            ours: false,
        }
    }

    /// Something in a process's place, such as a thread of this one: `end` becomes readable when it has ended. Never
    /// a pidfd, so that no signal can be sent by it; `pid` is for display.
    pub fn stand_in(pid: u32, end: OwnedFd, label: &str) -> Self {
        Self { pid, pidfd: end, label: label.to_owned(), exit: None, group: None, ours: false }
    }

    /// What [`Host::resume_child`] needs beside the pidfd.
    pub fn to_record(&self) -> ChildRecord {
        ChildRecord {
            pid: self.pid,
            label: self.label.clone(),
            exit: self.exit,
            cgroup: self.group.as_ref().map(|group| group.path().to_owned()),
        }
    }
}

impl Host {
    /// Looks after a process that this process started before an exec, or that another did. Where it is our child,
    /// [`reap_strangers`](Self::reap_strangers) leaves its exit to [`try_wait`](Self::try_wait) as with any other.
    pub fn resume_child(&mut self, record: ChildRecord, pidfd: OwnedFd) -> Child {
        let ChildRecord { pid, label, exit, cgroup } = record;
        let group = cgroup.and_then(|path| Group::reopen(path, &label));
        if exit.is_none() {
            self.own.insert(pid);
        }
        // While the pidfd answers the number was not another's when its parent was looked up.
        let ours =
            exit.is_none() && tree::is_our_child(pid) && sys::pidfd_send_signal(pidfd.as_fd(), 0, 0).is_ok();
        match group {
            None if exit.is_none() => Child { ours, ..Child::adopt(pid, pidfd, &label) },
            group => Child { pid, pidfd, label, exit, group, ours },
        }
    }

    /// `SIGKILL` for everything that carries the label and for the cgroups that were made for it: what
    /// [`kill_tree`](Self::kill_tree) does where no [`Child`] is left. Nothing for an empty label. Errors as there.
    pub fn kill_label(&mut self, label: &str) -> io::Result<()> {
        let found = kill_labelled(label);
        self.kill_groups(label);
        self.bury_later(found?);
        Ok(())
    }

    /// Kills the cgroups of a label whose own handle is not here.
    pub(super) fn kill_groups(&self, label: &str) {
        let groups = self.cgroups.as_ref().map(|cgroups| cgroups.find(label)).unwrap_or_default();
        for group in groups {
            group.kill();
        }
    }
}
