//! The reference store with a disk that takes its time: commits are seen at once and durable later, in their order; a crash keeps
//! what is durable and any number of the commits after it.

use std::sync::Arc;

use parking_lot::Mutex;
use tandem::store::memory::MemoryStore;
use tandem::store::{
    Backlog, Class, Commit, DeadLetter, Hint, HistoryEntry, Intent, Op, Store, StoreError, StoredDelivery,
    Subject, Until,
};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName};
use tandem_core::link::Link;

use crate::plant::Plant;
use crate::shared::Shared;

/// What waits longer than this is synced, as the group commit does.
const LONGEST: Millis = 50;

/// The store of a world.
pub(crate) struct Disk<E> {
    shared: Arc<Shared<E>>,
    inner: MemoryStore,
    /// When the oldest commit that is not durable was applied.
    since: Mutex<Option<Millis>>,
    plant: Option<Plant>,
    /// For a planted bug: the history that was dropped last.
    dropped: Mutex<Option<HistoryEntry>>,
}

impl<E: Send + 'static> Disk<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>, plant: Option<Plant>) -> Self {
        Self {
            shared,
            inner: MemoryStore::default(),
            since: Mutex::new(None),
            plant,
            dropped: Mutex::default(),
        }
    }

    /// The disk after a crash, as the seed has it.
    pub(crate) fn crash(&self) -> Self {
        let pending = self.inner.pending();
        let kept = self.shared.roll(|dice| match dice.below(4) {
            0 => pending,
            1 => 0,
            _ => dice.place(pending + 1),
        });
        self.shared.trace(|| format!("store: {kept} of {pending} commits that were not durable are kept"));
        let inner = self.inner.crash(kept);
        Self {
            shared: self.shared.clone(),
            inner,
            since: Mutex::new(None),
            plant: self.plant,
            dropped: Mutex::default(),
        }
    }

    /// Makes durable what has waited long enough.
    pub(crate) async fn sync_late(&self) {
        let late = self.since.lock().is_some_and(|since| since + LONGEST <= self.shared.now());
        if late {
            self.sync().await;
        }
    }

    async fn sync(&self) {
        *self.since.lock() = None;
        if self.plant != Some(Plant::DiskLies) {
            let _always = self.inner.commit(Commit::new(), Until::Durable).await;
        }
    }

    fn planted(&self, commit: Commit) -> Option<Commit> {
        match self.plant {
            Some(Plant::StoreLosesCommit) if self.shared.roll(|dice| dice.chance(20)) => None,
            Some(Plant::StoreTearsCommit) if self.shared.roll(|dice| dice.chance(100)) => {
                let ops = commit.ops.into_iter().filter(|op| !matches!(op, Op::PutLink(_)));
                Some(Commit { ops: ops.collect() })
            }
            Some(Plant::ErasureForgotten) => {
                let is_mark = |op: &Op| matches!(op, Op::PutValue(name, _) if name.starts_with("erased/"));
                Some(Commit { ops: commit.ops.into_iter().filter(|op| !is_mark(op)).collect() })
            }
            Some(Plant::ErasureLeavesHistory) => {
                let mut ops = commit.ops;
                let mut kept = self.dropped.lock();
                if ops.iter().any(|op| matches!(op, Op::DropValue(name) if name.starts_with("erase/"))) {
                    ops.extend(kept.take().map(Op::AddHistory));
                }
                for op in &ops {
                    if let Op::DropHistory(entity) = op
                        && let Some(entry) = self.inner.history(entity, 1).ok().and_then(|mut all| all.pop())
                    {
                        *kept = Some(entry);
                    }
                }
                Some(Commit { ops })
            }
            Some(Plant::GuardForgets) => {
                let is_count = |op: &Op| matches!(op, Op::PutValue(name, _) if name.starts_with("guard/"));
                Some(Commit { ops: commit.ops.into_iter().filter(|op| !is_count(op)).collect() })
            }
            Some(Plant::LateHintSaysNothing) => {
                let blank = |op: Op| match op {
                    Op::AddHint(hint) if hint.due > self.shared.now() => {
                        Op::AddHint(Hint { observed: None, ..hint })
                    }
                    op => op,
                };
                Some(Commit { ops: commit.ops.into_iter().map(blank).collect() })
            }
            Some(Plant::WithheldLost) => {
                let is_row = |op: &Op| matches!(op, Op::PutValue(name, _) if name.starts_with("withheld/"));
                Some(Commit { ops: commit.ops.into_iter().filter(|op| !is_row(op)).collect() })
            }
            _ => Some(commit),
        }
    }
}

impl<E: Send + 'static> Store for Disk<E> {
    fn next_seq(&self) -> u64 {
        self.inner.next_seq()
    }

    async fn commit(&self, commit: Commit, until: Until) -> Result<(), StoreError> {
        self.shared.nap(2).await;
        self.shared.trace(|| format!("commit {until:?} {:?}", commit.ops));
        if let Some(commit) = self.planted(commit) {
            self.inner.commit(commit, Until::Applied).await?;
            self.since.lock().get_or_insert(self.shared.now());
        }
        if until == Until::Durable || self.shared.roll(|dice| dice.chance(200)) {
            self.shared.nap(5).await;
            self.sync().await;
        }
        self.shared.nap(2).await;
        Ok(())
    }

    fn link(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Link>, StoreError> {
        self.inner.link(entity, connection)
    }

    fn links(&self, entity: &EntityKey) -> Result<Vec<Link>, StoreError> {
        self.inner.links(entity)
    }

    fn entity_of(&self, external: &ExternalKey) -> Result<Option<EntityKey>, StoreError> {
        if self.plant == Some(Plant::IndexForgets) && self.shared.roll(|dice| dice.chance(20)) {
            return Ok(None);
        }
        self.inner.entity_of(external)
    }

    fn scan_links(
        &self,
        connection: &ConnectionId,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<Link>, StoreError> {
        self.inner.scan_links(connection, after, limit)
    }

    fn held_links(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Link>, StoreError> {
        self.inner.held_links(connection, limit)
    }

    fn intent(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Intent>, StoreError> {
        self.inner.intent(entity, connection)
    }

    fn intents(&self, connection: &ConnectionId, object: &ObjectName) -> Result<Vec<Intent>, StoreError> {
        self.inner.intents(connection, object)
    }

    fn ready(
        &self,
        connection: &ConnectionId,
        class: Class,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        self.inner.ready(connection, class, after, limit)
    }

    fn delayed_after(
        &self,
        after: (Millis, u64),
        until: Millis,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        self.inner.delayed_after(after, until, limit)
    }

    fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        self.inner.next_due()
    }

    fn busy(&self) -> Result<Vec<ConnectionId>, StoreError> {
        self.inner.busy()
    }

    fn backlog(&self, connection: &ConnectionId) -> Result<Backlog, StoreError> {
        self.inner.backlog(connection)
    }

    fn delivery(&self, seq: u64) -> Result<Option<StoredDelivery>, StoreError> {
        self.inner.delivery(seq)
    }

    fn history(&self, entity: &EntityKey, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        self.inner.history(entity, limit)
    }

    fn dead(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead(connection, limit)
    }

    fn dead_about(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        subject: &Subject,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_about(connection, object, subject)
    }

    fn dead_count(&self, connection: &ConnectionId) -> Result<u64, StoreError> {
        self.inner.dead_count(connection)
    }

    fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(seq)
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.value(name)
    }

    fn values_under(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.values_under(prefix, after, limit)
    }

    fn count_links(&self, connection: &ConnectionId, object: &ObjectName) -> Result<u64, StoreError> {
        self.inner.count_links(connection, object)
    }
}
