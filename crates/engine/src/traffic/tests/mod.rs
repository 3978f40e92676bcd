//! The traffic thread's work with real sockets: scripted workers at the other ends of real channels, real
//! clients, and time that only moves when a test says so.

mod borrowers;
mod harness;
mod keeper;

mod answers;
mod borrow;
mod channel;
mod datagrams;
mod death;
mod doors;
mod floods;
mod garbage;
mod heirs;
mod hostile;
mod kernel;
mod listen_fds;
mod listeners;
mod paths;
mod recall;
mod relay;
mod routing;
mod shortage;
mod spool;
mod stall;
mod standby;
mod steering;
mod strategies;
mod takeover;
mod tap;
mod tokens;
mod values;
mod waiting;
mod withdraw;

/// The same on channels that are written as values.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "that is the point")]
mod advanced {
    use super::{harness, keeper};

    mod answers;
    mod channel;
    mod death;
    mod kernel;
    mod recall;
    mod routing;
    mod spool;
    mod stall;
    mod takeover;
    mod tap;
    mod withdraw;
}
