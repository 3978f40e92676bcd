//! The word to a service manager that this service is up, where it was started by one that wants to know.
//!
//! Never waits, and is never a reason to fail.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Says that a daemon serves. One that takes over says it again, which changes nothing.
pub(super) fn tell_ready() {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    let status = "READY=1\nSTATUS=a daemon serves\n";
    if let Err(error) = send(&socket, status) {
        super::say(&format!("cannot tell the service manager at {}: {error}", socket.display()));
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(text.as_bytes(), &address).map(drop)
}
