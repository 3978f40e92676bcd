//! The lock of a home.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::Folder;
use oxherd_os::io_errno;
use oxherd_os::lock::try_lock;
use rustix::io::FdFlags;

#[test]
fn one_holder_at_a_time_and_copies_count_as_one() {
    let folder = Folder::new();
    let path = folder.path().join("lock");
    let held = try_lock(&path).unwrap().unwrap();
    assert!(rustix::io::fcntl_getfd(&held).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(try_lock(&path).unwrap().is_none());
    let copy = held.try_clone().unwrap();
    drop(held);
    assert!(try_lock(&path).unwrap().is_none(), "a copy still holds it");
    drop(copy);
    // A process that a parallel test is just starting may have a copy until its exec.
    common::eventually("the lock", || try_lock(&path).unwrap());
    assert!(path.exists());
}

#[test]
fn links_and_missing_folders_are_errors() {
    let folder = Folder::new();
    let target = folder.path().join("target");
    std::fs::write(&target, "").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_eq!(io_errno(&try_lock(&link).unwrap_err()), libc::ELOOP);
    assert_eq!(io_errno(&try_lock(&folder.path().join("no/lock")).unwrap_err()), libc::ENOENT);
}
