//! What a new daemon is given, piece by piece as it asks for them, so that no queue of either side ever fills.
//!
//! A piece stays with the keeper, except connections: those are the daemon's once it asks for the next piece.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::daemon::Daemon;
use super::held::Held;
use crate::link::message::Answer;

/// Connections in one message.
const CONNECTIONS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Child(String),
    Entry(String),
    Image,
}

/// The pieces that are still to be given.
#[derive(Debug)]
pub(super) struct Pieces {
    left: VecDeque<Piece>,
    /// How many connections went last, from the front.
    given: usize,
}

impl Pieces {
    /// All that is held.
    pub(super) fn of(held: &Held) -> Self {
        let image = held.image.is_some().then_some(Piece::Image);
        let children = held.children.keys().cloned().map(Piece::Child);
        let entries = held.stash.iter().map(|(name, _)| Piece::Entry(name.to_owned()));
        Self { left: image.into_iter().chain(children).chain(entries).collect(), given: 0 }
    }

    /// Gives the next piece; returns whether there was one.
    pub(super) fn give(&mut self, held: &mut Held, daemon: &Daemon) -> bool {
        held.saved.drain(..self.given.min(held.saved.len()));
        self.given = 0;
        while let Some(piece) = self.left.pop_front() {
            if give(&piece, held, daemon) {
                return true;
            }
        }
        if held.saved.is_empty() {
            daemon.answer(&Answer::End, &[], &[]);
            return false;
        }
        let fds: Vec<_> = held.saved.iter().take(CONNECTIONS_MAX).map(AsFd::as_fd).collect();
        self.given = fds.len();
        daemon.answer(&Answer::Connections, &[], &fds);
        true
    }
}

/// Gives one piece, unless it is gone since.
fn give(piece: &Piece, held: &Held, daemon: &Daemon) -> bool {
    match piece {
        Piece::Child(label) => {
            let Some(child) = held.children.get(label) else { return false };
            let answer = Answer::Child { label: label.clone(), pid: child.pid };
            daemon.answer(&answer, &[], &[child.pidfd.as_fd()]);
        }
        Piece::Entry(name) => {
            let Some(kept) = held.stash.get(name) else { return false };
            let fds: Vec<_> = kept.fd.iter().map(AsFd::as_fd).collect();
            daemon.answer(&Answer::Entry { name: name.clone() }, &kept.meta, &fds);
        }
        Piece::Image => {
            let Some(image) = &held.image else { return false };
            daemon.answer(&Answer::Image, image, &[]);
        }
    }
    true
}
