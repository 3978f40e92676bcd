//! Files that only their owner may read, and whose they are.
//!
//! Must never follow a symbolic link at the end of a path, nor choose a path.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Opens the file at `path` for appending (and reading), made with mode 0600 if it is not there. Every write goes
/// to the file's end, wherever others have put that. A FIFO opens at once, whether anybody reads it or not.
///
/// Errors are those of `open(2)`: `ENOENT` and `EACCES` for the folder, `ELOOP` for a symbolic link, `EROFS`,
/// `ENOSPC`, `EMFILE`.
pub fn open_append(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The user that this process acts as, which is who owns the files it makes.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn appends_and_follows_no_link() {
        let folder = std::env::temp_dir().join(format!("oxherd-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        open_append(&path).unwrap().write_all(b"one\n").unwrap();
        let mut file = open_append(&path).unwrap();
        file.write_all(b"two\n").unwrap();
        file.set_len(0).unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (0o600, own_user()));
        symlink(&path, folder.join("link")).unwrap();
        assert!(open_append(&folder.join("link")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
