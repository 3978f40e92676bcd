//! Changes of files, told by the kernel (`inotify(7)`).
//!
//! A watch is of one file or one folder, not of what is below it. It only tells; what of it matters is for others.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Room for a few hundred events.
const BUFFER_BYTES: usize = 16 << 10;

/// Watches of files and folders.
#[derive(Debug)]
pub struct Watcher {
    fd: OwnedFd,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Which watch tells it; `None`: there was too much to tell, and anything may have changed.
    pub watch: Option<i32>,
    /// What has changed in the folder; nothing when it is the watched file or folder itself.
    pub name: Option<OsString>,
    /// A folder came.
    pub is_new_folder: bool,
}

impl Watcher {
    /// No watches yet.
    ///
    /// # Errors
    /// `EMFILE`: the user's `fs.inotify.max_user_instances` or the process's limit of descriptors is reached.
    pub fn open() -> io::Result<Self> {
        Ok(Self { fd: inotify::init(CreateFlags::CLOEXEC)? })
    }

    /// Watches a file or folder, through links. Of the same one the watch is the same.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`; `ENOSPC`: the user's `fs.inotify.max_user_watches` is reached.
    pub fn add(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF;
        Ok(inotify::add_watch(&self.fd, path, flags)?)
    }

    /// Watches it no more. What was told before may still come.
    pub fn remove(&self, watch: i32) {
        // It ends by itself with what it watches.
        let _ended = inotify::remove_watch(&self.fd, watch);
    }

    /// Waits for changes.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn read(&self) -> io::Result<Vec<FileChange>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut changes = Vec::new();
        loop {
            let event = reader.next()?;
            let flags = event.events();
            if !flags.contains(ReadFlags::IGNORED) {
                let is_lost = flags.contains(ReadFlags::QUEUE_OVERFLOW);
                let comes = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                changes.push(FileChange {
                    watch: (!is_lost).then(|| event.wd()),
                    name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                    is_new_folder: comes && flags.contains(ReadFlags::ISDIR),
                });
            }
            if reader.is_buffer_empty() {
                return Ok(changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn changes_are_told_with_names() {
        let folder = std::env::temp_dir().join(format!("oxherd-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let watcher = Watcher::open().unwrap();
        let watch = watcher.add(&folder).unwrap();
        assert_eq!(watcher.add(&folder).unwrap(), watch);
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        let mut told = Vec::new();
        while told.iter().all(|it: &FileChange| it.name.as_deref() != Some(OsStr::new("file"))) {
            told.extend(watcher.read().unwrap());
        }
        let first = FileChange { watch: Some(watch), name: Some("sub".into()), is_new_folder: true };
        assert_eq!(told[0], first);
        watcher.remove(watch);
        fs::remove_dir_all(folder).unwrap();
    }
}
