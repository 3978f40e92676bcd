//! The traffic thread's work with real sockets: scripted workers at the other ends of real channels, real
//! clients, and time that only moves when a test says so.

mod harness;
mod keeper;

mod answers;
mod channel;
mod death;
mod doors;
mod floods;
mod garbage;
mod kernel;
mod listeners;
mod recall;
mod routing;
mod shortage;
mod spool;
mod stall;
mod strategies;
mod takeover;
mod tap;
mod tokens;
mod withdraw;
