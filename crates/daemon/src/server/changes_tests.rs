//! Tests of the table of changes.
