//! From the path of a request to a file: decoded, without a step upwards, and inside the folder after all links.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What others are to find at every site.
const WELL_KNOWN: &str = ".well-known";

/// The path below the root that a request names; nothing when it is malformed or would lead out.
pub(super) fn decode(path: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.trim_start_matches('/').split('/') {
        let part = percent_decoded(part)?;
        match part.as_str() {
            "" | "." => {}
            ".." => return None,
            part if part.contains(['/', '\0', '\\']) => return None,
            part => inside.push(part),
        }
    }
    Some(inside)
}

/// The file itself, where all links lead to a place inside, and neither its path nor the link's is hidden.
pub(super) fn find(root: &Path, inside: &Path) -> std::io::Result<PathBuf> {
    let missing = || Err(std::io::ErrorKind::NotFound.into());
    if inside.iter().any(is_hidden) {
        return missing();
    }
    let found = root.join(inside).canonicalize()?;
    match found.strip_prefix(root) {
        Ok(place) if !place.iter().any(is_hidden) => Ok(found),
        Ok(_) | Err(_) => missing(),
    }
}

/// Dotfiles are settings, secrets and histories of a folder's owner, not pages.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") && name != WELL_KNOWN
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                bytes.push((high * 16 + low) as u8);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name as a part of a path in a link.
pub(super) fn encode(name: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_upwards() {
        let inside = |path: &str| decode(path).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(inside("/a/./b//c%20d").as_deref(), Some("a/b/c d"));
        assert_eq!(inside("/").as_deref(), Some(""));
        for bad in ["/..", "/a/../b", "/%2e%2e/x", "/a%2fb", "/..%5c", "/%00", "/%zz", "/%", "/%ff"] {
            assert_eq!(inside(bad), None, "{bad}");
        }
        assert_eq!(encode("a b/ü"), "a%20b%2F%C3%BC");
    }
}
