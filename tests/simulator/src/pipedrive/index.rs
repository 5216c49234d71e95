//! The search index of one account: what searches see, some time after it happened.
//!
//! Changes become visible in the order in which they happened, each after its own delay, so that a row may be stale
//! and a new person may not be found. A deleted person vanishes with the same delay.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::person::Person;

#[derive(Debug, Default)]
pub(super) struct Index {
    rows: BTreeMap<u64, Arc<Person>>,
    pending: VecDeque<(i64, Arc<Person>)>,
    frozen: bool,
}

impl Index {
    /// A state becomes visible `lag` milliseconds after `at`.
    pub(super) fn put(&mut self, person: Arc<Person>, at: i64, lag: i64) {
        self.catch_up(at);
        let earliest = self.pending.back().map_or(i64::MIN, |(due, _)| *due);
        self.pending.push_back((at.saturating_add(lag).max(earliest), person));
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.pending.clear();
    }

    /// What a search sees now, in order of ids.
    pub(super) fn rows(&mut self, now: i64) -> impl Iterator<Item = &Arc<Person>> {
        self.catch_up(now);
        self.rows.values()
    }

    fn catch_up(&mut self, now: i64) {
        while !self.frozen && self.pending.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, person)) = self.pending.pop_front() {
                if person.deleted.is_some() {
                    self.rows.remove(&person.id);
                } else {
                    self.rows.insert(person.id, person);
                }
            }
        }
    }
}
