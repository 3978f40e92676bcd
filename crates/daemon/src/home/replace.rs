//! Replacing a file so that whoever reads it sees the old one or the new one, whole.
//!
//! Must never touch the old file before the new one is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const MARK: &str = ".tmp-";
/// Tells two of one process apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A complete new version of a file beside the old one; gone with this value unless it was [`put`](Self::put).
#[derive(Debug)]
pub(crate) struct Fresh {
    temp: PathBuf,
    target: PathBuf,
}

impl Fresh {
    /// Writes the new version (mode 0600) and brings it to the disk.
    pub(crate) fn write(
        target: &Path,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut temp = prefix(target);
        temp.push(format!("{}-{number}", std::process::id()));
        let fresh = Self { temp: target.with_file_name(temp), target: target.to_owned() };
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh.temp)?;
        let mut writer = BufWriter::with_capacity(64 << 10, file);
        fill(&mut writer)?;
        writer.flush()?;
        writer.get_ref().sync_all()?;
        // The buffer is empty; what is left of the writer only closes the file.
        drop(writer);
        Ok(fresh)
    }

    /// Puts it in the old version's place, in one step that outlasts a power cut.
    pub(crate) fn put(self) -> io::Result<()> {
        fs::rename(&self.temp, &self.target)?;
        sync_folder_of(&self.target)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // After `put` there is none.
        let _none_left = fs::remove_file(&self.temp);
    }
}

/// Removes what a process that was killed while it wrote has left beside `target`. Only for who holds the home.
pub(crate) fn remove_leftovers(target: &Path) {
    let prefix = prefix(target);
    let entries = target.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
            // One that stays is only a waste of space.
            let _kept = fs::remove_file(entry.path());
        }
    }
}

fn prefix(target: &Path) -> OsString {
    let mut prefix = target.file_name().unwrap_or(OsStr::new("file")).to_owned();
    prefix.push(MARK);
    prefix
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
