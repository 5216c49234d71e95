//! The one hand that writes: a thread that takes what waits, decides it against the records, and brings it to the disk together.
//!
//! Group commit: while one batch is synced the next one gathers, and batches that follow each other keep a distance ([`PACE`]), so a
//! lone writer waits for one sync and many writers share it. Nobody is answered before the sync. A failed write or sync ends the thread: its waiters and all later
//! ones are refused, readers go on seeing what was durable before.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sled::IVec;
use tandem_core::Millis;
use tandem_core::id::{InternalId, ObjectName, ScopeId};
use tokio::sync::{mpsc, oneshot};

use super::layout::{self, Entry, Header, IdentityHash};
use super::{InternalError, Shared};

/// Writes that are decided and synced together, at most.
const MAX_GROUP: usize = 1024;
/// Bytes of documents that are synced together, about: well below a segment, see [`super::disk`].
const MAX_GROUP_BYTES: usize = 2 << 20;
/// A batch begins no sooner than this after the one before: a sync costs the processor as much as dozens of writes.
const PACE: Duration = Duration::from_millis(4);
/// Changes in one block: the longest names times this stay below the largest value.
const MAX_BLOCK: usize = 200;
/// Blocks that one commit drops at most when the feed is cut.
const MAX_CUT: usize = 64;

/// What a write expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Anything. A deletion still needs a live record.
    Any,
    /// No live record.
    Absent,
    /// A live record.
    Live,
    /// A live record of one of these versions.
    Versions(Vec<u64>),
}

/// A write on its way to the thread; valid, encoded.
pub(super) struct Submission {
    pub(super) scope: ScopeId,
    pub(super) object: ObjectName,
    pub(super) id: InternalId,
    pub(super) precondition: Precondition,
    pub(super) origin: String,
    /// The document's JSON. None: delete.
    pub(super) document: Option<Vec<u8>>,
    pub(super) identity: Vec<IdentityHash>,
    pub(super) reply: oneshot::Sender<Result<Verdict, InternalError>>,
}

/// What became of a write.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It was taken, or the record already was that way.
    Written {
        /// The record's version now.
        version: u64,
        /// When it was last changed.
        changed_at: Millis,
        /// There was no live record before.
        created: bool,
    },
    /// The expectation did not hold; the stored record. None: there is none.
    Conflict(Option<IVec>),
    /// This live record has the same identity value.
    Exists(InternalId),
}

/// What is known of a record while a group is being decided.
struct Known {
    /// On disk before the group.
    before: Option<IVec>,
    /// As the group leaves it.
    now: Option<IVec>,
    /// Decoded from `now`. None: no record, or a damaged one.
    header: Option<Header>,
}

/// The changes of one group.
#[derive(Default)]
struct Group {
    records: HashMap<Vec<u8>, Known>,
    identities: HashMap<Vec<u8>, Option<InternalId>>,
    entries: Vec<Entry>,
}

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The last number that was given.
    head: u64,
    /// Changes up to here are no longer on disk.
    floor: u64,
    feed_keep: u64,
    clock: Millis,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, head: u64, floor: u64, feed_keep: u64) -> Self {
        Self { shared, head, floor, feed_keep, clock: 0 }
    }

    /// Works until nobody can submit any more or a sync fails.
    pub(super) fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let _fallen = Fallen(Arc::clone(&self.shared));
        let mut waiting = Vec::with_capacity(MAX_GROUP);
        let mut last: Option<Instant> = None;
        loop {
            if waiting.is_empty() && submissions.blocking_recv_many(&mut waiting, MAX_GROUP) == 0 {
                return;
            }
            if let Some(early) = last.and_then(|last| PACE.checked_sub(last.elapsed())) {
                std::thread::sleep(early);
            }
            while waiting.len() < MAX_GROUP
                && let Ok(more) = submissions.try_recv()
            {
                waiting.push(more);
            }
            last = Some(Instant::now());
            let mut bytes = 0;
            let fits = waiting.iter().take_while(|submission| {
                let fit = bytes < MAX_GROUP_BYTES;
                bytes += submission.document.as_ref().map_or(0, Vec::len);
                fit
            });
            let group: Vec<Submission> = {
                let count = fits.count();
                waiting.drain(..count).collect()
            };
            if let Err(what) = self.commit(group) {
                tracing::error!(path = %self.shared.disk.path().display(), error = %what, "system a takes no more writes until the daemon is restarted");
                let _ = self.shared.failure.set(what);
                return;
            }
        }
    }

    /// Decides and commits a group; answers its waiters.
    fn commit(&mut self, submissions: Vec<Submission>) -> Result<(), String> {
        let mut group = Group::default();
        let mut answers = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let (reply, verdict) = self.decide(&mut group, submission);
            answers.push((reply, verdict));
        }
        let result = if group.entries.is_empty() { Ok(()) } else { self.persist(group) };
        for (reply, verdict) in answers {
            let answer = match &result {
                Ok(()) => verdict,
                Err(what) => Err(self.shared.failed(what)),
            };
            // Whoever no longer waits does not need to know.
            let _ = reply.send(answer);
        }
        result
    }

    fn decide(
        &mut self,
        group: &mut Group,
        submission: Submission,
    ) -> (oneshot::Sender<Result<Verdict, InternalError>>, Result<Verdict, InternalError>) {
        let Submission { scope, object, id, precondition, origin, document, identity, reply } = submission;
        let change = Change { scope, object, id, precondition, origin, document, identity };
        let verdict = self.take(group, change);
        let counters = &self.shared.counters;
        let counter = match &verdict {
            Ok(Verdict::Written { .. }) => &counters.written,
            Ok(Verdict::Conflict(_)) => &counters.conflicts,
            Ok(Verdict::Exists(_)) => &counters.exists,
            Err(_) => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        (reply, verdict)
    }

    fn take(&mut self, group: &mut Group, change: Change) -> Result<Verdict, InternalError> {
        let key = layout::record_key(change.scope.as_str(), change.object.as_str(), change.id.as_str());
        self.load(group, &key)?;
        let Some(known) = group.records.get(&key) else {
            return Err(self.shared.damaged(&key));
        };
        let damaged = known.now.is_some() && known.header.is_none();
        if damaged && (change.precondition != Precondition::Any || change.document.is_none()) {
            return Err(self.shared.damaged(&key));
        }
        let live = known.header.as_ref().filter(|header| !header.deleted);
        let holds = match &change.precondition {
            Precondition::Any => live.is_some() || change.document.is_some(),
            Precondition::Absent => live.is_none(),
            Precondition::Live => live.is_some(),
            Precondition::Versions(versions) => live.is_some_and(|header| versions.contains(&header.version)),
        };
        if !holds || (live.is_none() && change.document.is_none()) {
            return Ok(Verdict::Conflict(known.now.clone()));
        }
        if let (Some(header), Some(value), Some(document)) = (live, &known.now, &change.document)
            && layout::decode_record(value).is_ok_and(|(_, stored)| stored == document.as_slice())
        {
            let (version, changed_at) = (header.version, header.changed_at);
            return Ok(Verdict::Written { version, changed_at, created: false });
        }
        let created = live.is_none();
        let held = live.map(|header| header.identity.clone()).unwrap_or_default();
        for hash in change.identity.iter().filter(|hash| !held.contains(hash)) {
            if let Some(owner) = self.owner(group, &change, hash)? {
                return Ok(Verdict::Exists(owner));
            }
        }
        self.stage(group, &key, change, &held, created)
    }

    /// Puts a change that is allowed into the group.
    fn stage(
        &mut self,
        group: &mut Group,
        key: &[u8],
        change: Change,
        held: &[IdentityHash],
        created: bool,
    ) -> Result<Verdict, InternalError> {
        let (scope, object) = (change.scope.as_str(), change.object.as_str());
        let version = self.head + 1;
        let changed_at = self.now();
        let deleted = change.document.is_none();
        let header =
            Header { version, changed_at, deleted, origin: change.origin, identity: change.identity };
        let value = layout::encode_record(&header, change.document.as_deref().unwrap_or_default())
            .map_err(|error| InternalError { what: format!("a record cannot be encoded: {error}") })?;
        for hash in held.iter().filter(|hash| !header.identity.contains(hash)) {
            group.identities.insert(layout::identity_key(scope, object, hash), None);
        }
        for hash in header.identity.iter().filter(|hash| !held.contains(hash)) {
            group.identities.insert(layout::identity_key(scope, object, hash), Some(change.id.clone()));
        }
        group.entries.push(Entry {
            version,
            scope: change.scope,
            object: change.object,
            id: change.id,
            at: changed_at,
            origin: header.origin.clone(),
            deleted,
        });
        if let Some(known) = group.records.get_mut(key) {
            known.now = Some(value.into());
            known.header = Some(header);
        }
        self.head = version;
        Ok(Verdict::Written { version, changed_at, created })
    }

    /// Makes a record known to the group.
    fn load(&self, group: &mut Group, key: &[u8]) -> Result<(), InternalError> {
        if let Slot::Vacant(slot) = group.records.entry(key.to_vec()) {
            let stored = self.shared.disk.tree().get(key).map_err(|error| self.shared.unreadable(&error))?;
            let header =
                stored.as_ref().and_then(|value| self.shared.trusted(key, value)).map(|(header, _)| header);
            slot.insert(Known { before: stored.clone(), now: stored, header });
        }
        Ok(())
    }

    /// The other live record that has this identity value.
    fn owner(
        &self,
        group: &mut Group,
        change: &Change,
        hash: &IdentityHash,
    ) -> Result<Option<InternalId>, InternalError> {
        let (scope, object) = (change.scope.as_str(), change.object.as_str());
        let key = layout::identity_key(scope, object, hash);
        let owner: Option<InternalId> = match group.identities.get(&key) {
            Some(owner) => owner.clone(),
            None => {
                self.shared.disk.tree().get(&key).map_err(|error| self.shared.unreadable(&error))?.and_then(
                    |value| {
                        layout::unseal(&value)
                            .ok()
                            .and_then(|id| std::str::from_utf8(id).ok().map(Into::into))
                    },
                )
            }
        };
        let Some(owner) = owner.filter(|owner| *owner != change.id) else { return Ok(None) };
        // The record has the last word: an entry without it is left over from a damaged record.
        let record = layout::record_key(scope, object, owner.as_str());
        self.load(group, &record)?;
        let really = group
            .records
            .get(&record)
            .and_then(|known| known.header.as_ref())
            .is_some_and(|header| !header.deleted && header.identity.contains(hash));
        Ok(really.then_some(owner))
    }

    /// Writes a group and syncs it; then, and only then, readers see it.
    fn persist(&mut self, group: Group) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        let mut hidden = HashMap::new();
        for (key, known) in group.records {
            if known.now != known.before
                && let Some(value) = known.now
            {
                batch.insert(key.clone(), value);
                hidden.insert(key, known.before);
            }
        }
        for (key, owner) in group.identities {
            match owner {
                Some(id) => batch.insert(key, layout::seal(id.as_str().as_bytes())),
                None => batch.remove(key),
            }
        }
        let entries: Vec<&Entry> = group.entries.iter().collect();
        for block in entries.chunks(MAX_BLOCK) {
            if let (Some(first), Some(last)) = (block.first(), block.last()) {
                let value = layout::encode_block(first.version, block).map_err(|error| error.to_string())?;
                batch.insert(layout::feed_key(last.version).as_slice(), value);
            }
        }
        self.cut_feed(&mut batch)?;
        *self.shared.in_flight.write() = hidden;
        self.shared.disk.make_durable(batch)?;
        self.shared.in_flight.write().clear();
        self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.tail.publish(group.entries);
        Ok(())
    }

    /// Drops blocks of changes that are older than what is kept.
    fn cut_feed(&mut self, batch: &mut sled::Batch) -> Result<(), String> {
        if self.head.saturating_sub(self.floor) <= self.feed_keep.saturating_add(self.feed_keep / 8) {
            return Ok(());
        }
        let until = self.head - self.feed_keep;
        let range = layout::feed_key(self.floor)..=layout::feed_key(until);
        for block in self.shared.disk.tree().range(range).keys().take(MAX_CUT) {
            let key = block.map_err(|error| error.to_string())?;
            if let Some(last) = layout::feed_last(&key) {
                self.floor = self.floor.max(last);
            }
            batch.remove(key);
        }
        Ok(())
    }

    /// Now, never earlier than the change before.
    fn now(&mut self) -> Millis {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX));
        self.clock = self.clock.max(now);
        self.clock
    }
}

/// Says so when the thread panics: sled does on some kinds of damage.
struct Fallen(Arc<Shared>);

impl Drop for Fallen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.failure.set("the writer panicked".into());
        }
    }
}

/// A submission without its reply.
struct Change {
    scope: ScopeId,
    object: ObjectName,
    id: InternalId,
    precondition: Precondition,
    origin: String,
    document: Option<Vec<u8>>,
    identity: Vec<IdentityHash>,
}
