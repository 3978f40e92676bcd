//! A worker against a primary played by hand at the other end of a socket pair.
