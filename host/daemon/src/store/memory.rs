//! The reference: the store as plain maps, without encoding. Quick, exact, forgets everything at the end.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, ObjectName};
use tandem_core::link::{Life, Link};

use super::{
    Backlog, Class, Commit, DeadLetter, Hint, HistoryEntry, Intent, Op, Store, StoreError, StoredDelivery, Until,
};

#[derive(Clone, Debug, Default)]
struct State {
    ready: BTreeMap<(ConnectionId, Class, u64), Hint>,
    delayed: BTreeMap<(Millis, u64), Hint>,
    deliveries: BTreeMap<u64, StoredDelivery>,
    links: BTreeMap<(ConnectionId, EntityKey), Link>,
    external: BTreeMap<ExternalKey, EntityKey>,
    intents: BTreeMap<(ConnectionId, EntityKey), Intent>,
    history: BTreeMap<EntityKey, Vec<HistoryEntry>>,
    dead: BTreeMap<u64, DeadLetter>,
    values: BTreeMap<String, Vec<u8>>,
}

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    seq: std::sync::atomic::AtomicU64,
}

impl State {
    fn apply(&mut self, op: Op) {
        match op {
            Op::AddHint(hint) if hint.due == 0 => {
                self.ready.insert((hint.connection.clone(), hint.class, hint.seq), hint);
            }
            Op::AddHint(hint) => {
                self.delayed.insert((hint.due, hint.seq), hint);
            }
            Op::DropHint(key) => {
                self.ready.remove(&(key.connection, key.class, key.seq));
                self.delayed.remove(&(key.due, key.seq));
            }
            Op::AddDelivery(delivery) => {
                self.deliveries.insert(delivery.seq, delivery);
            }
            Op::DropDelivery(seq) => {
                self.deliveries.remove(&seq);
            }
            Op::PutLink(link) => {
                let place = (link.connection.clone(), link.entity.clone());
                let before = self.links.get(&place).and_then(Link::external_key);
                if let Some(before) = before
                    && self.external.get(&before) == Some(&link.entity)
                {
                    self.external.remove(&before);
                }
                if let Some(key) = link.external_key() {
                    self.external.insert(key, link.entity.clone());
                }
                self.links.insert(place, link);
            }
            Op::DropLink(entity, connection) => {
                if let Some(link) = self.links.remove(&(connection, entity))
                    && let Some(key) = link.external_key()
                {
                    self.external.remove(&key);
                }
            }
            Op::PutIntent(intent) => {
                self.intents.insert((intent.connection.clone(), intent.entity.clone()), intent);
            }
            Op::DropIntent(entity, connection) => {
                self.intents.remove(&(connection, entity));
            }
            Op::AddHistory(entry) => self.history.entry(entry.entity.clone()).or_default().push(entry),
            Op::AddDead(letter) => {
                self.dead.insert(letter.seq, letter);
            }
            Op::DropDead(seq) => {
                self.dead.remove(&seq);
            }
            Op::PutValue(name, value) => {
                self.values.insert(name, value);
            }
            Op::DropValue(name) => {
                self.values.remove(&name);
            }
        }
    }
}

impl Store for MemoryStore {
    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    async fn commit(&self, commit: Commit, _until: Until) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for op in commit.ops {
            state.apply(op);
        }
        Ok(())
    }

    fn link(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Link>, StoreError> {
        Ok(self.state.lock().links.get(&(connection.clone(), entity.clone())).cloned())
    }

    fn links(&self, entity: &EntityKey) -> Result<Vec<Link>, StoreError> {
        Ok(self.state.lock().links.values().filter(|link| link.entity == *entity).cloned().collect())
    }

    fn entity_of(&self, external: &ExternalKey) -> Result<Option<EntityKey>, StoreError> {
        Ok(self.state.lock().external.get(external).cloned())
    }

    fn scan_links(
        &self,
        connection: &ConnectionId,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<Link>, StoreError> {
        let state = self.state.lock();
        let links = state.links.iter().filter(|((of, entity), _)| {
            of == connection && after.is_none_or(|after| entity > after)
        });
        Ok(links.map(|(_, link)| link.clone()).take(limit).collect())
    }

    fn held_links(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Link>, StoreError> {
        let state = self.state.lock();
        let links = state.links.values().filter(|link| {
            connection.is_none_or(|of| link.connection == *of)
                && link.life == Life::Active
                && (!link.held.is_empty() || !link.frozen.is_empty())
        });
        Ok(links.take(limit).cloned().collect())
    }

    fn intent(&self, entity: &EntityKey, connection: &ConnectionId) -> Result<Option<Intent>, StoreError> {
        Ok(self.state.lock().intents.get(&(connection.clone(), entity.clone())).cloned())
    }

    fn intents(&self, connection: &ConnectionId, object: &ObjectName) -> Result<Vec<Intent>, StoreError> {
        let state = self.state.lock();
        let intents = state.intents.values().filter(|intent| {
            intent.connection == *connection && intent.entity.object == *object
        });
        Ok(intents.cloned().collect())
    }

    fn ready(
        &self,
        connection: &ConnectionId,
        class: Class,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        let state = self.state.lock();
        let from = (connection.clone(), class, after.saturating_add(1));
        let to = (connection.clone(), class, u64::MAX);
        Ok(state.ready.range(from..=to).map(|(_, hint)| hint.clone()).take(limit).collect())
    }

    fn delayed(&self, until: Millis, limit: usize) -> Result<Vec<Hint>, StoreError> {
        let state = self.state.lock();
        Ok(state.delayed.range(..=(until, u64::MAX)).map(|(_, hint)| hint.clone()).take(limit).collect())
    }

    fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        Ok(self.state.lock().delayed.first_key_value().map(|((due, _), _)| *due))
    }

    fn busy(&self) -> Result<Vec<ConnectionId>, StoreError> {
        let state = self.state.lock();
        let mut busy: Vec<ConnectionId> = state
            .ready
            .keys()
            .map(|(connection, ..)| connection.clone())
            .chain(state.delayed.values().map(|hint| hint.connection.clone()))
            .collect();
        busy.sort();
        busy.dedup();
        Ok(busy)
    }

    fn backlog(&self, connection: &ConnectionId) -> Result<Backlog, StoreError> {
        let state = self.state.lock();
        let ready: Vec<&Hint> = state.ready.values().filter(|hint| hint.connection == *connection).collect();
        let delayed: Vec<&Hint> =
            state.delayed.values().filter(|hint| hint.connection == *connection).collect();
        Ok(Backlog {
            ready: ready.len() as u64,
            delayed: delayed.len() as u64,
            oldest: ready.iter().chain(&delayed).map(|hint| hint.noticed_at).min(),
        })
    }

    fn delivery(&self, seq: u64) -> Result<Option<StoredDelivery>, StoreError> {
        Ok(self.state.lock().deliveries.get(&seq).cloned())
    }

    fn history(&self, entity: &EntityKey, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let state = self.state.lock();
        let history = state.history.get(entity);
        Ok(history.map(|entries| entries.iter().rev().take(limit).cloned().collect()).unwrap_or_default())
    }

    fn dead(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let state = self.state.lock();
        let letters =
            state.dead.values().rev().filter(|letter| connection.is_none_or(|of| letter.hint.connection == *of));
        Ok(letters.take(limit).cloned().collect())
    }

    fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.state.lock().dead.get(&seq).cloned())
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.lock().values.get(name).cloned())
    }
}
