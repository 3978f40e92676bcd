//! The first words: the daemon greets its keeper and takes over what its predecessor left.
//!
//! Must never serve anybody yet: what is taken over is only collected.

use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use oxherd_engine::host::{Entry, Estate, Heir};
use oxherd_os::{Child, reexec};

use super::message::{Answer, Ask, Greeting, PROTOCOL};
use super::{
    CHANNEL, KeeperHost, KeeperStash, LOCK, Link, LinkError, Notes, Reply, STDERR, STDIN, STDOUT, WORKER_END,
    of_child,
};

/// A daemon's connection with its keeper.
#[derive(Debug)]
pub struct Connected {
    /// Who holds the processes; for control.
    pub host: KeeperHost,
    /// Who holds descriptors; for traffic.
    pub stash: KeeperStash,
    /// What the keeper says of itself and of the daemons before.
    pub greeting: Greeting,
    /// What they left. `desired` is for the caller to fill in; there is no image when it is not to be trusted.
    pub estate: Estate,
}

/// Connects over the descriptors that the keeper has started this daemon with.
///
/// Call it once, with the signals that the daemon cares for already blocked: the keeper forwards those that came
/// early as soon as it is greeted.
///
/// # Errors
/// There is no keeper, or it is of another version.
pub fn connect(link: RawFd, stash: RawFd) -> Result<Connected, LinkError> {
    let (link, stash) = (Link::new(reexec::inherit(link)?), KeeperStash::new(reexec::inherit(stash)?));
    let greeting = greet(&link, &Ask::Hello { protocol: PROTOCOL })?;
    let mut left = Left::default();
    while left.take(link.ask(&Ask::Next, &[])?)? {}
    let lock = left.entries.remove(LOCK).and_then(|(_, fd)| fd);
    let estate = left.sort(&greeting);
    let notes = Notes::new(stash.try_clone()?);
    let keeper = Arc::new(greeting.keeper_pid.into());
    let host = KeeperHost { link, greeting: greeting.clone(), lock, notes, keeper, image_bytes: 0 };
    Ok(Connected { host, stash, greeting, estate })
}

fn greet(link: &Link, hello: &Ask) -> Result<Greeting, LinkError> {
    match link.ask(hello, &[])?.answer {
        Answer::Greeting(greeting) if greeting.protocol == PROTOCOL => Ok(*greeting),
        Answer::Greeting(greeting) => Err(LinkError::Version { theirs: greeting.protocol, ours: PROTOCOL }),
        other => Err(LinkError::unexpected(&other)),
    }
}

/// The pieces of the estate as they come.
#[derive(Debug, Default)]
struct Left {
    children: Vec<Child>,
    entries: BTreeMap<String, (Vec<u8>, Option<OwnedFd>)>,
    image: Option<Vec<u8>>,
    connections: Vec<OwnedFd>,
}

impl Left {
    /// Takes a piece; returns whether there are more.
    fn take(&mut self, reply: Reply) -> Result<bool, LinkError> {
        if reply.truncated {
            // The next daemon may have more room.
            return Err(LinkError::Unexpected(format!(
                "{:?} without its descriptors: too many open files; see ulimit -n",
                reply.answer
            )));
        }
        let mut fds = reply.fds.into_iter();
        match reply.answer {
            Answer::Child { label, pid } => {
                // Without it nothing can be done about the process.
                let missing = || LinkError::Unexpected(format!("process {pid} ({label}) without a pidfd"));
                let pidfd = fds.next().ok_or_else(missing)?;
                self.children.push(Child::adopt(pid, pidfd, &label));
            }
            Answer::Entry { name } => drop(self.entries.insert(name, (reply.body, fds.next()))),
            Answer::Image => self.image = Some(reply.body),
            Answer::Connections => self.connections.extend(fds),
            Answer::End => return Ok(false),
            other => return Err(LinkError::unexpected(&other)),
        }
        Ok(true)
    }

    fn sort(mut self, greeting: &Greeting) -> Estate {
        let children = std::mem::take(&mut self.children);
        let children = children.into_iter().map(|child| self.heir(child)).collect();
        let entry = |(name, (meta, fd))| Entry { name, meta, fd };
        let image = self.image.filter(|_| greeting.trust_image);
        Estate {
            starts: greeting.starts,
            // An image of another version is as good as none.
            image: image.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            desired: None,
            children,
            entries: self.entries.into_iter().map(entry).collect(),
            connections: self.connections,
        }
    }

    fn heir(&mut self, child: Child) -> Heir {
        let mut part = |kind| self.entries.remove(&of_child(kind, child.label())).and_then(|(_, fd)| fd);
        let (channel, worker_end) = (part(CHANNEL), part(WORKER_END));
        let (stdin, stdout, stderr) = (part(STDIN), part(STDOUT), part(STDERR));
        Heir { child, channel, worker_end, stdin, stdout, stderr }
    }
}
