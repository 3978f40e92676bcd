//! Long socket paths. One test only: it changes the working directory of this process.
#![allow(clippy::unwrap_used)]

mod common;

use common::Folder;
use oxherd_os::socket::{LocalAddr, UNIX_PATH_MAX, UnixMode, listen_unix, local_addr};

#[test]
fn the_shorter_form_of_a_path_is_bound() {
    let folder = Folder::new();
    let deep = folder.path().canonicalize().unwrap().join("d".repeat(80)).join("e".repeat(80));
    std::fs::create_dir_all(&deep).unwrap();
    std::env::set_current_dir(&deep).unwrap();
    let absolute = deep.join("a.sock");
    assert!(absolute.as_os_str().len() > UNIX_PATH_MAX);
    let listener = listen_unix(&absolute, 8, UnixMode { readable_all: false, writable_all: true }).unwrap();
    assert_eq!(local_addr(&listener).unwrap(), LocalAddr::Unix("a.sock".into()));
    assert!(absolute.exists());
    std::env::set_current_dir("/").unwrap();
}
