//! In which order a list comes: what `--sort FIELD:ORDER` says.

use std::cmp::Ordering;
use std::str::FromStr;

use oxherd::api::{AppView, Herd, SlotView};

use super::list::split;
use super::words;

const FIELDS: [(&str, Field); 8] = [
    ("name", Field::Name),
    ("id", Field::Id),
    ("pid", Field::Pid),
    ("memory", Field::Memory),
    ("cpu", Field::Cpu),
    ("status", Field::Status),
    ("uptime", Field::Uptime),
    ("namespace", Field::Namespace),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Id,
    Pid,
    Memory,
    Cpu,
    Status,
    Uptime,
    Namespace,
}

/// By which field, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    field: Field,
    descends: bool,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, way) = text.split_once(':').unwrap_or((text, "asc"));
        let field = FIELDS.iter().find(|(name, _)| *name == field).map(|(_, field)| *field);
        let descends = match way {
            "asc" => Some(false),
            "desc" => Some(true),
            _ => None,
        };
        match (field, descends) {
            (Some(field), Some(descends)) => Ok(Self { field, descends }),
            _ => {
                Err("give name, id, pid, memory, cpu, status, uptime or namespace, and perhaps :asc or :desc"
                    .into())
            }
        }
    }
}

impl Order {
    /// Puts the apps in order, and within each its slots.
    pub(crate) fn arrange(self, herd: &mut Herd) {
        for app in &mut herd.apps {
            let (name, namespace, id) = (app.name.clone(), app.namespace.clone(), app.app.0);
            app.slots.sort_by(|one, other| {
                let key = |slot| Key::of(self.field, &name, &namespace, id, Some(slot));
                self.compare(&key(one), &key(other))
            });
        }
        let key =
            |app: &AppView| Key::of(self.field, &app.name, &app.namespace, app.app.0, app.slots.first());
        herd.apps.sort_by(|one, other| self.compare(&key(one), &key(other)));
    }

    /// The same for workers of all apps.
    pub(crate) fn arrange_rows(self, rows: &mut [(&AppView, &SlotView)]) {
        let key = |row: &(&AppView, &SlotView)| {
            let (app, slot) = row;
            Key::of(self.field, &app.name, &app.namespace, slot.number.unwrap_or(u32::MAX), Some(slot))
        };
        rows.sort_by(|one, other| self.compare(&key(one), &key(other)));
    }

    fn compare(self, one: &Key, other: &Key) -> Ordering {
        let order = one.cmp(other);
        if self.descends { order.reverse() } else { order }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Text(String),
    Number(u64),
}

impl Key {
    fn of(field: Field, name: &str, namespace: &str, id: u32, slot: Option<&SlotView>) -> Self {
        let worker = slot.and_then(|slot| split(slot).0);
        match field {
            Field::Name => Self::Text(name.to_owned()),
            Field::Namespace => Self::Text(namespace.to_owned()),
            Field::Id => Self::Number(id.into()),
            Field::Pid => Self::Number(worker.and_then(|it| it.pid).unwrap_or(0).into()),
            Field::Memory => Self::Number(worker.and_then(|it| it.memory).unwrap_or(0)),
            // In thousandths.
            Field::Cpu => Self::Number((worker.and_then(|it| it.cpu_percent).unwrap_or(0.0) * 1000.0) as u64),
            Field::Status => {
                Self::Text(slot.map_or_else(String::new, |slot| words::status(slot.status).to_owned()))
            }
            Field::Uptime => Self::Number(worker.map_or(0, |it| it.uptime_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn apps_come_as_they_are_wanted() {
        let sorted = |text: &str| {
            let mut herd = samples::herd();
            text.parse::<Order>().unwrap().arrange(&mut herd);
            herd.apps.iter().map(|app| app.app.0).collect::<Vec<_>>()
        };
        assert_eq!(sorted("name"), [2, 1, 3, 4, 0]);
        assert_eq!(sorted("id:desc"), [4, 3, 2, 1, 0]);
        assert_eq!(sorted("memory:desc")[0], 0);
        assert!("size".parse::<Order>().is_err() && "name:up".parse::<Order>().is_err());
    }
}
