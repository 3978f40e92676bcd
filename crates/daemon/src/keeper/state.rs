//! A keeper's state as it crosses an exec: bytes, and the numbers of descriptors that stay open.
//!
//! Versioned: a program says with `keeper --check` which versions it reads, and whoever wants to become it asks
//! first. Must never lose what can be kept: one descriptor that is missing costs one entry.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use oxherd_os::{Child, ChildRecord, ExitWatch, Host, reexec};
use serde::{Deserialize, Serialize};

use super::deaths::Deaths;
use super::entry::Starter;
use super::held::Held;
use super::parting::Parting;
use super::run::{Keeper, Settings};
use super::signals::Remembered;
use crate::link::message::{self, Garbled};

/// The version that this program writes.
pub(super) const STATE: u32 = 1;
/// The versions that it reads.
pub(super) const STATES_READ: [u32; 1] = [STATE];

/// Everything but the image, which follows as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    home: OsString,
    foreground: bool,
    daemon_args: Vec<OsString>,
    nofile: Option<u64>,
    primary: String,
    starts: u32,
    deaths: Deaths,
    greeted: bool,
    remembered: Vec<i32>,
    untraced: Option<String>,
    starter: Option<RawFd>,
    children: Vec<ChildState>,
    parting: Vec<ChildState>,
    stash: Vec<EntryState>,
    saved: Vec<RawFd>,
    #[serde(default)]
    upgrades: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChildState {
    record: ChildRecord,
    pidfd: RawFd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EntryState {
    name: String,
    meta: Vec<u8>,
    fd: Option<RawFd>,
}

impl State {
    /// The state of a keeper without a daemon.
    pub(super) fn of(keeper: &Keeper) -> Self {
        let Settings { home, foreground, daemon_args, nofile, primary } = keeper.settings.clone();
        let held = &keeper.held;
        let entry = |(name, kept): (&str, &super::stash::Kept)| EntryState {
            name: name.to_owned(),
            meta: kept.meta.clone(),
            fd: kept.fd.as_ref().map(AsRawFd::as_raw_fd),
        };
        Self {
            version: STATE,
            home,
            foreground,
            daemon_args,
            nofile,
            primary,
            starts: keeper.starts,
            deaths: keeper.deaths.clone(),
            greeted: keeper.greeted,
            remembered: keeper.remembered.as_list().to_vec(),
            untraced: keeper.untraced.clone(),
            starter: keeper.starter.pipe().map(|pipe| pipe.as_raw_fd()),
            children: held.children.values().map(ChildState::of).collect(),
            parting: held.parting.iter().map(|parting| ChildState::of(&parting.child)).collect(),
            stash: held.stash.iter().map(entry).collect(),
            saved: held.saved.iter().map(AsRawFd::as_raw_fd).collect(),
            upgrades: keeper.upgrades,
        }
    }

    /// The bytes, with the image.
    pub(super) fn encode(&self, image: Option<&[u8]>) -> Result<Vec<u8>, Garbled> {
        message::encode(self, image.unwrap_or_default())
    }

    /// What [`encode`](Self::encode) was given.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Option<Vec<u8>>), Garbled> {
        let (state, image) = message::decode(bytes)?;
        Ok((state, (!image.is_empty()).then(|| image.to_vec())))
    }

    /// The keeper with this state, once the exec is done.
    pub(super) fn into_keeper(self, image: Option<Vec<u8>>) -> io::Result<Keeper> {
        let Self { home, foreground, daemon_args, nofile, primary, .. } = self;
        let settings = Settings { home, foreground, daemon_args, nofile, primary };
        let starter = Starter::new(self.starter.and_then(|fd| inherit(fd, "the starter's pipe")));
        let mut keeper = Keeper::new(settings, self.deaths, starter)?;
        (keeper.starts, keeper.greeted) = (self.starts, self.greeted);
        keeper.remembered = Remembered::from_list(self.remembered);
        keeper.untraced = self.untraced;
        keeper.upgrades = self.upgrades.saturating_add(1);
        let Keeper { held, host, .. } = &mut keeper;
        held.image = image;
        for child in self.children.into_iter().filter_map(|child| child.resume(host)) {
            held.children.insert(child.label().to_owned(), child);
        }
        held.parting = self.parting.into_iter().filter_map(|child| child.resume_parting(host)).collect();
        self.stash.into_iter().for_each(|entry| entry.resume(held));
        held.saved = self.saved.into_iter().filter_map(|fd| inherit(fd, "a connection")).collect();
        Ok(keeper)
    }
}

impl ChildState {
    fn of(child: &Child) -> Self {
        Self { record: child.to_record(), pidfd: child.pidfd.as_raw_fd() }
    }

    fn resume(self, host: &mut Host) -> Option<Child> {
        let pidfd = inherit(self.pidfd, &self.record.label)?;
        Some(host.resume_child(self.record, pidfd))
    }

    /// It may be a daemon that was left behind, which this process still traces.
    fn resume_parting(self, host: &mut Host) -> Option<Parting> {
        let child = self.resume(host)?;
        let watch = ExitWatch::resume(child.pid, &child);
        Some(Parting::new(child, watch))
    }
}

impl EntryState {
    /// An entry whose descriptor is lost is of no use.
    fn resume(self, held: &mut Held) {
        let fd = self.fd.map(|fd| inherit(fd, &self.name));
        if !matches!(fd, Some(None)) {
            held.stash.put(self.name, self.meta, fd.flatten());
        }
    }
}

/// All descriptors that a state names.
pub(super) fn descriptors(keeper: &Keeper) -> Vec<BorrowedFd<'_>> {
    let held = &keeper.held;
    let children =
        held.children.values().chain(held.parting.iter().map(|parting| &parting.child)).map(AsFd::as_fd);
    let entries = held.stash.iter().filter_map(|(_, kept)| kept.fd.as_ref());
    let others = entries.chain(&held.saved).map(AsFd::as_fd);
    children.chain(others).chain(keeper.starter.pipe()).collect()
}

fn inherit(fd: RawFd, what: &str) -> Option<OwnedFd> {
    reexec::inherit(fd).map_err(|error| super::say(&format!("{what} is lost: {error}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: &str = concat!(
        r#"{"version":1,"home":{"Unix":[47,104]},"foreground":false,"daemon_args":[{"Unix":[45,120]}],"nofile":1024,"#,
        r#""primary":"p","starts":3,"deaths":{"longest_delay_ms":15000,"times_ms":[5,6],"strikes":0,"row":2},"#,
        r#""greeted":true,"remembered":[15],"untraced":"not allowed","starter":4,"#,
        r#""children":[{"record":{"pid":7,"label":"p/a:0:1:0.1","exit":{"Code":1},"cgroup":null},"pidfd":5}],"#,
        r#""parting":[{"record":{"pid":8,"label":"p/b","exit":null,"cgroup":{"Unix":[47,99]}},"pidfd":6}],"#,
        r#""stash":[{"name":"listener/1","meta":[123,125],"fd":9},{"name":"x","meta":[],"fd":null}],"saved":[10,11],"upgrades":2}"#,
        "\n{\"an\":\"image\"}"
    );

    fn state() -> State {
        let child = |pid, label: &str| ChildRecord { pid, label: label.into(), exit: None, cgroup: None };
        let mut deaths = Deaths::new(15_000);
        deaths.record(4, 5);
        deaths.record(5, 6);
        let mut ended = child(7, "p/a:0:1:0.1");
        ended.exit = Some(oxherd_os::ExitStatus::Code(1));
        let mut grouped = child(8, "p/b");
        grouped.cgroup = Some("/c".into());
        State {
            version: 1,
            home: "/h".into(),
            foreground: false,
            daemon_args: vec!["-x".into()],
            nofile: Some(1024),
            primary: "p".into(),
            starts: 3,
            deaths,
            greeted: true,
            remembered: vec![15],
            untraced: Some("not allowed".into()),
            starter: Some(4),
            children: vec![ChildState { record: ended, pidfd: 5 }],
            parting: vec![ChildState { record: grouped, pidfd: 6 }],
            stash: vec![
                EntryState { name: "listener/1".into(), meta: b"{}".to_vec(), fd: Some(9) },
                EntryState { name: "x".into(), meta: Vec::new(), fd: None },
            ],
            saved: vec![10, 11],
            upgrades: 2,
        }
    }

    #[test]
    fn version_1_is_written_and_read() {
        let bytes = state().encode(Some(b"{\"an\":\"image\"}")).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), VERSION_1);
        assert_eq!(
            State::decode(VERSION_1.as_bytes()).unwrap(),
            (state(), Some(b"{\"an\":\"image\"}".to_vec()))
        );
    }

    #[test]
    fn no_image_is_none() {
        let bytes = state().encode(None).unwrap();
        assert_eq!(State::decode(&bytes).unwrap().1, None);
        assert!(State::decode(b"garbage").is_err());
    }
}
