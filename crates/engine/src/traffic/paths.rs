//! Unix sockets of workers that borrow: one for all of an app, adopted from the first worker that listens there.
//!
//! The first `bind` is the program's own, so that the file is made in its folder, by its umask and in its mount
//! namespace.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use oxherd_core::{AppId, InstanceId};
use oxherd_os::foreign::{self, Kind};
use oxherd_os::lending::{self, Trapped};
use oxherd_os::proc;
use oxherd_os::socket::{self, LocalAddr};
use oxherd_wire::{AddressType, NewConn};

use crate::traffic::Traffic;
use crate::traffic::apps::Doors;
use crate::traffic::listener::{Identity, Listener, Socket};
use crate::traffic::timers::Timer;
use crate::traffic::traps::Verdict;

/// Between two looks whether a file was taken away.
const PUT_BACK_EVERY_MS: u64 = 20;

impl Traffic {
    pub(super) fn on_trapped_bind_of_path(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        address: LocalAddr,
    ) -> Verdict {
        let LocalAddr::Unix(path) = address else { return Verdict::CONTINUE };
        let Ok(own) = lending::socket_of(trapped) else { return Verdict::CONTINUE };
        if foreign::nature_of(&own).is_ok_and(|it| it.kind != Kind::UnixStream) {
            return Verdict::CONTINUE;
        }
        let Some(identity) = self.path_identity(number, trapped, &path) else { return Verdict::CONTINUE };
        if self.is_held(number) {
            return Verdict::Hold;
        }
        let Some(listener) = self.listeners.find(&identity) else {
            return self.begin_path(number, identity);
        };
        self.register(number, listener);
        put_back(&identity);
        self.swap(number, trapped, fd, listener, &own).unwrap_or_else(|error| Verdict::failed(&error))
    }

    /// The socket listens when control hears of it. The program's own call follows: clients are shown who called last.
    pub(super) fn on_trapped_listen_at_path(
        &mut self,
        number: usize,
        trapped: &Trapped,
        fd: RawFd,
        own: OwnedFd,
        path: PathBuf,
        backlog: i32,
    ) -> Verdict {
        if let Some(listener) = self.lent_to(number, &own) {
            drop(socket::listen(&own, backlog));
            self.tell_listening(number, listener);
            return Verdict::CONTINUE;
        }
        let is_stream = foreign::nature_of(&own).is_ok_and(|it| it.kind == Kind::UnixStream);
        let Some(identity) = self.path_identity(number, trapped, &path).filter(|_| is_stream) else {
            return Verdict::CONTINUE;
        };
        if let Some(listener) = self.listeners.find(&identity) {
            // Two workers began at once, and the other was the first to listen.
            self.register(number, listener);
            put_back(&identity);
            let swapped = self.swap(number, trapped, fd, listener, &own);
            self.tell_listening(number, listener);
            return swapped.unwrap_or_else(|error| Verdict::failed(&error));
        }
        // From here on a file that is taken away can be put back.
        let is_kept = keep_beside(&identity);
        if !is_kept && is_missing(trapped, &identity) && self.gives_way_at(number, &identity) {
            return Verdict::Wait;
        }
        let listener = self.listeners.vacant();
        if self.make_room(identity.app).is_err() {
            return Verdict::CONTINUE;
        }
        if let Err(error) = socket::listen(&own, backlog) {
            return Verdict::failed(&error);
        }
        let key = format!("L{listener}");
        self.listeners.push(Listener {
            newconn: NewConn::new(&key),
            key,
            sockname: None,
            address: identity.address.clone().unwrap_or_default(),
            data: None,
            socket: Socket::Shared(own),
            returned: Default::default(),
            paused_until: 0,
            identity: identity.clone(),
        });
        put_back(&identity);
        self.keep_listener(listener);
        self.register(number, listener);
        self.tell_listening(number, listener);
        self.finish_path(&identity);
        Verdict::CONTINUE
    }

    /// A worker on its way out may take away the file that others are reached by (gunicorn does), long before it ends.
    pub(super) fn on_put_back_timer(&mut self, instance: InstanceId) {
        let Some(borrower) = self.borrowers.find(instance).and_then(|it| self.borrowers.get(it)) else {
            return;
        };
        if self.put_paths_back(borrower.place.app, &borrower.registered) {
            self.timers.set(self.now + PUT_BACK_EVERY_MS, Timer::PutBack(instance));
        }
    }

    /// Returns whether any of the listeners has a file that is to stay: those of an app that stops are its own affair.
    pub(super) fn put_paths_back(&self, app: AppId, listeners: &[usize]) -> bool {
        if self.apps.get(&app).is_none_or(|it| it.doors != Doors::Open) {
            return false;
        }
        let listeners = listeners.iter().filter_map(|it| self.listeners.get(*it));
        let of_paths = listeners.filter(|it| it.identity.address_type == AddressType::Path);
        of_paths.map(|it| put_back(&it.identity)).count() > 0
    }

    /// What listener a path means to the calling thread. Nothing where it sees other files than the primary does.
    fn path_identity(&self, number: usize, trapped: &Trapped, path: &Path) -> Option<Identity> {
        let app: AppId = self.borrowers.get(number)?.place.app;
        if !proc::sees_our_files(trapped.thread) {
            return None;
        }
        let folder = std::fs::read_link(format!("/proc/{}/cwd", trapped.thread)).ok()?;
        let address = folder.join(path).into_os_string().into_string().ok()?;
        Some(Identity {
            app,
            address_type: AddressType::Path,
            address: Some(address),
            port: None,
            v6_only: false,
            index: None,
        })
    }
}

/// The socket's path and its second name, by which the path is given back when a program has taken it away.
fn beside(identity: &Identity) -> Option<(PathBuf, PathBuf)> {
    let path = PathBuf::from(identity.address.as_ref()?);
    let second = second_name(&path)?;
    Some((path, second))
}

fn second_name(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(".oxherd");
    Some(path.with_file_name(name))
}

/// Whether the socket's file is not there any more, as its worker sees it.
fn is_missing(trapped: &Trapped, identity: &Identity) -> bool {
    let path = identity.address.as_ref().map(|path| format!("/proc/{}/root{path}", trapped.thread));
    path.is_some_and(|path| std::fs::symlink_metadata(path).is_err())
}

/// Where it is not possible, a path that was taken away stays away until the app starts anew.
fn keep_beside(identity: &Identity) -> bool {
    beside(identity).is_some_and(|(path, second)| {
        remove_socket(&second);
        is_socket(&path) && std::fs::hard_link(path, second).is_ok()
    })
}

/// Programs remove a socket's file before they bind: the one that is lent to them gets its file back.
fn put_back(identity: &Identity) {
    if let Some((path, second)) = beside(identity)
        && is_socket(&second)
    {
        drop(std::fs::hard_link(second, path));
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

/// Takes a socket's file away. What somebody has put in its place stays.
fn remove_socket(path: &Path) {
    if is_socket(path) {
        drop(std::fs::remove_file(path));
    }
}

/// Takes both names of a socket away.
pub(super) fn remove_both_names(path: &Path) {
    remove_socket(path);
    second_name(path).iter().for_each(|second| remove_socket(second));
}
