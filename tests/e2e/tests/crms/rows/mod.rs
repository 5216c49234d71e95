//! What the scenario has to know of a CRM: a row of the table. A CRM is added by one more file with a [`Row`], and one line in
//! `main.rs`.
//!
//! What people do in a CRM and what its records look like is in [`Crm`], by canonical names; here is what is particular to its
//! account: how it authenticates, what is limited, what its operations are called, what it has not. Nothing here asserts.

mod hubspot;
mod pipedrive;
mod salesforce;

use std::collections::BTreeMap;

pub(crate) use hubspot::HubSpot;
pub(crate) use pipedrive::Pipedrive;
pub(crate) use salesforce::Salesforce;
use serde_json::{Map, Value};
use tandem_e2e::Error;
use tandem_e2e::crm::{Crm, Dialect};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::round::Guarantee;
use tandem_simulator::control::types::{NotedCall, OperationCounts};

/// What a customer's account and connection are made from, whatever the CRM.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The connection's name.
    pub(crate) connection: String,
    /// The scope in System A.
    pub(crate) scope: String,
    /// Lines of the object's policy, in TOML.
    pub(crate) policy: String,
    /// Milliseconds between two polls.
    pub(crate) poll_every_ms: u32,
    /// What the account permits in a day, in the CRM's own unit. None: out of the way.
    pub(crate) permitted: Option<u32>,
    /// The account has the limit of [`Bursts::BURST`].
    pub(crate) bursts: bool,
    /// Credentials are such that they end and are renewed, and each renewal ends the credential that it was made with: two renewals
    /// at once would show.
    pub(crate) renewed: bool,
    /// With the fields of [`Row::customs`].
    pub(crate) customs: bool,
    /// No answer tells what is left of the day.
    pub(crate) untold: bool,
}

impl Wanted {
    /// Pushes at once and hardly any polls; limits out of the way.
    pub(crate) fn new(scope: &str) -> Self {
        Self {
            connection: scope.to_owned(),
            scope: scope.to_owned(),
            policy: String::new(),
            poll_every_ms: 600_000,
            permitted: None,
            bursts: false,
            renewed: false,
            customs: false,
            untold: false,
        }
    }

    /// Another connection of the scope.
    pub(crate) fn named(mut self, connection: &str) -> Self {
        connection.clone_into(&mut self.connection);
        self
    }

    pub(crate) fn policy(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.policy);
        self
    }

    pub(crate) fn polled(mut self, every_ms: u32) -> Self {
        self.poll_every_ms = every_ms;
        self
    }

    pub(crate) fn permitted(mut self, in_a_day: u32) -> Self {
        self.permitted = Some(in_a_day);
        self
    }

    pub(crate) fn bursts(mut self) -> Self {
        self.bursts = true;
        self
    }

    pub(crate) fn renewed(mut self) -> Self {
        self.renewed = true;
        self
    }

    pub(crate) fn with_customs(mut self) -> Self {
        self.customs = true;
        self
    }

    pub(crate) fn untold(mut self) -> Self {
        self.untold = true;
        self
    }
}

/// What the account counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// Calls by operation.
    pub(crate) operations: BTreeMap<String, OperationCounts>,
    /// Tokens, where the CRM prices its calls.
    pub(crate) tokens: Option<u64>,
    /// Records that are not deleted.
    pub(crate) live: usize,
    pub(crate) pushes: Pushes,
}

/// What became of the account's webhooks or messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pushes {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    /// By order, or since the account gave up, or told nobody for a while.
    pub(crate) lost: u64,
    /// Neither delivered nor given up.
    pub(crate) under_way: u64,
}

impl Counted {
    pub(crate) fn calls(&self) -> u64 {
        self.operations.values().map(|counts| counts.calls).sum()
    }

    /// Calls that were refused for a limit.
    pub(crate) fn throttled(&self) -> u64 {
        self.operations.values().map(|counts| counts.throttled).sum()
    }

    /// Calls that were refused for anything else.
    pub(crate) fn refused(&self) -> u64 {
        self.operations.values().map(|counts| counts.refused).sum()
    }

    /// What the day's limit counts: tokens where calls have a price, calls elsewhere.
    pub(crate) fn spent(&self) -> u64 {
        self.tokens.unwrap_or_else(|| self.calls())
    }
}

/// A field of the customer's own, and two values of it in both forms.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    /// Its name below `custom` in the canonical document.
    pub(crate) member: &'static str,
    /// What the CRM calls it.
    pub(crate) name: String,
    /// First and second value in System A.
    pub(crate) here: [Value; 2],
    /// The same in the CRM.
    pub(crate) there: [Value; 2],
}

/// Something that the CRM refuses in a record.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Members of the canonical document as the CRM refuses them.
    pub(crate) members: Value,
    /// The field that is wrong.
    pub(crate) pointer: &'static str,
    /// What the CRM says to it.
    pub(crate) words: String,
    /// The same members as it takes them.
    pub(crate) mended: Value,
}

/// A CRM.
pub(crate) trait Row: Sized {
    const CRM: &'static str;
    const DIALECT: Dialect;
    /// What is promised for an edit that nobody told of before the same field was written.
    const GUARANTEE: Guarantee;
    /// The operation by which a record is made.
    const CREATE: &'static str;
    /// The operation by which a credential is renewed.
    const RENEWAL: &'static str;
    /// Calls that a connection has under way at the most.
    const AT_ONCE: u64;
    /// What the account permits in a day for the scene about limits, so that some records cannot be carried.
    const PERMITTED: u32;
    /// What a day's limit counts.
    const UNIT: &'static str;
    /// What somebody who looks for the spent limit finds in the connection's status.
    const LIMIT: &'static str;
    /// Why a push tells of no deletion, where that is so.
    const UNTOLD_DELETIONS: Option<&'static str>;
    /// Why a deletion whose push was lost is found when its record is read, and not before, where that is so.
    const UNLISTED_DELETIONS: Option<&'static str>;

    /// Puts what the daemon has to know of the CRM's app into the plan.
    fn prepare(plan: &mut Plan);

    /// Puts the provider into the folder and waits until it serves.
    async fn bring(house: &House) -> Result<(), Error>;

    /// An account that the daemon does not know yet.
    async fn open(house: &House, wanted: &Wanted) -> Result<Self, Error>;

    /// Writes the connection's file.
    async fn connect(&self, house: &House, wanted: &Wanted) -> Result<(), Error>;

    /// Waits until the connection runs and its account was gone through.
    async fn runs(&self, house: &House) -> Result<(), Error>;

    /// By which the simulator names the account.
    fn number(&self) -> u64;

    /// The account as people and judges see it now. Signed in anew where a session may have ended.
    async fn crm(&self, house: &House) -> Result<Crm, Error>;

    async fn counted(&self, house: &House) -> Result<Counted, Error>;

    /// Ends every access token or session now.
    async fn end_tokens(&self, house: &House) -> Result<(), Error>;

    /// The customer buys more, and the operator says so: `wanted` has the new limit.
    async fn permit(&self, house: &House, wanted: &Wanted) -> Result<(), Error>;

    /// The fields of the customer's own that this CRM can have.
    async fn customs(&self) -> Result<Vec<Custom>, Error>;

    /// What this CRM refuses, in an account with the fields of [`Row::customs`], in its own words: as its documentation has them, and
    /// as the simulator says them.
    fn refused() -> Vec<Refused>;

    /// A record's fields by the names that [`Custom::name`] has.
    async fn fields(&self, house: &House, id: &str) -> Result<Map<String, Value>, Error>;

    /// Somebody who works there saves these fields.
    async fn save(&self, house: &House, id: &str, fields: Map<String, Value>) -> Result<(), Error>;

    /// Names of the fields that a write of the API set.
    fn set_by(members: &BTreeMap<String, Value>) -> Vec<String> {
        members.keys().cloned().collect()
    }
}

/// A CRM that limits calls in a short window.
pub(crate) trait Bursts: Row {
    /// Calls in any [`Bursts::WINDOW_MS`].
    const BURST: u32;
    const WINDOW_MS: i64;

    /// All calls of the account that the limit counts, oldest first.
    async fn calls(&self, house: &House) -> Result<Vec<NotedCall>, Error>;
}
