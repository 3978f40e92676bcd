//! The instructions of classic BPF that steering needs, by name. Knows nothing of what they are for.

use libc::sock_filter;

/// Codes of `linux/bpf_common.h` and `linux/filter.h`.
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const LOAD_HALF: u16 = 0x28;
pub(super) const LOAD_BYTE: u16 = 0x30;
pub(super) const LOAD_HALF_AT_X: u16 = 0x48;
pub(super) const LOAD_NUMBER: u16 = 0x00;
pub(super) const LOAD_CELL: u16 = 0x60;
pub(super) const LOAD_CELL_TO_X: u16 = 0x61;
pub(super) const LOAD_HEADER_LENGTH_TO_X: u16 = 0xb1;
pub(super) const STORE: u16 = 0x02;
pub(super) const MULTIPLY: u16 = 0x24;
pub(super) const MODULO: u16 = 0x94;
pub(super) const SHIFT_RIGHT: u16 = 0x74;
pub(super) const XOR: u16 = 0xa4;
pub(super) const XOR_X: u16 = 0xac;
pub(super) const COPY_TO_X: u16 = 0x07;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
pub(super) const JUMP_IF_AT_LEAST: u16 = 0x35;
pub(super) const JUMP_IF_ABOVE_X: u16 = 0x2d;
pub(super) const RETURN: u16 = 0x06;
pub(super) const RETURN_A: u16 = 0x16;

/// Where the kernel's random number is "loaded" from.
pub(super) const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
/// Where the network header is loaded from, wherever the packet's data begin.
pub(super) const NETWORK_HEADER: u32 = libc::SKF_NET_OFF as u32;

pub(super) fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips so many instructions if the condition holds, and so many if not.
pub(super) fn branch(code: u16, k: u32, if_so: u8, if_not: u8) -> sock_filter {
    sock_filter { code, jt: if_so, jf: if_not, k }
}
