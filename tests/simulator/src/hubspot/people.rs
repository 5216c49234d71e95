//! What people do in an account's user interface. It costs no API calls, is checked like any write, and its webhooks
//! say `CRM_UI`, or `CRM_UI_BULK_ACTION` where many are edited at once.

use std::sync::Arc;

use super::account::Account;
use super::announce;
use super::contact::{Contact, Source};
use super::contacts::{Changed, Contacts, Event, Problem};
use super::errors::ApiError;
use super::objects::automate;
use crate::faults::FaultKind;
use crate::operation::Operation;
use crate::world::World;

/// One thing that a person does.
#[derive(Debug)]
pub(crate) enum Deed {
    Create(Vec<(String, String)>),
    Edit(u64, Vec<(String, String)>),
    /// One of many that are edited at once.
    BulkEdit(u64, Vec<(String, String)>),
    Delete(u64),
    Restore(u64),
    Erase(u64),
    Merge(u64, u64),
    /// Nobody does anything: the event of the record's newest value is delivered once more.
    Repeat(u64),
}

/// Does it; gives the record afterwards where there is one.
pub(crate) fn act(
    world: &Arc<World>,
    account: &Arc<Account>,
    deed: Deed,
    quiet: bool,
) -> Result<Option<Arc<Contact>>, ApiError> {
    let now = world.clock.now();
    let who = Source::person(1);
    let rules = account.rules(&world.dice);
    let refuse = |problem: Problem| ApiError::refused(problem, account.portal);
    let (contact, events) = {
        let mut contacts = account.contacts.lock();
        let changed = match deed {
            Deed::Create(given) => {
                let changed = contacts.create(&given, &who, now, rules).map_err(refuse)?;
                automations(world, account, &mut contacts, changed, Operation::ContactsCreate, now)
            }
            Deed::Edit(id, given) => {
                let changed = contacts.update(id, &given, &who, now, rules).map_err(refuse)?;
                automations(world, account, &mut contacts, changed, Operation::ContactsUpdate, now)
            }
            Deed::BulkEdit(id, given) => {
                let who = Source::in_bulk(1);
                let changed = contacts.update(id, &given, &who, now, rules).map_err(refuse)?;
                automations(world, account, &mut contacts, changed, Operation::ContactsUpdate, now)
            }
            Deed::Delete(id) => contacts.archive(id, &who, now).ok_or(Problem::Missing).map_err(refuse)?,
            Deed::Restore(id) => contacts.restore(id, &who, now, rules).map_err(refuse)?,
            Deed::Merge(primary, other) => {
                let new_record = account.settings.read().merge_makes_new_record;
                contacts.merge(primary, other, new_record, &who, now, rules).map_err(refuse)?
            }
            Deed::Repeat(id) => contacts.repeat(id).ok_or(Problem::Missing).map_err(refuse)?,
            Deed::Erase(id) => {
                let events = contacts.erase(id, &who, now);
                drop(contacts);
                if events.is_empty() {
                    return Err(refuse(Problem::Missing));
                }
                tell(world, account, events, quiet);
                return Ok(None);
            }
        };
        (changed.contact, changed.events)
    };
    tell(world, account, events, quiet);
    Ok(Some(contact))
}

fn tell(world: &Arc<World>, account: &Arc<Account>, events: Vec<Event>, quiet: bool) {
    if !quiet {
        announce(world, account, events);
    }
}

fn automations(
    world: &World,
    account: &Account,
    contacts: &mut Contacts,
    changed: Changed,
    operation: Operation,
    now: i64,
) -> Changed {
    let mut changed = changed;
    if !world.faults.any() {
        return changed;
    }
    let id = changed.contact.id;
    for fault in world.faults.draw_automation(account.portal, operation, id, &world.dice) {
        if let FaultKind::Automation { property, rewrite, .. } = fault
            && let Some(after) = automate(world, account, contacts, id, &property, &rewrite, now)
        {
            changed.contact = after.contact;
            changed.events.extend(after.events);
        }
    }
    changed
}
