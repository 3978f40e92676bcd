//! What daemon and keeper say to each other, and the daemon's side of it.
