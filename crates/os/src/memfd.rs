//! Bytes as a descriptor: for what is too large for a message, and for what must outlive its writer.
//!
//! What is written here is sealed. Must never read more than [`BYTES_MAX`]: the descriptor may come from
//! another process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::Errno;

/// The most that [`memfd`] and [`read_memfd`] carry, in bytes.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A sealed file without a path that holds `bytes`; `memfd_create(2)`, close-on-exec. `name` is what `/proc`
/// shows, for people who look.
///
/// `InvalidInput` for more than [`BYTES_MAX`] and for a name of more than 249 bytes; `EMFILE`, `ENOMEM`.
pub fn memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    check_length(bytes.len() as u64, io::ErrorKind::InvalidInput)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag; later ones may insist on it.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        fd => fd?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&fd, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(fd)
}

/// All that a [`memfd`] holds. The position of the file, which all holders share, plays no part and stays.
///
/// `InvalidData` for more than [`BYTES_MAX`]; `ESPIPE` for what is no file.
pub fn read_memfd(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let size = u64::try_from(fstat(&fd)?.st_size).unwrap_or(0);
    check_length(size, io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; size as usize];
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match rustix::io::pread(&fd, room, length as u64) {
            // One that is not sealed may have been cut meanwhile.
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if size == 0 {
        // What cannot be read at a place has no size either.
        rustix::io::pread(&fd, &mut [0_u8; 1], 0)?;
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn check_length(length: u64, kind: io::ErrorKind) -> io::Result<()> {
    if length <= BYTES_MAX as u64 {
        return Ok(());
    }
    Err(io::Error::new(
        kind,
        format!("{length} bytes are more than the {BYTES_MAX} that one descriptor carries"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_at_any_position_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let fd = memfd("image", &bytes).unwrap();
        for _time in 0..2 {
            assert_eq!(read_memfd(&fd).unwrap(), bytes);
        }
        assert_eq!(rustix::io::write(&fd, b"x").unwrap_err(), Errno::PERM);
        assert_eq!(rustix::fs::ftruncate(&fd, 0).unwrap_err(), Errno::PERM);
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(read_memfd(memfd("empty", b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn too_much_and_no_file_are_errors() {
        let error = memfd("huge", &vec![0; BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let sparse = memfd_create("sparse", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&sparse, BYTES_MAX as u64 + 1).unwrap();
        assert_eq!(read_memfd(&sparse).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (reader, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        assert_eq!(read_memfd(&reader).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    }
}
