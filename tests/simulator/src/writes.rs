//! What was written to the records of an account: who wrote, when, what, and whether it was taken.
//!
//! Noted under the lock of the account's records, so that the order is that of the effects. A test proves by it what was there
//! first, and counts what came after. Merges, restorations and erasures are not noted.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Writes that are kept; older ones are dropped.
const NOTED: usize = 100_000;

/// Who wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// A client of the API.
    Api,
    /// Somebody who works in the CRM.
    Person,
    /// An automation of the account.
    Automation,
}

/// What a write does to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteKind {
    /// It is made.
    Create,
    /// Some members are set.
    Update,
    /// It is deleted.
    Delete,
}

/// A write, as the journal of an account has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotedWrite {
    /// When it was carried out or refused, in milliseconds since 1970.
    pub at: i64,
    /// The record. None: a create that was refused.
    pub id: Option<String>,
    /// Who wrote.
    pub by: Writer,
    /// What was to be done.
    pub kind: WriteKind,
    /// What was sent.
    pub members: BTreeMap<String, Value>,
    /// False: it was refused, and has no effect.
    pub taken: bool,
}

/// The newest writes, where the account's settings ask for them.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    noted: Option<VecDeque<NotedWrite>>,
}

impl Writes {
    /// Begins to note, or stops and forgets.
    pub(crate) fn keep(&mut self, keep: bool) {
        match (keep, &self.noted) {
            (true, None) => self.noted = Some(VecDeque::new()),
            (true, Some(_)) => {}
            (false, _) => self.noted = None,
        }
    }

    /// Notes a write; it is made only where somebody asked for it.
    pub(crate) fn note(&mut self, write: impl FnOnce() -> NotedWrite) {
        if let Some(noted) = &mut self.noted {
            if noted.len() >= NOTED {
                noted.pop_front();
            }
            noted.push_back(write());
        }
    }

    /// All that are kept, oldest first.
    pub(crate) fn all(&self) -> Vec<NotedWrite> {
        self.noted.iter().flatten().cloned().collect()
    }
}
