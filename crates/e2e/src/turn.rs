//! Whose turn it is: tests that measure run alone, all others side by side. It orders tests; it measures nothing.
//!
//! Two file locks, so that it also holds between test programs that run at the same time.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::rc::{Rc, Weak};

/// Held while a test runs.
#[derive(Debug)]
pub struct Turn {
    /// Dropped, it unlocks.
    _lock: File,
    alone: bool,
}

thread_local! {
    static HELD: RefCell<Weak<Turn>> = const { RefCell::new(Weak::new()) };
}

/// Waits until no other test runs, and keeps others waiting. To be taken before anything is started.
pub fn alone() -> Rc<Turn> {
    let turn = take(true);
    assert!(turn.alone, "a test asks to be alone before it starts anything");
    turn
}

/// Waits until no other test wants to be alone; joins what this thread holds already.
pub fn shared() -> Rc<Turn> {
    take(false)
}

fn take(alone: bool) -> Rc<Turn> {
    if let Some(held) = HELD.with_borrow(Weak::upgrade) {
        return held;
    }
    // Whoever waits for the second lock holds the first, so that nobody starves.
    let gate = open("gate");
    gate.lock().expect("a file can be locked");
    let lock = open("turn");
    if alone { lock.lock() } else { lock.lock_shared() }.expect("a file can be locked");
    let turn = Rc::new(Turn { _lock: lock, alone });
    HELD.set(Rc::downgrade(&turn));
    turn
}

fn open(name: &str) -> File {
    let user = rustix::process::getuid().as_raw();
    let path = std::env::temp_dir().join(format!("oxherd-e2e-{user}.{name}"));
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    opened.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}
