//! What happened to a record, for its history, and what is counted over all records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

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

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What the pipeline counted since it was built. Never record contents.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($name: AtomicU64,)*
        }

        impl Counters {
            $($(#[$doc])* pub(super) fn $name(&self) {
                self.$name.fetch_add(1, Ordering::Relaxed);
            })*

            /// All counters by name.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// A hint changed nothing.
    dismissed,
    /// System A was written.
    wrote_internal,
    /// A CRM was written.
    wrote_external,
    /// A record was made in System A.
    created_internal,
    /// A record was made in a CRM.
    created_external,
    /// A record was deleted in System A.
    removed_internal,
    /// A record was deleted in a CRM.
    removed_external,
    /// A CRM's record was read.
    read_external,
    /// A conflict was decided or held.
    conflict,
    /// A piece of work waits in memory.
    put_back,
    /// A piece of work is tried again.
    retried,
    /// A CRM refused a call for its frequency.
    throttled,
    /// A component's fault.
    fault,
    /// A record was set aside.
    set_aside_total,
    /// A stored delivery was read.
    delivery_read,
    /// A row of a listing said nothing new.
    row_known,
}

impl Counters {
    pub(super) fn set_aside(&self, _point: &'static str) {
        self.set_aside_total();
    }
}
