//! What stands around an app's command for those who look: the version of the package that it belongs to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::json::{self, Dialect};
use crate::tree::Value;

const PACKAGE: &str = "package.json";
/// Longer ones are not read.
const PACKAGE_BYTES_MAX: u64 = 1 << 20;

/// The version in the nearest `package.json`, from this folder upwards.
pub(crate) fn version(folder: &Path) -> Option<String> {
    let found = folder.ancestors().map(|folder| folder.join(PACKAGE)).find(|path| path.is_file())?;
    let mut text = String::new();
    File::open(found).ok()?.take(PACKAGE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let Value::Object(entries) = json::read(&text, Dialect::Json).ok()?.root.value else { return None };
    let version = entries.into_iter().find(|entry| entry.key == "version")?;
    match version.node.value {
        Value::Text(version) if !version.chars().any(char::is_control) => Some(version),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn the_nearest_package_counts() {
        let folder = Folder::new();
        folder.file("package.json", "{\"name\": \"a\", \"version\": \"1.2.3\"}", 0o644);
        folder.file("sub/package.json", "{\"version\": 5}", 0o644);
        folder.file("src/deep/a.js", "", 0o644);
        assert_eq!(version(&folder.path().join("src/deep")).as_deref(), Some("1.2.3"));
        assert_eq!(version(&folder.path().join("sub")), None);
    }
}
