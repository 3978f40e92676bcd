//! The filter that traps `bind`, `listen` and `shutdown`: a classic BPF program per architecture.
//!
//! It looks at registers only. Whatever it does not know passes: a call of another architecture (32-bit programs, x32)
//! is carried out as ever. Must never refuse a call, nor kill.

use libc::sock_filter;

/// Instruction codes of `linux/bpf_common.h`.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has what is looked at. Both architectures are little-endian, and the second argument
/// of `shutdown` is an `int`: its low half is all that the kernel looks at too.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const SECOND_ARGUMENT: u32 = 24;

/// Instructions of the filter.
pub(crate) const LENGTH: usize = 10;

/// A filter, as the kernel takes it.
pub(crate) type Program = [sock_filter; LENGTH];

/// What tells the system calls of an architecture apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// `AUDIT_ARCH_…` of `linux/audit.h`.
    pub(crate) audit: u32,
    /// The number of `bind`.
    pub(crate) bind: u32,
    /// The number of `listen`.
    pub(crate) listen: u32,
    /// The number of `shutdown`.
    pub(crate) shutdown: u32,
}

impl Architecture {
    /// 64-bit x86. Calls of the x32 kind have the same `audit` and other numbers.
    pub(crate) const X86_64: Self = Self { audit: 0xC000_003E, bind: 49, listen: 50, shutdown: 48 };
    /// 64-bit ARM.
    pub(crate) const AARCH64: Self = Self { audit: 0xC000_00B7, bind: 200, listen: 201, shutdown: 210 };
    /// That of this program.
    pub(crate) const OWN: Self = if cfg!(target_arch = "aarch64") { Self::AARCH64 } else { Self::X86_64 };
}

/// The filter for an architecture. It costs an ordinary call next to nothing: the kernel finds out once which numbers
/// always pass.
pub(crate) const fn program(of: Architecture) -> Program {
    const NOTIFY: u8 = 8;
    const ALLOW: u8 = 9;
    [
        op(LOAD_WORD, ARCHITECTURE),
        jump_if(1, of.audit, 2, ALLOW),
        op(LOAD_WORD, NUMBER),
        jump_if(3, of.bind, NOTIFY, 4),
        jump_if(4, of.listen, NOTIFY, 5),
        jump_if(5, of.shutdown, 6, ALLOW),
        op(LOAD_WORD, SECOND_ARGUMENT),
        // Programs end each connection so, and it does nothing to a listener.
        jump_if(7, libc::SHUT_WR as u32, ALLOW, NOTIFY),
        op(RETURN, libc::SECCOMP_RET_USER_NOTIF),
        op(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

const fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// The instruction at `place` goes on at one of two others, which come after it.
const fn jump_if(place: u8, equal_to: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: JUMP_IF_EQUAL, jt: then - place - 1, jf: otherwise - place - 1, k: equal_to }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The low and the high half of the second argument, as a program passes them.
    type How = (u32, u32);

    /// What the filter says to a call, computed as the kernel does.
    fn verdict(program: &Program, audit: u32, number: u32, how: How) -> u32 {
        let (mut accumulator, mut place) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[place];
            place += 1;
            match code {
                LOAD_WORD => {
                    accumulator = match k {
                        0 => number,
                        4 => audit,
                        24 => how.0,
                        28 => how.1,
                        other => panic!("nothing is known of what is at {other}"),
                    }
                }
                JUMP_IF_EQUAL => place += usize::from(if accumulator == k { jt } else { jf }),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn golden(of: Architecture) -> String {
        let line = |op: &sock_filter| format!("{:02x} {} {} {:08x}", op.code, op.jt, op.jf, op.k);
        program(of).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_program_for_x86_64() {
        assert_eq!(
            golden(Architecture::X86_64),
            "20 0 0 00000004\n15 0 7 c000003e\n20 0 0 00000000\n15 4 0 00000031\n15 3 0 00000032\n\
             15 0 3 00000030\n20 0 0 00000018\n15 1 0 00000001\n06 0 0 7fc00000\n06 0 0 7fff0000"
        );
    }

    #[test]
    fn the_program_for_aarch64() {
        assert_eq!(
            golden(Architecture::AARCH64),
            "20 0 0 00000004\n15 0 7 c00000b7\n20 0 0 00000000\n15 4 0 000000c8\n15 3 0 000000c9\n\
             15 0 3 000000d2\n20 0 0 00000018\n15 1 0 00000001\n06 0 0 7fc00000\n06 0 0 7fff0000"
        );
    }

    #[test]
    fn three_calls_are_trapped_and_all_else_passes() {
        const X32_BIT: u32 = 0x4000_0000;
        const I386: u32 = 0x4000_0003;
        const ARM: u32 = 0x4000_0028;
        for of in [Architecture::X86_64, Architecture::AARCH64] {
            let program = program(of);
            let is_trapped = |audit, number, how| match verdict(&program, audit, number, how) {
                libc::SECCOMP_RET_USER_NOTIF => true,
                libc::SECCOMP_RET_ALLOW => false,
                other => panic!("{other:#x}"),
            };
            for number in (0..1000).chain(X32_BIT..X32_BIT + 1000) {
                let is_ours = [of.bind, of.listen, of.shutdown].contains(&number);
                for how in [(0, 0), (2, 0), (7, 0)] {
                    assert_eq!(is_trapped(of.audit, number, how), is_ours, "{of:?} {number}");
                }
                let is_writing_side = (libc::SHUT_WR as u32, 0xdead_beef);
                let passes = !is_ours || number == of.shutdown;
                assert_eq!(is_trapped(of.audit, number, is_writing_side), !passes, "{of:?} {number}");
                for foreign in [I386, ARM] {
                    assert!(!is_trapped(foreign, number, (0, 0)));
                }
            }
        }
    }

    #[test]
    fn the_numbers_are_those_of_this_machine() {
        let number = |number: libc::c_long| number as u32;
        let Architecture { bind, listen, shutdown, .. } = Architecture::OWN;
        let own = [libc::SYS_bind, libc::SYS_listen, libc::SYS_shutdown].map(number);
        assert_eq!([bind, listen, shutdown], own);
    }
}
