//! What people do in an org's user interface, and what the org does on its own. It costs no calls and is checked like any write.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::contacts::{Actor, Contacts};
use super::errors::ApiError;
use super::fields::FieldKind;
use super::org::Org;
use super::outbound;
use crate::faults::{FaultKind, Rewrite, numbered, rewrite};
use crate::operation::Operation;
use crate::world::World;
use crate::writes::Writer;

/// One thing that somebody does.
#[derive(Debug)]
pub(crate) enum Deed {
    Create(Map<String, Value>),
    Edit(u64, Map<String, Value>),
    Delete(u64),
    Undelete(u64),
    /// Out of the recycle bin for good.
    Purge(u64),
    /// Into the first, from one or two others, with these values.
    Merge(u64, Vec<u64>, Map<String, Value>),
    /// Only `SystemModstamp` moves.
    Touch(u64),
    /// Held for so many milliseconds.
    Lock(u64, i64),
}

/// Does it; the number of the record.
pub(crate) fn act(world: &Arc<World>, org: &Arc<Org>, deed: Deed, quiet: bool) -> Result<u64, ApiError> {
    let actor = org.person(world.clock.now());
    let (number, told) = {
        let mut contacts = org.contacts.lock();
        match deed {
            Deed::Create(given) => {
                let number = contacts.create(&given, &actor)?;
                automations(world, org, &mut contacts, number, Operation::SalesforceCreate, &actor);
                (number, true)
            }
            Deed::Edit(number, given) => {
                contacts.update(number, &given, &actor, None)?;
                automations(world, org, &mut contacts, number, Operation::SalesforceUpdate, &actor);
                (number, true)
            }
            Deed::Delete(number) => contacts.delete(number, &actor).map(|()| (number, false))?,
            Deed::Undelete(number) => contacts.undelete(number, &actor).map(|()| (number, true))?,
            Deed::Purge(number) => {
                if !contacts.purge(number) {
                    return Err(ApiError::not_found());
                }
                (number, false)
            }
            Deed::Merge(master, losers, given) => {
                contacts.merge(master, &losers, &given, &actor).map(|()| (master, true))?
            }
            Deed::Touch(number) => contacts.touch(number, actor.now).map(|()| (number, false))?,
            Deed::Lock(number, ms) => contacts.lock(number, actor.now + ms).map(|()| (number, false))?,
        }
    };
    if told && !quiet {
        outbound::tell(world, org, &[number], false);
    }
    Ok(number)
}

/// Texts of an ordered edit as values of their fields; an empty one clears.
pub(super) fn typed(contacts: &Contacts, texts: &BTreeMap<String, String>, n: u64) -> Map<String, Value> {
    let value = |name: &str, text: String| match contacts.schema.find(name).map(|field| field.kind) {
        _ if text.is_empty() => Value::Null,
        Some(FieldKind::Boolean) => (text == "true").into(),
        Some(kind) if kind.is_number() => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        _ => text.into(),
    };
    texts.iter().map(|(name, text)| (name.clone(), value(name, numbered(text, n)))).collect()
}

/// Lets the automations that are ordered act on what was just written.
pub(super) fn automations(
    world: &World,
    org: &Org,
    contacts: &mut Contacts,
    number: u64,
    operation: Operation,
    actor: &Actor,
) {
    if !world.faults.any() {
        return;
    }
    for fault in world.faults.draw_automation(org.number, operation, number, &world.dice) {
        if let FaultKind::Automation { property, rewrite, .. } = fault {
            automate(world, contacts, number, &property, &rewrite, actor);
        }
    }
}

/// Lets an automation rewrite a field, as part of the transaction of whoever wrote.
pub(super) fn automate(
    world: &World,
    contacts: &mut Contacts,
    number: u64,
    property: &str,
    how: &Rewrite,
    actor: &Actor,
) {
    let Some(field) = contacts.schema.find(property).cloned() else { return };
    let Some(value) =
        contacts.live(number).ok().and_then(|contact| contact.raw(&field).as_str().map(str::to_owned))
    else {
        return;
    };
    let rewritten = rewrite(how, &value, world.dice.next() % 1_000_000);
    if rewritten == value {
        return;
    }
    let given = Map::from_iter([(property.to_owned(), Value::String(rewritten))]);
    // It runs as the user whose write set it off.
    let automation = Actor { writer: Writer::Automation, ..actor.clone() };
    // What it writes may be refused; then nothing is rewritten.
    let _ = contacts.update(number, &given, &automation, None);
}
