//! What kind of file a program is, as far as lending is concerned.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Where an ELF file says what it is: its class, byte order and machine; and where its program headers are.
const ELF_MAGIC: &[u8] = b"\x7fELF";
const CLASS: usize = 4;
const CLASS_64: u8 = 2;
const ORDER: usize = 5;
const LITTLE: u8 = 1;
const MACHINE: usize = 18;
/// `EM_X86_64` and `EM_AARCH64` of `linux/elf-em.h`.
const OWN_MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const EXECUTABLE_BY_GROUP: u32 = 0o010;

/// What is known of a program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// What the kernel loads.
    pub format: Format,
    /// It runs as the user or group that owns it.
    pub is_setuid: bool,
    /// It has capabilities of its own (`setcap`).
    pub has_capabilities: bool,
}

/// What the kernel loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A program for this machine.
    Native,
    /// A program of another class or architecture, whose system calls have other numbers.
    Foreign,
    /// Something else, such as a script.
    Other,
    /// It may not be read.
    Unreadable,
}

impl Binary {
    /// Looks at a file. `NotFound`, `EACCES` for a folder on its path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let mode = metadata.permissions().mode();
        let setgid = SETGID | EXECUTABLE_BY_GROUP;
        let is_others = metadata.uid() != rustix::process::geteuid().as_raw();
        let mut head = [0; MACHINE + 2];
        let format = match File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => format_of(&head),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Format::Other,
            Err(_) => Format::Unreadable,
        };
        Ok(Self {
            format,
            is_setuid: mode & SETUID != 0 && is_others || mode & setgid == setgid,
            has_capabilities: has_capabilities(path),
        })
    }
}

fn format_of(head: &[u8; MACHINE + 2]) -> Format {
    if !head.starts_with(ELF_MAGIC) {
        return Format::Other;
    }
    let machine = u16::from_le_bytes([head[MACHINE], head[MACHINE + 1]]);
    let is_own = head[CLASS] == CLASS_64 && head[ORDER] == LITTLE && machine == OWN_MACHINE;
    if is_own { Format::Native } else { Format::Foreign }
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path, c"security.capability", &mut value).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(class: u8, order: u8, machine: u16) -> [u8; MACHINE + 2] {
        let mut head = [0; MACHINE + 2];
        head[..4].copy_from_slice(ELF_MAGIC);
        (head[CLASS], head[ORDER]) = (class, order);
        head[MACHINE..].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[test]
    fn programs_of_other_machines_are_known() {
        assert_eq!(format_of(&head(2, 1, OWN_MACHINE)), Format::Native);
        assert_eq!(format_of(&head(1, 1, 3)), Format::Foreign, "32-bit x86");
        assert_eq!(format_of(&head(1, 1, OWN_MACHINE)), Format::Foreign, "x32");
        assert_eq!(format_of(&head(2, 2, 22)), Format::Foreign, "s390x");
        assert_eq!(format_of(b"#!/usr/bin/python3 -"), Format::Other);
    }

    #[test]
    fn this_very_program_is_plain() {
        let own = Binary::of(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(own, Binary { format: Format::Native, is_setuid: false, has_capabilities: false });
        assert_eq!(Binary::of(Path::new("/proc/version")).unwrap().format, Format::Other);
        assert!(Binary::of(Path::new("/no/such/program")).is_err());
    }
}
