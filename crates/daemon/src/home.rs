//! The home folder: paths, permissions, locks.
