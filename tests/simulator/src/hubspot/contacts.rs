//! The contacts of one account: records, unique values, redirects after merges, history, and the search index that
//! lags behind. One lock of the account guards it all; nothing here waits or does I/O.
//!
//! Every change goes through here, whoever makes it, and returns the events that webhooks tell of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::catalogue::{self, Property};
use super::contact::{Contact, Entry, Source};
use super::index::Index;
use super::values::{self, Refused};
use crate::writes::{NotedWrite, WriteKind, Writes};

/// How many old values are kept for each record.
const HISTORY: usize = 400;
/// How many custom properties of an object may be unique.
pub(crate) const UNIQUE_LIMIT: usize = 10;

/// What happened to a record, for webhooks.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Created,
    Deleted,
    Restored,
    PrivacyDeleted,
    Changed { property: Arc<str>, value: Arc<str> },
    Merged { primary: u64, merged: u64, new: u64, moved: u64 },
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) id: u64,
    pub(crate) at: i64,
    pub(crate) source: Source,
}

/// A record after a change, and what to tell.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) contact: Arc<Contact>,
    pub(crate) events: Vec<Event>,
}

/// Why a write is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Property values: code, message, property, value.
    Values(Vec<BadValue>),
    /// Another contact has the address.
    Exists(u64),
    /// None of email, firstname and lastname.
    Nameless,
    /// Nothing to update.
    Empty,
    Missing,
    /// The property cannot identify a record.
    NotUnique(String),
    /// A record cannot be merged with itself.
    SameRecord,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub(crate) property: String,
    pub(crate) value: String,
    pub(crate) refused: Refused,
}

#[derive(Debug)]
struct Slot {
    contact: Arc<Contact>,
    history: Vec<Entry>,
}

/// Settings that a write needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Milliseconds that the search index lags for this write.
    pub(crate) lag: i64,
    /// The stage that a new contact gets.
    pub(crate) lead: bool,
    /// Stages only move forward.
    pub(crate) forward: bool,
}

#[derive(Debug)]
pub(crate) struct Contacts {
    next: u64,
    version: u64,
    live: BTreeMap<u64, Slot>,
    archived: BTreeMap<u64, Slot>,
    /// Property, then value in lower case.
    unique: HashMap<Arc<str>, HashMap<Arc<str>, u64>>,
    redirects: HashMap<u64, u64>,
    custom: BTreeMap<Arc<str>, Arc<Property>>,
    pub(crate) index: Index,
    pub(crate) writes: Writes,
}

impl Contacts {
    pub(crate) fn new(first_id: u64) -> Self {
        Self {
            next: first_id,
            version: 0,
            live: BTreeMap::new(),
            archived: BTreeMap::new(),
            unique: HashMap::new(),
            redirects: HashMap::new(),
            custom: BTreeMap::new(),
            index: Index::default(),
            writes: Writes::default(),
        }
    }

    /// Forgets all records, keeps the custom properties and never reuses an id.
    pub(crate) fn clear(&mut self) {
        self.live.clear();
        self.archived.clear();
        self.unique.clear();
        self.redirects.clear();
        self.index = Index::default();
    }

    // ---- properties ----

    pub(crate) fn property(&self, name: &str) -> Option<Arc<Property>> {
        catalogue::standard(name).or_else(|| self.custom.get(name)).cloned()
    }

    pub(crate) fn custom(&self) -> impl Iterator<Item = &Arc<Property>> {
        self.custom.values()
    }

    pub(crate) fn define(&mut self, property: Property) {
        self.custom.insert(property.name.clone(), Arc::new(property));
    }

    pub(crate) fn undefine(&mut self, name: &str) -> bool {
        self.unique.remove(name);
        self.custom.remove(name).is_some()
    }

    // ---- reading ----

    pub(crate) fn count(&self) -> (usize, usize) {
        (self.live.len(), self.archived.len())
    }

    /// The id that an id stands for now: itself, or the record that it was merged into.
    pub(crate) fn resolve(&self, id: u64) -> u64 {
        let mut id = id;
        while let Some(next) = self.redirects.get(&id) {
            id = *next;
        }
        id
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Contact>> {
        self.live.get(&self.resolve(id)).map(|slot| &slot.contact)
    }

    pub(crate) fn get_archived(&self, id: u64) -> Option<&Arc<Contact>> {
        self.archived.get(&self.resolve(id)).map(|slot| &slot.contact)
    }

    /// The live record with this unique value.
    pub(crate) fn find(&self, property: &str, value: &str) -> Option<u64> {
        self.unique.get(property)?.get(&*value.trim().to_lowercase()).copied()
    }

    /// Live or archived records after an id, in order of ids.
    pub(crate) fn page(&self, after: Option<u64>, limit: usize, archived: bool) -> Vec<Arc<Contact>> {
        let from = after.map_or(0, |id| id.saturating_add(1));
        let table = if archived { &self.archived } else { &self.live };
        table.range(from..).take(limit).map(|(_, slot)| slot.contact.clone()).collect()
    }

    pub(crate) fn redirects(&self) -> impl Iterator<Item = (u64, u64)> {
        self.redirects.iter().map(|(from, to)| (*from, *to))
    }

    /// The values that a property had, newest first.
    pub(crate) fn history(&self, id: u64, property: &str) -> Vec<Entry> {
        let id = self.resolve(id);
        let slot = self.live.get(&id).or_else(|| self.archived.get(&id));
        slot.map_or_else(Vec::new, |slot| {
            slot.history.iter().rev().filter(|entry| &*entry.property == property).cloned().collect()
        })
    }

    /// A live contact as it is, with the event of the newest value that it was given, as when that one is delivered twice.
    pub(crate) fn repeat(&self, id: u64) -> Option<Changed> {
        let id = self.resolve(id);
        let slot = self.live.get(&id)?;
        let entry = slot.history.last()?.clone();
        let what = What::Changed { property: entry.property, value: entry.value };
        let events = vec![Event { what, id, at: entry.at, source: entry.source }];
        Some(Changed { contact: slot.contact.clone(), events })
    }

    // ---- writing ----

    fn checked(
        &self,
        given: &[(String, String)],
        current: Option<&Contact>,
        rules: Rules,
        own: Option<u64>,
    ) -> Result<Vec<(Arc<Property>, String)>, Problem> {
        let mut bad = Vec::new();
        let mut admitted = Vec::with_capacity(given.len());
        let mut taken = None;
        for (name, raw) in given {
            let mut refuse = |code, message| {
                bad.push(BadValue {
                    property: name.clone(),
                    value: raw.clone(),
                    refused: Refused { code, message },
                });
            };
            let Some(property) = self.property(name) else {
                refuse("PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist"));
                continue;
            };
            if property.read_only {
                let what = if property.calculated { "calculated" } else { "read only" };
                refuse(
                    "READ_ONLY_VALUE",
                    format!("\"{name}\" is a {what} property; its value cannot be set."),
                );
                continue;
            }
            let before = current.and_then(|contact| contact.stored(name)).map(|value| &**value);
            let value = match values::admit(&property, raw, before) {
                Ok(value) => value,
                Err(Refused { code, message }) => {
                    refuse(code, message);
                    continue;
                }
            };
            if rules.forward
                && name == "lifecyclestage"
                && !value.is_empty()
                && !values::lifecycle_moves(before, &value)
            {
                // The stage stays as it is; HubSpot says nothing about it.
                continue;
            }
            if property.unique
                && !value.is_empty()
                && let Some(other) = self.find(name, &value).filter(|other| Some(*other) != own)
            {
                if name == "email" {
                    taken = Some(other);
                } else {
                    refuse(
                        "CONFLICTING_UNIQUE_VALUE",
                        format!(
                            "The value \"{value}\" of {name} is already in use by the object with ID {other}."
                        ),
                    );
                    continue;
                }
            }
            admitted.push((property, value));
        }
        if !bad.is_empty() {
            return Err(Problem::Values(bad));
        }
        match taken {
            Some(other) => Err(Problem::Exists(other)),
            None => Ok(admitted),
        }
    }

    /// Whether a create would be accepted now.
    pub(crate) fn would_create(&self, given: &[(String, String)]) -> Result<(), Problem> {
        let rules = Rules { lag: 0, lead: false, forward: false };
        named(&self.checked(given, None, rules, None)?)
    }

    /// Whether an update would be accepted now.
    pub(crate) fn would_update(&self, id: u64, given: &[(String, String)]) -> Result<(), Problem> {
        let rules = Rules { lag: 0, lead: false, forward: false };
        if given.is_empty() {
            return Err(Problem::Empty);
        }
        self.checked(given, self.get(id).map(|contact| &**contact), rules, Some(id)).map(drop)
    }

    /// Notes a write and what became of it.
    fn note(
        &mut self,
        kind: WriteKind,
        id: Option<u64>,
        given: &[(String, String)],
        source: &Source,
        at: i64,
        taken: bool,
    ) {
        self.writes.note(|| NotedWrite {
            at,
            id: id.map(|id| id.to_string()),
            by: source.writer(),
            kind,
            members: given.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
            taken,
        });
    }

    /// Creates a contact.
    pub(crate) fn create(
        &mut self,
        given: &[(String, String)],
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let done = self.carry_out_create(given, source, at, rules);
        let id = done.as_ref().ok().map(|changed| changed.contact.id);
        self.note(WriteKind::Create, id, given, source, at, done.is_ok());
        done
    }

    fn carry_out_create(
        &mut self,
        given: &[(String, String)],
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let admitted = self.checked(given, None, rules, None)?;
        named(&admitted)?;
        let id = self.next;
        self.next += 1;
        let mut slot = Slot { contact: Arc::new(Contact::new(id, at)), history: Vec::new() };
        let mut contact = Contact::new(id, at);
        for (name, value) in [
            ("hs_object_source", source.kind),
            ("hs_object_source_id", &*source.id),
            ("hs_object_source_label", source.kind),
        ] {
            set(&mut contact, name, value);
        }
        let mut events = vec![Event { what: What::Created, id, at, source: source.clone() }];
        let mut writes = admitted;
        let staged = writes.iter().any(|(p, value)| &*p.name == "lifecyclestage" && !value.is_empty());
        if rules.lead && !staged {
            writes.retain(|(p, _)| &*p.name != "lifecyclestage");
            if let Some(property) = catalogue::standard("lifecyclestage") {
                writes.push((property.clone(), "lead".to_owned()));
            }
            set(&mut contact, "hs_lifecyclestage_lead_date", &crate::clock::iso(at));
        }
        self.assign(&mut contact, &mut slot, &writes, source, at, &mut events);
        self.version += 1;
        contact.version = self.version;
        slot.contact = Arc::new(contact);
        let contact = slot.contact.clone();
        self.live.insert(id, slot);
        self.index.put(contact.clone(), at, rules.lag);
        Ok(Changed { contact, events })
    }

    /// Updates a live contact. Values that do not change make no event and leave the modification time alone.
    pub(crate) fn update(
        &mut self,
        id: u64,
        given: &[(String, String)],
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let id = self.resolve(id);
        let done = self.carry_out_update(id, given, source, at, rules);
        self.note(WriteKind::Update, Some(id), given, source, at, done.is_ok());
        done
    }

    fn carry_out_update(
        &mut self,
        id: u64,
        given: &[(String, String)],
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let Some(current) = self.live.get(&id).map(|slot| slot.contact.clone()) else {
            return Err(Problem::Missing);
        };
        if given.is_empty() {
            return Err(Problem::Empty);
        }
        let admitted = self.checked(given, Some(&current), rules, Some(id))?;
        Ok(self.write(id, &current, &admitted, source, at, rules.lag))
    }

    fn write(
        &mut self,
        id: u64,
        current: &Arc<Contact>,
        writes: &[(Arc<Property>, String)],
        source: &Source,
        at: i64,
        lag: i64,
    ) -> Changed {
        let mut events = Vec::new();
        let Some(mut slot) = self.live.remove(&id) else {
            return Changed { contact: current.clone(), events };
        };
        let mut contact = Contact::clone(current);
        self.assign(&mut contact, &mut slot, writes, source, at, &mut events);
        if !events.is_empty() {
            contact.modified = at.max(current.modified);
            self.version += 1;
            contact.version = self.version;
            slot.contact = Arc::new(contact);
            self.index.put(slot.contact.clone(), at, lag);
        }
        let contact = slot.contact.clone();
        self.live.insert(id, slot);
        Changed { contact, events }
    }

    /// Puts values into a contact, keeps unique values, history and computed properties in step, and notes events.
    fn assign(
        &mut self,
        contact: &mut Contact,
        slot: &mut Slot,
        writes: &[(Arc<Property>, String)],
        source: &Source,
        at: i64,
        events: &mut Vec<Event>,
    ) {
        for (property, value) in writes {
            let before = property.unique.then(|| contact.stored(&property.name).cloned()).flatten();
            if !contact.set(&property.name, value) {
                continue;
            }
            if property.unique {
                let table = self.unique.entry(property.name.clone()).or_default();
                if let Some(before) = before {
                    table.remove(&*before.to_lowercase());
                }
                if !value.is_empty() {
                    table.insert(value.to_lowercase().into(), contact.id);
                }
            }
            if &*property.name == "email" {
                let domain = value.split_once('@').map_or("", |(_, domain)| domain);
                set(contact, "hs_email_domain", domain);
            }
            let value: Arc<str> = value.as_str().into();
            slot.history.push(Entry {
                property: property.name.clone(),
                value: value.clone(),
                at,
                source: source.clone(),
            });
            events.push(Event {
                what: What::Changed { property: property.name.clone(), value },
                id: contact.id,
                at,
                source: source.clone(),
            });
        }
        if slot.history.len() > HISTORY {
            let excess = slot.history.len() - HISTORY;
            slot.history.drain(..excess);
        }
    }

    fn release(&mut self, contact: &Contact) {
        for (name, table) in &mut self.unique {
            if let Some(value) = contact.stored(name) {
                table.remove(&*value.to_lowercase());
            }
        }
        if let Some(others) = contact.stored("hs_additional_emails")
            && let Some(table) = self.unique.get_mut("email")
        {
            for other in others.split(';') {
                table.remove(other);
            }
        }
    }

    /// Moves a contact to the recycle bin. None when there is no such live contact.
    pub(crate) fn archive(&mut self, id: u64, source: &Source, at: i64) -> Option<Changed> {
        let id = self.resolve(id);
        self.note(WriteKind::Delete, Some(id), &[], source, at, self.live.contains_key(&id));
        let mut slot = self.live.remove(&id)?;
        self.release(&slot.contact);
        self.version += 1;
        let mut contact = Contact::clone(&slot.contact);
        contact.archived = Some(at);
        contact.version = self.version;
        slot.contact = Arc::new(contact);
        let contact = slot.contact.clone();
        self.archived.insert(id, slot);
        self.index.remove(id, self.version);
        Some(Changed { contact, events: vec![Event { what: What::Deleted, id, at, source: source.clone() }] })
    }

    /// Takes a contact out of the recycle bin with the same id.
    pub(crate) fn restore(
        &mut self,
        id: u64,
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let id = self.resolve(id);
        let Some(mut slot) = self.archived.remove(&id) else {
            return Err(Problem::Missing);
        };
        let mut claims = Vec::new();
        for (name, value) in slot.contact.values() {
            if self.property(name).is_some_and(|p| p.unique) {
                if let Some(other) = self.find(name, value) {
                    self.archived.insert(id, slot);
                    return Err(Problem::Exists(other));
                }
                claims.push((name.clone(), Arc::<str>::from(value.to_lowercase())));
            }
        }
        for (name, value) in claims {
            self.unique.entry(name).or_default().insert(value, id);
        }
        self.version += 1;
        let mut contact = Contact::clone(&slot.contact);
        contact.archived = None;
        contact.modified = at;
        contact.version = self.version;
        slot.contact = Arc::new(contact);
        let contact = slot.contact.clone();
        self.live.insert(id, slot);
        self.index.put(contact.clone(), at, rules.lag);
        Ok(Changed { contact, events: vec![Event { what: What::Restored, id, at, source: source.clone() }] })
    }

    /// Erases a contact for good, live or archived. Two events: the erasure and the deletion.
    pub(crate) fn erase(&mut self, id: u64, source: &Source, at: i64) -> Vec<Event> {
        let id = self.resolve(id);
        self.version += 1;
        if let Some(slot) = self.live.remove(&id) {
            self.release(&slot.contact);
        } else if self.archived.remove(&id).is_none() {
            return Vec::new();
        }
        self.index.remove(id, self.version);
        let event = |what| Event { what, id, at, source: source.clone() };
        vec![event(What::PrivacyDeleted), event(What::Deleted)]
    }

    /// Merges two live contacts. The result is a new record (or the primary one, as before 2025); both old ids lead
    /// to it. The primary's values win; what it lacks comes from the other.
    pub(crate) fn merge(
        &mut self,
        primary: u64,
        other: u64,
        new_record: bool,
        source: &Source,
        at: i64,
        rules: Rules,
    ) -> Result<Changed, Problem> {
        let (primary, other) = (self.resolve(primary), self.resolve(other));
        if primary == other {
            return Err(Problem::SameRecord);
        }
        if !self.live.contains_key(&primary) || !self.live.contains_key(&other) {
            return Err(Problem::Missing);
        }
        let (Some(first), Some(second)) = (self.live.remove(&primary), self.live.remove(&other)) else {
            return Err(Problem::Missing);
        };
        self.release(&first.contact);
        self.release(&second.contact);
        self.version += 1;
        let id = if new_record {
            self.next += 1;
            self.next - 1
        } else {
            primary
        };
        let mut contact = Contact::new(id, first.contact.created.min(second.contact.created));
        contact.modified = at;
        contact.version = self.version;
        for (name, value) in first.contact.values() {
            contact.set(name, value);
        }
        let mut moved = 0;
        for (name, value) in second.contact.values() {
            if contact.stored(name).is_none() {
                contact.set(name, value);
                moved += 1;
            }
        }
        let mut additional: Vec<String> = Vec::new();
        for slot in [&first, &second] {
            for name in ["hs_additional_emails", "email"] {
                if let Some(value) = slot.contact.stored(name) {
                    additional.extend(value.split(';').map(str::to_owned));
                }
            }
        }
        let main = contact.stored("email").map(std::string::ToString::to_string).unwrap_or_default();
        additional.retain(|e| *e != main && !e.is_empty());
        additional.sort();
        additional.dedup();
        for address in &additional {
            self.unique.entry("email".into()).or_default().insert(address.as_str().into(), id);
        }
        set(&mut contact, "hs_additional_emails", &additional.join(";"));
        set(&mut contact, "hs_merged_object_ids", &format!("{primary};{other}"));
        let claims: Vec<_> = contact
            .values()
            .iter()
            .filter(|(name, _)| self.property(name).is_some_and(|p| p.unique))
            .map(|(name, value)| (name.clone(), Arc::<str>::from(value.to_lowercase())))
            .collect();
        for (name, value) in claims {
            self.unique.entry(name).or_default().insert(value, id);
        }
        for old in [primary, other] {
            if old != id {
                self.redirects.insert(old, id);
                self.index.remove(old, self.version);
            }
        }
        let mut history = first.history;
        history.extend(second.history);
        history.sort_by_key(|entry| entry.at);
        let contact = Arc::new(contact);
        self.live.insert(id, Slot { contact: contact.clone(), history });
        self.index.put(contact.clone(), at, rules.lag);
        let what = What::Merged { primary, merged: other, new: id, moved };
        Ok(Changed { contact, events: vec![Event { what, id, at, source: source.clone() }] })
    }
}

/// A new contact has an e-mail address, a first name or a last name.
fn named(writes: &[(Arc<Property>, String)]) -> Result<(), Problem> {
    let named = |(p, value): &(Arc<Property>, String)| {
        matches!(&*p.name, "email" | "firstname" | "lastname") && !value.is_empty()
    };
    if writes.iter().any(named) { Ok(()) } else { Err(Problem::Nameless) }
}

fn set(contact: &mut Contact, name: &str, value: &str) {
    if let Some(property) = catalogue::standard(name) {
        contact.set(&property.name, value);
    }
}
