//! The change feed: which records changed, in order, from any point on.
//!
//! Every change has a number, which is also the record's version; numbers have no gaps. The newest changes are kept in memory
//! ([`Tail`]), by scope too, so that a follower of one scope does no work for the others; older ones are read from disk,
//! where only a bounded number is kept. Whoever starts at the beginning, or comes back with a cursor that is older than what
//! is kept, walks the records instead, once each in the order of their keys, and then follows the feed from where it stood
//! when the walk began. So the feed may be cut at any time without a change being missed. Deleted records are walked too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use tandem_core::id::{InternalId, ObjectName, ScopeId};
use tokio::sync::{Notify, watch};

use super::layout::{self, Entry};
use super::{InternalError, Shared};

/// Changes that are kept in memory.
const TAIL: usize = 32_768;
/// Blocks that are read from disk for one page.
const BLOCKS_A_PAGE: usize = 64;
/// Records that are looked at on a walk for one page.
const RECORDS_A_PAGE: usize = 8_192;

/// A place in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// On a walk over the records.
    Walk {
        /// Where the feed stood when the walk began.
        until: u64,
        /// The key of the last record that was named. Empty: none yet.
        after: Vec<u8>,
    },
    /// In the feed.
    Feed {
        /// The last change that was named.
        after: u64,
    },
}

impl Cursor {
    /// The cursor as opaque bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Walk { until, after } => {
                let mut bytes = vec![b'w'];
                bytes.extend_from_slice(&until.to_be_bytes());
                bytes.extend_from_slice(after);
                bytes
            }
            Self::Feed { after } => {
                let mut bytes = vec![b'f'];
                bytes.extend_from_slice(&after.to_be_bytes());
                bytes
            }
        }
    }

    /// The cursor of opaque bytes. None: nobody was given such a cursor.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match kind {
            b'w' if rest.is_empty() || layout::split_record_key(rest).is_some() => {
                Some(Self::Walk { until: number, after: rest.to_vec() })
            }
            b'f' if rest.is_empty() => Some(Self::Feed { after: number }),
            _ => None,
        }
    }
}

/// A piece of the feed.
#[derive(Debug)]
pub(super) struct Page {
    /// The changes; the newest of each record.
    pub(super) entries: Vec<Arc<Entry>>,
    /// Where the next page starts.
    pub(super) cursor: Cursor,
    /// There is something behind the cursor already.
    pub(super) more: bool,
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum PageError {
    /// The cursor is older than what is kept, or from another store: start again without one.
    TooOld,
    /// The store cannot be read.
    Failed(InternalError),
}

impl From<InternalError> for PageError {
    fn from(error: InternalError) -> Self {
        Self::Failed(error)
    }
}

/// The newest changes, in memory.
pub(super) struct Tail {
    recent: RwLock<Recent>,
    head: watch::Sender<u64>,
}

#[derive(Default)]
struct Recent {
    entries: VecDeque<Arc<Entry>>,
    scopes: HashMap<ScopeId, ScopeTail>,
}

#[derive(Default)]
struct ScopeTail {
    entries: VecDeque<Arc<Entry>>,
    changed: Arc<Notify>,
}

impl Tail {
    /// An empty tail behind the last change on disk.
    pub(super) fn new(head: u64) -> Self {
        Self { recent: RwLock::default(), head: watch::Sender::new(head) }
    }

    /// The number of the last durable change.
    pub(super) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Changes when the head does.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Told when a scope has new changes.
    pub(super) fn changed(&self, scope: &ScopeId) -> Arc<Notify> {
        if let Some(tail) = self.recent.read().scopes.get(scope) {
            return Arc::clone(&tail.changed);
        }
        Arc::clone(&self.recent.write().scopes.entry(scope.clone()).or_default().changed)
    }

    /// Adds changes that are durable now.
    pub(super) fn publish(&self, entries: Vec<Entry>) {
        let Some(head) = entries.last().map(|entry| entry.version) else { return };
        let mut wake: Vec<Arc<Notify>> = Vec::new();
        let mut told: HashSet<ScopeId> = HashSet::new();
        {
            let recent = &mut *self.recent.write();
            for entry in entries {
                let entry = Arc::new(entry);
                let scope = recent.scopes.entry(entry.scope.clone()).or_default();
                scope.entries.push_back(Arc::clone(&entry));
                if told.insert(entry.scope.clone()) {
                    wake.push(Arc::clone(&scope.changed));
                }
                recent.entries.push_back(entry);
            }
            while recent.entries.len() > TAIL {
                let Some(oldest) = recent.entries.pop_front() else { break };
                if let Some(scope) = recent.scopes.get_mut(&oldest.scope) {
                    scope.entries.pop_front();
                }
            }
            // Under the lock: nobody gets a cursor that is ahead of the head.
            self.head.send_replace(head);
        }
        for changed in wake {
            changed.notify_waiters();
        }
    }

    /// Changes after a number. None: the tail does not reach back that far.
    fn after(&self, scope: Option<&ScopeId>, after: u64, limit: usize) -> Option<Page> {
        let recent = self.recent.read();
        let reaches = recent.entries.front().map_or_else(|| self.head(), |oldest| oldest.version - 1);
        if after < reaches {
            return None;
        }
        let head = recent.entries.back().map_or(reaches, |newest| newest.version);
        let empty = VecDeque::new();
        let entries = match scope {
            None => &recent.entries,
            Some(scope) => recent.scopes.get(scope).map_or(&empty, |tail| &tail.entries),
        };
        let start = entries.partition_point(|entry| entry.version <= after);
        let found: Vec<Arc<Entry>> = entries.range(start..).take(limit).cloned().collect();
        let more = entries.len() - start > found.len();
        let after = match (more, found.last()) {
            (true, Some(last)) => last.version,
            _ => head.max(after),
        };
        Some(Page { entries: newest_of_each(found), cursor: Cursor::Feed { after }, more })
    }
}

/// Leaves out changes that were overtaken within the same page.
fn newest_of_each(mut entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut seen: HashSet<(ScopeId, ObjectName, InternalId)> = HashSet::with_capacity(entries.len());
    entries.reverse();
    entries.retain(|entry| seen.insert((entry.scope.clone(), entry.object.clone(), entry.id.clone())));
    entries.reverse();
    entries
}

/// Where a cursor stands that may be missing.
fn place(shared: &Shared, cursor: Option<Cursor>) -> Cursor {
    match cursor {
        Some(cursor) => cursor,
        None => match shared.tail.head() {
            0 => Cursor::Feed { after: 0 },
            until => Cursor::Walk { until, after: Vec::new() },
        },
    }
}

/// The page if it can be had without the disk.
pub(super) fn quick(
    shared: &Shared,
    scope: Option<&ScopeId>,
    cursor: Option<&Cursor>,
    limit: usize,
) -> Option<Page> {
    match cursor {
        Some(Cursor::Feed { after }) if *after <= shared.tail.head() => {
            shared.tail.after(scope, *after, limit)
        }
        _ => None,
    }
}

/// A piece of the feed, of one scope or of all.
///
/// # Errors
/// [`PageError`].
pub(super) fn page(
    shared: &Shared,
    scope: Option<&ScopeId>,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<Page, PageError> {
    match place(shared, cursor) {
        Cursor::Walk { until, after } => walk(shared, scope, until, &after, limit),
        Cursor::Feed { after } => {
            if after > shared.tail.head() {
                return Err(PageError::TooOld);
            }
            match shared.tail.after(scope, after, limit) {
                Some(page) => Ok(page),
                None => from_disk(shared, scope, after, limit),
            }
        }
    }
}

fn walk(
    shared: &Shared,
    scope: Option<&ScopeId>,
    until: u64,
    after: &[u8],
    limit: usize,
) -> Result<Page, PageError> {
    if until > shared.tail.head() {
        return Err(PageError::TooOld);
    }
    let prefix = scope.map_or_else(|| vec![layout::RECORDS], |scope| layout::scope_prefix(scope.as_str()));
    if !after.is_empty() && !after.starts_with(&prefix) {
        return Err(PageError::TooOld);
    }
    let mut entries = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    for (looked, found) in shared.records_after(&prefix, after).enumerate() {
        let (key, value) = found?;
        if entries.len() >= limit || looked >= RECORDS_A_PAGE {
            let after = last.unwrap_or_default();
            return Ok(Page { entries, cursor: Cursor::Walk { until, after }, more: true });
        }
        last = Some(key.to_vec());
        let Some((header, _)) = shared.trusted(&key, &value) else { continue };
        let Some((scope, object, id)) = layout::split_record_key(&key) else { continue };
        // What changed since the walk began is named by the feed.
        if header.version <= until {
            entries.push(Arc::new(Entry {
                version: header.version,
                scope: scope.into(),
                object: object.into(),
                id: id.into(),
                at: header.changed_at,
                origin: header.origin,
                deleted: header.deleted,
            }));
        }
    }
    let more = shared.tail.head() > until;
    Ok(Page { entries, cursor: Cursor::Feed { after: until }, more })
}

fn from_disk(shared: &Shared, scope: Option<&ScopeId>, after: u64, limit: usize) -> Result<Page, PageError> {
    let head = shared.tail.head();
    let mut entries = Vec::new();
    let mut reached = after;
    let range = layout::feed_key(after.saturating_add(1))..=layout::feed_key(head);
    for (read, block) in shared.disk.tree().range(range).enumerate() {
        let (key, value) = block.map_err(|error| shared.unreadable(&error))?;
        if read >= BLOCKS_A_PAGE {
            return Ok(Page {
                entries: newest_of_each(entries),
                cursor: Cursor::Feed { after: reached },
                more: true,
            });
        }
        let Ok(block) = layout::decode_block(&value) else {
            tracing::error!(last = ?layout::feed_last(&key), "a block of changes is damaged; followers walk the records instead");
            return Err(PageError::TooOld);
        };
        if block.first().is_none_or(|first| first.version > reached + 1) {
            return Err(PageError::TooOld);
        }
        for entry in block {
            if entry.version <= reached {
                continue;
            }
            if entries.len() >= limit {
                return Ok(Page {
                    entries: newest_of_each(entries),
                    cursor: Cursor::Feed { after: reached },
                    more: true,
                });
            }
            reached = entry.version;
            if scope.is_none_or(|scope| *scope == entry.scope) {
                entries.push(Arc::new(entry));
            }
        }
    }
    if reached < head {
        return Err(PageError::TooOld);
    }
    Ok(Page { entries: newest_of_each(entries), cursor: Cursor::Feed { after: reached }, more: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64, scope: &str, id: &str) -> Entry {
        Entry {
            version,
            scope: scope.into(),
            object: "contact".into(),
            id: id.into(),
            at: 0,
            origin: "t".into(),
            deleted: false,
        }
    }

    #[test]
    fn cursors_survive_the_wire_and_nonsense_is_no_cursor() {
        for cursor in [
            Cursor::Feed { after: 77 },
            Cursor::Walk { until: 3, after: Vec::new() },
            Cursor::Walk { until: 3, after: layout::record_key("s", "o", "i") },
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        for nonsense in [&b""[..], b"f", b"f1234567", b"f123456789", b"x12345678", b"w12345678no-key"] {
            assert_eq!(Cursor::decode(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_tail_answers_only_as_far_back_as_it_reaches() {
        let tail = Tail::new(10);
        assert!(tail.after(None, 9, 5).is_none());
        assert!(tail.after(None, 10, 5).unwrap().entries.is_empty());
        tail.publish(vec![entry(11, "a", "1"), entry(12, "b", "1"), entry(13, "a", "1")]);
        let page = tail.after(None, 10, 2).unwrap();
        assert_eq!((page.cursor, page.more), (Cursor::Feed { after: 12 }, true));
        let page = tail.after(None, 10, 9).unwrap();
        assert_eq!(page.entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [12, 13]);
        let page = tail.after(Some(&"a".into()), 11, 9).unwrap();
        assert_eq!(page.entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [13]);
        let page = tail.after(Some(&"quiet".into()), 10, 9).unwrap();
        assert_eq!((page.entries.len(), page.cursor), (0, Cursor::Feed { after: 13 }));
        let many = (14..14 + TAIL as u64).map(|version| entry(version, "c", &version.to_string())).collect();
        tail.publish(many);
        assert!(tail.after(None, 12, 9).is_none());
        assert!(tail.after(Some(&"a".into()), 13, 9).unwrap().entries.is_empty());
    }
}
