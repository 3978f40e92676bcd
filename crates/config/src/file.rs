//! A file as a whole: its kind, its apps, and what must hold between them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::diagnostics::{Diagnostics, Place, Source, shown};
use crate::draft;
use crate::job::{Job, Surroundings};
use crate::json::{self, Dialect};
use crate::keys::{self, Meaning};
use crate::program::words;
use crate::raw::RawApp;
use crate::script;
use crate::statics;
use crate::toml;
use crate::tree::{Document, Entry, Fault, Node, Value};
use crate::typed::Typed;
use crate::yaml;

/// Longer files are refused.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// More apps in a file are refused.
const APPS_MAX: usize = 1024;
/// Where servers of files stand.
const STATIC: &str = "static";
/// How the names of keys begin that are nobody's.
const EXTENSION: &str = "x-";
/// What stands in place of a file's name where its text came by another way: it is JSON.
pub const STDIN: &str = "<stdin>";

/// How a file's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Yaml,
    Toml,
    /// By running it.
    Script,
}

/// Kinds of files by the end of their names.
const KINDS: [(&str, Kind); 8] = [
    (".json", Kind::Json),
    (".json5", Kind::Json),
    (".yaml", Kind::Yaml),
    (".yml", Kind::Yaml),
    (".toml", Kind::Toml),
    (".config.js", Kind::Script),
    (".config.cjs", Kind::Script),
    (".config.mjs", Kind::Script),
];

/// Whether a file of this name is a list of apps rather than a script.
pub fn is_config(path: &Path) -> bool {
    kind_of(path).is_some()
}

fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path == Path::new(STDIN) {
        return Some(Kind::Json);
    }
    KINDS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| *kind)
}

/// Reads the file at `path`, which is relative to the current folder.
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Vec<RawApp>, Diagnostics> {
    let refuse = |what: &str| Diagnostics::of_file(path.display().to_string(), what);
    checked_kind(path)?;
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    let read = file.and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|cause| match cause.kind() {
        io::ErrorKind::IsADirectory => refuse("cannot be read: it is a folder; name the file in it"),
        _ => refuse(&format!("cannot be read: {}", words(&cause))),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = good.filter(|byte| **byte == b'\n').count() + 1;
        refuse(&format!("cannot be read: line {line} is not UTF-8"))
    })?;
    read_text(path, &text, surroundings)
}

/// Reads the text of the file at `path`. Everything that is wrong with it is told at once.
pub fn read(path: &Path, text: &str, surroundings: &Surroundings) -> Result<Vec<RawApp>, Diagnostics> {
    read_text(path, text, surroundings)
}

/// All apps as jobs, or all that is wrong with any.
pub fn jobs(apps: &[RawApp], surroundings: &Surroundings) -> Result<Vec<Job>, Diagnostics> {
    let (mut jobs, mut wrong) = (Vec::<Job>::new(), None::<Diagnostics>);
    for app in apps {
        match app.job(surroundings) {
            Ok(mut job) => {
                // What is odd about the caller's environment is so for all, and said once.
                job.doubts.retain(|doubt| !jobs.iter().any(|other| other.doubts.contains(doubt)));
                jobs.push(job);
            }
            Err(more) => {
                wrong = Some(match wrong {
                    Some(known) => known.and(more),
                    None => more,
                });
            }
        }
    }
    wrong.map_or(Ok(jobs), Err)
}

fn checked_kind(path: &Path) -> Result<Kind, Diagnostics> {
    kind_of(path).ok_or_else(|| {
        let endings: Vec<&str> = KINDS.iter().map(|(ending, _)| *ending).collect();
        let what = format!("is no list of apps: its name does not end in {}", endings.join(", "));
        Diagnostics::of_file(path.display().to_string(), what)
    })
}

fn read_text(path: &Path, text: &str, surroundings: &Surroundings) -> Result<Vec<RawApp>, Diagnostics> {
    let kind = checked_kind(path)?;
    let name = path.display().to_string();
    if text.len() > FILE_BYTES_MAX {
        return Err(Diagnostics::of_file(name, format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    let source = Arc::new(Source::new(name, text));
    let document = match kind {
        Kind::Json => json::read(&source.text, Dialect::Json5),
        Kind::Yaml => yaml::read(&source.text),
        Kind::Toml => toml::read(&source.text),
        Kind::Script => script::read(&surroundings.folder.join(path), &source, surroundings),
    };
    let Document { mut root, repeated } = document.map_err(|fault| unreadable(kind, &source, fault))?;
    pass_over_extensions(&mut root);
    let written = matches!(kind, Kind::Yaml | Kind::Toml).then(|| Arc::clone(&source));
    let mut typed = Typed { as_pm2: surroundings.as_pm2, written, ..Typed::default() };
    for again in repeated {
        let line = source.line(again.first.start);
        let what = format!("the key `{}` is already on line {line}", shown(&again.key));
        typed.wrong_but(&again.place, what, "keep one of them");
    }
    let mut apps = read_apps(&source, &root, &mut typed);
    let folder = surroundings.clone().beside(path).folder;
    apps.iter_mut().for_each(|app| app.wish.settle_line(&folder));
    check_names(&source, &apps, &mut typed);
    if let Some(first) = apps.first_mut() {
        let line =
            |(place, what): &(Place, String)| format!("{}:{}: {what}", source.name, source.line(place.start));
        first.doubts.extend(typed.doubts.iter().map(line));
    }
    typed.findings.conclude(&source, apps)
}

/// What is wrong with the text as such. A script as a whole has no place.
fn unreadable(kind: Kind, source: &Source, fault: Fault) -> Diagnostics {
    let Fault { place, what, hint } = fault;
    if kind == Kind::Script && place == (0..0) {
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        return Diagnostics::of_file(source.name.clone(), format!("{what}{hint}"));
    }
    Diagnostics::at(source, &place, what, hint)
}

/// Keys at the top that begin with `x-` are the file's own, for what is used elsewhere in it.
fn pass_over_extensions(root: &mut Node) {
    if let Value::Object(entries) = &mut root.value {
        entries.retain(|entry| !entry.key.starts_with(EXTENSION));
    }
}

fn read_apps(source: &Arc<Source>, root: &Node, typed: &mut Typed) -> Vec<RawApp> {
    let mut servers = Vec::new();
    if let Value::Object(entries) = &root.value
        && !is_app(entries, typed.as_pm2)
    {
        let beside = entries.iter().filter(|entry| entry.key == STATIC);
        servers.extend(beside.flat_map(|entry| statics::read(source, entry, typed)));
    }
    let items = match &root.value {
        Value::List(items) => items.as_slice(),
        Value::Object(entries) if is_app(entries, typed.as_pm2) => std::slice::from_ref(root),
        Value::Object(entries) => apps_among(root, entries, typed),
        _ => {
            typed.wrong(
                &root.place,
                format!("an object or a list of apps is wanted, found {}", root.value.kind()),
            );
            return Vec::new();
        }
    };
    if items.is_empty() && matches!(root.value, Value::List(_)) {
        typed.wrong(&root.place, "there is no app in the list");
    }
    if let Some(item) = items.get(APPS_MAX) {
        typed.wrong(&item.place, format!("there are more than {APPS_MAX} apps"));
    }
    let read_one = |item: &Node| match &item.value {
        Value::Object(entries) => Some(draft::read(source, item.place.clone(), entries, typed)),
        _ => {
            typed.wrong(&item.place, format!("an app is an object, found {}", item.value.kind()));
            None
        }
    };
    items.iter().take(APPS_MAX).filter_map(read_one).collect::<Vec<_>>().into_iter().chain(servers).collect()
}

/// Whether an object is itself an app: it has a key of one, and no list of them.
fn is_app(entries: &[Entry], as_pm2: bool) -> bool {
    let is_app_key = |entry: &Entry| matches!(keys::meaning_of(&entry.key), Meaning::Key(_));
    !entries.iter().any(|entry| is_list(entry, as_pm2)) && entries.iter().any(is_app_key)
}

/// Whether this is where the list of apps stands: old files of PM2's have `pm2` for `apps`.
fn is_list(entry: &Entry, as_pm2: bool) -> bool {
    entry.key == "apps" || (as_pm2 && entry.key == "pm2")
}

/// The list in `{"apps": [...]}`.
fn apps_among<'a>(root: &Node, entries: &'a [Entry], typed: &mut Typed) -> &'a [Node] {
    let mut apps = None;
    let mut misspelt = false;
    for entry in entries {
        if !is_list(entry, typed.as_pm2) {
            misspelt |= refuse_top_level(entry, typed);
        } else if apps.replace(&entry.node).is_some() {
            typed.wrong_but(&entry.key_place, "`apps` and `pm2` are the same", "keep one of them");
        }
    }
    let has_servers = entries.iter().any(|entry| entry.key == STATIC && !is_empty(&entry.node));
    match apps.map(|node| (&node.value, node)) {
        None if misspelt || has_servers => &[],
        None => {
            let start = root.place.start..root.place.start + 1;
            typed.wrong_but(
                &start,
                "there is no app in it",
                "write {\"apps\": [{\"script\": \"server.js\"}]}",
            );
            &[]
        }
        Some((Value::List(items), node)) => {
            if items.is_empty() && !has_servers {
                typed.wrong(&node.place, "there is no app in the list");
            }
            items
        }
        Some((Value::Object(_), node)) => std::slice::from_ref(node),
        Some((value, node)) => {
            typed.wrong(&node.place, format!("`apps` wants a list of objects, found {}", value.kind()));
            &[]
        }
    }
}

fn is_empty(list: &Node) -> bool {
    matches!(&list.value, Value::List(items) if items.is_empty())
}

/// Says what is wrong with a key next to `apps`, and whether `apps` itself may have been meant.
fn refuse_top_level(entry: &Entry, typed: &mut Typed) -> bool {
    let place = &entry.key_place;
    match (entry.key.as_str(), keys::meaning_of(&entry.key)) {
        // It is for another command than those that read apps, and asks for nothing here.
        ("deploy", _) => {
            typed.doubts.push((place.clone(), "`deploy` is passed over: deploy with another tool".into()));
        }
        // Servers of files are read apart.
        (STATIC, _) => {}
        (_, Meaning::Unknown) => {
            if keys::means_apps(&entry.key) {
                let what = format!("unknown key `{}`", shown(&entry.key));
                typed.wrong_but(place, what, "did you mean `apps`?");
                return true;
            }
            draft::unknown(typed, entry);
        }
        _ => typed.wrong_but(
            place,
            format!("`{}` belongs in an app", shown(&entry.key)),
            "put it next to `script`",
        ),
    }
    false
}

fn check_names(source: &Source, apps: &[RawApp], typed: &mut Typed) {
    let mut known: BTreeMap<String, &RawApp> = BTreeMap::new();
    for app in apps.iter().filter(|app| app.is_named()) {
        let name = app.full_name(None);
        let Some(first) = known.get(&name) else {
            known.insert(name, app);
            continue;
        };
        let what = format!("two apps are called `{}`", shown(&name));
        let hint = format!("the other is on line {}; give each a `name`", source.line(first.place().start));
        typed.wrong_but(app.place(), what, hint);
    }
}
