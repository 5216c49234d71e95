//! What a body of v2 asks to change about a person, checked against the specification before anything happens.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::errors::Refusal;
use super::fields::Fields;
use super::person::{Channel, Name, Person, SYNCED};
use super::values;
use crate::clock::parse_instant;

/// Members that a body can have.
const MEMBERS: &[&str] = &[
    "name",
    "first_name",
    "last_name",
    "owner_id",
    "org_id",
    "emails",
    "phones",
    "visible_to",
    "label_ids",
    "custom_fields",
    "marketing_status",
];

/// Who may be seen by whom.
const VISIBLE: &[u64] = &[1, 3, 5, 7];

/// What a check needs to know of the account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) fields: &'a Fields,
    pub(super) user: u64,
    /// Organizations have the numbers from 1 to this.
    pub(super) organizations: u64,
    pub(super) contact_sync: bool,
    pub(super) refuse_unknown: bool,
}

/// Members to be set.
#[derive(Debug, Default)]
pub(super) struct Change {
    name: Option<Name>,
    owner: Option<u64>,
    org: Option<Option<u64>>,
    emails: Option<Vec<Channel>>,
    phones: Option<Vec<Channel>>,
    visible_to: Option<u64>,
    labels: Option<Vec<u64>>,
    custom: BTreeMap<String, Option<Value>>,
    synced: BTreeMap<String, Value>,
    pub(super) added: Option<i64>,
}

/// The members of a body that the specification does not have; `creating` adds those of a creation.
pub(super) fn unknown(body: &Map<String, Value>, creating: bool) -> Vec<&str> {
    let known =
        |name: &str| MEMBERS.contains(&name) || SYNCED.contains(&name) || (creating && name == "add_time");
    body.keys().map(String::as_str).filter(|name| !known(name)).collect()
}

impl Change {
    /// Reads a body, or says what is wrong with its first wrong member.
    pub(super) fn read(body: &Map<String, Value>, creating: bool, known: Known<'_>) -> Result<Self, Refusal> {
        let strange = unknown(body, creating);
        if let Some(name) = strange.first().filter(|_| known.refuse_unknown) {
            return Err(Refusal::invalid(name, "Unrecognized key"));
        }
        let mut change = Self { name: named(body)?, ..Self::default() };
        for (name, given) in body {
            match name.as_str() {
                // Read together, below.
                "name" | "first_name" | "last_name" => {}
                "owner_id" => {
                    let owner = given.as_u64().filter(|owner| *owner == known.user);
                    change.owner = Some(owner.ok_or_else(|| Refusal::invalid("owner_id", "User not found"))?);
                }
                "org_id" if given.is_null() => change.org = Some(None),
                "org_id" => {
                    let org = given.as_u64().filter(|org| (1..=known.organizations).contains(org));
                    let org = org.ok_or_else(|| Refusal::invalid("org_id", "Organization not found"))?;
                    change.org = Some(Some(org));
                }
                "emails" => change.emails = Some(channels("emails", given)?),
                "phones" => change.phones = Some(channels("phones", given)?),
                "visible_to" => {
                    let seen = given.as_u64().filter(|seen| VISIBLE.contains(seen));
                    let seen = seen.ok_or_else(|| Refusal::invalid("visible_to", "Expected 1, 3, 5 or 7"))?;
                    change.visible_to = Some(seen);
                }
                "label_ids" => change.labels = Some(labels(given, known.fields)?),
                "custom_fields" => change.custom = custom(given, known.fields)?,
                "add_time" if creating => {
                    let added = given.as_str().and_then(parse_instant);
                    let added = added.ok_or_else(|| Refusal::invalid("add_time", "not a valid datetime"))?;
                    change.added = Some(added.div_euclid(1_000) * 1_000);
                }
                // Only a company with the marketing product has it.
                "marketing_status" => {}
                synced if SYNCED.contains(&synced) => {
                    if !known.contact_sync {
                        return Err(Refusal::forbidden("Contact sync is not enabled for the company"));
                    }
                    change.synced.insert(synced.to_owned(), given.clone());
                }
                _ => {}
            }
        }
        if creating && change.name.is_none() {
            return Err(Refusal::invalid("name", "Required"));
        }
        Ok(change)
    }

    /// Sets its members.
    pub(super) fn apply(self, person: &mut Person) {
        fn set<T>(member: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *member = given;
            }
        }
        set(&mut person.name, self.name);
        set(&mut person.owner, self.owner);
        set(&mut person.org, self.org);
        set(&mut person.emails, self.emails);
        set(&mut person.phones, self.phones);
        set(&mut person.visible_to, self.visible_to);
        set(&mut person.labels, self.labels);
        for (key, value) in self.custom {
            match value {
                Some(value) => person.custom.insert(key, value),
                None => person.custom.remove(&key),
            };
        }
        for (name, value) in self.synced {
            if value.is_null() {
                person.synced.remove(&name);
            } else {
                person.synced.insert(name, value);
            }
        }
    }
}

/// What a person is to be called: by the whole name, or by both parts, of which one may be empty.
fn named(body: &Map<String, Value>) -> Result<Option<Name>, Refusal> {
    let text = |member: &str| match body.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim())),
        Some(_) => Err(Refusal::invalid(member, "Expected string")),
    };
    match (text("name")?, text("first_name")?, text("last_name")?) {
        (None, None, None) => Ok(None),
        (Some(""), None, None) => Err(Refusal::invalid("name", "Expected string")),
        (Some(whole), None, None) => Ok(Some(Name::whole(whole))),
        (None, Some(""), Some("")) => {
            Err(Refusal::invalid("first_name", "must not be empty where last_name is"))
        }
        (None, Some(first), Some(last)) => Ok(Some(Name::parts(first, last))),
        (None, Some(_), None) => Err(Refusal::invalid("last_name", "Required with first_name")),
        (None, None, Some(_)) => Err(Refusal::invalid("first_name", "Required with last_name")),
        (Some(_), _, _) => Err(Refusal::invalid("name", "not together with first_name or last_name")),
    }
}

/// Addresses or numbers. The label is `work` unless it is given; the first one is the primary one unless one is.
fn channels(member: &str, given: &Value) -> Result<Vec<Channel>, Refusal> {
    let rows = given.as_array().ok_or_else(|| Refusal::invalid(member, "Expected array"))?;
    let mut list = Vec::with_capacity(rows.len());
    for row in rows {
        let row = row.as_object().ok_or_else(|| Refusal::invalid(member, "Expected object"))?;
        if let Some(name) = row.keys().find(|name| !["value", "primary", "label"].contains(&name.as_str())) {
            return Err(Refusal::invalid(member, &format!("Unknown key '{name}'")));
        }
        let value = row.get("value").and_then(Value::as_str);
        let value = value.ok_or_else(|| Refusal::invalid(&format!("{member}.value"), "Expected string"))?;
        let primary = match row.get("primary") {
            None => false,
            Some(Value::Bool(primary)) => *primary,
            Some(_) => return Err(Refusal::invalid(&format!("{member}.primary"), "Expected boolean")),
        };
        let label = match row.get("label") {
            None => "work",
            Some(Value::String(label)) => label.as_str(),
            Some(_) => return Err(Refusal::invalid(&format!("{member}.label"), "Expected string")),
        };
        list.push(Channel { value: value.to_owned(), primary, label: label.to_owned() });
    }
    one_primary(&mut list);
    Ok(list)
}

/// Exactly one is the primary one: the first that says so, or the first.
pub(super) fn one_primary(list: &mut [Channel]) {
    let chosen = list.iter().position(|channel| channel.primary).unwrap_or(0);
    for (place, channel) in list.iter_mut().enumerate() {
        channel.primary = place == chosen;
    }
}

fn labels(given: &Value, fields: &Fields) -> Result<Vec<u64>, Refusal> {
    let wrong = || Refusal::invalid("label_ids", "Expected array of label ids");
    let rows = given.as_array().ok_or_else(wrong)?;
    let known = |id: &u64| fields.get("label_ids").is_some_and(|field| field.label(*id).is_some());
    rows.iter().map(|row| row.as_u64().filter(known).ok_or_else(wrong)).collect()
}

fn custom(given: &Value, fields: &Fields) -> Result<BTreeMap<String, Option<Value>>, Refusal> {
    let given = given.as_object().ok_or_else(|| Refusal::invalid("custom_fields", "Expected object"))?;
    let mut change = BTreeMap::new();
    for (key, value) in given {
        let field = fields.key(key);
        let field =
            field.ok_or_else(|| Refusal::invalid("custom_fields", &format!("Unknown key '{key}'")))?;
        let value = values::taken(field, value).map_err(|why| Refusal::invalid("custom_fields", &why))?;
        change.insert(key.clone(), value);
    }
    Ok(change)
}
