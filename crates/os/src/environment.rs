//! Taking variables out of this process's environment.
//!
//! Must never do so while another thread may read it: the C library's environment has no lock.

use std::fs;

/// Removes the variables, unless this process has more than one thread; then they stay, and the answer is no.
///
/// Call it early in `main`. Where `/proc` cannot be read, nothing is removed.
pub fn remove_if_alone(names: &[&str]) -> bool {
    let is_alone = fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if is_alone {
        for name in names {
            // SAFETY: there is no other thread that could look at the environment, and this one makes none here.
            unsafe { std::env::remove_var(name) };
        }
    }
    is_alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_others_nothing_is_removed() {
        // The harness has a thread of its own.
        assert!(!remove_if_alone(&["PATH"]));
        assert!(std::env::var_os("PATH").is_some());
    }
}
