//! Output of workers, written to files line by line.
