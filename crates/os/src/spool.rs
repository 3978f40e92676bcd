//! Bytes on their way into a socket, in memory that outlives the process that sends them.
//!
//! Whoever sends a long message in pieces may be killed between two of them, or within a system call. Here the
//! kernel moves the bytes from a file in memory, and the file's *position*, which all holders of the descriptor
//! share, is always right behind the last byte that went: whoever comes after goes on exactly there.
//!
//! The socket may still refer to pages of bytes that went, so these must never be overwritten: the file lets go of
//! its pages before it gets others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SeekFrom, fstat, ftruncate, memfd_create, seek, sendfile, tell};
use rustix::io::{Errno, pwrite};

/// What one system call moves at most (`MAX_RW_COUNT`).
const AT_ONCE_BYTES: usize = 0x7fff_f000;

/// What is left to be sent, in the hands of the kernel.
#[derive(Debug)]
pub struct Spool {
    file: OwnedFd,
}

impl Spool {
    /// An empty one; `memfd_create(2)`. `name` is what `/proc` shows. `EMFILE`, `ENOMEM`.
    pub fn new(name: &str) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC;
        let file = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Kernels before 6.3 do not know the flag; later ones may insist on it.
            Err(Errno::INVAL) => memfd_create(name, flags)?,
            file => file?,
        };
        Ok(Self { file })
    }

    /// One that [`Spool::new`] made, here or in a process that has ended.
    pub fn of(file: OwnedFd) -> Self {
        Self { file }
    }

    /// Takes `bytes` in, of which nothing has gone yet, in place of what was left. `ENOMEM`, `EFBIG`; then, and if
    /// this process dies meanwhile, nothing is left.
    pub fn load(&self, bytes: &[u8]) -> io::Result<()> {
        self.clear()?;
        // As long as the position is at the end, nothing is left of what is only half there.
        seek(&self.file, SeekFrom::Start(bytes.len() as u64))?;
        match pwrite(&self.file, bytes, 0) {
            Ok(written) if written == bytes.len() => {}
            Ok(_) => return Err(io::ErrorKind::StorageFull.into()),
            Err(error) => return Err(error.into()),
        }
        seek(&self.file, SeekFrom::Start(0))?;
        Ok(())
    }

    /// How many bytes have not gone yet.
    pub fn left(&self) -> io::Result<u64> {
        let size = u64::try_from(fstat(&self.file)?.st_size).unwrap_or(0);
        Ok(size.saturating_sub(tell(&self.file)?))
    }

    /// Sends what is left, as far as the socket takes it, and returns how many bytes went, 0 when nothing is left;
    /// `sendfile(2)`.
    ///
    /// The socket must be nonblocking, and the calling thread must block or ignore `SIGPIPE`. Errors: as of
    /// [`fdpass::send`](crate::fdpass::send).
    pub fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        Ok(sendfile(socket, &self.file, None, AT_ONCE_BYTES)?)
    }

    /// Nothing is left, and no memory is used.
    pub fn clear(&self) -> io::Result<()> {
        Ok(ftruncate(&self.file, 0)?)
    }
}

impl AsFd for Spool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
