//! The documents of the control API for Salesforce.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::operation::OperationCounts;
pub use crate::salesforce::fields::{FieldKind, NewField};
pub use crate::salesforce::org::{NotedSalesforceCall, SalesforceSettings};
pub use crate::salesforce::outbound::{OutboundCounts, OutboundSettings};
pub use crate::salesforce::quota::SalesforceLimits;
pub use crate::salesforce::rules::Duplicates;

/// Orgs to be made, all alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewSalesforceOrgs {
    /// How many; otherwise one.
    pub count: Option<usize>,
    /// Of the connected app, which many orgs may share. Otherwise a random one for all of these.
    pub client_id: Option<String>,
    /// Otherwise a random one for all of these.
    pub client_secret: Option<String>,
    /// Of the integration's user; otherwise one made of the org's number. For one org only.
    pub username: Option<String>,
    /// Otherwise a random one.
    pub password: Option<String>,
    /// An address of the org's own, `http://host:port`: the token endpoint gives it out, and the org answers there only. Otherwise the
    /// address of the API, for all orgs.
    pub instance: Option<String>,
    /// Otherwise those of a small Enterprise Edition.
    pub limits: SalesforceLimits,
    /// Settings.
    pub settings: SalesforceSettings,
    /// Outbound messages.
    pub outbound: OutboundSettings,
    /// Custom fields of contacts.
    pub fields: Vec<NewField>,
}

/// An org.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SalesforceOrg {
    /// Its number, by which disturbances and violations name it.
    pub portal_id: u64,
    /// The id that Salesforce would give it.
    pub organization_id: String,
    /// Where its data is.
    pub instance_url: String,
    /// A session that is valid now, or was when the org was made.
    pub access_token: String,
    /// The one that is valid now; empty when there is none.
    pub refresh_token: String,
    /// Of the connected app.
    pub client_id: String,
    /// Of the connected app.
    pub client_secret: String,
    /// Of the integration's user.
    pub username: String,
    /// Of the integration's user.
    pub password: String,
    /// The user that the API works as.
    pub api_user_id: String,
    /// The user that people are.
    pub person_user_id: String,
}

/// Counters of one org, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesforceCounts {
    /// By operation; those never called are left out.
    pub operations: BTreeMap<String, OperationCounts>,
    /// Live contacts.
    pub live: usize,
    /// Contacts in the recycle bin.
    pub deleted: usize,
    /// Outbound messages.
    pub outbound: OutboundCounts,
}

/// A record in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SalesforceRecord {
    /// Its id of eighteen characters.
    pub id: String,
    /// Its number, by which disturbances name it.
    pub object_id: u64,
    /// Whether it is in the recycle bin.
    pub deleted: bool,
    /// Who it was merged into.
    pub master: Option<String>,
    /// What the last client of the API that wrote it called itself.
    pub client: Option<String>,
    /// All values that are not null, as a read shows them.
    pub values: BTreeMap<String, Value>,
}

/// What a person writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SalesforceWrite {
    /// Names and values; null clears.
    pub values: Map<String, Value>,
    /// No outbound messages.
    #[serde(default)]
    pub quiet: bool,
}

/// Many records that a person imports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SalesforceImport {
    /// Names and values.
    pub records: Vec<Map<String, Value>>,
    /// No outbound messages.
    #[serde(default)]
    pub quiet: bool,
}

/// One edit of many records, as a list view or a data loader makes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SalesforceEditMany {
    /// Which.
    pub ids: Vec<String>,
    /// Names and values, the same for all.
    pub values: Map<String, Value>,
}

/// What became of an import, or of an edit of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesforceImported {
    /// Ids; none for a refused one, in the order of what was asked for.
    pub ids: Vec<Option<String>>,
    /// Messages of the refused ones.
    pub refused: Vec<String>,
}

/// Contacts that a person merges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SalesforceMerge {
    /// The one that stays.
    pub master: String,
    /// One or two that go.
    pub losers: Vec<String>,
    /// Values that the one that stays gets.
    #[serde(default)]
    pub values: Map<String, Value>,
}

/// How long somebody holds a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SalesforceLock {
    /// Milliseconds of simulated time.
    pub ms: u32,
}
