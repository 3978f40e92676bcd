//! Which listener of a `SO_REUSEPORT` group gets the next connection, and whether a listener takes any.
//!
//! Classic BPF only: steering needs no privileges. Must never produce an index outside the list it was given:
//! the kernel would fall back to its hash, and with it to a listener that was meant to be left out.

mod assembly;
mod program;

use std::io;
use std::os::fd::AsFd;

use libc::{sock_filter, sock_fprog};

use crate::{socket, sys};

/// Most listeners that [`Program::Random`] and [`Program::Weighted`] can choose between: two of the kernel's 4096
/// instructions for each.
pub const ACTIVE_MAX: usize = 2000;
/// Most listeners that [`Program::Sticky`] and [`Program::Flow`] can choose between: twelve instructions for each.
pub const HASHED_MAX: usize = 330;

/// From `asm-generic/socket.h`, which x86-64 and aarch64 share.
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_BINDTOIFINDEX: i32 = 62;

/// The kernel counts interfaces up from 1 and never gets here.
const NO_INTERFACE: i32 = i32::MAX;

/// How a group chooses. Each pair begins with the index of a member.
///
/// The index of a member is its place in the order of the `listen` calls (of the `bind` calls for UDP); when one
/// is closed the last takes its place. Indices must be below the size of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Each equally likely.
    Random(Vec<u32>),
    /// In proportion to the weights, by chance; none to one with weight 0. Exact but for the rounding of each share to
    /// a multiple of 2^-32.
    Weighted(Vec<(u32, u32)>),
    /// By the source address: of all keys that the list has, each address prefers some over others, in an order of
    /// its own, and gets the member with the one that it likes best. So the order and the indices of the list do not
    /// matter, and a key that comes or goes moves only the addresses that it wins or loses. Of members with one key
    /// only the first gets any.
    Sticky(Vec<(u32, u32)>),
    /// As [`Program::Sticky`], by source address and port: for UDP, where each is a flow. Of a datagram with IPv6
    /// extension headers the address alone counts.
    Flow(Vec<(u32, u32)>),
}

impl Program {
    /// Most members that a program of this kind can choose between.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Random(_) | Self::Weighted(_) => ACTIVE_MAX,
            Self::Sticky(_) | Self::Flow(_) => HASHED_MAX,
        }
    }

    /// How many members it is to choose between.
    fn size(&self) -> usize {
        match self {
            Self::Random(indices) => indices.len(),
            Self::Weighted(pairs) => pairs.iter().filter(|(_, weight)| *weight > 0).count(),
            Self::Sticky(pairs) | Self::Flow(pairs) => pairs.len(),
        }
    }
}

/// Lets the group of `listener`, any member of it, choose by this program from now on; it replaces the one before in
/// one step.
///
/// Handshakes that have begun are not moved; neither are the datagrams of a UDP socket that is connected. Errors:
/// `InvalidInput` for a list that is empty or longer than the program's [capacity](Program::capacity), `OutOfMemory`
/// where the kernel sets aside less for the program (`net.core.optmem_max`), `EINVAL` from a socket without
/// `SO_REUSEPORT`.
pub fn attach(listener: impl AsFd, program: &Program) -> io::Result<()> {
    let (size, capacity) = (program.size(), program.capacity());
    if size == 0 || size > capacity {
        let what = format!("cannot steer between {size} listeners: 1 to {capacity} are possible");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut instructions = program::compile(program);
    match attach_filter(listener, SO_ATTACH_REUSEPORT_CBPF, &mut instructions) {
        Err(error) if socket::io_errno(&error) == libc::ENOMEM => {
            let what = format!(
                "the kernel has no room for a steering program for {size} listeners: raise net.core.optmem_max \
                 (131072 is enough for any)"
            );
            Err(io::Error::new(io::ErrorKind::OutOfMemory, what))
        }
        result => result,
    }
}

/// Sends new connections to the listeners with the given indices, each equally likely: [`attach`] with
/// [`Program::Random`].
pub fn steer(listener: impl AsFd, active: &[u32]) -> io::Result<()> {
    attach(listener, &Program::Random(active.to_vec()))
}

/// Makes a TCP listener refuse new clients while handshakes under way complete and its accept queue can still
/// be emptied. There is no way back: close the listener when nobody waits any more.
///
/// The listener is bound to a network interface that does not exist, so that no SYN finds it; a handshake that
/// has begun holds on to its listener itself. Needs no privilege since Linux 5.7, and may be repeated. A member
/// of a group is left out only once all of its group are: the kernel looks for the group by any one of them.
pub fn close_doors(listener: impl AsFd) -> io::Result<()> {
    let listener = listener.as_fd();
    // Only the first binding is free to all.
    if sys::get_option::<i32>(listener, libc::SOL_SOCKET, SO_BINDTOIFINDEX)? == NO_INTERFACE {
        return Ok(());
    }
    sys::set_option(listener, libc::SOL_SOCKET, SO_BINDTOIFINDEX, &NO_INTERFACE)
}

fn attach_filter(socket: impl AsFd, option: i32, program: &mut [sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel copies the program during the call, while `program` is borrowed.
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, option, &program)
}
