//! The keeper: a Host in a process of its own.
