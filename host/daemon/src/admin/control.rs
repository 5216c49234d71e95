//! What the admin API can ask of the running daemon. `app` answers, over the store and the pipeline.

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName, ProviderId, ScopeId};
use tandem_core::link::{Fields, Side};
use tandem_core::policy::Flow;

use super::matches::{DecideMatch, MatchAsked, MatchReport, MatchRows};
use super::view::{
    Count, DeadView, DecidedMany, ErasureView, Explanation, KeptView, ProviderView, ProvidersReloaded,
    Reloaded, ReviewView, Status, Swapped, Undone, WithheldView,
};

/// What is paused or resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseTarget {
    /// None: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Default: both.
    #[serde(default)]
    pub direction: Flow,
}

/// A record, from either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordRef {
    /// By its id in System A.
    Internal(EntityKey),
    /// By its id in a CRM.
    External(ExternalKey),
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadTarget {
    /// One, by its number: `{"seq": 17}`.
    Seq(u64),
    /// Those of a connection: `{"connection": "acme-hubspot"}`.
    Connection(ConnectionId),
    /// All: `"all"`.
    All,
}

/// A decision in review, about one record at one connection.
///
/// Either a group and a choice about it: `{"scope", "object", "id", "connection", "group", "choice"}`; or choices by field, over as
/// many groups as they belong to, with `choice` for the fields that are not named: `{…, "fields": {"/phone": "internal"}}`; or
/// `choice` alone, for all that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The scope of the internal record.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The internal record.
    pub id: tandem_core::id::InternalId,
    /// The connection.
    pub connection: ConnectionId,
    /// The group as it is named in the review. None: all that are held, or those that the fields belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What holds from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// What holds from now on, field by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, FieldChoice>,
    /// What stood for the values that were looked at, from the review. Not empty: a group whose values have changed since is not
    /// decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// Decides whatever the values are now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

impl Decide {
    /// The internal record.
    #[must_use]
    pub fn entity(&self) -> EntityKey {
        EntityKey { scope: self.scope.clone(), object: self.object.clone(), id: self.id.clone() }
    }
}

/// What holds after a review: `"internal"`, `"external"` or `{"values": {"/phone": "+49 …"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// What System A has.
    Internal,
    /// What the CRM has.
    External,
    /// These values, by field pointer, on both sides.
    Values(Fields),
}

/// What holds for one field: `"internal"`, `"external"` or `{"value": "+49 …"}`; null clears the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldChoice {
    /// What System A has.
    Internal,
    /// What the CRM has.
    External,
    /// This, on both sides.
    Value(Value),
}

/// Which reviews are meant. All of it has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewFilter {
    /// The scope of the internal record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeId>,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// The canonical object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectName>,
    /// The internal record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<tandem_core::id::InternalId>,
    /// A field of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// "held", "frozen".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl ReviewFilter {
    /// Whether a review is meant.
    #[must_use]
    pub fn admits(&self, review: &ReviewView) -> bool {
        self.scope.as_ref().is_none_or(|scope| *scope == review.entity.scope)
            && self.connection.as_ref().is_none_or(|connection| *connection == review.connection)
            && self.object.as_ref().is_none_or(|object| *object == review.entity.object)
            && self.id.as_ref().is_none_or(|id| review.names(id.as_str()))
            && self.kind.as_ref().is_none_or(|kind| *kind == review.kind)
            && self.field.as_ref().is_none_or(|field| review.fields.contains(field))
    }
}

/// One decision about many held groups: `{"filter": {"connection"}, "take": "internal", "expected": 17}`. A deletion against a change is
/// not among them: it is decided record by record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideMany {
    /// Which.
    pub filter: ReviewFilter,
    /// Whose values hold from now on.
    pub take: Side,
    /// How many groups that are, as it was answered before. None: it is only asked how many there are. Another number than there are by now
    /// decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// What an explanation is about, besides the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aspect {
    /// One field, or all that lies within it.
    pub field: Option<String>,
    /// A moment: RFC 3339, milliseconds since 1970, or a time before now (`-2h`).
    pub at: Option<String>,
}

/// A frozen field that may flow again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfreeze {
    /// The scope of the internal record.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The internal record.
    pub id: tandem_core::id::InternalId,
    /// The connection.
    pub connection: ConnectionId,
    /// The field. None: all frozen fields of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Unfreeze {
    /// The internal record.
    #[must_use]
    pub fn entity(&self) -> EntityKey {
        EntityKey { scope: self.scope.clone(), object: self.object.clone(), id: self.id.clone() }
    }
}

/// Which withheld writes, or which deletions that were carried out, are meant. What is left out fits all; to mean everything, say
/// `{"all": true}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeletesTarget {
    /// Those of this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Those of this batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Those of this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectName>,
    /// Those of this scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeId>,
    /// Those of these records of System A.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<tandem_core::id::InternalId>,
    /// All of them, wherever nothing else is said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// For `reject`: make the record again on the side that deleted it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restore: bool,
}

/// A reconciling look: both sides are read and compared, and what differs goes the usual way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The connection.
    pub connection: ConnectionId,
    /// The canonical object.
    pub object: ObjectName,
    /// Which records.
    pub records: LookAt,
}

/// Which records are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookAt {
    /// One, by its id in System A.
    Internal(tandem_core::id::InternalId),
    /// One, by its id in the CRM.
    External(tandem_core::id::ExternalId),
    /// All that are linked, and after them those of both sides that are not.
    All,
}

/// Which provider goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The provider.
    pub provider: ProviderId,
}

/// Which provider is kept on which version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The provider.
    pub provider: ProviderId,
    /// A label, or the beginning of a digest. None: what serves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Lets other files in again.
    #[serde(default)]
    pub off: bool,
}

/// Whether the daemon is ready for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not: why (starting, draining, the store failed).
    NotReady(String),
}

/// Why something that was asked for cannot be done. The text is for people, without record contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It does not fit the state of things: somebody decided before, a daemon is draining.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It failed; asking again may help.
    #[error("{0}")]
    Failed(String),
}

/// The running daemon, as the admin API sees it.
pub trait Control: Send + Sync + 'static {
    /// Whether it is ready for work.
    fn readiness(&self) -> Readiness;

    /// Metrics in the OpenMetrics text format.
    fn metrics(&self) -> impl Future<Output = Result<String, ControlError>> + Send;

    /// How it stands with one connection or all.
    fn status(
        &self,
        connection: Option<ConnectionId>,
    ) -> impl Future<Output = Result<Status, ControlError>> + Send;

    /// Stops work; hints are still taken in. Answers how many connections that concerns.
    fn pause(&self, target: PauseTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Goes on.
    fn resume(&self, target: PauseTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Everything that is known of a record, or of an aspect of it.
    fn explain(
        &self,
        record: RecordRef,
        aspect: Aspect,
    ) -> impl Future<Output = Result<Explanation, ControlError>> + Send;

    /// Dead letters, newest first.
    fn dead(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadView>, ControlError>> + Send;

    /// One dead letter in full.
    fn dead_letter(&self, seq: u64) -> impl Future<Output = Result<DeadView, ControlError>> + Send;

    /// Tries dead letters again.
    fn replay(&self, target: DeadTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Gives dead letters up.
    fn drop_dead(&self, target: DeadTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// What waits for a person.
    fn reviews(
        &self,
        filter: ReviewFilter,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ReviewView>, ControlError>> + Send;

    /// Decides held groups of a record.
    fn decide(&self, decision: Decide) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Decides whom a record is.
    fn decide_match(&self, decision: DecideMatch)
    -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Begins reports of what a first sync would find, of one connection and object or of all.
    fn begin_match(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> impl Future<Output = Result<Vec<MatchReport>, ControlError>> + Send;

    /// The reports as they are.
    fn match_reports(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> impl Future<Output = Result<Vec<MatchReport>, ControlError>> + Send;

    /// Rows of a report.
    fn match_rows(&self, asked: MatchAsked) -> impl Future<Output = Result<MatchRows, ControlError>> + Send;
    /// Decides held groups of many records, or says how many there are.
    fn decide_many(
        &self,
        decision: DecideMany,
    ) -> impl Future<Output = Result<DecidedMany, ControlError>> + Send;

    /// Lets frozen fields flow again.
    fn unfreeze(&self, target: Unfreeze) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Writes that wait for approval.
    fn withheld(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<WithheldView>, ControlError>> + Send;

    /// Deletions that were carried out and can be undone.
    fn deleted(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<KeptView>, ControlError>> + Send;

    /// Lets withheld writes go.
    fn approve(&self, target: DeletesTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Gives withheld writes up.
    fn reject(&self, target: DeletesTarget) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// Brings deleted records back.
    fn undo(&self, target: DeletesTarget) -> impl Future<Output = Result<Undone, ControlError>> + Send;

    /// Erases a person's record everywhere.
    fn erase(&self, record: RecordRef) -> impl Future<Output = Result<ErasureView, ControlError>> + Send;

    /// Looks at records that should be the same. Answers how many hints were made.
    fn look(&self, look: Look) -> impl Future<Output = Result<Count, ControlError>> + Send;

    /// The providers.
    fn providers(&self) -> impl Future<Output = Result<Vec<ProviderView>, ControlError>> + Send;

    /// Looks at the folder of providers again, also at what was refused before.
    fn reload_providers(&self) -> impl Future<Output = Result<ProvidersReloaded, ControlError>> + Send;

    /// Lets the version serve that served before.
    fn roll_back(&self, target: RollBack) -> impl Future<Output = Result<Swapped, ControlError>> + Send;

    /// Keeps a provider on a version, or lets other files in again.
    fn pin(&self, pin: Pin) -> impl Future<Output = Result<Swapped, ControlError>> + Send;

    /// A connection's file as it stands, TOML.
    fn connection_file(&self, id: ConnectionId) -> impl Future<Output = Result<String, ControlError>> + Send;

    /// Writes a connection's file, new or in place of the one that is there, if what it says can be used.
    fn put_connection(
        &self,
        id: ConnectionId,
        text: String,
    ) -> impl Future<Output = Result<Reloaded, ControlError>> + Send;

    /// Removes a connection's file. Its queue and its links stay in the store.
    fn remove_connection(
        &self,
        id: ConnectionId,
    ) -> impl Future<Output = Result<Reloaded, ControlError>> + Send;

    /// Reads the connections' files again.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, ControlError>> + Send;

    /// Begins to drain and then ends, as SIGTERM does.
    fn shut_down(&self);
}
