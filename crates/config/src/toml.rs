//! TOML as a [`Document`].

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostics::shown;
use crate::tree::{DEPTH_MAX, Document, Entry, Fault, Node, Value};

/// Reads a text as a whole.
pub(crate) fn read(text: &str) -> Result<Document, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let place = error.span().unwrap_or(0..0);
        Fault { place, what: shown_message(error.message()), hint: None }
    })?;
    let place = table.span();
    let value = object(table.get_ref(), 0)?;
    Ok(Document { root: Node { place, value }, repeated: Vec::new() })
}

fn node(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Fault> {
    let place = value.span();
    if depth > DEPTH_MAX {
        let what = format!("lists and objects are nested deeper than {DEPTH_MAX}");
        return Err(Fault { place, what, hint: None });
    }
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Value::Number(decimal.map_or_else(|_| number.as_str().to_owned(), |it| it.to_string()))
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(value) if value.is_finite() => Value::Number(value.to_string()),
            _ => Value::Text(number.as_str().into()),
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => object(table, depth + 1)?,
    };
    Ok(Node { place, value })
}

/// In the order of the text.
fn object(table: &DeTable<'_>, depth: usize) -> Result<Value, Fault> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let node = node(value, depth)?;
        entries.push(Entry { key: key.get_ref().to_string(), key_place: key.span(), node });
    }
    entries.sort_by_key(|entry: &Entry| entry.key_place.start);
    Ok(Value::Object(entries))
}

/// The parser's message in one line.
fn shown_message(message: &str) -> String {
    shown(message.lines().next().unwrap_or("it is no TOML"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_places_are_kept() {
        let text = "[[apps]]\nscript = \"ä.js\"\ninstances = 0x2\nmin_uptime = '10s'\nautorestart = false\n\n[apps.env]\nA = 1.5\nB = [1, \"x\"]\n";
        let root = read(text).unwrap().root;
        assert_eq!(
            root.value.to_json(),
            r#"{"apps":[{"script":"ä.js","instances":2,"min_uptime":"10s","autorestart":false,"env":{"A":1.5,"B":[1,"x"]}}]}"#
        );
        let Value::Object(top) = &root.value else { panic!("an object") };
        let Value::List(apps) = &top[0].node.value else { panic!("a list") };
        let Value::Object(app) = &apps[0].value else { panic!("an object") };
        let slice = |place: &std::ops::Range<usize>| text.get(place.clone()).unwrap();
        assert_eq!((slice(&app[0].key_place), slice(&app[0].node.place)), ("script", "\"ä.js\""));
        assert_eq!((slice(&app[1].key_place), slice(&app[1].node.place)), ("instances", "0x2"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_its_place() {
        for text in ["a =", "a = 1\na = 2", "[a", "a = yes", "= 1"] {
            let fault = read(text).unwrap_err();
            assert!(text.get(fault.place.clone()).is_some() && !fault.what.is_empty(), "{text}: {fault:?}");
        }
    }
}
