//! What the core says: orders and news, kept in order until they are fetched. It decides nothing.

use std::collections::VecDeque;

use crate::{Action, Notice};

/// Orders and news on their way out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) actions: VecDeque<Action>,
    pub(crate) notices: VecDeque<Notice>,
}

impl Outbox {
    pub(crate) fn order(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }
}
