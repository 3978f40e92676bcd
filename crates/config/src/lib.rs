//! Files as written become checked configuration.
