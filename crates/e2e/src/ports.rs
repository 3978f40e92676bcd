//! Ports for programs that must be told theirs.
//!
//! They lie below those that the kernel gives to clients, so that nobody takes one between the look and the bind.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
/// The kernel's own begin at 32768.
const COUNT: u32 = 22_000;
/// How far apart two test programs begin.
const STRIDE: u32 = 61;

/// A port that nothing has, and that no other call of this test program gets.
pub fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(STRIDE);
    let ports = (0..COUNT).map(|_| FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let mut ports = ports.map(|port| port as u16);
    ports.find(|port| is_free(*port)).expect("a port is free")
}

/// Whether nobody holds a port, by TCP or UDP, at any address.
pub fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}
