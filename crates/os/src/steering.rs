//! Which listener of a `SO_REUSEPORT` group gets the next connection, and whether a listener takes any.
//!
//! Classic BPF only: steering needs no privileges. Must never produce an index outside the list it was given:
//! the kernel would fall back to its hash, and with it to a listener that was meant to be left out.

use std::io;
use std::os::fd::AsFd;

use libc::{sock_filter, sock_fprog};

use crate::sys;

/// Most active listeners that one program can choose between.
pub const ACTIVE_MAX: usize = 2000;

/// From `asm-generic/socket.h`, which x86-64 and aarch64 share.
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_BINDTOIFINDEX: i32 = 62;

/// The kernel counts interfaces up from 1 and never gets here.
const NO_INTERFACE: i32 = i32::MAX;

/// Instruction codes of `linux/bpf_common.h`.
const LOAD_WORD: u16 = 0x20;
const MODULO: u16 = 0x94;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Where the kernel's random number is "loaded" from (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;

/// Sends new connections to the listeners with the given indices, each equally likely.
///
/// `listener` is any member of the group; the program holds for all of it and replaces the one before. The
/// index of a member is its place in the order of the `listen` calls (of the `bind` calls for UDP); when one
/// is closed the last takes its place. Indices must be below the size of the group. Handshakes that have
/// begun are not moved. An empty or too long list (see [`ACTIVE_MAX`]) is `InvalidInput`; `EINVAL` comes from
/// a socket without `SO_REUSEPORT`.
pub fn steer(listener: impl AsFd, active: &[u32]) -> io::Result<()> {
    let mut program = choose_randomly(active)?;
    attach(listener, SO_ATTACH_REUSEPORT_CBPF, &mut program)
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

/// `random % n`, then one comparison per choice; the last needs none.
fn choose_randomly(active: &[u32]) -> io::Result<Vec<sock_filter>> {
    let Some((last, others)) = active.split_last().filter(|_| active.len() <= ACTIVE_MAX) else {
        let what = format!("cannot steer between {} listeners: 1 to {ACTIVE_MAX} are possible", active.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    };
    let mut program = Vec::with_capacity(3 + 2 * others.len());
    if !others.is_empty() {
        program.push(op(LOAD_WORD, RANDOM));
        program.push(op(MODULO, active.len() as u32));
    }
    for (place, index) in others.iter().enumerate() {
        program.push(sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: place as u32 });
        program.push(op(RETURN, *index));
    }
    program.push(op(RETURN, *last));
    Ok(program)
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn attach(socket: impl AsFd, option: i32, program: &mut [sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel copies the program during the call, while `program` is borrowed.
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, option, &program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_the_expected_size() {
        assert_eq!(choose_randomly(&[7]).unwrap().len(), 1);
        assert_eq!(choose_randomly(&[7, 9]).unwrap().len(), 5);
        assert!(choose_randomly(&vec![0; ACTIVE_MAX]).unwrap().len() < 4096);
    }

    #[test]
    fn impossible_choices_are_refused() {
        assert_eq!(choose_randomly(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(choose_randomly(&vec![0; ACTIVE_MAX + 1]).is_err());
    }
}
