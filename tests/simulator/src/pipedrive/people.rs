//! What people do in the tool. It costs no tokens, is checked like any write, and its webhooks say `app`.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::account::Account;
use super::delivery::{self, Event};
use super::errors::Refusal;
use super::person::Shown;
use super::persons::Written;
use super::writing::settle;
use crate::operation::Operation;
use crate::world::World;
use crate::writes::Writer;

/// One thing that a person does.
#[derive(Debug)]
pub(super) enum Deed {
    Create(Map<String, Value>),
    Edit(u64, Map<String, Value>),
    /// An edit of many in the list view.
    Bulk(Vec<u64>, Map<String, Value>),
    Delete(u64),
    Restore(u64),
    /// Loser and survivor.
    Merge(u64, u64),
}

/// Does it; gives whom it was done to, as v2 shows them afterwards.
pub(super) fn act(
    world: &Arc<World>,
    account: &Arc<Account>,
    deed: Deed,
    quiet: bool,
) -> Result<Vec<Value>, Refusal> {
    let now = world.clock.now();
    let rules = account.rules(&world.dice, now);
    let user = account.user;
    let mut persons = account.persons.lock();
    let (mut people, mut events) = (Vec::new(), Vec::new());
    let plain = |persons: &super::persons::Persons, written: Written| {
        let told = Event::of(&persons.fields, &written, user, "app", now);
        (written.after, told)
    };
    match deed {
        Deed::Create(body) => {
            let written = persons.create(&body, Writer::Person, rules)?;
            let done = (written, &body);
            let settled =
                settle(world, account, &mut persons, Operation::PersonsCreate, done, Writer::Person, rules);
            people.push(settled.person);
            events = settled.events;
        }
        Deed::Edit(id, body) => {
            let written = persons.update(id, &body, Writer::Person, rules)?;
            let done = (written, &body);
            let settled =
                settle(world, account, &mut persons, Operation::PersonsUpdate, done, Writer::Person, rules);
            people.push(settled.person);
            events = settled.events;
        }
        Deed::Bulk(ids, body) => {
            for id in ids {
                let written = persons.update(id, &body, Writer::Person, rules)?;
                let (person, told) = plain(&persons, written);
                people.push(person);
                events.extend(told);
            }
            for event in &mut events {
                event.bulk = true;
            }
        }
        Deed::Delete(id) => {
            let written = persons.delete(id, Writer::Person, rules)?;
            let (person, told) = plain(&persons, written);
            people.push(person);
            events = told;
        }
        Deed::Restore(id) => {
            let written = persons.restore(id, rules)?;
            let (person, told) = plain(&persons, written);
            people.push(person);
            events = told;
        }
        Deed::Merge(loser, survivor) => {
            let (gone, kept) = persons.merge(loser, survivor, rules)?;
            events = Event::of_merge(&persons.fields, (&gone, &kept), user, "app", now);
            people.push(kept.after);
        }
    }
    let settings = account.settings();
    let shown = Shown { empty: false, synced: settings.contact_sync, ..Shown::default() };
    let views = people.iter().map(|person| person.view(&persons.fields, &shown)).collect();
    drop(persons);
    if !quiet {
        // Nobody waits for the webhooks of people.
        drop(delivery::announce(world, account, events));
    }
    Ok(views)
}
