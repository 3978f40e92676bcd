//! The desired state in a file: what survives a boot.
//!
//! The file holds the apps of the daemon that serves the home, and *dormant* ones: those of an earlier daemon, which
//! a new one does not start by itself. They stay in the file until somebody resurrects them (an app of that name
//! runs) or deletes them. Must never wait for the disk after it was opened, and never lose what it has not
//! understood.

mod file;
mod saver;
pub(crate) mod snapshot;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use oxherd_core::{Desired, DesiredApp};

pub use self::file::{Fault, STATE_VERSION, SavedState, StateError};
use self::saver::{Content, Saver};
use crate::home::{Home, remove_leftovers};

/// Keeps the file up to date. Only who holds the home's lock may have one.
#[derive(Debug)]
pub struct Store {
    apps: Arc<Vec<DesiredApp>>,
    /// Each on its own, so that taking one out copies none of the others.
    dormant: Arc<Vec<Arc<DesiredApp>>>,
    is_frozen: bool,
    saver: Saver,
}

/// What there was when a store was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store. Every saved app is dormant in it until an update says that it runs.
    pub store: Store,
    /// The apps that the daemon had that saved last, with their ids: for a takeover without an image.
    pub last: Desired,
    /// Lines for people, if the state was not to be had the usual way.
    pub lines: Vec<String>,
}

impl Store {
    /// Reads the home's state and starts the thread that saves. `alert` is called on that thread, once when saving
    /// fails and once when it works again.
    ///
    /// # Errors
    /// No state can be had, and the files are as they were.
    pub fn open(home: &Home, alert: impl Fn(String) + Send + 'static) -> Result<Opened, StateError> {
        let file = home.state_file();
        remove_leftovers(&file);
        let (state, lines) = file::load(&file)?;
        let last = Desired { apps: state.apps.clone() };
        let dormant = Arc::new(state.apps.into_iter().chain(state.dormant).map(Arc::new).collect());
        let saver = Saver::start(file, alert).map_err(StateError::NoThread)?;
        let store = Self { apps: Arc::default(), dormant, is_frozen: false, saver };
        Ok(Opened { store, last, lines })
    }

    /// Goes on without the saved state, which [`open`](Self::open) could not use. The files are kept under other
    /// names.
    ///
    /// # Errors
    /// They could not be renamed.
    pub fn begin_anew(home: &Home, alert: impl Fn(String) + Send + 'static) -> Result<Opened, StateError> {
        let mut lines = file::set_both_aside(&home.state_file())?;
        let mut opened = Self::open(home, alert)?;
        lines.append(&mut opened.lines);
        Ok(Opened { lines, ..opened })
    }

    /// The daemon goes on from the one that saved last, and has its apps, or knows that they are not wanted any more:
    /// only those that were dormant for that one are.
    pub fn go_on_from(&mut self, last: &Desired) {
        let names: BTreeSet<&str> = last.apps.iter().map(|app| app.spec.name.as_str()).collect();
        Arc::make_mut(&mut self.dormant).retain(|app| !names.contains(app.spec.name.as_str()));
    }

    /// What is wanted now. A dormant app gives way to one of its name. Saved soon, if it is anything new.
    pub fn update(&mut self, desired: Desired) {
        if self.is_frozen {
            return;
        }
        self.apps = Arc::new(desired.apps);
        if !self.dormant.is_empty() {
            let names: BTreeSet<&str> = self.apps.iter().map(|app| app.spec.name.as_str()).collect();
            if self.dormant.iter().any(|app| names.contains(app.spec.name.as_str())) {
                Arc::make_mut(&mut self.dormant).retain(|app| !names.contains(app.spec.name.as_str()));
            }
        }
        self.save();
    }

    /// The apps that are saved and not running, as `resurrect` is to start them. Starting them is all: each leaves
    /// this list with the first update that has its name, so that none is lost in between.
    pub fn dormant(&self) -> &[Arc<DesiredApp>] {
        &self.dormant
    }

    /// Deletes a dormant app; `false` if there is none of that name.
    pub fn forget(&mut self, name: &str) -> bool {
        let is_there = self.dormant.iter().any(|app| app.spec.name == name);
        if is_there && !self.is_frozen {
            Arc::make_mut(&mut self.dormant).retain(|app| app.spec.name != name);
            self.save();
        }
        is_there
    }

    /// From now on nothing changes the file: the daemon is on its way out and stops its apps, which nobody wants to
    /// find stopped, or half of them, after the next start.
    pub fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// Why what is wanted is not on the disk, while that is so.
    pub fn trouble(&self) -> Option<String> {
        self.saver.trouble()
    }

    /// Waits until everything is on the disk; `false` if that takes longer.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.saver.flush(timeout)
    }

    /// Saves what is left and ends the thread; `false` if something was not saved in time, or at all.
    pub fn close(self, timeout: Duration) -> bool {
        self.saver.close(timeout)
    }

    fn save(&self) {
        self.saver.save(Content { apps: Arc::clone(&self.apps), dormant: Arc::clone(&self.dormant) });
    }
}

#[cfg(test)]
mod tests;
