//! The home folder: its paths, who may use it, and who holds it.
//!
//! One daemon at a time holds a home, by the lock on a file in it. Must never wait for anybody, never remove
//! anything without holding the lock, and never loosen a permission.

mod error;
mod replace;
#[cfg(test)]
pub(crate) mod scratch;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use oxherd_os::files::{open_append, own_user};
use oxherd_os::lock::try_lock;
use oxherd_os::socket::{UNIX_PATH_MAX, listen_unix_private, somebody_listens};

pub use self::error::HomeError;
pub(crate) use self::error::cause;
pub(crate) use self::replace::{Fresh, remove_leftovers};

/// The daemon's own log begins anew, keeping one old file, when it is that long at a start.
const LOG_BYTES_MAX: u64 = 5 << 20;
/// Clients that may wait for the control socket.
const BACKLOG: i32 = 128;
/// What others must not be allowed to do with the folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What we and the command line make in the folder, by how the names begin.
const OURS: [&str; 10] = [
    "oxherd.sock",
    "oxherd.pid",
    "primary",
    "lock",
    "state.json",
    "saved.json",
    "daemon.log",
    "conf.json",
    "logs",
    "pids",
];

/// A home folder; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// `$OXHERD_HOME`, or else `$HOME/.oxherd`.
    ///
    /// # Errors
    /// Neither is set, or the path is too long for a socket in it.
    pub fn find() -> Result<Self, HomeError> {
        Self::at(&chosen(|name| env::var_os(name)).ok_or(HomeError::Unknown)?)
    }

    /// The home that a client means: the usual one, or where nobody chose one and it cannot be used, the one that a herd in
    /// the foreground has made up for it and serves. Whoever starts what lasts wants [`Home::find`].
    ///
    /// # Errors
    /// As for [`Home::find`].
    pub fn find_served() -> Result<Self, HomeError> {
        match is_chosen() {
            true => Self::find(),
            false => Self::served(Self::find(), substitutes()),
        }
    }

    fn served(
        usual: Result<Self, HomeError>,
        mut substitutes: impl Iterator<Item = PathBuf>,
    ) -> Result<Self, HomeError> {
        let is_answered = |home: &Self| somebody_listens(&home.socket()).unwrap_or(false);
        if usual.as_ref().is_ok_and(is_answered) {
            return usual;
        }
        let is_served = |home: &Self| check_folder(&home.folder).is_ok() && is_answered(home);
        // Before the usual one is tried, which makes it: most often nobody is there.
        let Some(substitute) =
            substitutes.find_map(|folder| Self::at(&folder).ok().filter(|home| is_served(home)))
        else {
            return usual;
        };
        usual.and_then(Self::usable).or(Ok(substitute))
    }

    /// The home at `folder`; a relative path counts from the current folder.
    ///
    /// # Errors
    /// The path is too long for a socket in it.
    pub fn at(folder: &Path) -> Result<Self, HomeError> {
        let home = Self { folder: std::path::absolute(folder).map_err(HomeError::refused(folder))? };
        let path = home.socket();
        if path.as_os_str().len() > UNIX_PATH_MAX {
            return Err(HomeError::SocketPathTooLong { path });
        }
        Ok(home)
    }

    /// A home for a herd in the foreground, which keeps nothing in it: the usual one, or where nobody chose one and that
    /// cannot be used, a folder of this user's below the temporary one or `/dev/shm`. A container's own file system is
    /// often read-only. The text says that, for people.
    ///
    /// # Errors
    /// No folder can be used.
    pub fn for_foreground() -> Result<(Self, Option<String>), HomeError> {
        let refusal = match Self::find().and_then(Self::usable) {
            Ok(home) => return Ok((home, None)),
            Err(error) => error,
        };
        if is_chosen() {
            return Err(refusal);
        }
        let found = substitutes().find_map(|folder| Self::at(&folder).and_then(Self::usable).ok());
        let Some(home) = found else { return Err(refusal) };
        let doubt = format!("{refusal}; using {} instead", home.folder.display());
        Ok((home, Some(doubt)))
    }

    /// The folder itself, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("oxherd.sock")
    }

    /// The file with the keeper's pid, for people and for systemd.
    pub fn pid_file(&self) -> PathBuf {
        self.folder.join("oxherd.pid")
    }

    /// The file by which the next keeper knows the workers of this one.
    pub fn primary_file(&self) -> PathBuf {
        self.folder.join("primary")
    }

    /// The file whose lock says who serves this home.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The saved state.
    pub fn state_file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// The snapshot that `save` makes.
    pub fn snapshot_file(&self) -> PathBuf {
        self.folder.join("saved.json")
    }

    /// The daemon's own log.
    pub fn daemon_log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// The folder with the workers' output.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Whether something of this name in the folder is written by us: also with an ending, as old and new versions have.
    pub(crate) fn is_ours(name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        OURS.iter().any(|ours| name.starts_with(ours.as_bytes()))
    }

    /// Makes the folders that are missing and checks those that are there: ours, closed to others, writable.
    /// A disk without space is no error as long as files can be made: supervising needs none.
    ///
    /// # Errors
    /// The home cannot be used; the error says what to do.
    pub fn prepare(&self) -> Result<(), HomeError> {
        make_folder(&self.folder)?;
        let probe = self.folder.join(format!(".probe-{}", std::process::id()));
        open_append(&probe).map_err(HomeError::refused(&self.folder))?;
        fs::remove_file(&probe).map_err(HomeError::refused(&self.folder))?;
        make_folder(&self.logs())
    }

    fn usable(self) -> Result<Self, HomeError> {
        self.prepare().map(|()| self)
    }

    /// Takes the home for this process, until the last copy of the descriptor is closed; `None` while another
    /// holds it.
    ///
    /// # Errors
    /// The lock's file cannot be used.
    pub fn lock(&self) -> Result<Option<OwnedFd>, HomeError> {
        try_lock(&self.lock_file()).map_err(HomeError::refused(&self.folder))
    }

    /// Listens on the control socket, which only this user may connect to from its first moment on. `_held` is the
    /// home's lock: a socket that nobody listens at is stale then, and replaced.
    ///
    /// # Errors
    /// The path is taken, or the folder cannot be used.
    pub fn bind_control_socket(&self, _held: BorrowedFd<'_>) -> Result<OwnedFd, HomeError> {
        let path = self.socket();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(HomeError::InTheWay { path }),
            Ok(_) if somebody_listens(&path).map_err(HomeError::refused(&path))? => {
                return Err(HomeError::Occupied { path });
            }
            Ok(_) => fs::remove_file(&path).map_err(HomeError::refused(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HomeError::refused(&path)(error)),
        }
        listen_unix_private(&path, BACKLOG).map_err(HomeError::refused(&path))
    }

    /// Writes the keeper's pid, in one step, in place of whatever is there.
    ///
    /// # Errors
    /// The file cannot be written, as on a full disk. Nothing of ours needs it: tell people and go on.
    pub fn write_pid(&self, keeper: u32) -> Result<(), HomeError> {
        let path = self.pid_file();
        Fresh::write(&path, |file| writeln!(file, "{keeper}"))
            .and_then(Fresh::put)
            .map_err(HomeError::refused(&path))
    }

    /// The pid in the pid file, which may be long out of date: only the lock says whether somebody is there.
    pub fn read_pid(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// Opens the daemon's own log for appending. One that has grown long is renamed to `daemon.log.1` first.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_daemon_log(&self) -> Result<File, HomeError> {
        let path = self.daemon_log();
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.len() >= LOG_BYTES_MAX) {
            let old = self.folder.join("daemon.log.1");
            fs::rename(&path, old).map_err(HomeError::refused(&path))?;
        }
        open_append(&path).map_err(HomeError::refused(&path))
    }

    /// Removes the control socket, the pid file and the keeper's mark, at an orderly end. `_held` is the home's lock. The lock's file
    /// stays: whoever waits for it would otherwise hold another one.
    pub fn clear(&self, _held: BorrowedFd<'_>) {
        for path in [self.socket(), self.pid_file(), self.primary_file()] {
            // The next daemon replaces what stays.
            let _stale = fs::remove_file(path);
        }
    }
}

/// Does something on a disk that may hang: waits for so long, and then leaves it to its thread.
pub(crate) fn in_time(limit: Duration, act: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let doing = move || {
        act();
        let _nobody_waits_any_more = done.send(());
    };
    if thread::Builder::new().name("home".into()).spawn(doing).is_ok() {
        let _late = is_done.recv_timeout(limit);
    }
}

fn chosen(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OXHERD_HOME").or_else(|| Some(set("HOME")?.join(".oxherd")))
}

fn is_chosen() -> bool {
    env::var_os("OXHERD_HOME").is_some_and(|chosen| !chosen.is_empty())
}

/// Where a herd in the foreground may be when the usual home cannot be used.
fn substitutes() -> impl Iterator<Item = PathBuf> {
    let name = format!("oxherd-{}", own_user());
    // Anybody may have put a link there, to a folder of ours that is for something else.
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_symlink());
    let places = [env::temp_dir(), PathBuf::from("/dev/shm")].into_iter();
    places.map(move |place| place.join(&name)).filter(move |folder| !is_link(folder))
}

/// Makes the folder, closed to others, unless it is there and fit for use.
fn make_folder(path: &Path) -> Result<(), HomeError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        // Whatever the error says: file systems differ in which they tell first.
        Err(_) if fs::symlink_metadata(path).is_ok() => check_folder(path),
        Err(error) => Err(not_made(path, error)),
    }
}

fn not_made(path: &Path, error: io::Error) -> HomeError {
    match path.parent() {
        Some(parent) if error.kind() == io::ErrorKind::NotFound => {
            HomeError::NoParent { path: path.to_owned(), parent: parent.to_owned() }
        }
        _ => HomeError::refused(path)(error),
    }
}

fn check_folder(path: &Path) -> Result<(), HomeError> {
    let metadata = fs::metadata(path).map_err(HomeError::refused(path))?;
    let (owner, own) = (metadata.uid(), own_user());
    let path = path.to_owned();
    if !metadata.is_dir() {
        return Err(HomeError::NotAFolder { path });
    }
    if owner != own {
        return Err(HomeError::NotOurs { path, owner, own });
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(HomeError::Open { path });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
