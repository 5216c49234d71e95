//! The store on disk.
//!
//! # Constraints
//!
//! - Nothing that was acknowledged is lost: not by `SIGKILL`, not by a power loss, on a disk that keeps what it reported synced.
//! - A commit is there whole or not at all. Commits become durable in the order in which they were applied.
//! - The tree is sled 0.34.7. Its `flush` uses `sync_file_range` and never `fsync`; it neither syncs blob files nor the
//!   names of snapshots; a kill while it writes a snapshot keeps it from opening; one insert costs 10 to 20 µs of CPU.
//! - A mutation has to cost little: a record makes about four (hint in, hint out, link, history).
//! - Memory is bounded by the options here and by the number of connections, not by what waits or by the number of links.
//!
//! # Layout
//!
//! ```text
//! lock            held while the store is open: two daemons cannot have it
//! format          "tandem-store 1", segment size; written last when a store is made
//! journal/NNNN    every commit since the last checkpoint (journal.rs)
//! tree/           sled: one tree, everything up to the last checkpoint (tree.rs)
//! set-aside/      damaged files, for a person
//! ```
//!
//! Keys are fixed-width and big-endian, the first byte is the table (keys.rs); values carry a format and a checksum over key
//! and payload (codec.rs). A value beyond 16 KiB (a 512th of a segment) is cut into parts in the tree; beyond 1 MiB it is refused.
//!
//! # Operation
//!
//! A commit is encoded, staged against what is there (stage.rs: indexes, counts, what it removes), and then, under the
//! writer's lock, put into the active generation in memory and into the frame of the next round. From then on reads see
//! it: [`Until::Applied`] returns. The committer writes the frame and calls `fdatasync`:
//! [`Until::Durable`] returns. One frame holds whole commits, so a round is all or nothing.
//!
//! When the active generation has grown to [`Options::memory_bytes`] it is frozen, a new journal file is begun, and another
//! thread carries its rows into the tree, syncs, notes the number of the first journal file that is still needed, syncs
//! again, and removes the older files. Hints that came and went within a generation never reach the tree: while the daemon
//! keeps up, only links and history do, once for each record and generation. When both generations are full, commits wait.
//!
//! Sequence numbers are reserved on disk in blocks of a million before they are given. Rows made of a number that was given after the
//! last freeze can be in the active generation only; so most hints are acknowledged without a look into the tree.
//!
//! History is put down without a look at what is there. Reads show the newest entries up to a weight; what lies behind it is removed at
//! one in sixteen entries.
//!
//! A record has one dead letter at a connection. An index by a digest of the record finds it; how many letters a connection has is kept in
//! memory, so that a success of a record looks for a letter only where there are any.
//!
//! How much waits for a connection is a row of its own, written with the commit that changes it, and kept in memory. The
//! oldest undone hint is the first row of an index by time.
//!
//! # Recovery
//!
//! 1. The lock is taken, the format checked. A folder without a format file was never used and is made anew.
//! 2. Unfinished snapshots of sled are removed, sled is opened; a snapshot that it refuses is set aside and its log read whole.
//!    What opening wrote is synced, with the names.
//! 3. Journal files that the tree no longer needs are removed, the others are read into memory in order. A torn frame at the
//!    end was never acknowledged and is cut off; a damaged one before a valid one is named and passed over.
//! 4. Names and counts of connections are read, dead letters counted; a new journal file is begun; the next block of numbers is reserved.
//!
//! The time for this depends on the journal (two files of at most [`Options::journal_bytes`]) and on sled, which reads its log from its last snapshot, not on how
//! much waits. A checkpoint that was interrupted is repeated by the journal: rows are absolute, never relative.
//!
//! # When something fails
//!
//! A failed write or sync, of the journal or of the tree, fails those who wait and everything after it
//! ([`StoreError::Failed`]); it is never repeated, because the kernel may have dropped the pages and report success the next time. Reads go on.
//! Below [`Options::min_free_bytes`] of free space new hints and deliveries are refused
//! ([`StoreError::Full`]) while acknowledgements go on.
//! A value that cannot be read is named in the log, moved to the table `Z`, and reads as missing. [`SledStore::check`] looks
//! at every row.
//!
//! # Not supported
//!
//! Network file systems, file systems that ignore `fdatasync`, and copying the folder while the store is open (stop the
//! daemon first, or take a snapshot of the file system: that looks like a power loss). More than one process. Shrinking the
//! tree's file: sled reuses space and truncates at the end only. Changing the segment size of a store.

mod codec;
mod committer;
mod engine;
mod fsck;
mod journal;
mod keys;
mod open;
mod reads;
mod stage;
mod tables;
mod tree;
mod values;

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName};
use tandem_core::link::Link;

use self::codec::Damage;
use self::engine::{Closing, Engine};
use self::keys::{Builder, Key, Parser};
use self::reads::{Found, Stretch};
use self::stage::Window;
use super::{
    Backlog, Class, Commit, DeadLetter, Hint, HistoryEntry, Intent, Store, StoreError, StoredDelivery,
    Subject, Until,
};

pub use self::fsck::Check;

/// How a store is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A generation in memory is carried into the tree when it has this many bytes. Two of them, and half as much of
    /// overhead, are the most that is kept.
    pub memory_bytes: usize,
    /// A journal file is closed at this size, even if the generation is small.
    pub journal_bytes: u64,
    /// The tree's cache. sled takes a few times as much.
    pub cache_bytes: u64,
    /// The tree's segment size, a power of two, at least 1 MiB. It counts when a store is made; an existing one keeps its own.
    pub segment_bytes: usize,
    /// How long a commit that nobody waits for may wait for company.
    pub lazy: Duration,
    /// A round begins no sooner than this after the one before: a sync costs the processor as much as dozens of commits.
    pub pace: Duration,
    /// Below this much free space nothing new is taken in.
    pub min_free_bytes: u64,
    /// An entity's history is kept as long as its entries weigh no more than this.
    pub history_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            journal_bytes: 128 << 20,
            cache_bytes: 128 << 20,
            segment_bytes: 8 << 20,
            lazy: Duration::from_millis(5),
            pace: Duration::from_millis(4),
            min_free_bytes: 512 << 20,
            history_bytes: 32 << 10,
        }
    }
}

/// The store on disk. Closed when it is dropped; [`close`](Self::close) makes the next opening quicker.
pub struct SledStore {
    engine: Arc<Engine>,
    threads: Mutex<Option<committer::Threads>>,
}

impl SledStore {
    /// Opens the store in a folder, which is made if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`]: another process has it open, its format is newer than this version, or it cannot be read.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let opened = open::open(path, options)?;
        let threads = committer::Threads::start(&opened.engine, opened.journal).map_err(|error| {
            StoreError::Open { path: path.display().to_string(), what: format!("thread: {error}") }
        })?;
        Ok(Self { engine: opened.engine, threads: Mutex::new(Some(threads)) })
    }

    /// Makes everything durable and carries it into the tree. Nothing is taken afterwards.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`]: a write or sync failed, now or before.
    pub fn close(&self) -> Result<(), StoreError> {
        self.end(Closing::Checkpoint);
        match self.engine.failed.get() {
            Some(_) => Err(self.engine.failure()),
            None => Ok(()),
        }
    }

    fn end(&self, how: Closing) {
        let mut writer = self.engine.writer.lock();
        writer.closing.get_or_insert(how);
        drop(writer);
        self.engine.wake.notify_all();
        self.engine.room.notify_waiters();
        if let Some(threads) = self.threads.lock().take() {
            threads.join();
        }
    }

    /// Asks for a checkpoint; it runs beside everything else.
    pub fn checkpoint(&self) {
        self.engine.writer.lock().checkpoint = true;
        self.engine.wake.notify_all();
    }

    /// Reads every row, sets aside what is damaged, and puts indexes and counts right.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`]: the tree itself cannot be read.
    pub fn check(&self) -> Result<Check, StoreError> {
        self.engine.check()
    }

    /// Commits that were applied since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.engine.commits.load(Ordering::Relaxed)
    }

    /// Whether a write or sync failed: nothing more is accepted.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.engine.failed.get().is_some()
    }

    /// How many bytes the tree's files have.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.engine.tree.bytes_on_disk()
    }

    fn conn(&self, id: &ConnectionId) -> Option<u32> {
        self.engine.connections.read().number(id)
    }

    fn link_at(&self, conn: u32, entity: &EntityKey) -> Result<Option<Link>, StoreError> {
        self.engine.value(&keys::link(conn, entity), codec::unpack_link)
    }

    fn held_of(&self, stretch: &Stretch, limit: usize) -> Result<Vec<Link>, StoreError> {
        let found = self.engine.values(stretch, limit, |key, _| {
            let mut parser = Parser::new(key);
            let place = parser.conn().zip(parser.entity()).ok_or(Damage::Payload("link"))?;
            Ok(Found::Take(place))
        })?;
        let mut links = Vec::with_capacity(found.len());
        for (conn, entity) in found {
            links.extend(self.link_at(conn, &entity)?);
        }
        Ok(links)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.end(Closing::Flush);
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("path", &self.engine.path).finish_non_exhaustive()
    }
}

fn hint(payload: &[u8]) -> Result<Hint, Damage> {
    codec::unpack("hint", payload.get(8..).unwrap_or_default())
}

/// Links that are counted before whoever commits has a turn.
const COUNTED_AT_ONCE: usize = 4096;

impl Store for SledStore {
    fn next_seq(&self) -> u64 {
        self.engine.next_seq()
    }

    async fn commit(&self, commit: Commit, until: Until) -> Result<(), StoreError> {
        loop {
            let mut room = std::pin::pin!(self.engine.room.notified());
            room.as_mut().enable();
            if !self.engine.crowded.load(Ordering::SeqCst) || self.engine.failed.get().is_some() {
                break;
            }
            room.await;
        }
        match self.engine.apply(commit, until)? {
            Some(durable) => durable.await.map_err(|_| self.engine.failure()),
            None => Ok(()),
        }
    }

    fn link(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Link>, StoreError> {
        match self.conn(connection) {
            Some(conn) => self.link_at(conn, entity),
            None => Ok(None),
        }
    }

    fn links(&self, entity: &EntityKey) -> Result<Vec<Link>, StoreError> {
        let stretch = Stretch::prefix(Builder::new(keys::ENTITY).entity(entity).done());
        let conns = self.engine.values(&stretch, usize::MAX, |key, _| {
            let mut parser = Parser::new(key);
            let (_, conn) = parser.entity().zip(parser.conn()).ok_or(Damage::Payload("link"))?;
            Ok(Found::Take(conn))
        })?;
        let mut links = Vec::with_capacity(conns.len());
        for conn in conns {
            links.extend(self.link_at(conn, entity)?);
        }
        links.sort_by(|a, b| a.connection.cmp(&b.connection));
        Ok(links)
    }

    fn entity_of(&self, external: &ExternalKey) -> Result<Option<EntityKey>, StoreError> {
        match self.conn(&external.connection) {
            Some(conn) => {
                self.engine.value(&keys::external(conn, external), |payload| codec::unpack("entity", payload))
            }
            None => Ok(None),
        }
    }

    fn scan_links(
        &self,
        connection: &ConnectionId,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<Link>, StoreError> {
        let Some(conn) = self.conn(connection) else { return Ok(Vec::new()) };
        let mut stretch = Stretch::prefix(Builder::new(keys::LINK).conn(conn).done());
        if let Some(entity) = after {
            stretch.from = Bound::Excluded(keys::link(conn, entity));
        }
        self.engine.values(&stretch, limit, |_, payload| codec::unpack_link(payload).map(Found::Take))
    }

    fn held_links(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Link>, StoreError> {
        let conns: Vec<u32> = match connection {
            Some(id) => self.conn(id).into_iter().collect(),
            None => {
                let connections = self.engine.connections.read();
                let mut all: Vec<_> = connections.all().iter().map(|(name, _)| name).enumerate().collect();
                all.sort_by(|a, b| a.1.cmp(b.1));
                all.into_iter().filter_map(|(conn, _)| u32::try_from(conn).ok()).collect()
            }
        };
        let mut links = Vec::new();
        for conn in conns {
            let stretch = Stretch::prefix(Builder::new(keys::HELD).conn(conn).done());
            links.extend(self.held_of(&stretch, limit - links.len())?);
            if links.len() >= limit {
                break;
            }
        }
        Ok(links)
    }

    fn intent(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Intent>, StoreError> {
        match self.conn(connection) {
            Some(conn) => {
                self.engine.value(&keys::intent(conn, entity), |payload| codec::unpack("intent", payload))
            }
            None => Ok(None),
        }
    }

    fn intents(&self, connection: &ConnectionId, object: &ObjectName) -> Result<Vec<Intent>, StoreError> {
        let Some(conn) = self.conn(connection) else { return Ok(Vec::new()) };
        let stretch = Stretch::prefix(keys::intents(conn, object).done());
        self.engine
            .values(&stretch, usize::MAX, |_, payload| codec::unpack("intent", payload).map(Found::Take))
    }

    fn ready(
        &self,
        connection: &ConnectionId,
        class: Class,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        let Some(conn) = self.conn(connection) else { return Ok(Vec::new()) };
        let prefix = Builder::new(keys::READY).conn(conn).byte(keys::class_byte(class)).done();
        let mut stretch = Stretch::prefix(prefix);
        stretch.from = Bound::Excluded(keys::hint(conn, class, 0, after));
        self.engine.values(&stretch, limit, |_, payload| hint(payload).map(Found::Take))
    }

    fn delayed_after(
        &self,
        after: (Millis, u64),
        until: Millis,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        if self.next_due()?.is_none_or(|due| due > until) {
            return Ok(Vec::new());
        }
        let mut stretch = Stretch::prefix([keys::DELAYED].into());
        let (due, seq) = after;
        let from = Builder::new(keys::DELAYED).number(due).number(seq.saturating_add(1)).done();
        stretch.from = Bound::Included(from);
        self.engine.values(&stretch, limit, |key, payload| {
            if Parser::new(key).number().is_some_and(|due| due > until) {
                return Ok(Found::Stop);
            }
            hint(payload).map(Found::Take)
        })
    }

    fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        // Asked after every piece of work, and mostly there is none.
        let count = self.engine.delayed.load(Ordering::SeqCst);
        if self.engine.none_delayed.load(Ordering::SeqCst) == count + 1 {
            return Ok(None);
        }
        let first = self.engine.edge(&[keys::DELAYED], false)?;
        if first.is_none() {
            self.engine.none_delayed.store(count + 1, Ordering::SeqCst);
        }
        Ok(first.and_then(|(key, _)| Parser::new(&key).number()))
    }

    fn busy(&self) -> Result<Vec<ConnectionId>, StoreError> {
        let connections = self.engine.connections.read();
        let waiting = connections.all().iter().filter(|(_, count)| count.ready + count.delayed > 0);
        let mut names: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
        names.sort();
        Ok(names)
    }

    fn backlog(&self, connection: &ConnectionId) -> Result<Backlog, StoreError> {
        let connections = self.engine.connections.read();
        let Some(conn) = connections.number(connection) else { return Ok(Backlog::default()) };
        let count = connections.count(conn);
        drop(connections);
        let oldest = if count.ready + count.delayed == 0 {
            None
        } else {
            self.engine.edge(&Builder::new(keys::AGE).conn(conn).done(), false)?.and_then(|(key, _)| {
                let mut parser = Parser::new(&key);
                let _ = parser.conn()?;
                parser.number()
            })
        };
        Ok(Backlog { ready: count.ready, delayed: count.delayed, oldest })
    }

    fn delivery(&self, seq: u64) -> Result<Option<StoredDelivery>, StoreError> {
        self.engine.value(&keys::delivery(seq), |payload| codec::unpack("delivery", payload))
    }

    fn history(&self, entity: &EntityKey, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let stretch = Stretch::prefix(Builder::new(keys::HISTORY).entity(entity).done()).newest_first();
        let mut window = Window::new(self.engine.options.history_bytes);
        self.engine.values(&stretch, limit, |key, payload| {
            if !window.admits(codec::history_weight(payload)?) {
                return Ok(Found::Stop);
            }
            codec::unpack_history(key, payload).map(Found::Take)
        })
    }

    fn dead(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let Some(id) = connection else {
            let stretch = Stretch::prefix([keys::DEAD].into()).newest_first();
            return self.engine.values(&stretch, limit, |_, payload| {
                codec::unpack::<DeadLetter>("dead letter", payload).map(Found::Take)
            });
        };
        let Some(conn) = self.conn(id) else { return Ok(Vec::new()) };
        let stretch =
            Stretch::prefix(Builder::new(keys::DEAD_BY_CONNECTION).conn(conn).done()).newest_first();
        let numbers = self.engine.values(&stretch, limit, |key, _| {
            let mut parser = Parser::new(key);
            let (_, seq) = parser.conn().zip(parser.number()).ok_or(Damage::Payload("dead letter"))?;
            Ok(Found::Take(seq))
        })?;
        let mut letters = Vec::with_capacity(numbers.len());
        for seq in numbers {
            letters.extend(self.dead_letter(seq)?);
        }
        Ok(letters)
    }

    fn dead_about(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        subject: &Subject,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let Some(conn) = self.conn(connection) else { return Ok(None) };
        if self.engine.connections.read().count(conn).dead == 0 {
            return Ok(None);
        }
        match self.engine.value(&keys::dead_about(conn, object, subject), codec::number)? {
            Some(seq) => self.dead_letter(seq),
            None => Ok(None),
        }
    }

    fn dead_count(&self, connection: &ConnectionId) -> Result<u64, StoreError> {
        let connections = self.engine.connections.read();
        Ok(connections.number(connection).map_or(0, |conn| connections.count(conn).dead))
    }

    fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.engine.value(&keys::dead(seq), |payload| codec::unpack("dead letter", payload))
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.value(&keys::value(name), |payload| Ok(payload.to_vec()))
    }

    fn values_under(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut stretch = Stretch::prefix(keys::values_under(prefix));
        if let Some(after) = after {
            let after = keys::value(after);
            if stretch.to.as_deref().is_some_and(|end| &*after >= end) {
                return Ok(Vec::new());
            }
            if matches!(&stretch.from, Bound::Included(first) if *first < after) {
                stretch.from = Bound::Excluded(after);
            }
        }
        self.engine.values(&stretch, limit, |key, payload| {
            let name = Parser::new(key).text().ok_or(Damage::Payload("value"))?;
            Ok(Found::Take((name, payload.to_vec())))
        })
    }

    fn count_links(&self, connection: &ConnectionId, object: &ObjectName) -> Result<u64, StoreError> {
        let Some(conn) = self.conn(connection) else { return Ok(0) };
        let mut stretch = Stretch::prefix(Builder::new(keys::LINK).conn(conn).done());
        let mut count = 0;
        let mut last: Vec<u8> = Vec::new();
        loop {
            // A piece at a time: whoever commits waits while rows are read.
            let piece = self.engine.values(&stretch, COUNTED_AT_ONCE, |key, payload| {
                let mut parser = Parser::new(key);
                let entity = parser.conn().and_then(|_| parser.entity()).ok_or(Damage::Payload("link"))?;
                let head = codec::link_head(payload)?;
                count += u64::from(entity.object == *object && head.alive);
                last.clear();
                last.extend_from_slice(key);
                Ok(Found::Take(()))
            })?;
            if piece.len() < COUNTED_AT_ONCE {
                return Ok(count);
            }
            stretch.from = Bound::Excluded(Key::from(last.as_slice()));
        }
    }
}
