//! The documents of the control API that are Pipedrive's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hubspot::webhooks::Timing;
use crate::operation::OperationCounts;

/// What can be set for an account at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PipedriveSettings {
    /// Least milliseconds until a search sees a change.
    pub index_lag_min_ms: u32,
    /// Most milliseconds until a search sees a change.
    pub index_lag_max_ms: u32,
    /// The search index stands still.
    pub index_frozen: bool,
    /// How long an OAuth access token lasts, in seconds.
    pub token_seconds: u32,
    /// Each refresh gives a new refresh token and ends the one before.
    pub rotate_refresh_tokens: bool,
    /// Each call and each write of a record is noted with its moment, to be read by the control API.
    pub journal: bool,
    /// The company has contact sync, so persons have a job title, a birthday, notes, an address and messengers.
    pub contact_sync: bool,
    /// A body with a member that the specification does not have is refused; otherwise the member is ignored.
    pub refuse_unknown_members: bool,
    /// A deleted person can be read by its id for thirty days, with `is_deleted`; otherwise it is 404 at once.
    pub deleted_readable: bool,
    /// `custom_fields` of an answer names every field of the account, empty ones with null.
    pub empty_custom_fields: bool,
    /// A write of nothing new changes `update_time` and is told of.
    pub touch_on_no_change: bool,
    /// Answers have `x-daily-ratelimit-token-*`; staff say that they can be missing for a while.
    pub daily_headers: bool,
    /// So many 429 in a minute to an API token, and every call is a 403 for a while; 0: never.
    pub abuse_after: u32,
    /// How long that lasts, in seconds.
    pub abuse_seconds: u32,
    /// Ids in the `meta` of webhooks are texts, as in the guide; otherwise numbers.
    pub text_ids: bool,
    /// When the webhooks of a write leave.
    pub timing: Timing,
    /// With `before`: how long a write waits for its webhooks at most.
    pub before_bound_ms: u64,
    /// With `after`: how long after the answer they leave.
    pub after_delay_ms: u64,
    /// How long a target may take.
    pub timeout_ms: u64,
    /// How long after a failure each further attempt is made.
    pub retry_delays_ms: [u64; 3],
    /// `host:port` to connect to instead of the subscription's host, in plain HTTP.
    pub connect_to: Option<String>,
}

impl Default for PipedriveSettings {
    fn default() -> Self {
        Self {
            index_lag_min_ms: 1_000,
            index_lag_max_ms: 3_000,
            index_frozen: false,
            token_seconds: 3_600,
            rotate_refresh_tokens: false,
            journal: false,
            contact_sync: false,
            refuse_unknown_members: true,
            deleted_readable: true,
            empty_custom_fields: true,
            touch_on_no_change: false,
            daily_headers: true,
            abuse_after: 120,
            abuse_seconds: 60,
            text_ids: true,
            timing: Timing::Before,
            before_bound_ms: 2_000,
            after_delay_ms: 20,
            timeout_ms: 10_000,
            retry_delays_ms: [3_000, 30_000, 150_000],
            connect_to: None,
        }
    }
}

/// The limits of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipedriveQuota {
    /// Calls in two seconds with the API token.
    pub token_burst: u32,
    /// Calls in two seconds with an OAuth token.
    pub oauth_burst: u32,
    /// Searches in two seconds.
    pub search_burst: u32,
    /// Tokens in a day that all callers of the company share; none: without end.
    pub daily: Option<u64>,
}

impl PipedriveQuota {
    /// The smallest plan with one seat.
    pub const LITE: Self = Self { token_burst: 20, oauth_burst: 80, search_burst: 10, daily: Some(30_000) };
    /// Out of the way.
    pub const UNLIMITED: Self =
        Self { token_burst: 1_000_000, oauth_burst: 1_000_000, search_burst: 1_000_000, daily: None };
}

impl Default for PipedriveQuota {
    fn default() -> Self {
        Self::LITE
    }
}

/// Accounts to be made, all alike and with the same app installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewPipedriveAccounts {
    /// How many.
    pub count: usize,
    /// The first company's number; otherwise the next free one.
    pub first_company_id: Option<u64>,
    /// What `api_domain` of the token endpoint says; otherwise the simulator's own address.
    pub api_domain: Option<String>,
    /// The app's; otherwise a random one.
    pub client_id: Option<String>,
    /// The app's; otherwise a random one.
    pub client_secret: Option<String>,
    /// What the app was granted; otherwise all that persons need.
    pub scopes: Option<Vec<String>>,
    /// Limits.
    pub quota: PipedriveQuota,
    /// IANA name of the zone in which the server's day ends; otherwise `UTC`.
    pub time_zone: Option<String>,
    /// Otherwise `EUR`.
    pub currency: Option<String>,
    /// Names of the organizations, whose ids count from 1.
    pub organizations: Vec<String>,
    /// Custom fields, in the form of the fields API. `field_code` may be given; otherwise it is random.
    pub fields: Vec<Map<String, Value>>,
    /// Settings.
    pub settings: PipedriveSettings,
}

impl Default for NewPipedriveAccounts {
    fn default() -> Self {
        Self {
            count: 1,
            first_company_id: None,
            api_domain: None,
            client_id: None,
            client_secret: None,
            scopes: None,
            quota: PipedriveQuota::LITE,
            time_zone: None,
            currency: None,
            organizations: Vec::new(),
            fields: Vec::new(),
            settings: PipedriveSettings::default(),
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipedriveAccount {
    /// The company's number, by which disturbances name it too.
    pub company_id: u64,
    /// The first label of its host, `{companyDomain}.pipedrive.com`.
    pub company_domain: String,
    /// The user whom both tokens belong to.
    pub user_id: u64,
    /// For `x-api-token`.
    pub api_token: String,
    /// An OAuth access token that is valid now.
    pub access_token: String,
    /// How long it lasts, in seconds.
    pub expires_in: u32,
    /// For the token endpoint.
    pub refresh_token: String,
    /// The app's.
    pub client_id: String,
    /// The app's.
    pub client_secret: String,
    /// The base URL that the token endpoint tells.
    pub api_domain: String,
    /// `field_code` of each custom field by its name.
    pub fields: BTreeMap<String, String>,
}

/// A list of accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipedriveAccounts {
    /// In order of company ids.
    pub accounts: Vec<PipedriveAccount>,
}

/// Counters of one account, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipedriveCounts {
    /// By operation; those never called are left out.
    pub operations: BTreeMap<String, OperationCounts>,
    /// Live persons.
    pub live: usize,
    /// Deleted persons that are not purged yet.
    pub deleted: usize,
    /// Tokens of the day that are spent.
    pub tokens: u64,
    /// Webhooks.
    pub webhooks: PipedriveWebhookCounts,
}

impl PipedriveCounts {
    /// Calls of an operation.
    pub fn calls(&self, operation: &str) -> u64 {
        self.operations.get(operation).map_or(0, |counts| counts.calls)
    }

    /// Calls of all operations.
    pub fn total_calls(&self) -> u64 {
        self.operations.values().map(|counts| counts.calls).sum()
    }
}

/// What became of the webhooks of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipedriveWebhookCounts {
    /// Events for a subscription.
    pub events: u64,
    /// Attempts to deliver one.
    pub attempts: u64,
    /// Attempts that were answered with 2xx in time.
    pub delivered: u64,
    /// Attempts that were not.
    pub failed: u64,
    /// Events given up after the last attempt.
    pub given_up: u64,
    /// Events lost because their subscription was banned.
    pub banned: u64,
    /// Events lost by order.
    pub lost: u64,
    /// Events that are neither delivered nor given up yet.
    pub under_way: u64,
}

/// A subscription and how it fares, as people see it in the tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipedriveWebhook {
    /// Its number.
    pub id: u64,
    /// `*`, `create`, `change`, `delete`.
    pub action: String,
    /// `*`, `person` …
    pub object: String,
    /// Where it posts to.
    pub url: String,
    /// First attempts that have failed since the last ban.
    pub strikes: u32,
    /// Whether it is banned now.
    pub banned: bool,
    /// Why it is gone, if it is.
    pub removed: Option<String>,
}

/// All persons of an account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipedriveDump {
    /// In order of ids, as v2 shows them; deleted ones have `is_deleted`.
    pub persons: Vec<Value>,
    /// Losers of merges and whom each was merged into.
    pub merged: BTreeMap<u64, u64>,
}

/// What somebody who works in the CRM writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipedrivePersonWrite {
    /// Members in the form of API v2.
    pub members: Map<String, Value>,
    /// No webhooks.
    #[serde(default)]
    pub quiet: bool,
}

/// One edit of many persons in the list view.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipedriveBulkEdit {
    /// Whom.
    pub ids: Vec<u64>,
    /// Members in the form of API v2.
    pub members: Map<String, Value>,
}

/// Two persons to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipedriveMerge {
    /// The one that is deleted.
    pub loser: u64,
    /// The one that stays and whose values win.
    pub survivor: u64,
}

/// One thing that somebody does in an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum PipedriveDeed {
    /// A person is created.
    Create {
        /// The account.
        company_id: u64,
        /// Members in the form of API v2.
        members: Map<String, Value>,
    },
    /// One save of these members.
    Edit {
        /// The account.
        company_id: u64,
        /// The person.
        id: u64,
        /// Members in the form of API v2.
        members: Map<String, Value>,
    },
    /// A person is deleted.
    Delete {
        /// The account.
        company_id: u64,
        /// The person.
        id: u64,
    },
}

/// What people do in many accounts at the same time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipedriveDeeds {
    /// Each on its own: one that is refused stops no other.
    pub deeds: Vec<PipedriveDeed>,
}
