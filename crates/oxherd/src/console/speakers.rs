//! What those who write are called in the gutter: their slots, and where there are several apps, those too.

use std::collections::BTreeMap;

use oxherd_engine::core::{AppId, Place, Slot};

/// The apps that may have something to say.
#[derive(Debug)]
pub(super) struct Speakers {
    names: BTreeMap<AppId, String>,
    /// As wide as gutters are planned; those that come later may be wider.
    instances: u32,
}

impl Speakers {
    /// One app, whose name need not be told.
    pub(super) fn of_one_app(instances: u32) -> Self {
        Self { names: BTreeMap::new(), instances }
    }

    pub(super) fn know(&mut self, names: &BTreeMap<AppId, String>) {
        self.names.clone_from(names);
    }

    /// How wide the gutter has to be.
    pub(super) fn width(&self) -> usize {
        let last = Slot(self.instances.saturating_sub(1));
        match self.names.values().map(String::as_str).map(|name| name_in(name, last).chars().count()).max() {
            Some(width) if self.names.len() > 1 => width,
            Some(_) | None => slot_name(last).len(),
        }
    }

    pub(super) fn of(&self, place: Place) -> String {
        match self.name_among_many(place.app) {
            Some(name) => name_in(name, place.slot),
            None => slot_name(place.slot),
        }
    }

    /// The app's name, where it is not the only one.
    pub(super) fn name_among_many(&self, app: AppId) -> Option<&str> {
        let name = self.names.get(&app).map(String::as_str);
        name.filter(|_| self.names.len() > 1)
    }
}

fn slot_name(slot: Slot) -> String {
    format!("slot {}", slot.0)
}

fn name_in(app: &str, slot: Slot) -> String {
    format!("{app} {}", slot.0)
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::{Generation, InstanceId};

    use super::*;

    fn place(app: u32, slot: u32) -> Place {
        let instance = InstanceId { starts: 0, number: 1 };
        Place { app: AppId(app), slot: Slot(slot), generation: Generation(1), instance }
    }

    #[test]
    fn names_are_told_where_there_are_several() {
        let mut speakers = Speakers::of_one_app(11);
        assert_eq!((speakers.of(place(0, 3)).as_str(), speakers.width()), ("slot 3", 7));
        speakers.know(&BTreeMap::from([(AppId(0), "web".into())]));
        assert_eq!((speakers.of(place(0, 3)).as_str(), speakers.width()), ("slot 3", 7));
        speakers.know(&BTreeMap::from([(AppId(0), "web".into()), (AppId(1), "worker".into())]));
        assert_eq!((speakers.of(place(0, 3)).as_str(), speakers.width()), ("web 3", 9));
        assert_eq!(speakers.of(place(1, 0)), "worker 0");
        assert_eq!(speakers.of(place(7, 0)), "slot 0");
    }
}
