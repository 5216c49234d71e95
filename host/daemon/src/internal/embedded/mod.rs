//! System A, embedded: a record store in the daemon with its own files and its own HTTP API.
//!
//! For owners who have no service of their own yet, for the demo, and for tests: the pipeline reaches it only through
//! [`Internal`], people and programs through [`api`].
//!
//! What holds:
//!
//! - A write is on the disk before it is answered, and is seen by readers and by the feed only then.
//! - Writes are decided one after another: an expectation that held when a write was taken held for nobody else.
//! - A record's version is the number of its last change in the whole store: greater is newer, also through deletion and
//!   re-creation, and never given twice.
//! - Among the live records of a scope and object no two have the same identity value.
//! - A write that changes nothing makes no change: it is answered with the version that is there.
//! - Nothing is stored that its object's canonical schema refuses, whoever writes it.
//! - A stored value that was damaged is named in the log and refused, never taken for an absent record.
//!
//! What it does not do: queries beside id, identity and change; transactions over records; encryption at rest; more than one
//! process on the same files. It knows nothing of the queue, and shares no transaction with it.

pub mod api;
mod disk;
mod feed;
mod layout;
mod rules;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::RwLock;
use serde_json::Value;
use sled::IVec;
use tandem_core::document::problem;
use tandem_core::exchange::Problem;
use tandem_core::id::{InternalId, ObjectName, ScopeId};
use tandem_core::schema::CanonicalSchema;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot, watch};

use self::disk::Disk;
use self::feed::{Cursor, Page, PageError, Tail};
use self::layout::Header;
use self::rules::Rules;
use self::writer::{Precondition, Submission, Verdict, Writer};
use super::{Change, Changes, Expected, Internal, InternalError, Outcome, Record, Write};

/// Writes that may wait for the thread; more wait for room.
const MAX_WAITING: usize = 1024;
/// Identity values of one record.
const MAX_IDENTITIES: usize = 32;
/// See [`Inner::turns`].
const TURNS: usize = 256;

/// How System A is opened.
pub struct EmbeddedOptions {
    /// The objects and their canonical schemas. Records of an object that is not here are kept, but not reached.
    pub objects: BTreeMap<ObjectName, CanonicalSchema>,
    /// Largest document, in bytes of JSON. At most 150 KiB; default 128 KiB. Beyond: 413, or rejected with `too-large`.
    pub max_document: usize,
    /// Memory for pages of the files, in bytes; default 64 MiB. sled may use several times as much for a while.
    pub cache_bytes: u64,
    /// Changes that are kept on disk; default 1,000,000. A cursor that is older has to start again.
    pub feed_keep: u64,
}

impl EmbeddedOptions {
    /// The defaults, for these objects.
    #[must_use]
    pub fn new(objects: BTreeMap<ObjectName, CanonicalSchema>) -> Self {
        Self { objects, max_document: 128 << 10, cache_bytes: 64 << 20, feed_keep: 1_000_000 }
    }
}

/// What happened since it was opened, for metrics. Only ever greater.
#[derive(Debug, Default)]
pub struct Counters {
    /// Writes that were taken.
    pub written: AtomicU64,
    /// Writes whose expectation did not hold.
    pub conflicts: AtomicU64,
    /// Writes with an identity value of another record.
    pub exists: AtomicU64,
    /// Writes whose document was refused.
    pub rejected: AtomicU64,
    /// Writes that failed for a reason of the store's own.
    pub failed: AtomicU64,
    /// Group commits.
    pub commits: AtomicU64,
    /// Records that were read by id.
    pub reads: AtomicU64,
    /// Stored values that could not be trusted when they were read.
    pub damaged: AtomicU64,
    /// Lines that came through NDJSON intake.
    pub batch_lines: AtomicU64,
    /// Event streams that were opened.
    pub streams: AtomicU64,
}

/// System A, embedded. Clones are the same store; the last one to go closes the files.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    objects: BTreeMap<ObjectName, Rules>,
    max_document: usize,
    submissions: Option<mpsc::Sender<Submission>>,
    writer: Option<JoinHandle<()>>,
    draining: watch::Sender<bool>,
    /// Turns of those who read, change and write one record without a precondition; records share them by hash.
    turns: Vec<Mutex<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the thread finishes what it has and ends; then the files can be opened again.
        self.submissions = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of system a panicked");
        }
    }
}

/// What the writer and the readers share.
struct Shared {
    disk: Disk,
    tail: Tail,
    /// What readers see of the records that are being written: their state before. Filled before a batch is applied and
    /// emptied when it is durable, so that a reader who looks here after having read the tree sees durable state only.
    in_flight: RwLock<HashMap<Vec<u8>, Option<IVec>>>,
    /// Why nothing more is written.
    failure: OnceLock<String>,
    counters: Counters,
}

impl Shared {
    fn failed(&self, what: &str) -> InternalError {
        InternalError {
            what: format!(
                "{}: {what}; nothing more is written until the daemon is restarted",
                self.disk.path().display()
            ),
        }
    }

    fn unreadable(&self, error: &sled::Error) -> InternalError {
        InternalError { what: format!("{}: read: {error}", self.disk.path().display()) }
    }

    fn damaged(&self, key: &[u8]) -> InternalError {
        let (scope, object, id) = layout::split_record_key(key).unwrap_or_default();
        InternalError {
            what: format!(
                "{}: the stored record {scope}/{object}/{id} is damaged; write it whole without a precondition to replace it",
                self.disk.path().display()
            ),
        }
    }

    /// Decodes a stored record. None: it is damaged, which is counted and logged.
    fn trusted<'a>(&self, key: &[u8], value: &'a [u8]) -> Option<(Header, &'a [u8])> {
        match layout::decode_record(value) {
            Ok(record) => Some(record),
            Err(damage) => {
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                let (scope, object, id) = layout::split_record_key(key).unwrap_or_default();
                tracing::error!(%scope, %object, %id, %damage, "a stored record is damaged");
                None
            }
        }
    }

    /// The durable stored value of a record.
    fn durable(&self, key: &[u8]) -> Result<Option<IVec>, InternalError> {
        // The tree first: see `in_flight`.
        let stored = self.disk.tree().get(key).map_err(|error| self.unreadable(&error))?;
        Ok(match self.in_flight.read().get(key) {
            Some(before) => before.clone(),
            None => stored,
        })
    }

    /// Durable stored records whose keys begin with the prefix, after a key (empty: from the first).
    fn records_after(
        &self,
        prefix: &[u8],
        after: &[u8],
    ) -> impl Iterator<Item = Result<(IVec, IVec), InternalError>> + '_ {
        use std::ops::Bound;
        let start =
            if after.is_empty() { Bound::Included(prefix.to_vec()) } else { Bound::Excluded(after.to_vec()) };
        // No key holds 0xFF: names are ASCII.
        let mut end = prefix.to_vec();
        end.push(0xFF);
        self.disk.tree().range((start, Bound::Excluded(end))).filter_map(|found| match found {
            Err(error) => Some(Err(self.unreadable(&error))),
            Ok((key, value)) => match self.in_flight.read().get(key.as_ref()) {
                Some(before) => before.clone().map(|before| Ok((key, before))),
                None => Some(Ok((key, value))),
            },
        })
    }
}

/// A record as it is read for the API: the document stays JSON.
struct Stored {
    header: Header,
    json: Vec<u8>,
}

/// What became of the attempt to submit a write.
enum Attempt {
    /// The answer comes when it is durable.
    Submitted(oneshot::Receiver<Result<Verdict, InternalError>>),
    /// The document is not valid.
    Rejected(Vec<Problem>),
}

/// A write as the API and the pipeline see it.
struct Order {
    scope: ScopeId,
    object: ObjectName,
    id: InternalId,
    precondition: Precondition,
    origin: String,
    document: Option<Value>,
}

impl Embedded {
    /// Opens or creates the store in a folder that is its own.
    ///
    /// # Errors
    /// [`InternalError`] with the folder and the way out.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, InternalError> {
        let path = path.as_ref();
        if options.max_document > disk::MAX_VALUE - layout::MAX_HEADER {
            return Err(InternalError {
                what: format!("max_document is {}, the limit is 150 KiB", options.max_document),
            });
        }
        let disk = Disk::open(path, options.cache_bytes).map_err(|what| InternalError { what })?;
        let (head, floor) = feed_bounds(disk.tree())
            .map_err(|error| InternalError { what: format!("{}: read: {error}", path.display()) })?;
        let shared = Arc::new(Shared {
            disk,
            tail: Tail::new(head),
            in_flight: RwLock::default(),
            failure: OnceLock::new(),
            counters: Counters::default(),
        });
        let (submissions, received) = mpsc::channel(MAX_WAITING);
        let writer = Writer::new(Arc::clone(&shared), head, floor, options.feed_keep.max(1));
        let writer = std::thread::Builder::new()
            .name("system-a".into())
            .spawn(move || writer.run(received))
            .map_err(|error| InternalError { what: format!("cannot start the writer: {error}") })?;
        let objects = options
            .objects
            .into_iter()
            .map(|(object, schema)| (object, Rules::new(schema, options.max_document)))
            .collect();
        let inner = Inner {
            shared,
            objects,
            max_document: options.max_document,
            submissions: Some(submissions),
            writer: Some(writer),
            draining: watch::Sender::new(false),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What happened since it was opened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.shared.counters
    }

    /// Why nothing more is written. None: all is well.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.inner.shared.failure.get().map(String::as_str)
    }

    /// Ends the event streams of the API, so that a server can drain. Everything else goes on.
    pub fn drain(&self) {
        self.inner.draining.send_replace(true);
    }

    fn draining(&self) -> watch::Receiver<bool> {
        self.inner.draining.subscribe()
    }

    fn rules(&self, object: &ObjectName) -> Option<&Rules> {
        self.inner.objects.get(object)
    }

    /// Waits for the turn to read, change and write a record.
    async fn turn(
        &self,
        scope: &ScopeId,
        object: &ObjectName,
        id: &InternalId,
    ) -> Option<MutexGuard<'_, ()>> {
        let key = layout::record_key(scope.as_str(), object.as_str(), id.as_str());
        let turn = self.inner.turns.get(crc32fast::hash(&key) as usize % TURNS)?;
        Some(turn.lock().await)
    }

    fn max_document(&self) -> usize {
        self.inner.max_document
    }

    /// The durable record with its document as JSON.
    fn stored(&self, scope: &str, object: &str, id: &str) -> Result<Option<Stored>, InternalError> {
        let shared = &self.inner.shared;
        shared.counters.reads.fetch_add(1, Ordering::Relaxed);
        let key = layout::record_key(scope, object, id);
        let Some(value) = shared.durable(&key)? else { return Ok(None) };
        let (header, json) = shared.trusted(&key, &value).ok_or_else(|| shared.damaged(&key))?;
        Ok(Some(Stored { header, json: json.to_vec() }))
    }

    /// Checks a write and hands it to the writer. Writes that are submitted one after another are decided in that order.
    async fn submit(&self, order: Order) -> Result<Attempt, InternalError> {
        let Order { scope, object, id, precondition, origin, document } = order;
        let rejected = |problems: Vec<Problem>| {
            self.inner.shared.counters.rejected.fetch_add(1, Ordering::Relaxed);
            Ok(Attempt::Rejected(problems))
        };
        let Some(rules) = self.rules(&object) else {
            return rejected(vec![problem("unknown-object", format!("there is no object {object}"), None)]);
        };
        if !rules::is_name(scope.as_str()) || !rules::is_id(id.as_str()) || !rules::is_origin(&origin) {
            return rejected(vec![problem(
                "bad-name",
                "scope, id or origin has characters that are not allowed",
                None,
            )]);
        }
        let mut identity = Vec::new();
        let mut json = None;
        if let Some(document) = document {
            if let Err(problems) = rules.validate(&document) {
                return rejected(problems);
            }
            for (pointer, normal) in rules.identity(&document) {
                let hash = layout::identity_hash(pointer, &normal);
                if !identity.contains(&hash) {
                    identity.push(hash);
                }
            }
            let text = serde_json::to_vec(&document)
                .map_err(|error| InternalError { what: format!("a document cannot be encoded: {error}") })?;
            if text.len() > self.inner.max_document || identity.len() > MAX_IDENTITIES {
                let limit = self.inner.max_document;
                return rejected(vec![problem(
                    "too-large",
                    format!("a document has at most {limit} bytes"),
                    None,
                )]);
            }
            json = Some(text);
        }
        let (reply, answer) = oneshot::channel();
        let submission =
            Submission { scope, object, id, precondition, origin, document: json, identity, reply };
        let Some(submissions) = &self.inner.submissions else { return Err(self.closed()) };
        submissions.send(submission).await.map_err(|_| self.closed())?;
        Ok(Attempt::Submitted(answer))
    }

    /// Waits for the answer to a submission.
    async fn answer(
        &self,
        answer: oneshot::Receiver<Result<Verdict, InternalError>>,
    ) -> Result<Verdict, InternalError> {
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> InternalError {
        self.inner.shared.failed(self.failure().unwrap_or("the writer ended"))
    }

    /// A piece of the feed; work on the disk is done beside the runtime's threads.
    async fn page(
        &self,
        scope: Option<&ScopeId>,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, PageError> {
        if let Some(page) = feed::quick(&self.inner.shared, scope, cursor.as_ref(), limit) {
            return Ok(page);
        }
        let shared = Arc::clone(&self.inner.shared);
        let scope = scope.cloned();
        tokio::task::spawn_blocking(move || feed::page(&shared, scope.as_ref(), cursor, limit))
            .await
            .unwrap_or_else(|error| {
                Err(PageError::Failed(InternalError { what: format!("reading the feed: {error}") }))
            })
    }
}

/// The last change on disk, and the number below which there are none.
fn feed_bounds(tree: &sled::Tree) -> sled::Result<(u64, u64)> {
    let all = || tree.range(layout::feed_key(0)..=layout::feed_key(u64::MAX));
    let head = match all().next_back() {
        Some(last) => layout::feed_last(&last?.0).unwrap_or(0),
        None => 0,
    };
    let floor = match all().next() {
        Some(first) => {
            let (key, value) = first?;
            let first =
                layout::decode_block(&value).ok().and_then(|block| block.first().map(|entry| entry.version));
            first.or_else(|| layout::feed_last(&key)).unwrap_or(1).saturating_sub(1)
        }
        None => 0,
    };
    Ok((head, floor))
}

/// A stored value as the seam's record.
fn record(shared: &Shared, key: &[u8], value: &[u8]) -> Result<Record, InternalError> {
    let (header, json) = shared.trusted(key, value).ok_or_else(|| shared.damaged(key))?;
    let document = if header.deleted {
        None
    } else {
        Some(serde_json::from_slice(json).map_err(|_| shared.damaged(key))?)
    };
    Ok(Record { version: header.version, changed_at: header.changed_at, origin: header.origin, document })
}

impl Internal for Embedded {
    async fn read(
        &self,
        scope: &ScopeId,
        object: &ObjectName,
        id: &InternalId,
    ) -> Result<Option<Record>, InternalError> {
        let shared = &self.inner.shared;
        shared.counters.reads.fetch_add(1, Ordering::Relaxed);
        let key = layout::record_key(scope.as_str(), object.as_str(), id.as_str());
        shared.durable(&key)?.map(|value| record(shared, &key, &value)).transpose()
    }

    async fn find(
        &self,
        scope: &ScopeId,
        object: &ObjectName,
        identity: &[(String, String)],
    ) -> Result<Vec<InternalId>, InternalError> {
        let shared = &self.inner.shared;
        let mut found: Vec<InternalId> = Vec::new();
        for (pointer, normal) in identity {
            let hash = layout::identity_hash(pointer, normal);
            let key = layout::identity_key(scope.as_str(), object.as_str(), &hash);
            let owner = shared.disk.tree().get(&key).map_err(|error| shared.unreadable(&error))?;
            let owner = owner.as_deref().and_then(|value| layout::unseal(value).ok());
            let Some(id) = owner.and_then(|id| std::str::from_utf8(id).ok()).map(InternalId::from) else {
                continue;
            };
            // The record has the last word, as it does for the writer: what is not durable yet is not found.
            let record = layout::record_key(scope.as_str(), object.as_str(), id.as_str());
            let has = match shared.durable(&record)? {
                Some(value) => shared
                    .trusted(&record, &value)
                    .is_some_and(|(header, _)| !header.deleted && header.identity.contains(&hash)),
                None => false,
            };
            if has && !found.contains(&id) {
                found.push(id);
            }
        }
        Ok(found)
    }

    async fn write_if(&self, write: Write) -> Result<Outcome, InternalError> {
        let Write { scope, object, id, expected, document, origin } = write;
        let precondition = match expected {
            Expected::Absent => Precondition::Absent,
            Expected::Version(version) => Precondition::Versions(vec![version]),
        };
        let key = layout::record_key(scope.as_str(), object.as_str(), id.as_str());
        let order =
            Order { scope, object, id, precondition, origin: origin.clone(), document: document.clone() };
        let answer = match self.submit(order).await? {
            Attempt::Rejected(problems) => return Ok(Outcome::Rejected(problems)),
            Attempt::Submitted(answer) => answer,
        };
        Ok(match self.answer(answer).await? {
            Verdict::Written { version, changed_at, .. } => {
                Outcome::Written(Record { version, changed_at, origin, document })
            }
            Verdict::Conflict(stored) => {
                let shared = &self.inner.shared;
                Outcome::Conflict(stored.map(|value| record(shared, &key, &value)).transpose()?)
            }
            Verdict::Exists(id) => Outcome::Exists(id),
        })
    }

    async fn changes(&self, cursor: Option<&[u8]>, limit: usize) -> Result<Changes, InternalError> {
        let mut cursor = match cursor.map(Cursor::decode) {
            None => None,
            Some(Some(cursor)) => Some(cursor),
            Some(None) => {
                tracing::warn!("a cursor of system a is not one that it gave: walking all records");
                None
            }
        };
        loop {
            match self.page(None, cursor.take(), limit.max(1)).await {
                Ok(page) if page.entries.is_empty() && page.more => cursor = Some(page.cursor),
                Ok(page) => {
                    let changes = page
                        .entries
                        .iter()
                        .map(|entry| Change {
                            scope: entry.scope.clone(),
                            object: entry.object.clone(),
                            id: entry.id.clone(),
                            version: entry.version,
                            at: entry.at,
                            origin: entry.origin.clone(),
                        })
                        .collect();
                    return Ok(Changes { changes, cursor: page.cursor.encode(), more: page.more });
                }
                Err(PageError::TooOld) => {
                    tracing::warn!("a cursor of system a is older than its feed: walking all records");
                    cursor = None;
                }
                Err(PageError::Failed(error)) => return Err(error),
            }
        }
    }

    async fn wait(&self, cursor: Option<&[u8]>) {
        let after = match cursor.map(Cursor::decode) {
            None => 0,
            Some(Some(Cursor::Feed { after })) => after,
            // On a walk, or lost: there is something to be had at once.
            Some(_) => return,
        };
        let mut head = self.inner.shared.tail.watch();
        // A cursor ahead of the head is from another store: it has to start again. An error: the store is gone.
        let _ = head.wait_for(|head| *head != after).await;
    }
}
