//! Where things are, from the environment at run time: the same test program also runs from a copy elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The release lines of Node that are tested.
pub const NODES: [&str; 5] = ["18", "20", "22", "24", "26"];
/// Makes a test for each of [`NODES`], named after it, of a function that takes the release line.
#[macro_export]
macro_rules! for_each_node {
    ($works:path) => {
        $crate::for_each_node!($works: node_18 "18", node_20 "20", node_22 "22", node_24 "24", node_26 "26");
    };
    ($works:path: $($name:ident $line:literal),*) => {$(
        #[test]
        fn $name() {
            $works($line);
        }
    )*};
}

/// What runs fixtures where the version does not matter.
pub const DEFAULT_NODE: &str = "22";

const HOW: &str = "run `cargo xtask e2e`, which builds and installs what the tests need";

/// The program under test: `OXHERD_BIN`, or the `oxherd` that cargo put beside this test's folder.
pub fn oxherd() -> PathBuf {
    let path = std::env::var_os("OXHERD_BIN").map(PathBuf::from).unwrap_or_else(|| target().join("oxherd"));
    assert!(path.is_file(), "there is no program at {}: {HOW}", path.display());
    path
}

/// Another build of it, which says another version: `OXHERD_BIN_OTHER`.
pub fn other_oxherd() -> PathBuf {
    let beside = || target().with_file_name("other").join("oxherd");
    let path = std::env::var_os("OXHERD_BIN_OTHER").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "there is no other build at {}: {HOW}", path.display());
    path
}

/// One of the example programs, by its name: in `OXHERD_EXAMPLES`, or where cargo put it beside this test's folder.
pub fn example(name: &str) -> PathBuf {
    let folder = std::env::var_os("OXHERD_EXAMPLES").map_or_else(|| target().join("examples"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "there is no example at {}: {HOW}", path.display());
    path
}

/// One Node, by its release line.
pub fn node(line: &str) -> PathBuf {
    let path = tools().join(format!("node-{line}/bin/node"));
    assert!(path.is_file(), "there is no Node {line} at {}: {HOW}", path.display());
    path
}

/// The npm packages that fixtures may load.
pub fn node_modules() -> PathBuf {
    tools().join("npm/node_modules")
}

/// A program of the package's `fixtures` folder.
pub fn fixture(name: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let path = package.unwrap_or_else(|| ".".into()).join("fixtures").join(name);
    assert!(path.exists(), "there is no fixture at {}", path.display());
    path
}

/// Something that was installed for tests, by its place in the tools folder.
pub fn tool(inside: &str) -> PathBuf {
    let path = tools().join(inside);
    assert!(path.exists(), "there is nothing at {}: {HOW}", path.display());
    path
}

/// The system's Python: another may be in a folder that only its owner can enter.
pub fn python() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() { system } else { on_path("python3") }
}

/// A program by its name.
pub fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {name} on PATH: {HOW}"))
}

fn tools() -> PathBuf {
    // target/debug and target/tools are neighbours.
    let beside = || target().parent().map(|target| target.join("tools")).unwrap_or_default();
    std::env::var_os("OXHERD_TOOLS").map(PathBuf::from).unwrap_or_else(beside)
}

/// The profile's folder, such as `target/debug`: this test's program is in `deps` below it.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.ancestors().nth(2).expect("a test program is two folders deep").to_owned()
}

/// A temporary folder that goes away with its owner. Its path is short enough for a socket in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    #[allow(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("herd-{}-{number}", std::process::id()));
        // One of a killed run may still be there.
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it, whole at once for whoever reads it meanwhile.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, partial) = (self.0.join(name), self.0.join(format!(".{name}.partial")));
        fs::write(&partial, text).expect("the folder is writable");
        fs::rename(&partial, &path).expect("the folder is writable");
        path
    }

    /// Copies a fixture into it under a name.
    pub fn copy(&self, fixture_name: &str, name: &str) -> PathBuf {
        let text = fs::read_to_string(fixture(fixture_name)).expect("a fixture is readable");
        self.write(name, &text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
