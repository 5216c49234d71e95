//! The documents of the control API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::faults::{FaultKind, FaultOrder, FaultState, Rewrite};
pub use crate::hubspot::account::{AccountSettings, TokenKind};
pub use crate::hubspot::quota::QuotaSizes;
pub use crate::hubspot::webhooks::{Subscription, Timing, WebhookCounts, WebhookSettings};
pub use crate::operation::OperationCounts;
pub use crate::pipedrive::control::{
    NewPipedriveAccounts, PipedriveAccount, PipedriveCounts, PipedriveDeed, PipedriveQuota, PipedriveSettings,
};
pub use crate::rest::{Compares, NewRestAccount, RestAccount, RestCounts};
pub use crate::strict::{Violation, Violations};
pub use crate::writes::{NotedWrite, WriteKind, Writer};

/// An app to be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewApp {
    /// What people call it.
    pub name: Option<String>,
    /// Otherwise a random one.
    pub client_id: Option<String>,
    /// Otherwise a random one. It signs the webhooks.
    pub client_secret: Option<String>,
    /// Webhooks.
    pub webhooks: WebhookSettings,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppInfo {
    /// Number, the `sourceId` of its writes.
    pub app_id: u64,
    /// What people call it.
    pub name: String,
    /// For OAuth.
    pub client_id: String,
    /// For OAuth and for signatures.
    pub client_secret: String,
    /// The `hapikey` of the webhooks API.
    pub developer_key: String,
    /// Webhooks.
    pub webhooks: WebhookSettings,
    /// What became of them.
    pub counts: WebhookCounts,
}

/// Accounts to be made, all alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAccounts {
    /// Their app.
    pub app_id: u64,
    /// How many.
    #[serde(default = "one")]
    pub count: usize,
    /// How one authenticates there.
    #[serde(default)]
    pub kind: TokenKind,
    /// Otherwise those of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaSizes>,
    /// IANA name; otherwise `America/New_York`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Otherwise `USD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Otherwise all that contacts need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Settings.
    #[serde(default)]
    pub settings: AccountSettings,
    /// Custom properties, in the form of the Properties API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Map<String, Value>>,
    /// The first portal id; otherwise the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_portal_id: Option<u64>,
}

fn one() -> usize {
    1
}

impl NewAccounts {
    /// So many accounts of a private app with the limits of their kind.
    pub fn new(app_id: u64, count: usize) -> Self {
        Self {
            app_id,
            count,
            kind: TokenKind::Private,
            quota: None,
            time_zone: None,
            currency: None,
            scopes: None,
            settings: AccountSettings::default(),
            properties: Vec::new(),
            first_portal_id: None,
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountInfo {
    /// Its number.
    pub portal_id: u64,
    /// Its app.
    pub app_id: u64,
    /// How one authenticates there.
    pub kind: TokenKind,
    /// A token that is valid now.
    pub access_token: String,
    /// How long it lasts; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u32>,
    /// For OAuth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// IANA name.
    pub time_zone: String,
}

/// Accounts with an app, for `--accounts-file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAppWithAccounts {
    /// The app.
    #[serde(default)]
    pub app: NewApp,
    /// Its accounts; `appId` is not looked at.
    pub accounts: Vec<NewAccounts>,
}

/// A list of accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountList {
    /// In order of portal ids.
    pub accounts: Vec<AccountInfo>,
}

/// Counters of one account, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By operation; those never called are left out.
    pub operations: BTreeMap<String, OperationCounts>,
    /// Live contacts.
    pub live: usize,
    /// Archived contacts.
    pub archived: usize,
}

impl Counts {
    /// Calls of an operation.
    pub fn calls(&self, operation: &str) -> u64 {
        self.operations.get(operation).map_or(0, |counts| counts.calls)
    }

    /// Calls of all operations.
    pub fn total_calls(&self) -> u64 {
        self.operations.values().map(|counts| counts.calls).sum()
    }

    /// 429 answers of all operations.
    pub fn throttled(&self) -> u64 {
        self.operations.values().map(|counts| counts.throttled).sum()
    }
}

/// A call that came, as the journal of an account has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotedCall {
    /// When it came, in milliseconds since 1970.
    pub at: i64,
    /// Its operation.
    pub operation: String,
    /// What it was answered with. None: it was not answered.
    pub status: Option<u16>,
}

/// A record in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Whether it is in the recycle bin.
    pub archived: bool,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
    /// All stored values.
    pub properties: BTreeMap<String, String>,
}

/// All records of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Live ones, then archived ones, in order of ids.
    pub records: Vec<Record>,
    /// Old ids and what they lead to since a merge.
    pub redirects: BTreeMap<u64, u64>,
}

/// What a person writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonWrite {
    /// Names and values; an empty value clears.
    pub properties: BTreeMap<String, String>,
    /// No webhooks.
    #[serde(default)]
    pub quiet: bool,
}

/// Many records that a person imports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonImport {
    /// One map of names and values each.
    pub records: Vec<BTreeMap<String, String>>,
    /// No webhooks.
    #[serde(default)]
    pub quiet: bool,
}

/// What became of an import or of many deeds: for each its record's id, or why it was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Ids; none for a refused one, in the order of what was asked for.
    pub ids: Vec<Option<u64>>,
    /// Messages of the refused ones.
    pub refused: Vec<String>,
}

/// One thing that somebody does in an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "camelCase", deny_unknown_fields)]
pub enum PersonDeed {
    /// A contact is created with these values.
    Create {
        /// The account.
        portal: u64,
        /// Names and values.
        properties: BTreeMap<String, String>,
    },
    /// One save of these values; an empty one clears.
    Edit {
        /// The account.
        portal: u64,
        /// The contact.
        id: u64,
        /// Names and values.
        properties: BTreeMap<String, String>,
    },
    /// A contact is deleted.
    Delete {
        /// The account.
        portal: u64,
        /// The contact.
        id: u64,
    },
    /// Nobody does anything, but the event of the contact's newest value is delivered once more.
    Repeat {
        /// The account.
        portal: u64,
        /// The contact.
        id: u64,
    },
}

/// What people do in many accounts at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonDeeds {
    /// Each on its own: one that is refused stops no other.
    pub deeds: Vec<PersonDeed>,
}

/// An edit of many records at once by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonBulkEdit {
    /// The contacts.
    pub ids: Vec<u64>,
    /// Names and values; an empty one clears.
    pub properties: BTreeMap<String, String>,
}

/// Two records to be merged by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonMerge {
    /// The one whose values win.
    pub primary: u64,
    /// The other one.
    pub other: u64,
}

/// A step of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Advance {
    /// Milliseconds forward.
    pub advance_ms: u32,
}

/// The clock after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockInfo {
    /// Simulated milliseconds since 1970.
    pub now: i64,
}

/// The number of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultId {
    /// For withdrawing it.
    pub id: u64,
}

/// All orders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultList {
    /// In order of their numbers.
    pub faults: Vec<FaultState>,
}

/// An authorisation code, as a person's consent gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// To be exchanged once at the token endpoint.
    pub code: String,
}
