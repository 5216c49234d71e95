//! The search index of one account: what searches see, some time after it happened.
//!
//! Each change becomes visible after its own delay, so changes of different records may become visible out of order,
//! and a row may be stale. Of one record the newest visible state wins. A removed record never appears again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::contact::Contact;

#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: BTreeMap<u64, Arc<Contact>>,
    by_modified: BTreeSet<(i64, u64)>,
    by_email: HashMap<Arc<str>, u64>,
    removed: HashMap<u64, u64>,
    pending: BTreeMap<(i64, u64), Arc<Contact>>,
    frozen: bool,
}

impl Index {
    /// A state of a record becomes visible `lag` milliseconds after `at`.
    pub(crate) fn put(&mut self, contact: Arc<Contact>, at: i64, lag: i64) {
        self.catch_up(at);
        if lag <= 0 && !self.frozen {
            self.show(contact);
        } else {
            self.pending.insert((at.saturating_add(lag.max(0)), contact.version), contact);
        }
    }

    /// A record is gone, at once.
    pub(crate) fn remove(&mut self, id: u64, version: u64) {
        self.removed.insert(id, version);
        if let Some(row) = self.rows.remove(&id) {
            self.forget(&row);
        }
    }

    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Makes visible what is due.
    pub(crate) fn catch_up(&mut self, now: i64) {
        if self.frozen {
            return;
        }
        while let Some(entry) = self.pending.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let contact = entry.remove();
            self.show(contact);
        }
    }

    fn show(&mut self, contact: Arc<Contact>) {
        let id = contact.id;
        if self.removed.get(&id).is_some_and(|version| *version >= contact.version) {
            return;
        }
        if let Some(row) = self.rows.get(&id) {
            if row.version >= contact.version {
                return;
            }
            let row = row.clone();
            self.forget(&row);
        }
        self.by_modified.insert((contact.modified, id));
        if let Some(email) = contact.stored("email") {
            self.by_email.insert(email.clone(), id);
        }
        self.rows.insert(id, contact);
    }

    fn forget(&mut self, row: &Contact) {
        self.by_modified.remove(&(row.modified, row.id));
        if let Some(email) = row.stored("email")
            && self.by_email.get(email) == Some(&row.id)
        {
            self.by_email.remove(email);
        }
    }

    pub(crate) fn row(&self, id: u64) -> Option<&Arc<Contact>> {
        self.rows.get(&id)
    }

    pub(crate) fn by_email(&self, email: &str) -> Option<&Arc<Contact>> {
        self.rows.get(self.by_email.get(email)?)
    }

    /// Rows modified in `low..=high`, oldest first, then by id.
    pub(crate) fn by_modified(&self, low: i64, high: i64) -> impl DoubleEndedIterator<Item = &Arc<Contact>> {
        // A reversed range would panic; it simply holds nothing.
        let high = high.max(low);
        self.by_modified.range((low, 0)..=(high, u64::MAX)).filter_map(|(_, id)| self.rows.get(id))
    }

    /// Rows with an id in `low..=high`, in order.
    pub(crate) fn by_id(&self, low: u64, high: u64) -> impl DoubleEndedIterator<Item = &Arc<Contact>> {
        self.rows.range(low..=high.max(low)).map(|(_, row)| row)
    }
}
