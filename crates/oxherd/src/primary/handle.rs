//! One worker as its primary sees it. A handle may outlive its worker; it never keeps it alive.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_engine::core::{Request, Signal};
use oxherd_engine::{Handle, SendError};
use oxherd_wire::DEFAULT_MAX_MESSAGE_BYTES;
use serde::Serialize;

use super::ClusterError;
use super::shared::{Shared, WorkerState};
use crate::Attachment;
use crate::worker::json_of;

/// One worker of a cluster; `Worker` of Node's `cluster`, in the primary.
///
/// Cheap to clone; all clones, and those in events, are about the same life of the worker. The one that takes its
/// slot over has another handle and another id.
///
/// ```no_run
/// # async fn main_(cluster: oxherd::Cluster) -> Result<(), oxherd::ClusterError> {
/// for worker in cluster.workers() {
///     worker.send(&"hello")?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
    state: Arc<WorkerState>,
}

impl WorkerHandle {
    pub(super) fn new(shared: &Arc<Shared>, state: Arc<WorkerState>) -> Self {
        Self { shared: Arc::clone(shared), state }
    }

    /// Its id, from 1 up and never used again; `worker.id` in Node.
    pub fn id(&self) -> u64 {
        self.state.place.instance.worker_id()
    }

    /// Its process, as long as that is known. Of a thread it is this process.
    pub fn pid(&self) -> Option<u32> {
        self.state.pid()
    }

    /// The slot that it fills, from 0 up.
    pub fn slot(&self) -> u32 {
        self.state.slot()
    }

    /// Its generation, from 1 up; each reload makes the next.
    pub fn generation(&self) -> u32 {
        self.state.place.generation.0
    }

    /// Whether its channel is open.
    pub fn is_connected(&self) -> bool {
        self.state.is_connected()
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.state.is_dead()
    }

    /// Whether it ended after it was asked to leave, or left by its own will; nothing while it lives.
    pub fn exited_after_disconnect(&self) -> Option<bool> {
        self.state.ended_as_wanted()
    }

    /// Sends it any value that serialises, as one JSON message. It never waits; what the worker does not read in the
    /// end is dropped, and an [`Alert`](crate::Event::Alert) tells of it.
    ///
    /// # Errors
    /// The worker is disconnected, the value cannot be JSON or has more than 64 MiB as such, or too much waits
    /// already; nothing was sent then.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), ClusterError> {
        self.send_json(json_of(message)?, None)
    }

    /// As [`send`](Self::send), with a socket that rides on the message. It is the worker's then; here it is closed.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        attachment: impl Into<Attachment>,
    ) -> Result<(), ClusterError> {
        let fd = attachment.into().into_sendable().map_err(crate::SendError::Attachment)?;
        self.send_json(json_of(message)?, Some(fd))
    }

    pub(super) fn send_json(&self, json: Vec<u8>, fd: Option<OwnedFd>) -> Result<(), ClusterError> {
        if !self.is_connected() {
            return Err(ClusterError::Disconnected(self.id()));
        }
        let (bytes, limit) = (json.len(), DEFAULT_MAX_MESSAGE_BYTES);
        if bytes > limit {
            return Err(ClusterError::TooLong { bytes, limit });
        }
        self.primary()?.send(self.state.place.instance, json, fd).map_err(|error| match error {
            SendError::Full => ClusterError::Full,
        })
    }

    /// Sends it the stop signal (`SIGTERM` unless set otherwise). It does not count as asked to leave: an ended
    /// worker's slot is filled again. A thread is told to leave instead; see [`Workers`](crate::Workers).
    ///
    /// # Errors
    /// The worker has ended.
    pub fn terminate(&self) -> Result<(), ClusterError> {
        self.signal(self.shared.stop_signal)
    }

    /// Sends it a signal. Only those that end a process reach a thread, which is told to leave.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        // Should it end just now, its exit is on its way.
        self.living()?.signal(self.state.place.instance, signal.0, drop);
        Ok(())
    }

    /// Kills it and all processes that it started. Its slot is filled again. A thread that does not stop within a
    /// moment is left to itself, and an [`Alert`](crate::Event::Alert) tells of it.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn kill(&self) -> Result<(), ClusterError> {
        self.living()?.kill_tree(self.state.place.instance, drop);
        Ok(())
    }

    /// Has it finish what is in hand and leave, as with a reload: no connection is lost. Its slot stays empty until
    /// it is [forked](crate::Cluster::fork). What becomes of it is told by events.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn disconnect(&self) -> Result<(), ClusterError> {
        // Refused only if it ends just now, or if all are told to leave.
        self.living()?.request(Request::Retire { instance: self.state.place.instance }, drop);
        Ok(())
    }

    fn living(&self) -> Result<&Handle, ClusterError> {
        if self.is_dead() { Err(ClusterError::WorkerGone(self.id())) } else { self.primary() }
    }

    fn primary(&self) -> Result<&Handle, ClusterError> {
        self.shared.handle().ok_or(ClusterError::Ended)
    }
}

impl PartialEq for WorkerHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.id() == other.id()
    }
}

impl Eq for WorkerHandle {}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("id", &self.id())
            .field("slot", &self.slot())
            .field("generation", &self.generation())
            .field("pid", &self.pid())
            .field("is_connected", &self.is_connected())
            .field("exited_after_disconnect", &self.exited_after_disconnect())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::Label;
    use tokio::sync::broadcast;

    use super::*;

    #[test]
    fn what_would_end_the_worker_is_not_sent() {
        let shared = Shared::new(broadcast::Sender::new(1), Signal::TERM, false);
        let Label(place) = "0:0:1:0.1".parse().unwrap();
        let worker = WorkerHandle::new(&shared, Arc::new(WorkerState::new(place, Some(1), true)));
        let limit = DEFAULT_MAX_MESSAGE_BYTES;
        let sent = worker.send_json(vec![b'1'; limit + 1], None);
        assert!(
            matches!(sent, Err(ClusterError::TooLong { bytes, limit: it }) if (bytes, it) == (limit + 1, limit))
        );
        // There is no primary to send by, but the length is no hindrance.
        assert!(matches!(worker.send_json(vec![b'1'; limit], None), Err(ClusterError::Ended)));
    }
}
