//! System A, as the pipeline reaches it: `read`, `find` by identity, `write_if`, `changes` since a cursor. Nothing else.
//!
//! `embedded` is a record store of its own in the daemon, with its own files and an HTTP API. It shares no transaction with
//! the queue: the state decides, so none is needed.

pub mod embedded;

use std::future::Future;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::exchange::Problem;
use tandem_core::id::{InternalId, ObjectName, ScopeId};

/// A record of System A.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its version: greater is newer, also through deletion and re-creation.
    pub version: u64,
    /// When it was last changed.
    pub changed_at: Millis,
    /// Who changed it last: `api`, or `tandem:CONNECTION`. Empty: System A does not say.
    pub origin: String,
    /// The canonical document. None: deleted.
    pub document: Option<Value>,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No live record.
    Absent,
    /// This version of a live record.
    Version(u64),
}

/// A conditional write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The customer's part.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The record.
    pub id: InternalId,
    /// What it expects to find.
    pub expected: Expected,
    /// The whole document afterwards. None: delete.
    pub document: Option<Value>,
    /// Who writes: `tandem:CONNECTION` for the pipeline. Kept with the record and shown in the feed.
    pub origin: String,
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was taken; the record as it is now.
    Written(Record),
    /// The expectation did not hold; the record as it is now. None: there is none.
    Conflict(Option<Record>),
    /// Another live record of the scope has the same identity value.
    Exists(InternalId),
    /// The document is not valid.
    Rejected(Vec<Problem>),
}

/// One entry of the change feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The customer's part.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The record.
    pub id: InternalId,
    /// Its version after the change.
    pub version: u64,
    /// When.
    pub at: Millis,
    /// Who wrote.
    pub origin: String,
}

/// A piece of the change feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// In order of their happening. A record may be named once for several changes. Whoever begins at the beginning is named
    /// every record once first, deleted ones too, in any order.
    pub changes: Vec<Change>,
    /// Where the next piece starts.
    pub cursor: Vec<u8>,
    /// Whether there was more at once. A feed that is written to all the time seldom has an empty piece, but it has an end.
    pub more: bool,
}

/// Why System A cannot answer. The work is tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("system a: {what}")]
pub struct InternalError {
    /// What failed.
    pub what: String,
}

/// System A.
pub trait Internal: Send + Sync + 'static {
    /// The record. None: there was never such a record.
    fn read(
        &self,
        scope: &ScopeId,
        object: &ObjectName,
        id: &InternalId,
    ) -> impl Future<Output = Result<Option<Record>, InternalError>> + Send;

    /// Live records that have one of these identity values (pointer and normal form), each once, in the order of the values.
    fn find(
        &self,
        scope: &ScopeId,
        object: &ObjectName,
        identity: &[(String, String)],
    ) -> impl Future<Output = Result<Vec<InternalId>, InternalError>> + Send;

    /// Writes if the expectation holds. Durable when it answers.
    fn write_if(&self, write: Write) -> impl Future<Output = Result<Outcome, InternalError>> + Send;

    /// What changed since the cursor (None: since the beginning). Empty when nothing did.
    fn changes(
        &self,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Changes, InternalError>> + Send;

    /// Waits until there may be something after the cursor. May return early.
    fn wait(&self, cursor: Option<&[u8]>) -> impl Future<Output = ()> + Send;
}
