//! The local durable store: hints, links, intents, history, dead letters, cursors.
//!
//! It keeps and finds; it never decides. One [`Commit`] is atomic. What is acknowledged to anybody was committed with
//! [`Until::Durable`] first. Two implementations behind one conformance suite: [`sled`] on disk and
//! [`memory`], the reference.

#[cfg(test)]
mod conformance;
mod history;
pub mod memory;
pub mod sled;

use std::cmp::Ordering;
use std::future::Future;

use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::exchange::{Delivery, Observed, Problem};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey, InternalId, ObjectName};
use tandem_core::link::Link;

pub use history::{
    Before, DELTA_BYTES, Exchanged, Extent, HistoryEntry, Moved, Noticed, Origin, Sight, lies_within,
};

/// How urgent a connection's work is: the lesser class is taken first. What was stored knows a class by its place in this list, so that
/// a new one comes last; how urgent it is says [`Class::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A person waits for it.
    Interactive,
    /// An edit on either side.
    Live,
    /// A second try.
    Retry,
    /// A look at a record that should be the same.
    Reconcile,
    /// The first load.
    Backfill,
    /// What comes by the thousand: word of a record of the CRM that is linked to nothing (it is new, or one of many that somebody
    /// imports), and edits and deletions that the CRM says a program made, or somebody to many records at once. An edit of a person
    /// in that CRM or in System A does not wait behind it; what comes of it for other CRMs are edits of System A.
    Background,
}

impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Class {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 6] =
        [Self::Interactive, Self::Live, Self::Background, Self::Retry, Self::Reconcile, Self::Backfill];

    /// Its place in [`Class::ALL`].
    fn rank(self) -> usize {
        Self::ALL.iter().position(|class| *class == self).unwrap_or(Self::ALL.len())
    }

    /// The class's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Live => "live",
            Self::Background => "background",
            Self::Retry => "retry",
            Self::Reconcile => "reconcile",
            Self::Backfill => "backfill",
        }
    }
}

/// What a hint points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A record of System A.
    Internal(InternalId),
    /// A record of the CRM.
    External(ExternalId),
    /// A stored webhook that has not been read yet: the sequence number of its [`StoredDelivery`].
    Delivery(u64),
}

/// "Look at this record": why, since when, how often tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// From [`Store::next_seq`].
    pub seq: u64,
    /// Whose work it is.
    pub connection: ConnectionId,
    /// The canonical object. Empty for deliveries.
    pub object: ObjectName,
    /// What it points at.
    pub subject: Subject,
    /// How urgent it is.
    pub class: Class,
    /// When it was first noticed: its age counts from here, through all retries.
    pub noticed_at: Millis,
    /// Not before this moment. 0: at once.
    pub due: Millis,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// A short word for history: "edit", "webhook", "poll", "walk", "replay", "look".
    pub cause: String,
    /// What the event or row said, if it said anything.
    pub observed: Option<Observed>,
}

/// Where a stored hint is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HintKey {
    /// Whose work it is.
    pub connection: ConnectionId,
    /// How urgent it is.
    pub class: Class,
    /// Not before this moment. 0: ready.
    pub due: Millis,
    /// Its number.
    pub seq: u64,
}

impl Hint {
    /// Where the hint is found once it is stored.
    #[must_use]
    pub fn key(&self) -> HintKey {
        HintKey { connection: self.connection.clone(), class: self.class, due: self.due, seq: self.seq }
    }
}

/// A webhook as it came, verified, split and blanked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredDelivery {
    /// From [`Store::next_seq`].
    pub seq: u64,
    /// Whose account it belongs to.
    pub connection: ConnectionId,
    /// When it came.
    pub received_at: Millis,
    /// Its contents.
    pub delivery: Delivery,
}

/// A write that is about to be made, on disk before it is: what became of it is found out by it, should its commit be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The entity that is written.
    pub entity: EntityKey,
    /// Where.
    pub connection: ConnectionId,
    /// When it was written down.
    pub opened_at: Millis,
    /// What is written.
    pub call: Call,
}

/// What an intent is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// The entity's record is made in the CRM. Cannot be repeated without harm.
    Create {
        /// The key that the record will bear, where the CRM has a place for it.
        key: String,
        /// Identity values (pointer, normal form), to recognise it by.
        identity: Vec<(String, String)>,
        /// The canonical document that is sent, as JSON: the base of the link, should the answer be lost.
        sent: Vec<u8>,
        /// The answer was lost: it may have taken effect. Looked for after this moment.
        unknown_since: Option<Millis>,
    },
    /// Fields on either side change.
    Update {
        /// [`tandem_core::plan::Unsettled`] as JSON.
        unsettled: Vec<u8>,
    },
}

/// A record that was set aside. There is one for each record and connection: see [`DeadLetter::about`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From [`Store::next_seq`]. A letter that takes the place of another one takes its number too.
    pub seq: u64,
    /// The hint that could not be worked.
    pub hint: Hint,
    /// The entity, if it is known.
    pub entity: Option<EntityKey>,
    /// When it was set aside.
    pub at: Millis,
    /// Where it failed: "system-a-in", "provider-out", "provider-in", "canonical-in", "rejected", "fault", "blocked".
    pub point: String,
    /// What was wrong.
    pub problems: Vec<Problem>,
    /// Provider id, version and digest prefix.
    pub provider: String,
    /// The CRM's record, if it is known.
    pub external: Option<ExternalId>,
    /// When the record was set aside for the first time, without a success since. The store keeps it.
    pub first_at: Millis,
    /// How often since then. The store counts it.
    pub count: u64,
}

impl DeadLetter {
    /// What the letter is about: the internal record where it is known, otherwise what the hint points at.
    #[must_use]
    pub fn about(&self) -> (&ObjectName, Subject) {
        match &self.entity {
            Some(entity) => (&entity.object, Subject::Internal(entity.id.clone())),
            None => (&self.hint.object, self.hint.subject.clone()),
        }
    }

    /// This letter in the place of an older one about the same record.
    #[must_use]
    fn in_place_of(self, before: Self) -> Self {
        Self {
            seq: before.seq,
            external: self.external.or(before.external),
            first_at: before.first_at,
            count: before.count.saturating_add(1),
            ..self
        }
    }
}

/// One change to the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Adds a hint (ready when `due` is 0).
    AddHint(Hint),
    /// Acknowledges a hint.
    DropHint(HintKey),
    /// Adds a raw delivery.
    AddDelivery(StoredDelivery),
    /// Drops a raw delivery.
    DropDelivery(u64),
    /// Writes a link; keeps the index by external id and the list of held links.
    PutLink(Link),
    /// Forgets a link.
    DropLink(EntityKey, ConnectionId),
    /// Opens or changes an intent.
    PutIntent(Intent),
    /// Closes an intent.
    DropIntent(EntityKey, ConnectionId),
    /// Appends to the record's history.
    AddHistory(HistoryEntry),
    /// Forgets the record's history.
    DropHistory(EntityKey),
    /// Sets a record aside. A letter about the same record at the same connection is replaced; its number, its first time and
    /// its count go over to the new one.
    AddDead(DeadLetter),
    /// Takes a dead letter away (it was replayed or given up).
    DropDead(u64),
    /// Takes the dead letter about a record away, if there is one (the record was worked since).
    DropDeadAbout(ConnectionId, ObjectName, Subject),
    /// Writes a small named value: cursors, facts, counters.
    PutValue(String, Vec<u8>),
    /// Removes a named value.
    DropValue(String),
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// In order.
    pub ops: Vec<Op>,
}

impl Commit {
    /// An empty commit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change.
    pub fn push(&mut self, op: Op) -> &mut Self {
        self.ops.push(op);
        self
    }
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Reads see it; it becomes durable with the next group commit.
    Applied,
    /// It is on disk.
    Durable,
}

/// How much waits for a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Hints that are ready.
    pub ready: u64,
    /// Hints that wait for their time.
    pub delayed: u64,
    /// When the oldest undone hint was noticed.
    pub oldest: Option<Millis>,
}

/// Why the store cannot do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A write or sync failed: the store takes nothing more until it is opened again.
    #[error("store {path}: {what}; nothing more is accepted until the daemon is restarted")]
    Failed {
        /// Where the store is.
        path: String,
        /// What failed.
        what: String,
    },
    /// The store could not be opened.
    #[error("store {path}: cannot be opened: {what}")]
    Open {
        /// Where the store is.
        path: String,
        /// Why, and the way out.
        what: String,
    },
    /// Something could not be read. The store goes on.
    #[error("store {path}: cannot be read: {what}")]
    Unreadable {
        /// Where the store is.
        path: String,
        /// What failed.
        what: String,
    },
    /// Too little space is free for new work; what is under way goes on.
    #[error(
        "store {path}: less than {limit} bytes are free on its disk: nothing new is taken in until there is room"
    )]
    Full {
        /// Where the store is.
        path: String,
        /// How many bytes have to be free.
        limit: u64,
    },
    /// A value is too large.
    #[error("store: {what} has {len} bytes, the limit is {limit}")]
    TooLarge {
        /// What kind of value.
        what: &'static str,
        /// Its encoded size.
        len: usize,
        /// The limit.
        limit: usize,
    },
}

/// The store as every room sees it. Reads are quick and synchronous; a bad stored value is set aside and named in the log,
/// and reads as if it were not there.
pub trait Store: Send + Sync + 'static {
    /// A number greater than every number given before, also across restarts.
    fn next_seq(&self) -> u64;

    /// Applies a commit.
    fn commit(&self, commit: Commit, until: Until) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The link of an entity at a connection.
    fn link(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Link>, StoreError>;

    /// All links of an entity.
    fn links(&self, entity: &EntityKey) -> Result<Vec<Link>, StoreError>;

    /// The entity that a CRM's record is linked to.
    fn entity_of(&self, external: &ExternalKey) -> Result<Option<EntityKey>, StoreError>;

    /// Links of a connection in key order, after the given entity.
    fn scan_links(
        &self,
        connection: &ConnectionId,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<Link>, StoreError>;

    /// Links with held groups or frozen fields, of one connection or of all.
    fn held_links(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Link>, StoreError>;

    /// The open intent of an entity at a connection.
    fn intent(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Intent>, StoreError>;

    /// All open intents of a connection and object.
    fn intents(&self, connection: &ConnectionId, object: &ObjectName) -> Result<Vec<Intent>, StoreError>;

    /// Ready hints of a connection and class, by number, after the given one.
    fn ready(
        &self,
        connection: &ConnectionId,
        class: Class,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError>;

    /// Delayed hints whose time has come, earliest first, over all connections.
    fn delayed(&self, until: Millis, limit: usize) -> Result<Vec<Hint>, StoreError> {
        self.delayed_after((0, 0), until, limit)
    }

    /// Those of them behind a time and a number.
    fn delayed_after(
        &self,
        after: (Millis, u64),
        until: Millis,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError>;

    /// When the next delayed hint is due.
    fn next_due(&self) -> Result<Option<Millis>, StoreError>;

    /// Connections that have undone hints.
    fn busy(&self) -> Result<Vec<ConnectionId>, StoreError>;

    /// How much waits for a connection.
    fn backlog(&self, connection: &ConnectionId) -> Result<Backlog, StoreError>;

    /// A stored delivery.
    fn delivery(&self, seq: u64) -> Result<Option<StoredDelivery>, StoreError>;

    /// The history of an entity, newest first.
    fn history(&self, entity: &EntityKey, limit: usize) -> Result<Vec<HistoryEntry>, StoreError>;

    /// Dead letters, newest first, of one connection or of all.
    fn dead(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// The dead letter about a record, by what [`DeadLetter::about`] says.
    fn dead_about(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        subject: &Subject,
    ) -> Result<Option<DeadLetter>, StoreError>;

    /// How many dead letters a connection has. Costs no look into the tree.
    fn dead_count(&self, connection: &ConnectionId) -> Result<u64, StoreError>;

    /// One dead letter.
    fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter>, StoreError>;

    /// A named value.
    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Named values whose names begin with `prefix`, in order of name, after the given name.
    fn values_under(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// How many links of an object a connection has whose records are alive, as far as is known. Goes through all of them.
    fn count_links(&self, connection: &ConnectionId, object: &ObjectName) -> Result<u64, StoreError>;
}
