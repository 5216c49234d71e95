//! One contact: an immutable snapshot that reads, the search index and answers share.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::catalogue::{ALWAYS, READ_DEFAULTS};
use crate::clock::iso;
use crate::writes::Writer;

/// Who changed something, in HubSpot's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// `INTEGRATION`, `CRM_UI`, `AUTOMATION_PLATFORM` …
    pub(crate) kind: &'static str,
    /// The app, the user or the enrolment.
    pub(crate) id: Arc<str>,
}

impl Source {
    pub(crate) fn integration(app_id: &Arc<str>) -> Self {
        Self { kind: "INTEGRATION", id: app_id.clone() }
    }

    pub(crate) fn person(user: u64) -> Self {
        Self { kind: "CRM_UI", id: format!("userId:{user}").into() }
    }

    /// A person who edits many at once in the list.
    pub(crate) fn in_bulk(user: u64) -> Self {
        Self { kind: "CRM_UI_BULK_ACTION", id: format!("userId:{user}").into() }
    }

    pub(crate) fn automation(n: u64) -> Self {
        Self { kind: "AUTOMATION_PLATFORM", id: format!("enrollmentId:{n};actionExecutionIndex:0").into() }
    }

    pub(crate) fn writer(&self) -> Writer {
        match self.kind {
            "INTEGRATION" => Writer::Api,
            "AUTOMATION_PLATFORM" => Writer::Automation,
            _ => Writer::Person,
        }
    }
}

/// One value that a property had.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) property: Arc<str>,
    pub(crate) value: Arc<str>,
    pub(crate) at: i64,
    pub(crate) source: Source,
}

/// A state of a contact.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) id: u64,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) archived: Option<i64>,
    /// Grows with every change in the account.
    pub(crate) version: u64,
    /// By name; an absent property has no value.
    values: Vec<(Arc<str>, Arc<str>)>,
}

impl Contact {
    pub(crate) fn new(id: u64, at: i64) -> Self {
        Self { id, created: at, modified: at, archived: None, version: 0, values: Vec::with_capacity(16) }
    }

    /// The value of a property that is stored, or computed from the record.
    pub(crate) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "hs_object_id" | "hs_all_contact_vids" => Some(Cow::Owned(self.id.to_string())),
            "createdate" => Some(Cow::Owned(iso(self.created))),
            "lastmodifieddate" => Some(Cow::Owned(iso(self.modified))),
            "hs_is_contact" => Some(Cow::Borrowed("true")),
            _ => self.stored(name).map(|value| Cow::Borrowed(&**value)),
        }
    }

    pub(crate) fn stored(&self, name: &str) -> Option<&Arc<str>> {
        let at = self.values.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.values.get(at).map(|(_, value)| value)
    }

    /// Sets a value; an empty one removes it. True when something changed.
    pub(crate) fn set(&mut self, name: &Arc<str>, value: &str) -> bool {
        match self.values.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) if value.is_empty() => {
                self.values.remove(at);
                true
            }
            Ok(at) => match self.values.get_mut(at) {
                Some(slot) if *slot.1 != *value => {
                    slot.1 = value.into();
                    true
                }
                _ => false,
            },
            Err(_) if value.is_empty() => false,
            Err(at) => {
                self.values.insert(at, (name.clone(), value.into()));
                true
            }
        }
    }

    pub(crate) fn values(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.values
    }
}

/// Which properties an answer shows.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// Those of a read that names none.
    Defaults,
    /// These and the ones that are always there; sorted, known to exist, without duplicates.
    These(Vec<Arc<str>>),
    /// Every one with a value, as after a write.
    Stored,
}

impl Shown {
    /// A selection from requested names; unknown names are left out.
    pub(crate) fn select(requested: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut names: Vec<Arc<str>> = requested.into_iter().collect();
        if names.is_empty() {
            return Self::Defaults;
        }
        names.extend(ALWAYS.iter().map(|name| Arc::from(*name)));
        names.sort_unstable();
        names.dedup();
        Self::These(names)
    }
}

/// The JSON of a contact.
pub(crate) struct View<'a> {
    pub(crate) contact: &'a Contact,
    pub(crate) shown: &'a Shown,
    /// History of the properties that were asked for with it.
    pub(crate) history: Option<Vec<(Arc<str>, Vec<Entry>)>>,
    /// The row of an upsert: whether it was created.
    pub(crate) new: Option<bool>,
    pub(crate) trace: Option<&'a str>,
    pub(crate) portal: u64,
}

impl<'a> View<'a> {
    pub(crate) fn new(contact: &'a Contact, shown: &'a Shown, portal: u64) -> Self {
        Self { contact, shown, history: None, new: None, trace: None, portal }
    }
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let contact = self.contact;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &contact.id.to_string())?;
        map.serialize_entry("properties", &Properties { contact, shown: self.shown })?;
        if let Some(history) = &self.history {
            map.serialize_entry("propertiesWithHistory", &Histories(history))?;
        }
        map.serialize_entry("createdAt", &iso(contact.created))?;
        map.serialize_entry("updatedAt", &iso(contact.modified))?;
        map.serialize_entry("archived", &contact.archived.is_some())?;
        if let Some(at) = contact.archived {
            map.serialize_entry("archivedAt", &iso(at))?;
        }
        if let Some(new) = self.new {
            map.serialize_entry("new", &new)?;
        }
        if let Some(trace) = self.trace {
            map.serialize_entry("objectWriteTraceId", trace)?;
        }
        map.serialize_entry(
            "url",
            &format_args!("https://app.hubspot.com/contacts/{}/record/0-1/{}", self.portal, contact.id),
        )?;
        map.end()
    }
}

struct Properties<'a> {
    contact: &'a Contact,
    shown: &'a Shown,
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.shown {
            Shown::Defaults => {
                for name in READ_DEFAULTS {
                    map.serialize_entry(name, &self.contact.value(name))?;
                }
            }
            Shown::These(names) => {
                for name in names {
                    map.serialize_entry(&**name, &self.contact.value(name))?;
                }
            }
            Shown::Stored => {
                // Both lists are sorted; together they are what the record has.
                let computed = [
                    "createdate",
                    "hs_all_contact_vids",
                    "hs_is_contact",
                    "hs_object_id",
                    "lastmodifieddate",
                ];
                let mut computed = computed.iter().peekable();
                for (name, value) in self.contact.values() {
                    while let Some(next) = computed.next_if(|next| **next < &**name) {
                        map.serialize_entry(next, &self.contact.value(next))?;
                    }
                    map.serialize_entry(&**name, &**value)?;
                }
                for next in computed {
                    map.serialize_entry(next, &self.contact.value(next))?;
                }
            }
        }
        map.end()
    }
}

struct Histories<'a>(&'a [(Arc<str>, Vec<Entry>)]);

impl Serialize for Histories<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, entries)| {
            let rows: Vec<_> = entries
                .iter()
                .map(|entry| {
                    serde_json::json!({
                        "value": &*entry.value,
                        "timestamp": iso(entry.at),
                        "sourceType": entry.source.kind,
                        "sourceId": &*entry.source.id,
                    })
                })
                .collect();
            (&**name, rows)
        }))
    }
}
