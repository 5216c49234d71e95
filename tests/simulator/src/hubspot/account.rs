//! An account ("portal") at HubSpot: its contacts, limits, tokens and settings. Everything that changes sits behind
//! a lock of the account's own; the hot path takes no lock that two accounts share, save two read locks of tables.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::contact::Source;
use super::contacts::{Contacts, Rules};
use super::quota::{Quota, QuotaSizes};
use super::webhooks::App;
use crate::dice::Dice;
use crate::operation::{Counters, Operation};

/// Calls that a journal keeps.
const NOTED: usize = 20_000;

/// A call as the journal has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    /// When it came, in milliseconds.
    pub(crate) at: i64,
    pub(crate) operation: Operation,
    /// None: it was not answered.
    pub(crate) status: Option<u16>,
}

/// How the daemon authenticates at an account, which also sets the class of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A private app or service key: one token that does not expire.
    #[default]
    Private,
    /// An app that is installed with OAuth: access tokens expire and are refreshed.
    Oauth,
}

/// What can be set for an account at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccountSettings {
    /// Least milliseconds until a search sees a change.
    pub index_lag_min_ms: u32,
    /// Most milliseconds until a search sees a change.
    pub index_lag_max_ms: u32,
    /// The search index stands still: rows are stale, new records do not appear.
    pub index_frozen: bool,
    /// New contacts without a lifecycle stage become leads, as accounts do by default.
    pub default_lead: bool,
    /// The lifecycle stage only moves forward unless it is cleared first.
    pub lifecycle_forward_only: bool,
    /// A merge makes a new record (as since 2025); otherwise the primary one stays.
    pub merge_makes_new_record: bool,
    /// How long an OAuth access token lasts, in seconds.
    pub token_seconds: u32,
    /// Each refresh gives a new refresh token and ends the one before, as other vendors do; HubSpot's stays.
    pub rotate_refresh_tokens: bool,
    /// Each call and each write of a record is noted with its moment, to be read by the control API.
    pub journal: bool,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            index_lag_min_ms: 1_000,
            index_lag_max_ms: 3_000,
            index_frozen: false,
            default_lead: true,
            lifecycle_forward_only: true,
            merge_makes_new_record: true,
            token_seconds: 1_800,
            rotate_refresh_tokens: false,
            journal: false,
        }
    }
}

/// The scopes that an account grants unless told otherwise.
pub(crate) const SCOPES: &[&str] = &[
    "oauth",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "crm.schemas.contacts.read",
    "crm.schemas.contacts.write",
];

/// A token that was given out.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) account: Arc<Account>,
    pub(crate) kind: TokenKind,
    /// Milliseconds; the far future for a static token.
    expires: AtomicI64,
}

impl Grant {
    pub(crate) fn new(account: Arc<Account>, kind: TokenKind, expires: i64) -> Self {
        Self { account, kind, expires: AtomicI64::new(expires) }
    }

    pub(crate) fn expires(&self) -> i64 {
        self.expires.load(Ordering::Relaxed)
    }

    pub(crate) fn expire(&self, now: i64) {
        self.expires.fetch_min(now, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) portal: u64,
    pub(crate) app: Arc<App>,
    pub(crate) kind: TokenKind,
    pub(crate) zone: String,
    pub(crate) tz: jiff::tz::TimeZone,
    pub(crate) currency: String,
    pub(crate) scopes: Vec<String>,
    /// The one that is valid now.
    pub(crate) refresh_token: Mutex<Option<String>>,
    pub(crate) settings: RwLock<AccountSettings>,
    pub(crate) quota: Mutex<Quota>,
    pub(crate) contacts: Mutex<Contacts>,
    pub(crate) counts: Counters,
    /// The newest calls, where the settings ask for it.
    pub(crate) journal: Mutex<VecDeque<Noted>>,
    pub(crate) integration: Source,
    /// The token that it was opened with, to be listed.
    pub(crate) first_token: Mutex<String>,
}

/// What an account is made from.
pub(crate) struct Opening {
    pub(crate) portal: u64,
    pub(crate) app: Arc<App>,
    pub(crate) kind: TokenKind,
    pub(crate) zone: String,
    pub(crate) tz: jiff::tz::TimeZone,
    pub(crate) currency: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) settings: AccountSettings,
    pub(crate) sizes: QuotaSizes,
    pub(crate) first_id: u64,
}

impl Account {
    pub(crate) fn open(opening: Opening) -> Self {
        let Opening {
            portal,
            app,
            kind,
            zone,
            tz,
            currency,
            scopes,
            refresh_token,
            settings,
            sizes,
            first_id,
        } = opening;
        let integration = Source::integration(&app.id_text);
        Self {
            portal,
            app,
            kind,
            zone,
            quota: Mutex::new(Quota::new(sizes, tz.clone())),
            tz,
            currency,
            scopes,
            refresh_token: Mutex::new(refresh_token),
            settings: RwLock::new(settings),
            contacts: Mutex::new(Contacts::new(first_id)),
            counts: Counters::default(),
            journal: Mutex::default(),
            integration,
            first_token: Mutex::default(),
        }
    }

    /// The rules of the next write, with the lag of the search index drawn for it.
    pub(crate) fn rules(&self, dice: &Dice) -> Rules {
        let settings = *self.settings.read();
        let (low, high) = (u64::from(settings.index_lag_min_ms), u64::from(settings.index_lag_max_ms));
        let lag = if high <= low { low } else { dice.between(low, high) };
        Rules {
            lag: i64::try_from(lag).unwrap_or(0),
            lead: settings.default_lead,
            forward: settings.lifecycle_forward_only,
        }
    }

    /// Notes a call, if the settings ask for it.
    pub(crate) fn note(&self, noted: Noted) {
        if self.settings.read().journal {
            let mut journal = self.journal.lock();
            if journal.len() >= NOTED {
                journal.pop_front();
            }
            journal.push_back(noted);
        }
    }

    pub(crate) fn allows(&self, scope: &str) -> bool {
        self.scopes.iter().any(|granted| granted == scope)
    }
}
