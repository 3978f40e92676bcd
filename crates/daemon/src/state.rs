//! The desired state, saved to a file.
