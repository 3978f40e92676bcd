//! Which file this program was started from. Looks only.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What Linux puts behind the name of a file that is not there any more.
const DELETED: &[u8] = b" (deleted)";

/// The path that this program was started from: what stands there later is what a reload runs. A symbolic link on
/// the way stays one, so that turning it to another release counts.
pub(super) fn started_from() -> io::Result<PathBuf> {
    let program = without_mark(env::current_exe()?);
    let typed = env::args_os().next().and_then(|name| find(&name));
    Ok(typed.filter(|typed| is_same(typed, &program)).unwrap_or(program))
}

/// Where a shell would have found it.
fn find(name: &OsString) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let folders = env::var_os("PATH")?;
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())?;
    std::path::absolute(found).ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// The file may have been replaced since the program was started.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(rest) if !path.exists() => PathBuf::from(OsString::from_vec(rest.to_vec())),
        Some(_) | None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_where_it_was_started_from() {
        assert!(is_same(&started_from().unwrap(), &env::current_exe().unwrap()));
        assert!(started_from().unwrap().is_absolute());
    }

    #[test]
    fn a_file_that_was_replaced_is_meant_all_the_same() {
        assert_eq!(without_mark("/no/such/app (deleted)".into()), Path::new("/no/such/app"));
        assert_eq!(without_mark("/bin".into()), Path::new("/bin"));
    }

    #[test]
    fn names_without_a_slash_are_looked_for() {
        assert!(find(&"sh".into()).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(&"no-such-program-anywhere".into()), None);
    }
}
