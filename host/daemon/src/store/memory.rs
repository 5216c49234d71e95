//! The reference: the store as plain maps, without encoding, files or threads.
//!
//! It says what the store on disk has to answer, and stands in for it in the simulation. It knows which commits are durable:
//! [`MemoryStore::crash`] gives a store as it may be found after a power loss, with everything up to the last durable point
//! and any number of the commits behind it, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName};
use tandem_core::link::{Life, Link};
use tokio::sync::watch;

use super::{
    Backlog, Class, Commit, DeadLetter, Hint, HistoryEntry, Intent, Op, Store, StoreError, StoredDelivery,
    Subject, Until,
};

/// The same as the store on disk has.
const HISTORY_BYTES: u64 = 32 << 10;

#[derive(Clone, Default)]
struct State {
    ready: BTreeMap<(ConnectionId, Class, u64), Hint>,
    delayed: BTreeMap<(Millis, u64, ConnectionId, Class), Hint>,
    deliveries: BTreeMap<u64, StoredDelivery>,
    links: BTreeMap<(ConnectionId, EntityKey), Link>,
    externals: BTreeMap<ExternalKey, EntityKey>,
    intents: BTreeMap<(ConnectionId, ObjectName, EntityKey), Intent>,
    history: BTreeMap<EntityKey, Vec<HistoryEntry>>,
    dead: BTreeMap<u64, DeadLetter>,
    dead_about: BTreeMap<(ConnectionId, ObjectName, Subject), u64>,
    values: BTreeMap<String, Vec<u8>>,
    highest: u64,
}

impl State {
    fn apply(&mut self, op: Op, history_bytes: u64) {
        match op {
            Op::AddHint(hint) => {
                self.highest = self.highest.max(hint.seq);
                if hint.due == 0 {
                    self.ready.insert((hint.connection.clone(), hint.class, hint.seq), hint);
                } else {
                    self.delayed.insert((hint.due, hint.seq, hint.connection.clone(), hint.class), hint);
                }
            }
            Op::DropHint(key) => {
                if key.due == 0 {
                    self.ready.remove(&(key.connection, key.class, key.seq));
                } else {
                    self.delayed.remove(&(key.due, key.seq, key.connection, key.class));
                }
            }
            Op::AddDelivery(delivery) => {
                self.highest = self.highest.max(delivery.seq);
                self.deliveries.insert(delivery.seq, delivery);
            }
            Op::DropDelivery(seq) => {
                self.deliveries.remove(&seq);
            }
            Op::PutLink(link) => {
                let place = (link.connection.clone(), link.entity.clone());
                let (before, after) =
                    (self.links.get(&place).and_then(Link::external_key), link.external_key());
                if before != after {
                    self.unindex(before, &link.entity);
                    if let Some(key) = after {
                        self.externals.insert(key, link.entity.clone());
                    }
                }
                self.links.insert(place, link);
            }
            Op::DropLink(entity, connection) => {
                if let Some(link) = self.links.remove(&(connection, entity.clone())) {
                    self.unindex(link.external_key(), &entity);
                }
            }
            Op::PutIntent(intent) => {
                let place = (intent.connection.clone(), intent.entity.object.clone(), intent.entity.clone());
                self.intents.insert(place, intent);
            }
            Op::DropIntent(entity, connection) => {
                self.intents.remove(&(connection, entity.object.clone(), entity));
            }
            Op::AddHistory(entry) => {
                let entries = self.history.entry(entry.entity.clone()).or_default();
                entries.push(entry);
                let mut weight: u64 = entries.iter().map(HistoryEntry::weight).sum();
                while weight > history_bytes && entries.len() > 1 {
                    weight -= entries.remove(0).weight();
                }
            }
            Op::DropHistory(entity) => {
                self.history.remove(&entity);
            }
            Op::AddDead(letter) => {
                self.highest = self.highest.max(letter.seq);
                let place = place_of(&letter);
                let before = self.dead_about.get(&place).and_then(|seq| self.dead.get(seq)).cloned();
                let letter = match before {
                    Some(before) => letter.in_place_of(before),
                    None => letter,
                };
                self.dead_about.insert(place, letter.seq);
                self.dead.insert(letter.seq, letter);
            }
            Op::DropDead(seq) => {
                if let Some(letter) = self.dead.remove(&seq) {
                    self.dead_about.remove(&place_of(&letter));
                }
            }
            Op::DropDeadAbout(connection, object, subject) => {
                if let Some(seq) = self.dead_about.remove(&(connection, object, subject)) {
                    self.dead.remove(&seq);
                }
            }
            Op::PutValue(name, value) => {
                self.values.insert(name, value);
            }
            Op::DropValue(name) => {
                self.values.remove(&name);
            }
        }
    }

    fn unindex(&mut self, external: Option<ExternalKey>, entity: &EntityKey) {
        if let Some(key) = external
            && self.externals.get(&key) == Some(entity)
        {
            self.externals.remove(&key);
        }
    }

    fn hints<'a>(&'a self, connection: &'a ConnectionId) -> impl Iterator<Item = &'a Hint> {
        self.ready.values().chain(self.delayed.values()).filter(move |hint| hint.connection == *connection)
    }
}

/// Where the letter about a record is found.
fn place_of(letter: &DeadLetter) -> (ConnectionId, ObjectName, Subject) {
    let (object, subject) = letter.about();
    (letter.hint.connection.clone(), object.clone(), subject)
}

#[derive(Default)]
struct Inner {
    /// What reads see.
    now: State,
    /// What is on disk for sure.
    durable: State,
    /// What was committed since, oldest first.
    pending: Vec<Commit>,
    /// Set by [`MemoryStore::fail`].
    failed: bool,
}

/// The store in memory.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    seq: Arc<AtomicU64>,
    history_bytes: u64,
    /// Set by [`MemoryStore::hold`].
    held: watch::Sender<bool>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(HISTORY_BYTES)
    }
}

impl MemoryStore {
    /// An empty store that keeps so many bytes of each entity's history.
    #[must_use]
    pub fn new(history_bytes: u64) -> Self {
        Self { inner: Arc::default(), seq: Arc::default(), history_bytes, held: watch::Sender::new(false) }
    }

    /// Makes everything durable, as a group commit does.
    pub fn sync(&self) {
        let mut inner = self.inner.lock();
        inner.durable = inner.now.clone();
        inner.pending.clear();
    }

    /// How many commits are not durable.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.lock().pending.len()
    }

    /// The store after a power loss that kept the first `kept` of the commits that were not durable. Numbers go on behind
    /// those that were given before.
    #[must_use]
    pub fn crash(&self, kept: usize) -> Self {
        let inner = self.inner.lock();
        let mut state = inner.durable.clone();
        for commit in inner.pending.iter().take(kept) {
            for op in &commit.ops {
                state.apply(op.clone(), self.history_bytes);
            }
        }
        let inner = Inner { durable: state.clone(), now: state, pending: Vec::new(), failed: false };
        let seq = self.seq.load(Ordering::SeqCst) + 1000;
        Self {
            inner: Arc::new(Mutex::new(inner)),
            seq: Arc::new(AtomicU64::new(seq)),
            history_bytes: self.history_bytes,
            held: watch::Sender::new(false),
        }
    }

    /// Lets every further commit fail, as after a failed sync.
    pub fn fail(&self) {
        self.inner.lock().failed = true;
    }

    /// Keeps back the answers to durable commits from now on, or no more: what they write is there meanwhile, as on a disk whose sync
    /// takes its time.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    fn apply(&self, commit: Commit, until: Until) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.failed {
            return Err(StoreError::Failed {
                path: "memory".to_owned(),
                what: "it was told to fail".to_owned(),
            });
        }
        for op in &commit.ops {
            inner.now.apply(op.clone(), self.history_bytes);
        }
        self.seq.fetch_max(inner.now.highest, Ordering::SeqCst);
        inner.pending.push(commit);
        if until == Until::Durable {
            let Inner { durable, pending, .. } = &mut *inner;
            for commit in pending.drain(..) {
                for op in commit.ops {
                    durable.apply(op, self.history_bytes);
                }
            }
        }
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        Ok(read(&self.inner.lock().now))
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn commit(&self, commit: Commit, until: Until) -> Result<(), StoreError> {
        self.apply(commit, until)?;
        if until == Until::Durable && *self.held.borrow() {
            let _ = self.held.subscribe().wait_for(|held| !held).await;
        }
        Ok(())
    }

    fn link(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Link>, StoreError> {
        self.read(|state| state.links.get(&(connection.clone(), entity.clone())).cloned())
    }

    fn links(&self, entity: &EntityKey) -> Result<Vec<Link>, StoreError> {
        self.read(|state| state.links.values().filter(|link| link.entity == *entity).cloned().collect())
    }

    fn entity_of(&self, external: &ExternalKey) -> Result<Option<EntityKey>, StoreError> {
        self.read(|state| state.externals.get(external).cloned())
    }

    fn scan_links(
        &self,
        connection: &ConnectionId,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<Link>, StoreError> {
        self.read(|state| {
            let of_connection = state.links.iter().filter(|((at, _), _)| at == connection);
            let behind = of_connection.filter(|((_, entity), _)| after.is_none_or(|after| entity > after));
            behind.map(|(_, link)| link.clone()).take(limit).collect()
        })
    }

    fn held_links(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Link>, StoreError> {
        self.read(|state| {
            let wanted =
                state.links.values().filter(|link| connection.is_none_or(|at| link.connection == *at));
            let held = wanted.filter(|link| !link.held.is_empty() || !link.frozen.is_empty());
            held.take(limit).cloned().collect()
        })
    }

    fn intent(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Intent>, StoreError> {
        let place = (connection.clone(), entity.object.clone(), entity.clone());
        self.read(|state| state.intents.get(&place).cloned())
    }

    fn intents(&self, connection: &ConnectionId, object: &ObjectName) -> Result<Vec<Intent>, StoreError> {
        self.read(|state| {
            let wanted = state.intents.iter().filter(|((at, of, _), _)| at == connection && of == object);
            wanted.map(|(_, intent)| intent.clone()).collect()
        })
    }

    fn ready(
        &self,
        connection: &ConnectionId,
        class: Class,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let range = (connection.clone(), class, first)..=(connection.clone(), class, u64::MAX);
        self.read(|state| state.ready.range(range).map(|(_, hint)| hint.clone()).take(limit).collect())
    }

    fn delayed_after(
        &self,
        after: (Millis, u64),
        until: Millis,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        self.read(|state| {
            let due = state.delayed.values().take_while(|hint| hint.due <= until);
            due.skip_while(|hint| (hint.due, hint.seq) <= after).take(limit).cloned().collect()
        })
    }

    fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        self.read(|state| state.delayed.values().next().map(|hint| hint.due))
    }

    fn busy(&self) -> Result<Vec<ConnectionId>, StoreError> {
        self.read(|state| {
            let hints = state.ready.values().chain(state.delayed.values());
            let names: BTreeSet<_> = hints.map(|hint| hint.connection.clone()).collect();
            names.into_iter().collect()
        })
    }

    fn backlog(&self, connection: &ConnectionId) -> Result<Backlog, StoreError> {
        self.read(|state| Backlog {
            ready: state.hints(connection).filter(|hint| hint.due == 0).count() as u64,
            delayed: state.hints(connection).filter(|hint| hint.due != 0).count() as u64,
            oldest: state.hints(connection).map(|hint| hint.noticed_at).min(),
        })
    }

    fn delivery(&self, seq: u64) -> Result<Option<StoredDelivery>, StoreError> {
        self.read(|state| state.deliveries.get(&seq).cloned())
    }

    fn history(&self, entity: &EntityKey, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        self.read(|state| {
            let entries = state.history.get(entity).into_iter().flatten().rev();
            entries.take(limit).cloned().collect()
        })
    }

    fn dead(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(|state| {
            let letters = state.dead.values().rev();
            let wanted = letters.filter(|letter| connection.is_none_or(|at| letter.hint.connection == *at));
            wanted.take(limit).cloned().collect()
        })
    }

    fn dead_about(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        subject: &Subject,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let place = (connection.clone(), object.clone(), subject.clone());
        self.read(|state| state.dead_about.get(&place).and_then(|seq| state.dead.get(seq)).cloned())
    }

    fn dead_count(&self, connection: &ConnectionId) -> Result<u64, StoreError> {
        self.read(|state| {
            state.dead.values().filter(|letter| letter.hint.connection == *connection).count() as u64
        })
    }

    fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.read(|state| state.dead.get(&seq).cloned())
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|state| state.values.get(name).cloned())
    }

    fn values_under(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|state| {
            let named = state.values.iter().filter(|(name, _)| {
                name.starts_with(prefix) && after.is_none_or(|after| name.as_str() > after)
            });
            named.map(|(name, value)| (name.clone(), value.clone())).take(limit).collect()
        })
    }

    fn count_links(&self, connection: &ConnectionId, object: &ObjectName) -> Result<u64, StoreError> {
        self.read(|state| {
            let of_connection = state.links.iter().filter(|((at, _), _)| at == connection);
            let alive = of_connection
                .filter(|((_, entity), link)| entity.object == *object && link.life == Life::Active);
            alive.count() as u64
        })
    }
}
