//! Processes that nobody asks about any more and that have not ended: their exits are still ours to take.

use oxherd_os::{Child, ExitWatch, Host, Watched};

/// One of them.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) child: Child,
    /// It may have to be let go at its exit.
    watch: Option<ExitWatch>,
}

impl Parting {
    pub(super) fn new(child: Child, watch: Option<ExitWatch>) -> Self {
        Self { child, watch }
    }

    /// Takes its exit if that is there; returns whether it was.
    pub(super) fn has_ended(&mut self, host: &mut Host) -> bool {
        match self.watch.as_mut().map(ExitWatch::poll) {
            // Without its tracer it goes on by itself.
            Some(Ok(Watched::AtExit)) if self.watch.as_mut().is_some_and(|it| it.release().is_err()) => {
                self.watch = None;
            }
            Some(Ok(Watched::Ended(exit))) => host.note_exit(&mut self.child, exit),
            Some(Ok(Watched::Nothing | Watched::AtExit | Watched::Lost) | Err(_)) | None => {}
        }
        !matches!(host.try_wait(&mut self.child), Ok(None))
    }
}

impl From<Child> for Parting {
    fn from(child: Child) -> Self {
        Self::new(child, None)
    }
}
