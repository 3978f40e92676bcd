//! The answer to one request.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rustix::fs::OFlags;

use super::body::Content;
use super::range::{self, Part};
use super::{Site, path, types};

const INDEX: &str = "index.html";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const BASIC: &[u8] = b"Basic ";
/// So many entries of a folder are listed.
const LISTED_MAX: usize = 10_000;

type Answer = Response<Content>;

/// Answers a request. Nothing that a client sends is an error of ours.
pub(super) async fn answer(site: &Site, request: &Request<Incoming>) -> Answer {
    if !is_allowed(site, request.headers()) {
        let mut refusal = plain(StatusCode::UNAUTHORIZED, "a name and a password are wanted\n");
        put(&mut refusal, header::WWW_AUTHENTICATE, "Basic realm=\"oxherd\"");
        return refusal;
    }
    // Of an answer to HEAD hyper sends the head only.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        put(&mut refusal, header::ALLOW, "GET, HEAD");
        return refusal;
    }
    let (site, path, headers) = (site.clone(), request.uri().path().to_owned(), request.headers().clone());
    // A disk may hang: nobody else waits for it.
    let found = tokio::task::spawn_blocking(move || look(&site, &path, &headers)).await;
    let mut answer =
        found.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer failed\n"));
    put(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// Compared in the same time whatever is different. The scheme may be written in any case.
fn is_allowed(site: &Site, headers: &HeaderMap) -> bool {
    let Some(wanted) = &site.authorization else { return true };
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let (Some(wanted), Some(given)) = (credentials(wanted.as_bytes()), credentials(given)) else {
        return false;
    };
    let difference = wanted.iter().enumerate().fold(wanted.len() ^ given.len(), |difference, (at, byte)| {
        difference | usize::from(byte ^ given.get(at).copied().unwrap_or(0))
    });
    difference == 0
}

/// What follows the scheme `Basic`.
fn credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(BASIC.len())?;
    scheme.eq_ignore_ascii_case(BASIC).then(|| rest.trim_ascii())
}

fn look(site: &Site, path: &str, headers: &HeaderMap) -> Answer {
    let Some(inside) = path::decode(path) else { return plain(StatusCode::BAD_REQUEST, "this is no path\n") };
    let found = path::find(&site.root, &inside).and_then(|file| Ok((fs::metadata(&file)?, file)));
    match found {
        Ok((metadata, folder)) if metadata.is_dir() => look_into(site, path, &folder, headers),
        Ok((_, file)) => match open(&file) {
            Ok(opened) => send(&file, opened, headers),
            Err(error) => refuse(site, &error, headers),
        },
        Err(error) => refuse(site, &error, headers),
    }
}

fn look_into(site: &Site, path: &str, folder: &Path, headers: &HeaderMap) -> Answer {
    if !path.ends_with('/') {
        let mut answer = plain(StatusCode::MOVED_PERMANENTLY, "");
        // Two slashes at its begin would name another host.
        put(&mut answer, header::LOCATION, &format!("/{}/", path.trim_matches('/')));
        return answer;
    }
    let inside = folder.strip_prefix(&site.root).unwrap_or(folder).join(INDEX);
    match path::find(&site.root, &inside).and_then(|index| Ok((open(&index)?, index))) {
        Ok((opened, index)) => send(&index, opened, headers),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied && site.lists => list(path, folder),
        Err(error) => refuse(site, &error, headers),
    }
}

fn refuse(site: &Site, error: &io::Error, headers: &HeaderMap) -> Answer {
    match error.kind() {
        io::ErrorKind::PermissionDenied => plain(StatusCode::FORBIDDEN, "this file cannot be read\n"),
        _ => missing(site, headers),
    }
}

fn missing(site: &Site, headers: &HeaderMap) -> Answer {
    let index = site.fallback.as_ref().and_then(|page| path::find(&site.root, page).ok());
    match index.and_then(|index| Some((open(&index).ok()?, index))) {
        Some((opened, index)) => send(&index, opened, headers),
        None => plain(StatusCode::NOT_FOUND, "there is no such file\n"),
    }
}

/// A regular file, and no other: a pipe or a device may never be read to its end, and a pipe that nobody writes to would
/// not even be opened. What was looked at before may be another thing by now: what is open counts.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn send(path: &Path, (file, metadata): (File, Metadata), headers: &HeaderMap) -> Answer {
    let mark = Mark::of(&metadata);
    let mut answer = match mark.is_known_to(headers) {
        true => Response::new(Content::nothing()),
        false => match content(file, metadata.len(), &mark, headers) {
            Ok(answer) => answer,
            Err(_) => return plain(StatusCode::FORBIDDEN, "this file cannot be read\n"),
        },
    };
    if mark.is_known_to(headers) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    put(&mut answer, header::CONTENT_TYPE, types::of(&path.to_string_lossy()));
    put(&mut answer, header::ETAG, &mark.tag);
    put(&mut answer, header::LAST_MODIFIED, &mark.date);
    put(&mut answer, header::CACHE_CONTROL, "no-cache");
    put(&mut answer, header::ACCEPT_RANGES, "bytes");
    answer
}

/// The file, or the part of it that is wanted.
fn content(file: File, size: u64, mark: &Mark, headers: &HeaderMap) -> io::Result<Answer> {
    let range = text_of(headers, header::RANGE).filter(|_| mark.allows_range(headers));
    Ok(match range.map_or(Part::Whole, |range| range::read(range, size)) {
        Part::Whole => Response::new(Content::file(file, 0, size)?),
        Part::Bytes { first, last } => {
            let mut answer = Response::new(Content::file(file, first, last - first + 1)?);
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            put(&mut answer, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            answer
        }
        Part::Outside => {
            let mut answer = Response::new(Content::nothing());
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            put(&mut answer, header::CONTENT_RANGE, &format!("bytes */{size}"));
            answer
        }
    })
}

/// What tells a file from what it was before.
struct Mark {
    tag: String,
    date: String,
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let seconds = UNIX_EPOCH + Duration::from_secs(age.as_secs());
        Self {
            tag: format!("\"{:x}-{:x}\"", age.as_nanos(), metadata.len()),
            date: httpdate::fmt_http_date(SystemTime::min(seconds, SystemTime::now())),
        }
    }

    /// A tag counts more than a date.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        match text_of(headers, header::IF_NONE_MATCH) {
            Some(tags) => tags
                .split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == self.tag || tag == "*"),
            None => text_of(headers, header::IF_MODIFIED_SINCE).is_some_and(|date| date == self.date),
        }
    }

    /// A part of another file would be worse than the whole of this one.
    fn allows_range(&self, headers: &HeaderMap) -> bool {
        text_of(headers, header::IF_RANGE).is_none_or(|mark| mark == self.tag || mark == self.date)
    }
}

fn list(path: &str, folder: &Path) -> Answer {
    let Ok(entries) = fs::read_dir(folder) else {
        return plain(StatusCode::FORBIDDEN, "this folder cannot be read\n");
    };
    let shown = entries.filter_map(Result::ok).filter(|entry| !path::is_hidden(&entry.file_name()));
    let named = shown.take(LISTED_MAX).map(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (!is_folder, entry.file_name().to_string_lossy().into_owned())
    });
    let mut names: Vec<(bool, String)> = named.collect();
    names.sort();
    let title = escaped(path);
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if path != "/" {
        page += "<li><a href=\"../\">../</a></li>\n";
    }
    for (is_file, name) in names {
        let slash = if is_file { "" } else { "/" };
        page +=
            &format!("<li><a href=\"{}{slash}\">{}{slash}</a></li>\n", path::encode(&name), escaped(&name));
    }
    page += "</ul>\n";
    let mut answer = Response::new(Content::text(page));
    put(&mut answer, header::CONTENT_TYPE, HTML);
    answer
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Content::text(text));
    *answer.status_mut() = status;
    put(&mut answer, header::CONTENT_TYPE, TEXT);
    answer
}

/// What cannot stand in a header is left out.
fn put(answer: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}
