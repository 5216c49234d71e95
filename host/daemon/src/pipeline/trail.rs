//! What happened to a record, for its history.

use std::collections::BTreeMap;

use tandem_core::Millis;
use tandem_core::link::{Link, Pair};

use crate::store::{Commit, HistoryEntry, Op};

/// Collects the history of one piece of work.
pub(super) struct Trail {
    /// The hint's word.
    pub(super) cause: String,
    /// The provider's label.
    pub(super) provider: String,
    /// Calls since the last entry.
    pub(super) calls: u32,
    entries: Vec<HistoryEntry>,
}

impl Trail {
    pub(super) fn new(cause: &str, provider: String) -> Self {
        Self { cause: cause.into(), provider, calls: 0, entries: Vec::new() }
    }

    /// Adds an entry; the delta is what changed of the base.
    pub(super) fn note(
        &mut self,
        link: &Link,
        before: Option<&BTreeMap<String, Pair>>,
        what: &str,
        why: &str,
        at: Millis,
    ) {
        let delta = before.map(|before| delta(before, &link.base)).unwrap_or_default();
        self.note_values(link, delta, what, why, at);
    }

    /// Adds an entry with values of its own.
    pub(super) fn note_values(
        &mut self,
        link: &Link,
        delta: Vec<(String, Pair)>,
        what: &str,
        why: &str,
        at: Millis,
    ) {
        self.entries.push(HistoryEntry {
            entity: link.entity.clone(),
            connection: link.connection.clone(),
            at,
            what: what.into(),
            why: why.into(),
            cause: self.cause.clone(),
            provider: self.provider.clone(),
            calls: std::mem::take(&mut self.calls),
            delta,
        });
    }

    /// Moves the entries into a commit.
    pub(super) fn flush(&mut self, commit: &mut Commit) {
        for entry in self.entries.drain(..) {
            commit.push(Op::AddHistory(entry));
        }
    }
}

fn delta(before: &BTreeMap<String, Pair>, after: &BTreeMap<String, Pair>) -> Vec<(String, Pair)> {
    let mut delta = Vec::new();
    for (field, pair) in after {
        if before.get(field) != Some(pair) {
            delta.push((field.clone(), pair.clone()));
        }
    }
    for field in before.keys() {
        if !after.contains_key(field) {
            delta.push((field.clone(), Pair::default()));
        }
    }
    delta
}
