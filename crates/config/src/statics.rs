//! Servers of files that stand under `static` beside the apps: each is an app like any other, told what to serve by the
//! variables that PM2 gives it.

use std::sync::Arc;

use crate::diagnostics::{Source, shown};
use crate::job::{Origin, Wish};
use crate::keys::nearest_of;
use crate::raw::RawApp;
use crate::schema::camel_case;
use crate::serve::{PREFIX, SCRIPT, Served, Written};
use crate::tree::{Entry, Node, Value};
use crate::typed::Typed;
use crate::values::Variable;

/// What one of them may have.
const KEYS: [&str; 10] =
    ["name", "path", "port", "host", "spa", "homepage", "ftp", "directory", "basic_auth", "monitor"];

/// All that stand under the key.
pub(crate) fn read(source: &Arc<Source>, entry: &Entry, typed: &mut Typed) -> Vec<RawApp> {
    let items = match &entry.node.value {
        Value::List(items) => items.as_slice(),
        Value::Object(_) => std::slice::from_ref(&entry.node),
        value => {
            typed.wrong(
                &entry.node.place,
                format!("`static` wants a list of objects, found {}", value.kind()),
            );
            &[]
        }
    };
    items.iter().filter_map(|item| read_one(source, item, typed)).collect()
}

fn read_one(source: &Arc<Source>, item: &Node, typed: &mut Typed) -> Option<RawApp> {
    let Value::Object(entries) = &item.value else {
        typed.wrong(&item.place, format!("a server of files is an object, found {}", item.value.kind()));
        return None;
    };
    let mut wish = Wish::new(Origin::File, SCRIPT);
    if typed.as_pm2 {
        wish = wish.as_pm2();
        wish.fork_as_pm2();
    }
    wish.is_file_server = true;
    let mut idle = Vec::new();
    for entry in entries {
        let (name, node) = (shown(&entry.key), &entry.node);
        let known = KEYS
            .iter()
            .find(|known| entry.key == **known || entry.key == camel_case(known))
            .copied()
            .unwrap_or_default();
        let value = match known {
            "name" => {
                wish.name = typed.name(&name, node);
                continue;
            }
            "port" => typed.port(&name, node).map(|port| port.to_string()),
            "path" | "host" | "homepage" => typed.text(&name, node),
            "spa" | "ftp" => typed.flag(&name, node).map(|flag| flag.to_string()),
            "basic_auth" => {
                wish.env.extend(login(&name, node, typed));
                continue;
            }
            "directory" | "monitor" => {
                idle.push(format!("`{name}`"));
                continue;
            }
            _ => {
                let hint = nearest_of(&entry.key, KEYS.into_iter())
                    .map(|nearest| format!("did you mean `{nearest}`?"));
                typed.odd(&entry.key_place, format!("unknown key `{name}`"), hint);
                continue;
            }
        };
        wish.env.extend(value.map(|value| variable(&known.to_uppercase(), value)));
    }
    wish.name = wish
        .name
        .or_else(|| Served::of(&wish.env, Written::Keys, &mut Vec::new()).ok().map(|it| it.usual_name()));
    let doubts = (!idle.is_empty())
        .then(|| format!("{}: {} of {} has no effect here", source.name, idle.join(", "), wish.name()));
    Some(RawApp { doubts: doubts.into_iter().collect(), ..RawApp::new(source, item.place.clone(), wish) })
}

fn login(key: &str, node: &Node, typed: &mut Typed) -> Vec<Variable> {
    let Value::Object(entries) = &node.value else {
        typed.wrong(&node.place, format!("`{key}` wants an object, found {}", node.value.kind()));
        return Vec::new();
    };
    let mut login = vec![variable("BASIC_AUTH", "true".into())];
    for entry in entries {
        match entry.key.as_str() {
            part @ ("username" | "password") => {
                let text = typed.text(part, &entry.node);
                login.extend(text.map(|text| variable(&format!("BASIC_AUTH_{}", part.to_uppercase()), text)));
            }
            _ => {
                let what = format!("unknown key `{}`", shown(&entry.key));
                typed.odd(&entry.key_place, what, Some("give `username` and `password`".into()));
            }
        }
    }
    login
}

fn variable(name: &str, value: String) -> Variable {
    Variable { key: format!("{PREFIX}{name}"), value }
}
