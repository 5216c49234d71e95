//! The contacts of an org, and everything that changes them.
//!
//! Each call is one transaction: it is checked whole before anything is changed. Moments have whole seconds, so two writes of one
//! second cannot be told apart by them. A deleted record stays in the recycle bin, out of sight of reads and of `query`; one that
//! has left the bin is only known by the refusal that it is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::contact::{Contact, Stamp, User};
use super::errors::ApiError;
use super::fields::{Field, Schema};
use super::ids;
use super::rules::{Change, Duplicates, Rules};
use crate::writes::{NotedWrite, WriteKind, Writer, Writes};

/// The first contact of every org has this number, so that ids are the same in each and a mix-up shows.
const FIRST: u64 = 52_036_560_000;
const DAY_MS: i64 = 86_400_000;
/// How long the recycle bin keeps a record, and how far back deletions are told of.
pub(crate) const BIN_DAYS: i64 = 15;

/// Who writes, and by which rules.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) user: User,
    pub(crate) writer: Writer,
    /// What the client calls itself in `Sforce-Call-Options`.
    pub(crate) client: Option<String>,
    pub(crate) now: i64,
    pub(crate) rules: Rules,
}

#[derive(Debug, Clone)]
pub(crate) struct Contacts {
    pub(crate) schema: Schema,
    pub(crate) records: BTreeMap<u64, Contact>,
    next: u64,
    /// Live records by the values of indexed fields.
    held: BTreeMap<(Arc<str>, String), BTreeSet<u64>>,
    /// All records that are not purged, by `SystemModstamp`.
    modstamps: BTreeSet<(i64, u64)>,
    /// Records in the bin, by the moment of their deletion.
    binned: BTreeSet<(i64, u64)>,
    /// Before this moment the log of deletions is not complete.
    earliest: i64,
    /// Who wrote what; shared by a copy that a transaction is tried on.
    pub(crate) writes: Arc<parking_lot::Mutex<Writes>>,
}

fn key(field: &Field, value: &str) -> (Arc<str>, String) {
    let value = if field.case_sensitive { value.to_owned() } else { value.to_lowercase() };
    (field.name.clone(), value)
}

/// A value as text, for the index.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Contacts {
    pub(crate) fn new(schema: Schema, now: i64) -> Self {
        Self {
            schema,
            records: BTreeMap::new(),
            next: FIRST,
            held: BTreeMap::new(),
            modstamps: BTreeSet::new(),
            binned: BTreeSet::new(),
            earliest: now,
            writes: Arc::default(),
        }
    }

    /// Removes everything; ids are not used again.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.held.clear();
        self.modstamps.clear();
        self.binned.clear();
    }

    /// A record that a read would find.
    pub(crate) fn live(&self, number: u64) -> Result<&Contact, ApiError> {
        let contact = self.records.get(&number).ok_or_else(ApiError::not_found)?;
        if contact.live() { Ok(contact) } else { Err(ApiError::deleted()) }
    }

    /// Live records with this value of an indexed field.
    pub(crate) fn find(&self, field: &Field, value: &str) -> Vec<u64> {
        self.held.get(&key(field, value)).into_iter().flatten().copied().collect()
    }

    /// Records that are not purged whose `SystemModstamp` is in `from..to`.
    pub(crate) fn changed(&self, from: i64, to: i64) -> impl Iterator<Item = &Contact> {
        let range = if from < to { Some(self.modstamps.range((from, 0)..(to, 0))) } else { None };
        range.into_iter().flatten().filter_map(move |(_, number)| self.records.get(number))
    }

    /// Records that went to the bin in `from..to` and did not come back.
    pub(crate) fn removed(&self, from: i64, to: i64) -> impl Iterator<Item = (u64, i64)> + '_ {
        let range = if from < to { Some(self.binned.range((from, 0)..(to, 0))) } else { None };
        range.into_iter().flatten().map(|(at, number)| (*number, *at))
    }

    /// Since when all deletions are known.
    pub(crate) fn earliest(&self, now: i64) -> i64 {
        self.earliest.max(now - BIN_DAYS * DAY_MS)
    }

    /// Empties the bin of what has been in it too long.
    pub(crate) fn age(&mut self, now: i64) {
        let old: Vec<(i64, u64)> = self.binned.range(..(now - BIN_DAYS * DAY_MS, 0)).copied().collect();
        for (_, number) in old {
            self.purge(number);
        }
    }

    /// Takes a record out of the bin for good.
    pub(crate) fn purge(&mut self, number: u64) -> bool {
        let Some(contact) =
            self.records.get_mut(&number).filter(|contact| !contact.live() && !contact.purged)
        else {
            return false;
        };
        contact.purged = true;
        contact.values.clear();
        let (deleted, modstamp) = (contact.deleted.unwrap_or_default(), contact.modstamp);
        self.binned.remove(&(deleted, number));
        self.modstamps.remove(&(modstamp, number));
        self.earliest = self.earliest.max(deleted);
        true
    }

    /// Puts a record in the place of what was there.
    fn put(&mut self, contact: Contact) {
        let number = contact.number;
        if let Some(before) = self.records.remove(&number) {
            self.unindex(&before);
        }
        if contact.live() {
            for field in self.schema.all().iter().filter(|field| field.indexed()) {
                if let Some(value) = contact.values.get(&field.name).and_then(text) {
                    self.held.entry(key(field, &value)).or_default().insert(number);
                }
            }
        }
        self.modstamps.insert((contact.modstamp, number));
        if let Some(deleted) = contact.deleted {
            self.binned.insert((deleted, number));
        }
        self.records.insert(number, contact);
    }

    fn unindex(&mut self, before: &Contact) {
        for field in self.schema.all().iter().filter(|field| field.indexed()) {
            let Some(value) = before.values.get(&field.name).and_then(text) else { continue };
            let key = key(field, &value);
            if self.held.get_mut(&key).is_some_and(|ids| ids.remove(&before.number) && ids.is_empty()) {
                self.held.remove(&key);
            }
        }
        self.modstamps.remove(&(before.modstamp, before.number));
        if let Some(deleted) = before.deleted {
            self.binned.remove(&(deleted, before.number));
        }
    }

    fn note(
        &self,
        kind: WriteKind,
        number: Option<u64>,
        given: &Map<String, Value>,
        actor: &Actor,
        taken: bool,
    ) {
        self.writes.lock().note(|| NotedWrite {
            at: actor.now,
            id: number.map(|number| ids::id(ids::CONTACT, number)),
            by: actor.writer,
            kind,
            members: given.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            taken,
        });
    }

    pub(crate) fn create(&mut self, given: &Map<String, Value>, actor: &Actor) -> Result<u64, ApiError> {
        let made = self.carry_out_create(given, actor);
        self.note(WriteKind::Create, made.as_ref().ok().copied(), given, actor, made.is_ok());
        made
    }

    fn carry_out_create(&mut self, given: &Map<String, Value>, actor: &Actor) -> Result<u64, ApiError> {
        let checked = self.check(given, true, actor)?;
        let mut values = self.settle(None, &BTreeMap::new(), &checked, actor.rules)?;
        values.entry("OwnerId".into()).or_insert_with(|| actor.user.id().into());
        let stamp = actor.stamp();
        let number = self.next;
        self.next += 1;
        self.put(Contact {
            number,
            values,
            created: stamp,
            modified: stamp,
            modstamp: stamp.at,
            deleted: None,
            master: None,
            purged: false,
            locked_until: 0,
            client: actor.client.clone(),
        });
        Ok(number)
    }

    /// A live record that nobody else holds.
    fn free(&self, number: u64, actor: &Actor) -> Result<Contact, ApiError> {
        let contact = self.live(number)?;
        if actor.writer == Writer::Api && contact.locked_until > actor.now {
            return Err(ApiError::locked(&contact.id()));
        }
        Ok(contact.clone())
    }

    pub(crate) fn update(
        &mut self,
        number: u64,
        given: &Map<String, Value>,
        actor: &Actor,
        unless_after: Option<i64>,
    ) -> Result<(), ApiError> {
        let done = self.carry_out_update(number, given, actor, unless_after);
        self.note(WriteKind::Update, Some(number), given, actor, done.is_ok());
        done
    }

    fn carry_out_update(
        &mut self,
        number: u64,
        given: &Map<String, Value>,
        actor: &Actor,
        unless_after: Option<i64>,
    ) -> Result<(), ApiError> {
        let mut contact = self.free(number, actor)?;
        if unless_after.is_some_and(|second| contact.modified.at.div_euclid(1_000) > second) {
            return Err(ApiError::new(http::StatusCode::PRECONDITION_FAILED, "", ""));
        }
        let checked = self.check(given, false, actor)?;
        let values = self.settle(Some(number), &contact.values, &checked, actor.rules)?;
        if values == contact.values && !actor.rules.empty_touches {
            return Ok(());
        }
        contact.values = values;
        contact.touch(actor);
        self.put(contact);
        Ok(())
    }

    pub(crate) fn delete(&mut self, number: u64, actor: &Actor) -> Result<(), ApiError> {
        let done = self.carry_out_delete(number, None, actor);
        self.note(WriteKind::Delete, Some(number), &Map::new(), actor, done.is_ok());
        done
    }

    fn carry_out_delete(&mut self, number: u64, master: Option<u64>, actor: &Actor) -> Result<(), ApiError> {
        let mut contact = self.free(number, actor)?;
        contact.touch(actor);
        contact.deleted = Some(actor.stamp().at);
        contact.master = master;
        self.put(contact);
        Ok(())
    }

    /// Takes a record out of the recycle bin again.
    pub(crate) fn undelete(&mut self, number: u64, actor: &Actor) -> Result<(), ApiError> {
        let Some(mut contact) = self.records.get(&number).filter(|contact| !contact.live()).cloned() else {
            return Err(ApiError::write("UNDELETE_FAILED", "Entity is not in the recycle bin", &[]));
        };
        if contact.purged {
            return Err(ApiError::write("UNDELETE_FAILED", "Undelete failed", &[]));
        }
        let all: Vec<Change> = self
            .schema
            .all()
            .iter()
            .filter(|field| field.unique)
            .map(|field| (field.clone(), contact.values.get(&field.name).cloned()))
            .collect();
        let rules = Rules { duplicates: Duplicates::Allow, ..actor.rules };
        self.settle(Some(number), &contact.values, &all, rules)?;
        contact.touch(actor);
        contact.deleted = None;
        contact.master = None;
        self.put(contact);
        Ok(())
    }

    /// Merges contacts into one: its values stay, save those given.
    pub(crate) fn merge(
        &mut self,
        master: u64,
        losers: &[u64],
        given: &Map<String, Value>,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        if losers.is_empty() || losers.len() > 2 || losers.contains(&master) {
            return Err(ApiError::write("INVALID_MERGE_RECORD", "one or two other records are merged", &[]));
        }
        let before = self.clone();
        let done = self.carry_out_merge(master, losers, given, actor);
        if done.is_err() {
            *self = before;
        }
        done
    }

    fn carry_out_merge(
        &mut self,
        master: u64,
        losers: &[u64],
        given: &Map<String, Value>,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        let checked = self.check(given, false, actor)?;
        // The losers go first, so that the master may take what was theirs alone.
        for number in losers {
            self.carry_out_delete(*number, Some(master), actor)?;
        }
        let mut contact = self.free(master, actor)?;
        let rules = Rules { duplicates: Duplicates::Allow, ..actor.rules };
        contact.values = self.settle(Some(master), &contact.values, &checked, rules)?;
        contact.touch(actor);
        self.put(contact);
        Ok(())
    }

    /// The org itself touches a record: only `SystemModstamp` moves.
    pub(crate) fn touch(&mut self, number: u64, now: i64) -> Result<(), ApiError> {
        let mut contact = self.live(number)?.clone();
        contact.modstamp = contact.modstamp.max(second(now));
        self.put(contact);
        Ok(())
    }

    /// Somebody else holds a record for a while.
    pub(crate) fn lock(&mut self, number: u64, until: i64) -> Result<(), ApiError> {
        self.live(number)?;
        if let Some(contact) = self.records.get_mut(&number) {
            contact.locked_until = until;
        }
        Ok(())
    }
}

fn second(ms: i64) -> i64 {
    ms.div_euclid(1_000) * 1_000
}

impl Actor {
    fn stamp(&self) -> Stamp {
        Stamp { at: second(self.now), by: self.user }
    }
}

impl Contact {
    fn touch(&mut self, actor: &Actor) {
        self.modified = actor.stamp();
        self.modstamp = self.modstamp.max(self.modified.at);
        if actor.writer == Writer::Api {
            self.client.clone_from(&actor.client);
        }
    }
}
