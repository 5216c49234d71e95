//! From a commit to rows: what each change does to its row and to the rows that are derived from it.
//!
//! Changes of one commit see one another. Nothing is visible to anybody until the whole of it is staged.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey};

use super::super::{Commit, DeadLetter, HintKey, Op, StoreError};
use super::codec::{self, Damage};
use super::engine::Engine;
use super::keys::{self, Key};

/// A row that a commit writes.
pub(super) struct Row {
    /// `None`: removed.
    pub(super) value: Option<Bytes>,
    /// The sequence number that its key is made of. 0: none.
    pub(super) seq: u64,
}

/// How much waits for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) ready: u64,
    pub(super) delayed: u64,
    /// Dead letters. Not in the row: counted when the store is opened.
    pub(super) dead: u64,
}

/// An entity's history is trimmed at one in so many entries; reads stop at the limit by themselves.
const TRIM_EVERY: u64 = 16;

/// The newest entries of a history, as many as the limit allows, and at least one.
pub(super) struct Window {
    left: u64,
    is_empty: bool,
    is_full: bool,
}

impl Window {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: limit, is_empty: true, is_full: false }
    }

    /// Whether the next older entry is in it.
    pub(super) fn admits(&mut self, weight: u64) -> bool {
        self.is_full |= !self.is_empty && weight > self.left;
        self.is_empty = false;
        self.left = self.left.saturating_sub(weight);
        !self.is_full
    }
}

/// A change with its payload, encoded before the writer's lock is taken.
pub(super) struct Prepared {
    op: Op,
    payload: Vec<u8>,
}

/// Checks the sizes of a commit and encodes what it writes.
pub(super) fn prepare(commit: Commit) -> Result<Vec<Prepared>, StoreError> {
    commit.ops.into_iter().map(prepare_op).collect()
}

fn prepare_op(mut op: Op) -> Result<Prepared, StoreError> {
    let connection_fits = |id: &ConnectionId| keys::name_fits("a connection's name", id.as_str());
    let payload = match &mut op {
        Op::AddHint(hint) => {
            connection_fits(&hint.connection)?;
            let mut payload = hint.noticed_at.to_le_bytes().to_vec();
            payload.extend(codec::pack("a hint", hint)?);
            payload
        }
        Op::AddDelivery(delivery) => codec::pack("a delivery", delivery)?,
        Op::PutLink(link) => {
            connection_fits(&link.connection)?;
            keys::entity_fits(&link.entity)?;
            if let Some(id) = &link.external {
                keys::name_fits("an external id", id.as_str())?;
            }
            codec::pack_link(link)?
        }
        Op::PutIntent(intent) => {
            connection_fits(&intent.connection)?;
            keys::entity_fits(&intent.entity)?;
            codec::pack("an intent", intent)?
        }
        Op::AddDead(letter) => {
            connection_fits(&letter.hint.connection)?;
            codec::pack("a dead letter", letter)?
        }
        Op::AddHistory(entry) => {
            keys::entity_fits(&entry.entity)?;
            codec::pack_history(entry)?
        }
        Op::PutValue(name, bytes) => {
            keys::name_fits("a value's name", name)?;
            bytes.clone()
        }
        Op::DropHint(_)
        | Op::DropDelivery(_)
        | Op::DropLink(..)
        | Op::DropIntent(..)
        | Op::DropHistory(_)
        | Op::DropDead(_)
        | Op::DropDeadAbout(..)
        | Op::DropValue(_) => Vec::new(),
    };
    Ok(Prepared { op, payload })
}

/// A commit in the making.
pub(super) struct Stage<'a> {
    engine: &'a Engine,
    floor: u64,
    pub(super) rows: BTreeMap<Key, Row>,
    /// Connections that the store did not know.
    pub(super) named: Vec<ConnectionId>,
    pub(super) counts: HashMap<u32, Count>,
    /// The highest sequence number in it.
    pub(super) highest: u64,
}

impl<'a> Stage<'a> {
    /// `floor`: rows whose sequence number is not below it are in the active generation or nowhere.
    pub(super) fn new(engine: &'a Engine, floor: u64) -> Self {
        Self { engine, floor, rows: BTreeMap::new(), named: Vec::new(), counts: HashMap::new(), highest: 0 }
    }

    fn put(&mut self, what: &'static str, key: Key, payload: &[u8], seq: u64) -> Result<(), StoreError> {
        let value = codec::seal(what, &key, payload)?;
        self.rows.insert(key, Row { value: Some(value), seq });
        Ok(())
    }

    fn remove(&mut self, key: Key, seq: u64) {
        self.rows.insert(key, Row { value: None, seq });
    }

    /// A row's value; `seq` as in [`Row::seq`].
    fn get(&mut self, key: &[u8], seq: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.value.clone());
        }
        let tables = self.engine.tables.read();
        if seq >= self.floor {
            return Ok(tables.active(key).cloned().flatten());
        }
        tables.get(&self.engine.tree, key).map_err(|error| self.engine.unreadable(&error))
    }

    /// What `read` makes of a row's payload. A bad row is set aside and reads as missing.
    fn look<T>(
        &mut self,
        key: &[u8],
        seq: u64,
        read: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, StoreError> {
        let Some(value) = self.get(key, seq)? else { return Ok(None) };
        match codec::open(key, &value).and_then(read) {
            Ok(found) => Ok(Some(found)),
            Err(damage) => {
                self.set_aside(key, value, &damage);
                Ok(None)
            }
        }
    }

    /// Moves a row that cannot be read out of the way.
    pub(super) fn set_aside(&mut self, key: &[u8], value: Bytes, damage: &Damage) {
        tracing::error!(key = %keys::shown(key), %damage, "store: a value was set aside");
        self.rows.insert(keys::set_aside(key), Row { value: Some(value), seq: 0 });
        self.rows.insert(key.into(), Row { value: None, seq: 0 });
    }

    /// Removes a row, whatever it is.
    pub(super) fn drop_row(&mut self, key: Key) {
        self.remove(key, 0);
    }

    /// The connection's number, a new one if it has none.
    fn conn(&mut self, id: &ConnectionId) -> Result<u32, StoreError> {
        let known = self.engine.connections.read();
        if let Some(number) = known.number(id) {
            return Ok(number);
        }
        let first = known.len();
        drop(known);
        let at = match self.named.iter().position(|name| name == id) {
            Some(at) => at,
            None => {
                self.named.push(id.clone());
                self.named.len() - 1
            }
        };
        let number = u32::try_from(first + at).unwrap_or(u32::MAX);
        self.put("a connection", keys::connection(id.as_str()), &number.to_le_bytes(), 0)?;
        Ok(number)
    }

    fn known_conn(&self, id: &ConnectionId) -> Option<u32> {
        let known = self.engine.connections.read();
        known.number(id).or_else(|| {
            let at = self.named.iter().position(|name| name == id)?;
            u32::try_from(known.len() + at).ok()
        })
    }

    fn counted(&mut self, conn: u32) -> &mut Count {
        let engine = self.engine;
        self.counts.entry(conn).or_insert_with(|| engine.connections.read().count(conn))
    }

    fn count(&mut self, conn: u32, due: Millis, by: i64) {
        let count = self.counted(conn);
        let side = if due == 0 { &mut count.ready } else { &mut count.delayed };
        *side = side.saturating_add_signed(by);
    }

    /// Stages one change.
    pub(super) fn add(&mut self, prepared: Prepared) -> Result<(), StoreError> {
        let Prepared { op, payload } = prepared;
        match op {
            Op::AddHint(hint) => {
                let conn = self.conn(&hint.connection)?;
                let key = keys::hint(conn, hint.class, hint.due, hint.seq);
                match self.look(&key, hint.seq, noticed_at)? {
                    Some(before) if before == hint.noticed_at => {}
                    Some(before) => {
                        self.remove(keys::age(conn, before, hint.class, hint.due, hint.seq), hint.seq);
                    }
                    None => self.count(conn, hint.due, 1),
                }
                self.highest = self.highest.max(hint.seq);
                self.put("a hint", key, &payload, hint.seq)?;
                self.put(
                    "a hint",
                    keys::age(conn, hint.noticed_at, hint.class, hint.due, hint.seq),
                    &[],
                    hint.seq,
                )
            }
            Op::DropHint(key) => self.drop_hint(&key),
            Op::AddDelivery(delivery) => {
                self.highest = self.highest.max(delivery.seq);
                self.put("a delivery", keys::delivery(delivery.seq), &payload, delivery.seq)
            }
            Op::DropDelivery(seq) => {
                self.remove(keys::delivery(seq), seq);
                Ok(())
            }
            Op::PutLink(link) => {
                let conn = self.conn(&link.connection)?;
                self.put_link(conn, &link.entity, link.external.as_ref(), codec::is_held(&link), &payload)
            }
            Op::DropLink(entity, connection) => self.drop_link(&entity, &connection),
            Op::PutIntent(intent) => {
                let conn = self.conn(&intent.connection)?;
                self.put("an intent", keys::intent(conn, &intent.entity), &payload, 0)
            }
            Op::DropIntent(entity, connection) => {
                if let Some(conn) = self.known_conn(&connection) {
                    self.remove(keys::intent(conn, &entity), 0);
                }
                Ok(())
            }
            Op::AddHistory(entry) => {
                let seq = self.engine.seq.fetch_add(1, Ordering::SeqCst) + 1;
                self.highest = self.highest.max(seq);
                self.put("a history entry", keys::history(&entry.entity, seq), &payload, seq)?;
                if seq.is_multiple_of(TRIM_EVERY) { self.trim(&entry.entity) } else { Ok(()) }
            }
            Op::DropHistory(entity) => self.drop_history(&entity),
            Op::AddDead(letter) => {
                let conn = self.conn(&letter.hint.connection)?;
                self.highest = self.highest.max(letter.seq);
                self.add_dead(conn, letter, &payload)
            }
            Op::DropDead(seq) => self.drop_dead(seq),
            Op::DropDeadAbout(connection, object, subject) => {
                let Some(conn) = self.known_conn(&connection) else { return Ok(()) };
                if self.counted(conn).dead == 0 {
                    return Ok(());
                }
                let place = keys::dead_about(conn, &object, &subject);
                match self.look(&place, 0, codec::number)? {
                    Some(seq) => {
                        self.remove(place, 0);
                        self.drop_dead(seq)
                    }
                    None => Ok(()),
                }
            }
            Op::PutValue(name, _) => self.put("a value", keys::value(&name), &payload, 0),
            Op::DropValue(name) => {
                self.remove(keys::value(&name), 0);
                Ok(())
            }
        }
    }

    /// One letter for each record: it takes the number of the one before.
    fn add_dead(&mut self, conn: u32, letter: DeadLetter, payload: &[u8]) -> Result<(), StoreError> {
        let (object, subject) = letter.about();
        let place = keys::dead_about(conn, object, &subject);
        let before = match self.look(&place, 0, codec::number)? {
            Some(seq) => self
                .look(&keys::dead(seq), seq, |payload| codec::unpack::<DeadLetter>("dead letter", payload))?,
            None => None,
        };
        if let Some(before) = before {
            let letter = letter.in_place_of(before);
            let payload = codec::pack("a dead letter", &letter)?;
            return self.put("a dead letter", keys::dead(letter.seq), &payload, letter.seq);
        }
        let seq = letter.seq;
        self.put("a dead letter", keys::dead(seq), payload, seq)?;
        self.put("a dead letter", keys::dead_by_connection(conn, seq), &[], seq)?;
        self.put("a dead letter", place, &seq.to_le_bytes(), 0)?;
        self.counted(conn).dead += 1;
        Ok(())
    }

    fn drop_dead(&mut self, seq: u64) -> Result<(), StoreError> {
        let key = keys::dead(seq);
        let Some(letter) =
            self.look(&key, seq, |payload| codec::unpack::<DeadLetter>("dead letter", payload))?
        else {
            return Ok(());
        };
        if let Some(conn) = self.known_conn(&letter.hint.connection) {
            let (object, subject) = letter.about();
            let place = keys::dead_about(conn, object, &subject);
            if self.look(&place, 0, codec::number)? == Some(seq) {
                self.remove(place, 0);
            }
            self.remove(keys::dead_by_connection(conn, seq), seq);
            let count = self.counted(conn);
            count.dead = count.dead.saturating_sub(1);
        }
        self.remove(key, seq);
        Ok(())
    }

    fn drop_hint(&mut self, hint: &HintKey) -> Result<(), StoreError> {
        let Some(conn) = self.known_conn(&hint.connection) else { return Ok(()) };
        let key = keys::hint(conn, hint.class, hint.due, hint.seq);
        if let Some(noticed_at) = self.look(&key, hint.seq, noticed_at)? {
            self.remove(key, hint.seq);
            self.remove(keys::age(conn, noticed_at, hint.class, hint.due, hint.seq), hint.seq);
            self.count(conn, hint.due, -1);
        }
        Ok(())
    }

    /// What the link's row says of its indexes: (external id, held).
    fn link_before(
        &mut self,
        conn: u32,
        entity: &EntityKey,
    ) -> Result<Option<(Option<ExternalId>, bool)>, StoreError> {
        self.look(&keys::link(conn, entity), 0, |payload| {
            codec::link_head(payload).map(|head| (head.external.map(ExternalId::from), head.held))
        })
    }

    fn put_link(
        &mut self,
        conn: u32,
        entity: &EntityKey,
        external: Option<&ExternalId>,
        held: bool,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        let before = self.link_before(conn, entity)?;
        if before.is_none() {
            self.put("a link", keys::entity(entity, conn), &[], 0)?;
        }
        let (external_before, held_before) = before.unwrap_or_default();
        if external_before.as_ref() != external {
            if let Some(id) = external_before {
                self.unindex(conn, entity, id)?;
            }
            if let Some(id) = external {
                let key = keys::external(conn, &external_key(entity, id.clone()));
                self.put("an external id", key, &codec::pack_entity(entity)?, 0)?;
            }
        }
        match (held_before, held) {
            (false, true) => self.put("a link", keys::held(conn, entity), &[], 0)?,
            (true, false) => self.remove(keys::held(conn, entity), 0),
            _ => {}
        }
        self.put("a link", keys::link(conn, entity), payload, 0)
    }

    fn drop_link(&mut self, entity: &EntityKey, connection: &ConnectionId) -> Result<(), StoreError> {
        let Some(conn) = self.known_conn(connection) else { return Ok(()) };
        if let Some((external, _)) = self.link_before(conn, entity)? {
            if let Some(id) = external {
                self.unindex(conn, entity, id)?;
            }
            self.remove(keys::held(conn, entity), 0);
            self.remove(keys::entity(entity, conn), 0);
            self.remove(keys::link(conn, entity), 0);
        }
        Ok(())
    }

    /// Takes an external id out of the index, unless it stands for another entity by now.
    fn unindex(&mut self, conn: u32, entity: &EntityKey, id: ExternalId) -> Result<(), StoreError> {
        let key = keys::external(conn, &external_key(entity, id));
        let owner = self.look(&key, 0, |payload| codec::unpack::<EntityKey>("entity", payload))?;
        if owner.as_ref() == Some(entity) {
            self.remove(key, 0);
        }
        Ok(())
    }

    /// Removes an entity's history, what this commit adds to it included.
    fn drop_history(&mut self, entity: &EntityKey) -> Result<(), StoreError> {
        let prefix = keys::Builder::new(keys::HISTORY).entity(entity).done();
        let to = keys::after_prefix(&prefix);
        let staged = self.rows.keys().filter(|key| key.starts_with(&prefix));
        let mut gone: Vec<Key> = staged.cloned().collect();
        let mut visit = |key: &[u8], _: Bytes| {
            gone.push(Key::from(key));
            ControlFlow::Continue(())
        };
        self.engine
            .tables
            .read()
            .scan(&self.engine.tree, Bound::Included(&prefix), to.as_deref(), false, &mut visit)
            .map_err(|error| self.engine.unreadable(&error))?;
        for key in gone {
            let seq = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            self.remove(key, seq);
        }
        Ok(())
    }

    /// Removes what reads of an entity's history no longer show.
    fn trim(&mut self, entity: &EntityKey) -> Result<(), StoreError> {
        let prefix = keys::Builder::new(keys::HISTORY).entity(entity).done();
        let to = keys::after_prefix(&prefix);
        let mut window = Window::new(self.engine.options.history_bytes);
        let mut gone = Vec::new();
        let mut visit = |key: &[u8], value: Bytes| {
            match codec::open(key, &value).and_then(codec::history_weight) {
                Ok(weight) if window.admits(weight) => {}
                _ => gone.push(Key::from(key)),
            }
            ControlFlow::Continue(())
        };
        self.engine
            .tables
            .read()
            .scan(&self.engine.tree, Bound::Included(&prefix), to.as_deref(), true, &mut visit)
            .map_err(|error| self.engine.unreadable(&error))?;
        for key in gone {
            let seq = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            self.remove(key, seq);
        }
        Ok(())
    }

    /// Adds the rows that the commit as a whole gives rise to.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let counts: Vec<(u32, Count)> = self.counts.iter().map(|(conn, count)| (*conn, *count)).collect();
        for (conn, count) in counts {
            self.put("a count", keys::count(conn), &pack_count(count), 0)?;
        }
        Ok(())
    }

    /// Sets the reserved range of sequence numbers.
    pub(super) fn reserve(&mut self, high: u64) -> Result<(), StoreError> {
        self.put("a number", keys::meta(super::engine::SEQ), &high.to_le_bytes(), 0)
    }
}

fn noticed_at(payload: &[u8]) -> Result<Millis, Damage> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Damage::Payload("hint"))
}

fn external_key(entity: &EntityKey, id: ExternalId) -> ExternalKey {
    // The index's key holds the connection's number; the name in here is not part of it.
    ExternalKey { connection: "".into(), object: entity.object.clone(), id }
}

pub(super) fn pack_count(count: Count) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (ready, delayed) = bytes.split_at_mut(8);
    ready.copy_from_slice(&count.ready.to_le_bytes());
    delayed.copy_from_slice(&count.delayed.to_le_bytes());
    bytes
}

pub(super) fn unpack_count(payload: &[u8]) -> Result<Count, Damage> {
    let (ready, rest) = payload.split_first_chunk::<8>().ok_or(Damage::Payload("count"))?;
    let (delayed, _) = rest.split_first_chunk::<8>().ok_or(Damage::Payload("count"))?;
    Ok(Count { ready: u64::from_le_bytes(*ready), delayed: u64::from_le_bytes(*delayed), dead: 0 })
}
