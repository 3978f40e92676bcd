//! Numbers that outlive the process that counts: a page of shared memory behind a descriptor.
//!
//! Whoever maps the same file sees the same numbers; the kernel keeps it as long as anybody holds the descriptor
//! or the mapping. Must never hold anything that a torn process could leave half-written but single words.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// How many numbers there are.
pub const WORDS: usize = 64;
const BYTES: usize = WORDS * size_of::<u64>();

/// A mapped page of numbers, all zero at first.
#[derive(Debug)]
pub struct SharedWords {
    words: NonNull<[AtomicU64; WORDS]>,
}

// SAFETY: the mapping belongs to this value alone until it is dropped, and atomics may be shared.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Makes a page and the descriptor that others map it by; `memfd_create(2)`. `name` is what `/proc` shows.
    ///
    /// `EMFILE`, `ENOMEM`.
    pub fn new(name: &str) -> io::Result<(Self, OwnedFd)> {
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, BYTES as u64)?;
        // Nobody can take the page away below a mapping, which would end the process.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps the page behind a descriptor that [`SharedWords::new`] made, here or in another process.
    ///
    /// `InvalidData` for anything else.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::check(&fd, || ())?;
        Self::map(fd)
    }

    /// The numbers.
    pub fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: the mapping is as large as the array, aligned to a page, lives as long as `self`, and every bit
        // pattern is a number; others change it through atomics only.
        unsafe { self.words.as_ref() }
    }

    /// Whether it can be mapped for good. `meanwhile` is what others do between the two looks.
    fn check(fd: impl AsFd, meanwhile: impl FnOnce()) -> io::Result<()> {
        // The seals first: whoever holds the file may change its size until it is sealed, and nobody can afterwards.
        // A size looked at before could be another one by now, and a read beyond the end is the death of the reader.
        let is_sealed = fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        meanwhile();
        let is_whole = fstat(&fd).is_ok_and(|stat| stat.st_size == BYTES as i64);
        if is_sealed && is_whole { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn map(fd: impl AsFd) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let place = unsafe { mmap(std::ptr::null_mut(), BYTES, access, MapFlags::SHARED, fd, 0)? };
        let words = NonNull::new(place.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { words })
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map`, and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.words.as_ptr().cast(), BYTES) };
        debug_assert!(unmapped.is_ok(), "the mapping is ours");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn whoever_maps_it_sees_the_same_numbers() {
        let (one, fd) = SharedWords::new("numbers").unwrap();
        one.words()[3].store(7, Ordering::Relaxed);
        let other = SharedWords::of(&fd).unwrap();
        assert_eq!(other.words()[3].load(Ordering::Relaxed), 7);
        drop(one);
        other.words()[WORDS - 1].fetch_add(1, Ordering::Relaxed);
        assert_eq!(SharedWords::of(&fd).unwrap().words()[WORDS - 1].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nothing_else_is_mapped() {
        let short = memfd_create("short", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&short, 8).unwrap();
        assert_eq!(SharedWords::of(&short).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let unsealed = memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, BYTES as u64).unwrap();
        assert_eq!(SharedWords::of(&unsealed).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(SharedWords::of(&null).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn one_that_is_emptied_and_sealed_while_it_is_looked_at_is_not_mapped() {
        let fd = memfd_create("sly", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, BYTES as u64).unwrap();
        let checked = SharedWords::check(&fd, || {
            ftruncate(&fd, 0).unwrap();
            fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        });
        assert_eq!(checked.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
