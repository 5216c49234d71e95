//! An org: its contacts, limits, tokens and settings, each behind a lock of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::contact::User;
use super::contacts::{Actor, Contacts};
use super::ids;
use super::outbound::{OutboundSettings, Outbox};
use super::query::Cursors;
use super::quota::{Flights, Quota};
use super::rules::{Duplicates, Rules};
use super::values::Texts;
use crate::operation::Counters;
use crate::writes::Writer;

/// Calls that a journal keeps.
const NOTED: usize = 20_000;

/// What can be set for an org at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SalesforceSettings {
    /// How long a session lasts without a call, in seconds.
    pub session_seconds: u32,
    /// Each refresh gives a new refresh token and ends the one before; one that comes again ends the session.
    pub rotate_refresh_tokens: bool,
    /// What a duplicate rule does with contacts that have one address.
    pub duplicates: Duplicates,
    /// Blanks at both ends of texts are taken away.
    pub trim_texts: bool,
    /// Addresses are stored in small letters.
    pub lowercase_email: bool,
    /// A write that changes nothing moves the times all the same.
    pub empty_updates_touch: bool,
    /// A query that asks for no order gets none.
    pub scrambled_queries: bool,
    /// `updated` and `deleted` know nothing of the newest so many seconds, and say so.
    pub replication_lag_seconds: u32,
    /// Ids that `updated` and `deleted` give at most.
    pub replication_ids: u32,
    /// An upsert that updates is answered 204, whatever the version.
    pub upserts_are_quiet: bool,
    /// A deleted record is not found by a read, as if it had never been.
    pub deleted_are_unknown: bool,
    /// Query results that are kept for paging at most; the oldest is forgotten.
    pub cursors: usize,
    /// Each call and each write of a record is noted, to be read by the control API.
    pub journal: bool,
}

impl Default for SalesforceSettings {
    fn default() -> Self {
        Self {
            session_seconds: 7_200,
            rotate_refresh_tokens: false,
            duplicates: Duplicates::Allow,
            trim_texts: true,
            lowercase_email: true,
            empty_updates_touch: true,
            scrambled_queries: false,
            replication_lag_seconds: 0,
            replication_ids: 600_000,
            upserts_are_quiet: false,
            deleted_are_unknown: false,
            cursors: 10,
            journal: false,
        }
    }
}

/// A call that came, as the journal of an org has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotedSalesforceCall {
    /// When it came, in milliseconds since 1970.
    pub at: i64,
    /// Its operation.
    pub operation: String,
    /// What it was answered with. None: it was not answered.
    pub status: Option<u16>,
    /// What the client called itself in `Sforce-Call-Options`.
    pub client: Option<String>,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) org: Arc<Org>,
    /// Milliseconds.
    expires: AtomicI64,
    lasts: i64,
}

impl Session {
    pub(crate) fn new(org: Arc<Org>, now: i64) -> Self {
        let lasts = i64::from(org.settings.read().session_seconds) * 1_000;
        Self { org, expires: AtomicI64::new(now + lasts), lasts }
    }

    pub(crate) fn live(&self, now: i64) -> bool {
        self.expires.load(Ordering::Relaxed) > now
    }

    pub(crate) fn end(&self, now: i64) {
        self.expires.fetch_min(now, Ordering::Relaxed);
    }

    /// A call in the second half of a session's time gives it all of its time again.
    pub(crate) fn used(&self, now: i64) {
        let expires = self.expires.load(Ordering::Relaxed);
        if expires > now && expires - now <= self.lasts / 2 {
            // Whoever was faster did the same, or ended it.
            let _ = self.expires.compare_exchange(
                expires,
                now + self.lasts,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

/// What a client signs in with.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

#[derive(Debug)]
pub(crate) struct Org {
    /// By which disturbances and violations name it.
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) credentials: Credentials,
    /// The address of the instance, when the org has one of its own: then it answers nowhere else.
    pub(crate) instance: Option<String>,
    /// The one that is valid now.
    pub(crate) refresh_token: Mutex<String>,
    /// The session that it was opened with, to be listed.
    pub(crate) first_token: Mutex<String>,
    pub(crate) settings: RwLock<SalesforceSettings>,
    pub(crate) outbound: RwLock<Arc<OutboundSettings>>,
    pub(crate) outbox: Outbox,
    pub(crate) quota: Mutex<Quota>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) contacts: Mutex<Contacts>,
    pub(crate) cursors: Mutex<Cursors>,
    pub(crate) counts: Counters,
    journal: Mutex<VecDeque<NotedSalesforceCall>>,
}

/// What an org is made from.
pub(crate) struct Opening {
    pub(crate) number: u64,
    pub(crate) credentials: Credentials,
    pub(crate) instance: Option<String>,
    pub(crate) refresh_token: String,
    pub(crate) settings: SalesforceSettings,
    pub(crate) outbound: OutboundSettings,
    pub(crate) limits: super::quota::SalesforceLimits,
    pub(crate) contacts: Contacts,
}

impl Org {
    pub(crate) fn open(opening: Opening) -> Self {
        let Opening { number, credentials, instance, refresh_token, settings, outbound, limits, contacts } =
            opening;
        contacts.writes.lock().keep(settings.journal);
        Self {
            number,
            id: ids::id(ids::ORGANIZATION, number),
            credentials,
            instance,
            refresh_token: Mutex::new(refresh_token),
            first_token: Mutex::default(),
            settings: RwLock::new(settings),
            outbound: RwLock::new(Arc::new(outbound)),
            outbox: Outbox::default(),
            quota: Mutex::new(Quota::new(limits)),
            flights: Arc::default(),
            contacts: Mutex::new(contacts),
            cursors: Mutex::default(),
            counts: Counters::default(),
            journal: Mutex::default(),
        }
    }

    /// Where the org's data is.
    pub(crate) fn instance<'a>(&'a self, api_url: &'a str) -> &'a str {
        self.instance.as_deref().unwrap_or(api_url)
    }

    /// Whether a request to this host reaches the org.
    pub(crate) fn answers_at(&self, host: Option<&str>) -> bool {
        self.instance.as_deref().is_none_or(|instance| {
            let own = instance.split_once("://").map_or(instance, |(_, rest)| rest);
            host == Some(own.trim_end_matches('/'))
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        let settings = *self.settings.read();
        Rules {
            texts: Texts { trim: settings.trim_texts, lower_email: settings.lowercase_email },
            duplicates: settings.duplicates,
            empty_touches: settings.empty_updates_touch,
        }
    }

    /// Somebody who works in the user interface.
    pub(crate) fn person(&self, now: i64) -> Actor {
        // People are warned of duplicates and save all the same.
        let rules = Rules { duplicates: Duplicates::Allow, ..self.rules() };
        Actor { user: User::Person, writer: Writer::Person, client: None, now, rules }
    }

    pub(crate) fn set(&self, next: SalesforceSettings) {
        self.contacts.lock().writes.lock().keep(next.journal);
        *self.settings.write() = next;
    }

    /// Notes a call, if the settings ask for it.
    pub(crate) fn note(&self, noted: NotedSalesforceCall) {
        if self.settings.read().journal {
            let mut journal = self.journal.lock();
            if journal.len() >= NOTED {
                journal.pop_front();
            }
            journal.push_back(noted);
        }
    }

    pub(crate) fn calls(&self) -> Vec<NotedSalesforceCall> {
        self.journal.lock().iter().cloned().collect()
    }
}
