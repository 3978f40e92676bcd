//! All that the keeper holds for others: processes, entries, the image, connections that were saved.
//!
//! Must never drop something that lives because a daemon has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use oxherd_os::{Child, Host};

use super::parting::Parting;
use super::stash::Stashed;

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Processes by their labels, until they are forgotten.
    pub(super) children: BTreeMap<String, Child>,
    /// Processes that were forgotten before they had ended: their exits are still ours to take.
    pub(super) parting: Vec<Parting>,
    pub(super) stash: Stashed,
    pub(super) image: Option<Vec<u8>>,
    /// Connections that a daemon held when it died, and no other has taken over yet.
    pub(super) saved: Vec<OwnedFd>,
}

impl Held {
    /// Forgets a process and all that belongs to it.
    pub(super) fn forget(&mut self, label: &str, host: &mut Host) {
        self.stash.forget_child(label);
        self.parting.extend(self.children.remove(label).map(Parting::from));
        self.take_exits(host);
    }

    /// Takes the exits of those that were forgotten.
    pub(super) fn take_exits(&mut self, host: &mut Host) {
        self.parting.retain_mut(|parting| !parting.has_ended(host));
    }

    /// Keeps connections, but for those that are held already: a daemon may have had a copy of either.
    pub(super) fn save(&mut self, connections: Vec<OwnedFd>) {
        let stashed = self.stash.iter().filter_map(|(_, kept)| kept.fd.as_ref());
        let mut known: BTreeSet<_> = self.saved.iter().chain(stashed).filter_map(identity).collect();
        self.saved
            .extend(connections.into_iter().filter(|fd| identity(fd).is_none_or(|it| known.insert(it))));
    }
}

/// What two descriptors of one socket have in common.
fn identity(fd: &OwnedFd) -> Option<(u64, u64)> {
    let metadata = File::from(fd.try_clone().ok()?).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_is_saved_once() {
        let mut held = Held::default();
        let (one, other) = UnixStream::pair().unwrap();
        let stashed = other.try_clone().unwrap();
        held.stash.put("channel/a".into(), Vec::new(), Some(stashed.into()));
        held.save(vec![one.try_clone().unwrap().into(), other.into()]);
        held.save(vec![one.into()]);
        assert_eq!(held.saved.len(), 1);
    }
}
