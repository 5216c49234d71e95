//! A company's account at Pipedrive: its persons, limits, subscriptions, tokens and settings. Everything that changes
//! sits behind a lock of the account's own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::control::{PipedriveAccount, PipedriveCounts, PipedriveSettings};
use super::hooks::Hooks;
use super::persons::{Persons, Rules};
use super::quota::{Kind, Quota};
use crate::dice::Dice;
use crate::operation::{Counters, Operation};

/// Calls that a journal keeps.
const NOTED: usize = 20_000;

/// What an app is granted unless told otherwise.
pub(super) const SCOPES: &[&str] = &[
    "base",
    "contacts:full",
    "contact-fields:full",
    "recents:read",
    "search:read",
    "users:read",
    "webhooks:full",
];

/// A call as the journal has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    pub(super) at: i64,
    pub(super) operation: Operation,
    /// None: it was not answered.
    pub(super) status: Option<u16>,
}

/// A token that was given out.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) account: Arc<Account>,
    pub(super) kind: Kind,
    /// Milliseconds; the far future for an API token.
    expires: AtomicI64,
}

impl Grant {
    pub(super) fn new(account: Arc<Account>, kind: Kind, expires: i64) -> Self {
        Self { account, kind, expires: AtomicI64::new(expires) }
    }

    pub(super) fn expires(&self) -> i64 {
        self.expires.load(Ordering::Relaxed)
    }

    pub(super) fn expire(&self, now: i64) {
        self.expires.fetch_min(now, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) info: RwLock<PipedriveAccount>,
    pub(super) company: u64,
    pub(super) domain: String,
    pub(super) user: u64,
    pub(super) currency: String,
    pub(super) zone: String,
    pub(super) organizations: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) settings: RwLock<Arc<PipedriveSettings>>,
    pub(super) quota: Mutex<Quota>,
    pub(super) persons: Mutex<Persons>,
    pub(super) hooks: Mutex<Hooks>,
    /// Taken while an event is being posted.
    pub(super) posting: Semaphore,
    pub(super) counts: Counters,
    pub(super) journal: Mutex<VecDeque<Noted>>,
}

impl Account {
    pub(super) fn settings(&self) -> Arc<PipedriveSettings> {
        self.settings.read().clone()
    }

    /// The rules of the next write, with the lag of the search index drawn for it.
    pub(super) fn rules(&self, dice: &Dice, now: i64) -> Rules {
        let settings = self.settings();
        let (low, high) = (u64::from(settings.index_lag_min_ms), u64::from(settings.index_lag_max_ms));
        let lag = if high <= low { low } else { dice.between(low, high) };
        Rules {
            user: self.user,
            organizations: self.organizations.len() as u64,
            contact_sync: settings.contact_sync,
            refuse_unknown: settings.refuse_unknown_members,
            touch: settings.touch_on_no_change,
            lag: i64::try_from(lag).unwrap_or(0),
            now,
        }
    }

    /// Puts settings in the place of those that are.
    pub(super) fn set(&self, settings: PipedriveSettings) {
        let mut persons = self.persons.lock();
        persons.index.freeze(settings.index_frozen);
        persons.writes.keep(settings.journal);
        drop(persons);
        *self.settings.write() = Arc::new(settings);
    }

    /// Notes a call, if the settings ask for it.
    pub(super) fn note(&self, noted: Noted) {
        if self.settings.read().journal {
            let mut journal = self.journal.lock();
            if journal.len() >= NOTED {
                journal.pop_front();
            }
            journal.push_back(noted);
        }
    }

    pub(super) fn counts(&self, now: i64) -> PipedriveCounts {
        let (mut live, mut deleted) = (0, 0);
        for person in self.persons.lock().all(now) {
            *if person.deleted.is_some() { &mut deleted } else { &mut live } += 1;
        }
        PipedriveCounts {
            operations: self.counts.snapshot(),
            live,
            deleted,
            tokens: self.quota.lock().spent(now),
            webhooks: self.hooks.lock().counts,
        }
    }
}
