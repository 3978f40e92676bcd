//! Which build this is.

use std::sync::LazyLock;

/// The package's version, and after a `+` what `OXHERD_BUILD` was when the program was built, if it was set: packagers
/// and tests tell their builds apart by it.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("OXHERD_BUILD") {
    Some(build) if !build.is_empty() => format!("{}+{build}", env!("CARGO_PKG_VERSION")),
    _ => env!("CARGO_PKG_VERSION").to_owned(),
});

/// As people and other builds see it.
pub(crate) fn version() -> &'static str {
    &VERSION
}
