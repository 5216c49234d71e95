//! A person, and the three forms in which it is shown: v2, the older v1, and webhooks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::values;
use crate::clock::iso;

/// An address of mail or a telephone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) value: String,
    pub(super) primary: bool,
    pub(super) label: String,
}

impl Channel {
    fn view(&self) -> Value {
        json!({ "value": self.value, "primary": self.primary, "label": self.label })
    }

    pub(super) fn views(list: &[Self]) -> Value {
        list.iter().map(Self::view).collect()
    }
}

/// Members that exist only where the company has contact sync.
pub(super) const SYNCED: &[&str] = &["postal_address", "notes", "im", "birthday", "job_title"];

/// A state of a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(super) name: Name,
    pub(super) owner: u64,
    pub(super) org: Option<u64>,
    pub(super) emails: Vec<Channel>,
    pub(super) phones: Vec<Channel>,
    pub(super) visible_to: u64,
    pub(super) labels: Vec<u64>,
    /// By key, in the form of v2; without empty ones.
    pub(super) custom: BTreeMap<String, Value>,
    /// Members of contact sync.
    pub(super) synced: BTreeMap<String, Value>,
    /// Milliseconds, of whole seconds.
    pub(super) added: i64,
    /// Milliseconds, of whole seconds.
    pub(super) updated: i64,
    /// When it was deleted, in milliseconds.
    pub(super) deleted: Option<i64>,
}

/// How an answer of v2 shows persons.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Only these keys; none: all.
    pub(super) keys: Option<Vec<String>>,
    /// Members beside the usual ones.
    pub(super) extra: Vec<String>,
    pub(super) option_labels: bool,
    pub(super) labels: bool,
    /// Keys without a value are null.
    pub(super) empty: bool,
    pub(super) synced: bool,
}

/// What a person is called: the whole, and the two parts that one gives or that the whole is taken apart into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) whole: String,
    pub(super) first: String,
    pub(super) last: String,
}

impl Name {
    /// The first word, and what follows it.
    pub(super) fn whole(text: &str) -> Self {
        let whole = text.trim();
        let (first, last) = whole.split_once(' ').unwrap_or((whole, ""));
        Self { whole: whole.to_owned(), first: first.to_owned(), last: last.trim().to_owned() }
    }

    /// Both parts as they were given, and the whole put together of them.
    pub(super) fn parts(first: &str, last: &str) -> Self {
        let (first, last) = (first.trim(), last.trim());
        let whole = format!("{first} {last}");
        Self { whole: whole.trim().to_owned(), first: first.to_owned(), last: last.to_owned() }
    }

    /// The last name; none where there is only one part.
    fn shown_last(&self) -> Option<&str> {
        Some(self.last.as_str()).filter(|last| !last.is_empty())
    }
}

impl Person {
    /// As v2 shows it.
    pub(super) fn view(&self, fields: &Fields, shown: &Shown) -> Value {
        let (first, last) = (self.name.first.as_str(), self.name.shown_last());
        let mut custom = Map::new();
        for field in fields.custom() {
            if shown.keys.as_ref().is_some_and(|keys| !keys.contains(&field.code)) {
                continue;
            }
            match self.custom.get(&field.code) {
                Some(value) if shown.option_labels => {
                    custom.insert(field.code.clone(), values::labelled(field, value));
                }
                Some(value) => {
                    custom.insert(field.code.clone(), value.clone());
                }
                None if shown.empty => {
                    custom.insert(field.code.clone(), Value::Null);
                }
                None => {}
            }
        }
        let mut view = Map::new();
        let mut set = |name: &str, value: Value| {
            view.insert(name.to_owned(), value);
        };
        set("id", self.id.into());
        set("name", self.name.whole.as_str().into());
        set("first_name", first.into());
        set("last_name", last.into());
        set("owner_id", self.owner.into());
        set("org_id", self.org.into());
        set("add_time", iso(self.added).into());
        set("update_time", iso(self.updated).into());
        set("emails", Channel::views(&self.emails));
        set("phones", Channel::views(&self.phones));
        set("is_deleted", self.deleted.is_some().into());
        set("visible_to", self.visible_to.into());
        set("label_ids", json!(self.labels));
        set("picture_id", Value::Null);
        if shown.labels {
            let labels = fields.get("label_ids");
            let labels: Value = self
                .labels
                .iter()
                .map(|id| json!({ "id": id, "label": labels.and_then(|field| field.label(*id)) }))
                .collect();
            set("labels", labels);
        }
        for name in &shown.extra {
            let nothing = if name.ends_with("_count") { Value::from(0) } else { Value::Null };
            set(name, nothing);
        }
        if shown.synced {
            for name in SYNCED {
                set(name, self.synced.get(*name).cloned().unwrap_or_default());
            }
        }
        set("custom_fields", custom.into());
        view.into()
    }

    /// As v1 shows it.
    pub(super) fn old_view(&self) -> Map<String, Value> {
        let (first, last) = (self.name.first.as_str(), self.name.shown_last());
        let mut view = Map::new();
        let mut set = |name: &str, value: Value| {
            view.insert(name.to_owned(), value);
        };
        set("id", self.id.into());
        set("owner_id", self.owner.into());
        set("org_id", self.org.into());
        set("name", self.name.whole.as_str().into());
        set("first_name", first.into());
        set("last_name", last.into());
        set("active_flag", self.deleted.is_none().into());
        set("phone", Channel::views(&self.phones));
        set("email", Channel::views(&self.emails));
        set("update_time", old_time(self.updated).into());
        set("add_time", old_time(self.added).into());
        set("visible_to", self.visible_to.to_string().into());
        set("label_ids", json!(self.labels));
        for (code, value) in &self.custom {
            values::flat(code, value, &mut view);
        }
        view
    }

    /// As a webhook shows it.
    pub(super) fn told(&self, fields: &Fields) -> Map<String, Value> {
        let (first, last) = (self.name.first.as_str(), self.name.shown_last());
        let custom: Map<String, Value> = fields
            .custom()
            .filter_map(|field| {
                self.custom.get(&field.code).map(|value| (field.code.clone(), values::told(field, value)))
            })
            .collect();
        let mut told = Map::new();
        let mut set = |name: &str, value: Value| {
            told.insert(name.to_owned(), value);
        };
        set("add_time", iso(self.added).into());
        set("custom_fields", custom.into());
        set("emails", Channel::views(&self.emails));
        set("first_name", first.into());
        set("id", self.id.into());
        set("label", self.labels.first().copied().into());
        set("label_ids", json!(self.labels));
        set("last_name", last.into());
        set("name", self.name.whole.as_str().into());
        set("org_id", self.org.into());
        set("owner_id", self.owner.into());
        set("phones", Channel::views(&self.phones));
        set("update_time", iso(self.updated).into());
        set("visible_to", self.visible_to.to_string().into());
        told
    }
}

/// What a webhook says of a change: the state after it, in which keys that were cleared are null, and of the state
/// before it the members that differ.
pub(super) fn told_change(before: &Person, after: &Person, fields: &Fields) -> (Value, Value) {
    let (old, mut new) = (before.told(fields), after.told(fields));
    let mut previous = Map::new();
    for (name, value) in &old {
        if name != "custom_fields" && new.get(name) != Some(value) {
            previous.insert(name.clone(), value.clone());
        }
    }
    let mut keys = Map::new();
    let (was, is) = (&before.custom, &after.custom);
    for field in fields.custom().filter(|field| was.get(&field.code) != is.get(&field.code)) {
        let value = was.get(&field.code).map_or(Value::Null, |value| values::told(field, value));
        keys.insert(field.code.clone(), value);
        if !is.contains_key(&field.code)
            && let Some(Value::Object(shown)) = new.get_mut("custom_fields")
        {
            shown.insert(field.code.clone(), Value::Null);
        }
    }
    if !keys.is_empty() {
        previous.insert("custom_fields".into(), keys.into());
    }
    (new.into(), previous.into())
}

/// `2026-01-31 10:00:00`, in UTC.
pub(super) fn old_time(ms: i64) -> String {
    iso(ms.div_euclid(1_000) * 1_000).trim_end_matches('Z').replace('T', " ")
}
