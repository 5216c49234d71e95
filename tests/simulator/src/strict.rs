//! Strict mode: every request that the published description does not allow is noted, beside the answer that
//! HubSpot would give it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What is kept of them; the count goes on.
const KEPT: usize = 1000;

/// One request, or part of one, that the description does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The account, when the token was known.
    pub portal_id: Option<u64>,
    /// Request method.
    pub method: String,
    /// Request path, without the query.
    pub path: String,
    /// What is wrong, without any record content.
    pub reason: String,
}

/// All violations since the start or the last clearing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violations {
    /// How many there were.
    pub total: u64,
    /// The first thousand.
    pub listed: Vec<Violation>,
}

#[derive(Debug)]
pub(crate) struct Strict {
    on: bool,
    total: AtomicU64,
    listed: Mutex<Vec<Violation>>,
}

impl Strict {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, total: AtomicU64::new(0), listed: Mutex::new(Vec::new()) }
    }

    pub(crate) fn note(&self, portal_id: Option<u64>, method: &str, path: &str, reason: impl Into<String>) {
        if !self.on {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut listed = self.listed.lock();
        if listed.len() < KEPT {
            listed.push(Violation {
                portal_id,
                method: method.to_owned(),
                path: path.to_owned(),
                reason: reason.into(),
            });
        }
    }

    pub(crate) fn all(&self) -> Violations {
        Violations { total: self.total.load(Ordering::Relaxed), listed: self.listed.lock().clone() }
    }

    pub(crate) fn clear(&self) {
        self.listed.lock().clear();
        self.total.store(0, Ordering::Relaxed);
    }
}
