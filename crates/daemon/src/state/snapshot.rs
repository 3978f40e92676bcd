//! The snapshot: what was wanted when somebody said `save`, in a file of its own, for going back to.
//!
//! It is written whole or not at all, readable by its owner only, and only when somebody asks.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use oxherd_core::{Desired, DesiredApp};
use oxherd_os::clock::wall_millis;

use super::file::{self, Fault, STATE_VERSION};
use crate::home::{Fresh, cause, remove_leftovers};

/// Saves what is wanted in place of an earlier snapshot.
///
/// # Errors
/// It cannot be written; the earlier one is as it was.
pub(crate) fn write(path: &Path, desired: &Desired) -> Result<(), String> {
    remove_leftovers(path);
    let written = Fresh::write(path, |writer| {
        write!(writer, r#"{{"version":{STATE_VERSION},"saved_at_ms":{},"apps":["#, wall_millis())?;
        file::write_apps(writer, desired.apps.iter())?;
        writer.write_all(br#"],"dormant":[]}"#)?;
        writer.write_all(b"\n")
    });
    written.and_then(Fresh::put).map_err(|error| {
        format!("cannot save {}: {} (what was saved before stays)", path.display(), cause(&error))
    })
}

/// The apps of the snapshot; none where there is no snapshot.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<Arc<DesiredApp>>, String> {
    match file::read(path) {
        Ok(Some(state)) => Ok(state.apps.into_iter().map(Arc::new).collect()),
        Ok(None) => Ok(Vec::new()),
        Err(fault @ (Fault::Missing | Fault::Unread(_) | Fault::Damaged(_) | Fault::Version { .. })) => {
            Err(format!("cannot read the snapshot {}: {fault} (`oxherd save` makes another)", path.display()))
        }
    }
}

/// Removes the snapshot; tells whether there was one.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<bool, String> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot remove {}: {}", path.display(), cause(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use oxherd_core::{AppId, AppSpec, Generation};

    use super::*;
    use crate::home::scratch::Scratch;

    #[test]
    fn a_snapshot_is_private_and_replaced_whole() {
        let scratch = Scratch::new();
        let path = scratch.join("saved.json");
        assert!(read(&path).unwrap().is_empty());
        let app = |name: &str| DesiredApp {
            app: AppId(3),
            generation: Generation(2),
            spec: AppSpec::new(name, "node"),
            instances: 2,
            up: false,
        };
        for name in ["web", "api"] {
            write(&path, &Desired { apps: vec![app(name)] }).unwrap();
            assert_eq!(read(&path).unwrap(), [Arc::new(app(name))]);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{\"version\":1,").unwrap();
        assert!(read(&path).unwrap_err().contains("it is damaged: it ends too early"));
        assert_eq!((remove(&path), remove(&path)), (Ok(true), Ok(false)));
    }
}
