//! The persons of one account, under one lock: what is stored, what searches see of it, and who wrote what.
//!
//! There is no unique member: two persons may have the same name and address. A deleted person is kept for thirty days
//! and is in no list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::change::{Change, Known, one_primary};
use super::errors::Refusal;
use super::fields::Fields;
use super::index::Index;
use super::person::{Name, Person};
use crate::writes::{NotedWrite, WriteKind, Writer, Writes};

/// How long a deleted person is kept, in milliseconds.
const KEPT: i64 = 30 * 86_400_000;

/// What a write needs to know beside the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) user: u64,
    pub(super) organizations: u64,
    pub(super) contact_sync: bool,
    pub(super) refuse_unknown: bool,
    pub(super) touch: bool,
    /// Milliseconds until a search sees it.
    pub(super) lag: i64,
    pub(super) now: i64,
}

/// A state before and after a write; both are the same when nothing changed.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) before: Option<Arc<Person>>,
    pub(super) after: Arc<Person>,
    pub(super) changed: bool,
}

/// Everything about persons.
#[derive(Debug)]
pub(crate) struct Persons {
    pub(super) fields: Fields,
    all: BTreeMap<u64, Arc<Person>>,
    by_update: BTreeSet<(i64, u64)>,
    merged: BTreeMap<u64, u64>,
    pub(super) index: Index,
    pub(crate) writes: Writes,
    next: u64,
}

impl Default for Persons {
    fn default() -> Self {
        Self {
            fields: Fields::default(),
            all: BTreeMap::new(),
            by_update: BTreeSet::new(),
            merged: BTreeMap::new(),
            index: Index::default(),
            writes: Writes::default(),
            next: 1,
        }
    }
}

impl Persons {
    /// A person that is not purged, deleted or not.
    pub(super) fn any(&self, id: u64, now: i64) -> Option<&Arc<Person>> {
        self.all.get(&id).filter(|person| person.deleted.is_none_or(|at| now - at < KEPT))
    }

    pub(super) fn live(&self, id: u64) -> Option<&Arc<Person>> {
        self.all.get(&id).filter(|person| person.deleted.is_none())
    }

    /// All that are not purged, in order of ids.
    pub(super) fn all(&self, now: i64) -> impl Iterator<Item = &Arc<Person>> {
        self.all.values().filter(move |person| person.deleted.is_none_or(|at| now - at < KEPT))
    }

    /// Times of the last change and ids of live persons, from a time on.
    pub(super) fn since(&self, from: i64) -> impl DoubleEndedIterator<Item = &(i64, u64)> {
        self.by_update.range((from, 0)..)
    }

    pub(super) fn merged(&self) -> &BTreeMap<u64, u64> {
        &self.merged
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.by_update.clear();
        self.merged.clear();
        self.index.clear();
    }

    fn put(&mut self, person: Person, rules: Rules) -> Arc<Person> {
        let person = Arc::new(person);
        if let Some(before) = self.all.insert(person.id, person.clone()) {
            self.by_update.remove(&(before.updated, before.id));
        }
        if person.deleted.is_none() {
            self.by_update.insert((person.updated, person.id));
        }
        self.index.put(person.clone(), rules.now, rules.lag);
        person
    }

    fn note(
        &mut self,
        id: Option<u64>,
        by: Writer,
        kind: WriteKind,
        body: &Map<String, Value>,
        now: i64,
        taken: bool,
    ) {
        self.writes.note(|| NotedWrite {
            at: now,
            id: id.map(|id| id.to_string()),
            by,
            kind,
            members: body.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            taken,
        });
    }

    fn read(&self, body: &Map<String, Value>, creating: bool, rules: Rules) -> Result<Change, Refusal> {
        let known = Known {
            fields: &self.fields,
            user: rules.user,
            organizations: rules.organizations,
            contact_sync: rules.contact_sync,
            refuse_unknown: rules.refuse_unknown,
        };
        Change::read(body, creating, known)
    }

    pub(super) fn create(
        &mut self,
        body: &Map<String, Value>,
        by: Writer,
        rules: Rules,
    ) -> Result<Written, Refusal> {
        let change = match self.read(body, true, rules) {
            Ok(change) => change,
            Err(refusal) => {
                self.note(None, by, WriteKind::Create, body, rules.now, false);
                return Err(refusal);
            }
        };
        let (id, second) = (self.next, whole(rules.now));
        self.next += 1;
        let mut person = Person {
            id,
            name: Name::default(),
            owner: rules.user,
            org: None,
            emails: Vec::new(),
            phones: Vec::new(),
            visible_to: 3,
            labels: Vec::new(),
            custom: BTreeMap::new(),
            synced: BTreeMap::new(),
            added: change.added.unwrap_or(second),
            updated: second,
            deleted: None,
        };
        change.apply(&mut person);
        self.note(Some(id), by, WriteKind::Create, body, rules.now, true);
        Ok(Written { before: None, after: self.put(person, rules), changed: true })
    }

    pub(super) fn update(
        &mut self,
        id: u64,
        body: &Map<String, Value>,
        by: Writer,
        rules: Rules,
    ) -> Result<Written, Refusal> {
        let before = self.live(id).cloned().ok_or_else(|| Refusal::not_found("Person"));
        let change = before.and_then(|before| Ok((before, self.read(body, false, rules)?)));
        self.note(Some(id), by, WriteKind::Update, body, rules.now, change.is_ok());
        let (before, change) = change?;
        let mut person = Person::clone(&before);
        change.apply(&mut person);
        Ok(self.settle(before, person, rules))
    }

    /// Stores a new state, unless it is the old one.
    fn settle(&mut self, before: Arc<Person>, mut person: Person, rules: Rules) -> Written {
        if person == *before && !rules.touch {
            return Written { before: Some(before.clone()), after: before, changed: false };
        }
        person.updated = whole(rules.now).max(before.updated);
        Written { before: Some(before), after: self.put(person, rules), changed: true }
    }

    pub(super) fn delete(&mut self, id: u64, by: Writer, rules: Rules) -> Result<Written, Refusal> {
        let before = self.live(id).cloned();
        self.note(Some(id), by, WriteKind::Delete, &Map::new(), rules.now, before.is_some());
        let before = before.ok_or_else(|| Refusal::not_found("Person"))?;
        let person = Person { deleted: Some(rules.now), updated: whole(rules.now), ..Person::clone(&before) };
        Ok(Written { before: Some(before), after: self.put(person, rules), changed: true })
    }

    /// A person is taken back from the list of what was deleted.
    pub(super) fn restore(&mut self, id: u64, rules: Rules) -> Result<Written, Refusal> {
        let before = self.any(id, rules.now).filter(|person| person.deleted.is_some()).cloned();
        let before = before.ok_or_else(|| Refusal::not_found("Person"))?;
        let person = Person { deleted: None, updated: whole(rules.now), ..Person::clone(&before) };
        Ok(Written { before: Some(before), after: self.put(person, rules), changed: true })
    }

    /// Merges one person into another: what the survivor does not have comes from the loser, addresses and numbers of
    /// both are kept. First what became of the loser, then of the survivor.
    pub(super) fn merge(
        &mut self,
        loser: u64,
        survivor: u64,
        rules: Rules,
    ) -> Result<(Written, Written), Refusal> {
        let missing = || Refusal::not_found("Person");
        let lost = self.live(loser).cloned().ok_or_else(missing)?;
        let before = self.live(survivor).cloned().ok_or_else(missing)?;
        if loser == survivor {
            return Err(Refusal::invalid("merge_with_id", "A person cannot be merged with itself"));
        }
        let mut person = Person::clone(&before);
        for (own, other) in [(&mut person.emails, &lost.emails), (&mut person.phones, &lost.phones)] {
            for channel in other {
                if !own.iter().any(|known| known.value == channel.value) {
                    own.push(channel.clone());
                }
            }
            one_primary(own);
        }
        person.org = person.org.or(lost.org);
        for (key, value) in &lost.custom {
            person.custom.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (name, value) in &lost.synced {
            person.synced.entry(name.clone()).or_insert_with(|| value.clone());
        }
        person.updated = whole(rules.now);
        let gone = Person { deleted: Some(rules.now), updated: whole(rules.now), ..Person::clone(&lost) };
        let gone = self.put(gone, rules);
        let after = self.put(person, rules);
        self.merged.insert(loser, survivor);
        Ok((
            Written { before: Some(lost), after: gone, changed: true },
            Written { before: Some(before), after, changed: true },
        ))
    }
}

/// The second that a moment is in; times of records have no fraction.
fn whole(ms: i64) -> i64 {
    ms.div_euclid(1_000) * 1_000
}
