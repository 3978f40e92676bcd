//! Why a home cannot be used, in words that name the way out.

use std::io;
use std::path::{Path, PathBuf};

use oxherd_os::socket::UNIX_PATH_MAX;
use thiserror::Error;

/// Why the home folder cannot be used. All of these are for people to mend.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Nothing says where the home is: set one of the variables.
    #[error(
        "there is no home folder: neither OXHERD_HOME nor HOME is set (set OXHERD_HOME to a folder that you may write)"
    )]
    Unknown,
    /// The system refuses: the text names the way out.
    #[error("cannot use {}: {} ({})", path.display(), cause(source), way_out(source))]
    Refused {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The folder in which the home is to be made is not there: make it, or choose another.
    #[error(
        "cannot use {}: there is no folder {} (make it, or set OXHERD_HOME to a folder that you may write)",
        path.display(), parent.display()
    )]
    NoParent {
        /// The home.
        path: PathBuf,
        /// The folder that is missing.
        parent: PathBuf,
    },
    /// Something else than a folder is at the path: move it away.
    #[error("cannot use {}: it is not a folder (move it away, or set OXHERD_HOME to a folder)", path.display())]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// Another user's folder, also for root: files of ours in it would lock its owner out.
    #[error(
        "cannot use {}: it belongs to user id {owner}, and this is user id {own} (act as that user, or set OXHERD_HOME \
         to a folder of your own)",
        path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// Others may put files into the folder: close it.
    #[error("cannot use {0}: other users may write to it (close it with: chmod 700 {0})", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
    },
    /// The kernel's limit for the path of a socket: choose a shorter home.
    #[error(
        "cannot use {}: the path of a socket has at most {UNIX_PATH_MAX} bytes, this one {} (set OXHERD_HOME to a \
         shorter path)",
        path.display(), path.as_os_str().len()
    )]
    SocketPathTooLong {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something else than a socket is where the control socket belongs: move it away.
    #[error("cannot listen on {}: a file that is no socket is in the way (move it away)", path.display())]
    InTheWay {
        /// What is there.
        path: PathBuf,
    },
    /// A process that does not hold the home's lock listens at the control socket: end it.
    #[error(
        "cannot listen on {0}: another process listens there, without holding this home (see who it is with: ss -xlp \
         src {0})",
        path.display()
    )]
    Occupied {
        /// The socket's path.
        path: PathBuf,
    },
}

impl HomeError {
    pub(super) fn refused(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Refused { path, source }
    }
}

/// What the system says, as part of a sentence.
pub(crate) fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        _ => lower(&error.to_string()),
    }
}

/// Without its capital and its number.
fn lower(text: &str) -> String {
    let text = text.split_once(" (os error").map_or(text, |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_lowercase(), chars.as_str()))
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set OXHERD_HOME to a folder elsewhere"
        }
        _ => "set OXHERD_HOME to a folder that you may write",
    }
}
