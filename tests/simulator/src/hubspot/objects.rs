//! Single contacts: create, read, list, update, archive, merge, erase.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::account::Account;
use super::contact::{Contact, Entry, Shown, Source, View};
use super::contacts::{Changed, Contacts, Event, Problem};
use super::errors::ApiError;
use super::{Context, Done};
use crate::faults::{FaultKind, numbered, rewrite};
use crate::world::World;

/// Rows of a list at most.
const LIST_LIMIT: usize = 100;
/// Rows of a list at most when history is asked for.
const HISTORY_LIMIT: usize = 50;

#[derive(Serialize)]
struct ListBody<'a> {
    results: Vec<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<Value>,
}

/// What a write leaves behind once automations and people have had their say.
pub(super) struct Settled {
    /// What the answer shows.
    pub(super) contact: Arc<Contact>,
    pub(super) events: Vec<Event>,
}

impl Context<'_> {
    pub(super) fn refuse(&self, problem: Problem) -> ApiError {
        ApiError::refused(problem, self.account.portal)
    }

    /// The `properties` of a body as names and texts.
    pub(super) fn properties(
        &self,
        body: &Map<String, Value>,
        kind: &str,
    ) -> Result<Vec<(String, String)>, ApiError> {
        let Some(properties) = body.get("properties") else {
            self.violation("the member properties is missing");
            return Err(ApiError::missing_member(kind, "properties"));
        };
        let Some(properties) = properties.as_object() else {
            self.violation("properties is not an object");
            return Err(ApiError::invalid_json("properties must be an object"));
        };
        let mut out = Vec::with_capacity(properties.len());
        for (name, value) in properties {
            let text = match value {
                Value::String(text) => text.clone(),
                other => {
                    self.violation(format!("the value of property {name} is not a string"));
                    match other {
                        Value::Null => String::new(),
                        Value::Bool(_) | Value::Number(_) => other.to_string(),
                        _ => return Err(ApiError::invalid_json("property values must be strings")),
                    }
                }
            };
            out.push((name.clone(), text));
        }
        Ok(out)
    }

    /// Checks the shape of `associations`; there is no other object that one could associate with.
    pub(super) fn associations(&self, body: &Map<String, Value>) -> Result<(), ApiError> {
        match body.get("associations") {
            None => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(Value::Array(list)) => {
                let shaped = list.iter().all(|one| {
                    one.pointer("/to/id").is_some_and(Value::is_string)
                        && one.pointer("/types").and_then(Value::as_array).is_some_and(|types| {
                            types.iter().all(|t| {
                                t.get("associationCategory").is_some_and(Value::is_string)
                                    && t.get("associationTypeId").is_some_and(Value::is_u64)
                            })
                        })
                });
                if !shaped {
                    self.violation("an association is not of the described shape");
                }
                Err(ApiError::validation("One or more associations are invalid"))
            }
            Some(_) => {
                self.violation("associations is not an array");
                Err(ApiError::invalid_json("associations must be an array"))
            }
        }
    }

    /// The record that a path segment or an input names.
    pub(super) fn identify(
        &self,
        contacts: &Contacts,
        id: &str,
        id_property: Option<&str>,
    ) -> Result<Option<u64>, ApiError> {
        match id_property {
            None | Some("hs_object_id") => match id.parse() {
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(ApiError::not_numeric(id)),
            },
            Some(name) if contacts.property(name).is_some_and(|p| p.unique) => Ok(contacts.find(name, id)),
            Some(name) => {
                self.violation("idProperty is not a unique property");
                Err(self.refuse(Problem::NotUnique(name.to_owned())))
            }
        }
    }

    /// The properties that a query asks for; unknown ones are ignored.
    pub(super) fn shown<'a>(&self, contacts: &Contacts, names: impl Iterator<Item = &'a str>) -> Shown {
        let mut asked = false;
        let known: Vec<Arc<str>> = names
            .inspect(|_| asked = true)
            .filter_map(|n| contacts.property(n))
            .map(|p| p.name.clone())
            .collect();
        if asked && known.is_empty() {
            // Only unknown ones: what is always there.
            return Shown::select(["hs_object_id".into()]);
        }
        Shown::select(known)
    }

    pub(super) fn histories(
        &self,
        contacts: &Contacts,
        id: u64,
        names: &[&str],
    ) -> Option<Vec<(Arc<str>, Vec<Entry>)>> {
        (!names.is_empty()).then(|| {
            names
                .iter()
                .filter_map(|n| contacts.property(n))
                .map(|p| (p.name.clone(), contacts.history(id, &p.name)))
                .collect()
        })
    }

    pub(super) fn create(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let body = self.object(&["properties", "associations"])?;
        let given = self.properties(&body, "SimplePublicObjectInputForCreate")?;
        self.associations(&body)?;
        let settled = {
            let rules = self.account.rules(&self.world().dice);
            let mut contacts = self.account.contacts.lock();
            let changed = contacts
                .create(&given, &self.account.integration, self.now, rules)
                .map_err(|problem| self.refuse(problem))?;
            self.settle(&mut contacts, changed)
        };
        let tickets = self.announce(settled.events);
        let view = View::new(&settled.contact, &Shown::Stored, self.account.portal);
        let mut done = Done::json(StatusCode::CREATED, &view).after(tickets);
        done.location = Some(format!("{}{}/{}", self.world().api_url(), self.call.path, settled.contact.id));
        Ok(done)
    }

    pub(super) fn read(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&["properties", "propertiesWithHistory", "associations", "archived", "idProperty"]);
        let archived = self.flag("archived");
        let (contact, shown, history, (events, ordered)) = {
            let mut contacts = self.account.contacts.lock();
            let found = self.identify(&contacts, id, self.call.query("idProperty"))?;
            let found = found.and_then(|id| {
                if archived { contacts.get_archived(id).cloned() } else { contacts.get(id).cloned() }
            });
            let contact = found.ok_or_else(ApiError::not_found)?;
            let shown = self.shown(&contacts, self.call.list("properties"));
            let names: Vec<&str> = self.call.list("propertiesWithHistory").collect();
            let history = self.histories(&contacts, contact.id, &names);
            let after = self.after_read(&mut contacts, contact.id);
            (contact, shown, history, after)
        };
        // The person's edit is told of on its own; the reader does not wait for it.
        super::webhooks::tell(self.world(), &self.account.app, self.account.portal, events, false);
        if let Some(body) = ordered {
            return Ok(Done { status: StatusCode::OK, body, ..Done::empty() });
        }
        let mut view = View::new(&contact, &shown, self.account.portal);
        view.history = history;
        Ok(Done::json(StatusCode::OK, &view))
    }

    /// People's edits that are ordered to happen right after a read, and the body that is ordered in place of the answer.
    pub(super) fn after_read(&self, contacts: &mut Contacts, id: u64) -> (Vec<Event>, Option<Vec<u8>>) {
        let world = self.world();
        let (mut events, mut ordered) = (Vec::new(), None);
        for fault in world.faults.draw_record(self.account.portal, self.operation, id, &world.dice) {
            match fault {
                FaultKind::PersonEditAfterRead { properties, .. } => {
                    events.extend(self.person(contacts, id, &properties).events);
                }
                FaultKind::AnswerBody { body, .. } => ordered = Some(body),
                _ => {}
            }
        }
        (events, ordered)
    }

    fn person(
        &self,
        contacts: &mut Contacts,
        id: u64,
        properties: &std::collections::BTreeMap<String, String>,
    ) -> Settled {
        let world = self.world();
        let n = world.dice.next() % 1_000_000;
        let given: Vec<(String, String)> =
            properties.iter().map(|(name, value)| (name.clone(), numbered(value, n))).collect();
        let rules = self.account.rules(&world.dice);
        match contacts.update(id, &given, &Source::person(1), self.now, rules) {
            Ok(Changed { contact, events }) => Settled { contact, events },
            Err(_) => Settled {
                contact: contacts.get(id).cloned().unwrap_or_else(|| Arc::new(Contact::new(id, self.now))),
                events: Vec::new(),
            },
        }
    }

    /// Lets automations and ordered edits act on a record that was just written.
    pub(super) fn settle(&self, contacts: &mut Contacts, changed: Changed) -> Settled {
        let world = self.world();
        let mut settled = Settled { contact: changed.contact, events: changed.events };
        if !world.faults.any() {
            return settled;
        }
        let id = settled.contact.id;
        for fault in world.faults.draw_record(self.account.portal, self.operation, id, &world.dice) {
            match fault {
                FaultKind::PersonEditInWrite { properties, .. } => {
                    let edit = self.person(contacts, id, &properties);
                    settled.contact = edit.contact;
                    settled.events.extend(edit.events);
                }
                FaultKind::Automation { property, rewrite, in_response } => {
                    let rules = automate(world, self.account, contacts, id, &property, &rewrite, self.now);
                    if let Some(changed) = rules {
                        if in_response {
                            settled.contact = changed.contact;
                        }
                        settled.events.extend(changed.events);
                    }
                }
                _ => {}
            }
        }
        settled
    }

    pub(super) fn list(&self) -> Result<Done, ApiError> {
        self.only_query(&[
            "limit",
            "after",
            "properties",
            "propertiesWithHistory",
            "associations",
            "archived",
        ]);
        let archived = self.flag("archived");
        let names: Vec<&str> = self.call.list("propertiesWithHistory").collect();
        let most = if names.is_empty() { LIST_LIMIT } else { HISTORY_LIMIT };
        let limit = match self.call.query("limit") {
            None => 10,
            Some(text) => match text.parse::<usize>() {
                Ok(limit) if (1..=most).contains(&limit) => limit,
                _ => {
                    self.violation(format!("limit is not a number from 1 to {most}"));
                    return Err(ApiError::validation(format!(
                        "Invalid limit {text}: it must be a number from 1 to {most}"
                    )));
                }
            },
        };
        let after = match self.call.query("after") {
            None | Some("") => None,
            Some(text) => match text.parse() {
                Ok(id) => Some(id),
                Err(_) => {
                    self.violation("after is not a cursor that was given out");
                    return Err(ApiError::validation("Invalid paging cursor"));
                }
            },
        };
        let contacts = self.account.contacts.lock();
        let mut rows = contacts.page(after, limit + 1, archived);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let shown = self.shown(&contacts, self.call.list("properties"));
        let results = rows
            .iter()
            .map(|contact| {
                let mut view = View::new(contact, &shown, self.account.portal);
                view.history = self.histories(&contacts, contact.id, &names);
                view
            })
            .collect();
        let last = rows.last().filter(|_| more).map(|contact| contact.id);
        let paging = last.map(|id| {
            serde_json::json!({ "next": {
                "after": id.to_string(),
                "link": format!("{}{}?limit={limit}&after={id}", self.world().api_url(), self.call.path),
            }})
        });
        Ok(Done::json(StatusCode::OK, &ListBody { results, paging }))
    }

    pub(super) fn update(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&["idProperty"]);
        let body = self.object(&["properties"])?;
        let given = self.properties(&body, "SimplePublicObjectInput")?;
        let settled = {
            let rules = self.account.rules(&self.world().dice);
            let mut contacts = self.account.contacts.lock();
            let id = self
                .identify(&contacts, id, self.call.query("idProperty"))?
                .ok_or_else(ApiError::not_found)?;
            let changed = contacts
                .update(id, &given, &self.account.integration, self.now, rules)
                .map_err(|problem| self.refuse(problem))?;
            self.settle(&mut contacts, changed)
        };
        let tickets = self.announce(settled.events);
        let view = View::new(&settled.contact, &Shown::Stored, self.account.portal);
        Ok(Done::json(StatusCode::OK, &view).after(tickets))
    }

    pub(super) fn archive(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let id: u64 = id.parse().map_err(|_| ApiError::not_numeric(id))?;
        let changed = self.account.contacts.lock().archive(id, &self.account.integration, self.now);
        let tickets = changed.map(|changed| self.announce(changed.events)).unwrap_or_default();
        Ok(Done::empty().after(tickets))
    }

    pub(super) fn merge(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let body = self.object(&["primaryObjectId", "objectIdToMerge"])?;
        let id = |name: &str| {
            let Some(value) = body.get(name) else {
                self.violation(format!("the member {name} is missing"));
                return Err(ApiError::missing_member("PublicMergeInput", name));
            };
            value.as_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
                self.violation(format!("{name} is not the string of an id"));
                ApiError::validation(format!("{name} is not a valid object id"))
            })
        };
        let (primary, other) = (id("primaryObjectId")?, id("objectIdToMerge")?);
        let new_record = self.account.settings.read().merge_makes_new_record;
        let rules = self.account.rules(&self.world().dice);
        let changed = self
            .account
            .contacts
            .lock()
            .merge(primary, other, new_record, &self.account.integration, self.now, rules)
            .map_err(|problem| self.refuse(problem))?;
        let tickets = self.announce(changed.events);
        let view = View::new(&changed.contact, &Shown::Stored, self.account.portal);
        Ok(Done::json(StatusCode::OK, &view).after(tickets))
    }

    pub(super) fn gdpr_delete(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let body = self.object(&["objectId", "idProperty"])?;
        let Some(id) = body.get("objectId").and_then(Value::as_str) else {
            self.violation("objectId is missing or not a string");
            return Err(ApiError::missing_member("PublicGdprDeleteInput", "objectId"));
        };
        let events = {
            let mut contacts = self.account.contacts.lock();
            let found = self.identify(&contacts, id, body.get("idProperty").and_then(Value::as_str))?;
            found.map(|id| contacts.erase(id, &self.account.integration, self.now)).unwrap_or_default()
        };
        Ok(Done::empty().after(self.announce(events)))
    }
}

/// Lets an automation rewrite a property; none when there is nothing to rewrite.
pub(super) fn automate(
    world: &World,
    account: &Account,
    contacts: &mut Contacts,
    id: u64,
    property: &str,
    how: &crate::faults::Rewrite,
    now: i64,
) -> Option<Changed> {
    let value = contacts.get(id)?.stored(property)?.to_string();
    let n = world.dice.next() % 1_000_000;
    let rewritten = rewrite(how, &value, n);
    if rewritten == value {
        return None;
    }
    let given = [(property.to_owned(), rewritten)];
    contacts.update(id, &given, &Source::automation(n), now, account.rules(&world.dice)).ok()
}
