//! What follows a write under the account's lock: its events, ordered edits of people, automations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::account::Account;
use super::delivery::Event;
use super::fields::{Field, Fields};
use super::person::{Channel, Person};
use super::persons::{Persons, Rules, Written};
use super::values;
use crate::faults::{self, FaultKind, Rewrite};
use crate::operation::Operation;
use crate::world::World;
use crate::writes::Writer;

/// A write with what followed it.
pub(super) struct Settled {
    /// What the answer shows.
    pub(super) person: Arc<Person>,
    pub(super) events: Vec<Event>,
}

/// A property of a person that can be read and typed as a text: `name`, `email`, `phone`, a field's key or its name.
enum Property<'a> {
    Name,
    Email,
    Phone,
    Field(&'a Field),
}

fn property<'a>(fields: &'a Fields, name: &str) -> Option<Property<'a>> {
    match name {
        "name" => Some(Property::Name),
        "email" => Some(Property::Email),
        "phone" => Some(Property::Phone),
        _ => fields.custom().find(|field| field.code == name || field.name == name).map(Property::Field),
    }
}

fn primary(list: &[Channel]) -> Option<&Channel> {
    list.iter().find(|channel| channel.primary).or_else(|| list.first())
}

/// The list with another primary value; an empty one takes the primary one away.
fn replaced(list: &[Channel], value: &str) -> Value {
    let mut list = list.to_vec();
    let place = list.iter().position(|channel| channel.primary);
    match (place, value.is_empty()) {
        (Some(place), true) => {
            list.remove(place);
        }
        (Some(place), false) => {
            if let Some(channel) = list.get_mut(place) {
                value.clone_into(&mut channel.value);
            }
        }
        (None, true) => {}
        (None, false) => {
            list.push(Channel { value: value.to_owned(), primary: true, label: "work".to_owned() });
        }
    }
    Channel::views(&list)
}

/// The body of an edit that types these texts.
pub(super) fn typed(
    account: &Account,
    fields: &Fields,
    person: &Person,
    texts: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let (mut body, mut custom) = (Map::new(), Map::new());
    for (name, text) in texts {
        match property(fields, name) {
            Some(Property::Name) => body.insert("name".into(), text.as_str().into()),
            Some(Property::Email) => body.insert("emails".into(), replaced(&person.emails, text)),
            Some(Property::Phone) => body.insert("phones".into(), replaced(&person.phones, text)),
            Some(Property::Field(field)) => {
                custom.insert(field.code.clone(), values::typed(field, text, &account.currency))
            }
            None => None,
        };
    }
    if !custom.is_empty() {
        body.insert("custom_fields".into(), custom.into());
    }
    body
}

/// The text of a property, where the body sets it.
fn set_text(fields: &Fields, person: &Person, name: &str, body: &Map<String, Value>) -> Option<String> {
    let (member, text) = match property(fields, name)? {
        Property::Name => ("name", Some(person.name.whole.clone())),
        Property::Email => ("emails", primary(&person.emails).map(|channel| channel.value.clone())),
        Property::Phone => ("phones", primary(&person.phones).map(|channel| channel.value.clone())),
        Property::Field(field) => {
            body.get("custom_fields")?.get(&field.code)?;
            ("custom_fields", person.custom.get(&field.code).and_then(values::searched))
        }
    };
    // A name is also set by its parts.
    let is_set = body.contains_key(member) || member == "name" && body.contains_key("first_name");
    text.filter(|_| is_set)
}

/// A person's edit of texts.
pub(super) fn typed_edit(
    account: &Account,
    persons: &mut Persons,
    id: u64,
    texts: &BTreeMap<String, String>,
    n: u64,
    rules: Rules,
) -> Option<(Arc<Person>, Vec<Event>)> {
    let person = persons.live(id)?.clone();
    let texts = texts.iter().map(|(name, text)| (name.clone(), faults::numbered(text, n))).collect();
    let body = typed(account, &persons.fields, &person, &texts);
    let written = persons.update(id, &body, Writer::Person, rules).ok()?;
    let events = Event::of(&persons.fields, &written, account.user, "app", rules.now);
    Some((written.after, events))
}

/// An automation that rewrites a property which a write has set.
fn automate(
    world: &World,
    account: &Account,
    persons: &mut Persons,
    (id, body): (u64, &Map<String, Value>),
    (name, how): (&str, &Rewrite),
    rules: Rules,
) -> Option<(Arc<Person>, Vec<Event>)> {
    let person = persons.live(id)?.clone();
    let text = set_text(&persons.fields, &person, name, body)?;
    let rewritten = faults::rewrite(how, &text, world.dice.next() % 1_000_000);
    if rewritten == text {
        return None;
    }
    let texts = BTreeMap::from([(name.to_owned(), rewritten)]);
    let body = typed(account, &persons.fields, &person, &texts);
    let written = persons.update(id, &body, Writer::Automation, rules).ok()?;
    let events = Event::of(&persons.fields, &written, account.user, "app", rules.now);
    Some((written.after, events))
}

/// Lets ordered edits and automations act on a person who was just written.
pub(super) fn settle(
    world: &World,
    account: &Account,
    persons: &mut Persons,
    operation: Operation,
    (written, body): (Written, &Map<String, Value>),
    by: Writer,
    rules: Rules,
) -> Settled {
    let source = if by == Writer::Api { "api" } else { "app" };
    let events = Event::of(&persons.fields, &written, account.user, source, rules.now);
    let mut settled = Settled { person: written.after, events };
    if !world.faults.any() {
        return settled;
    }
    let id = settled.person.id;
    let drawn = match by {
        Writer::Api => world.faults.draw_record(account.company, operation, id, &world.dice),
        _ => world.faults.draw_automation(account.company, operation, id, &world.dice),
    };
    for fault in drawn {
        match fault {
            FaultKind::PersonEditInWrite { properties, .. } => {
                let n = world.dice.next() % 1_000_000;
                if let Some((person, events)) = typed_edit(account, persons, id, &properties, n, rules) {
                    settled.person = person;
                    settled.events.extend(events);
                }
            }
            FaultKind::Automation { property, rewrite, in_response } => {
                let what = (property.as_str(), &rewrite);
                if let Some((person, events)) = automate(world, account, persons, (id, body), what, rules) {
                    if in_response {
                        settled.person = person;
                    }
                    settled.events.extend(events);
                }
            }
            _ => {}
        }
    }
    settled
}

/// The success of one record.
pub(super) fn one(data: &Value) -> Value {
    json!({ "success": true, "data": data })
}
