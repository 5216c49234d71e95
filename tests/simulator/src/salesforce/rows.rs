//! Single contacts: by id, and by a field that is an external id.

use std::sync::Arc;

use http::StatusCode;
use http::header::{LAST_MODIFIED, LOCATION};
use serde_json::{Map, Value, json};

use super::contact::Contact;
use super::contacts::Contacts;
use super::errors::ApiError;
use super::fields::Field;
use super::people::{automate, typed};
use super::{Context, Done, ids};
use crate::faults::FaultKind;

/// A time of a header, in seconds. None: it is no HTTP date.
fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|at| at.timestamp().as_second())
}

/// What a `PATCH` of an external id did.
pub(super) enum Upserted {
    Created(u64),
    Updated(u64),
}

impl Context<'_> {
    /// The number behind an id of the path or of a body.
    pub(super) fn number(&self, id: &str) -> Result<u64, ApiError> {
        if let Some(number) = ids::number(ids::CONTACT, id) {
            return Ok(number);
        }
        if ids::fifteen(id).is_some() {
            // The id of something else, or of an org elsewhere.
            return Err(if id.starts_with(ids::CONTACT) {
                ApiError::not_found()
            } else {
                let message = format!("Contact ID: id value of incorrect type: {id}");
                ApiError::write("MALFORMED_ID", message, &["Id"])
                    .violating("the id of another kind of object")
            });
        }
        Err(ApiError::no_external_id(id).violating("the path names no id"))
    }

    /// The fields of `fields=`, or all.
    pub(super) fn fields<'n>(
        &self,
        contacts: &Contacts,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<Vec<Arc<Field>>, ApiError> {
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut asked = false;
        for name in names {
            asked = true;
            let field = contacts.schema.find(name).ok_or_else(|| {
                ApiError::bad("INVALID_FIELD", ApiError::no_column(name))
                    .violating(format!("there is no field {name}"))
            })?;
            if !fields.iter().any(|known| known.name == field.name) {
                fields.push(field.clone());
            }
        }
        if !asked {
            return Ok(contacts.schema.all().to_vec());
        }
        if !fields.iter().any(|field| &*field.name == "Id") {
            fields.extend(contacts.schema.find("Id").cloned());
        }
        Ok(fields)
    }

    /// A live record, in the words of the org's settings if it is deleted.
    fn live<'c>(&self, contacts: &'c Contacts, number: u64) -> Result<&'c Contact, ApiError> {
        let found = contacts.live(number);
        let unknown = self.org.settings.read().deleted_are_unknown;
        found.map_err(|error| if unknown { ApiError::not_found() } else { error })
    }

    /// The second after which a write must not find a change.
    fn unless_after(&self) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.call.header("if-unmodified-since") else { return Ok(None) };
        match http_date(text) {
            Some(second) => Ok(Some(second)),
            None => Err(ApiError::bad("INVALID_HEADER", "If-Unmodified-Since is not an HTTP date")
                .violating("If-Unmodified-Since is no HTTP date")),
        }
    }

    fn shown(&self, contact: &Contact, fields: &[Arc<Field>]) -> Done {
        let modified = contact.modified.at.div_euclid(1_000);
        let later = |name: &str| self.call.header(name).and_then(http_date).map(|second| modified > second);
        if later("if-unmodified-since") == Some(true) {
            return Done::empty(StatusCode::PRECONDITION_FAILED);
        }
        if later("if-modified-since") == Some(false) {
            return Done::empty(StatusCode::NOT_MODIFIED);
        }
        let done = Done::json(StatusCode::OK, &contact.row(self.version, fields));
        match crate::clock::http_date(contact.modified.at) {
            Some(date) => done.with(LAST_MODIFIED, &date),
            None => done,
        }
    }

    pub(super) fn read(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&["fields"]);
        let number = self.number(id)?;
        let (done, edited, ordered) = {
            let mut contacts = self.org.contacts.lock();
            let fields = self.fields(&contacts, self.call.list("fields"))?;
            let done = self.shown(self.live(&contacts, number)?, &fields);
            let (edited, ordered) = self.after_read(&mut contacts, number);
            (done, edited, ordered)
        };
        if edited {
            super::outbound::tell(self.world(), self.org, &[number], false);
        }
        Ok(match ordered {
            Some(body) => Done { body, ..done },
            None => done,
        })
    }

    /// People's edits that are ordered to happen right after a read, and the body that is ordered in place of the answer.
    fn after_read(&self, contacts: &mut Contacts, number: u64) -> (bool, Option<Vec<u8>>) {
        let world = self.world();
        let (mut edited, mut ordered) = (false, None);
        for fault in world.faults.draw_record(self.org.number, self.operation, number, &world.dice) {
            match fault {
                FaultKind::PersonEditAfterRead { properties, .. } => {
                    edited |= self.person(contacts, number, &properties);
                }
                FaultKind::AnswerBody { body, .. } => ordered = Some(body),
                _ => {}
            }
        }
        (edited, ordered)
    }

    fn person(
        &self,
        contacts: &mut Contacts,
        number: u64,
        properties: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        let given = typed(contacts, properties, self.world().dice.next() % 1_000_000);
        contacts.update(number, &given, &self.org.person(self.now), None).is_ok()
    }

    /// Lets automations and ordered edits act on a record that was just written.
    pub(super) fn settle(&self, contacts: &mut Contacts, number: u64) {
        let world = self.world();
        if !world.faults.any() {
            return;
        }
        let actor = self.actor();
        for fault in world.faults.draw_record(self.org.number, self.operation, number, &world.dice) {
            match fault {
                FaultKind::PersonEditInWrite { properties, .. } => {
                    self.person(contacts, number, &properties);
                }
                FaultKind::Automation { property, rewrite, .. } => {
                    automate(world, contacts, number, &property, &rewrite, &actor);
                }
                _ => {}
            }
        }
    }

    fn created(&self, number: u64, upserted: bool) -> Done {
        let id = ids::id(ids::CONTACT, number);
        let mut body = json!({ "id": id, "success": true, "errors": [] });
        if let (true, Some(body)) = (upserted && self.version() >= 46, body.as_object_mut()) {
            body.insert("created".to_owned(), true.into());
        }
        let location = format!("/services/data/{}/sobjects/Contact/{id}", self.version);
        Done::json(StatusCode::CREATED, &body).with(LOCATION, &location)
    }

    pub(super) fn create(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let given = self.object()?;
        let number = {
            let mut contacts = self.org.contacts.lock();
            let number = contacts.create(&given, &self.actor())?;
            self.settle(&mut contacts, number);
            number
        };
        self.tell(&[number]);
        Ok(self.created(number, false))
    }

    pub(super) fn update(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let number = self.number(id)?;
        let given = self.object()?;
        let unless_after = self.unless_after()?;
        {
            let mut contacts = self.org.contacts.lock();
            contacts.update(number, &given, &self.actor(), unless_after)?;
            self.settle(&mut contacts, number);
        }
        self.tell(&[number]);
        Ok(Done::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn delete(&self, id: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        for header in ["if-unmodified-since", "if-match"] {
            if self.call.header(header).is_some() {
                // It is taken for a guard and is none.
                self.violation(format!("{header} has no effect on DELETE"));
            }
        }
        let number = self.number(id)?;
        self.org.contacts.lock().delete(number, &self.actor())?;
        Ok(Done::empty(StatusCode::NO_CONTENT))
    }

    /// The field of a path by which records are found.
    pub(super) fn external(&self, contacts: &Contacts, name: &str) -> Result<Arc<Field>, ApiError> {
        let field = contacts.schema.find(name).filter(|field| field.finds()).cloned();
        field.ok_or_else(|| ApiError::not_found().violating(format!("{name} is not an external id")))
    }

    /// The one record that has a value of such a field. An error when there are several.
    fn the_one(&self, contacts: &Contacts, field: &Field, value: &str) -> Result<Option<u64>, Done> {
        let mut numbers = contacts.find(field, value);
        if numbers.len() > 1 {
            let urls: Vec<String> = numbers
                .iter()
                .map(|number| {
                    format!(
                        "/services/data/{}/sobjects/Contact/{}",
                        self.version,
                        ids::id(ids::CONTACT, *number)
                    )
                })
                .collect();
            return Err(Done::json(StatusCode::MULTIPLE_CHOICES, &urls));
        }
        Ok(numbers.pop())
    }

    pub(super) fn find(&self, field: &str, value: &str) -> Result<Done, ApiError> {
        self.only_query(&["fields"]);
        let contacts = self.org.contacts.lock();
        let field = self.external(&contacts, field)?;
        match self.the_one(&contacts, &field, value) {
            Err(several) => Ok(several),
            Ok(None) => Err(ApiError::not_found()),
            Ok(Some(number)) => {
                let fields = self.fields(&contacts, self.call.list("fields"))?;
                Ok(self.shown(contacts.live(number)?, &fields))
            }
        }
    }

    pub(super) fn delete_external(&self, field: &str, value: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let mut contacts = self.org.contacts.lock();
        let field = self.external(&contacts, field)?;
        match self.the_one(&contacts, &field, value) {
            Err(several) => Ok(several),
            Ok(None) => Err(ApiError::not_found()),
            Ok(Some(number)) => {
                contacts.delete(number, &self.actor()).map(|()| Done::empty(StatusCode::NO_CONTENT))
            }
        }
    }

    pub(super) fn upsert(&self, field: &str, value: &str) -> Result<Done, ApiError> {
        self.only_query(&["updateOnly"]);
        let given = self.object()?;
        let unless_after = self.unless_after()?;
        let update_only = self.call.query("updateOnly") == Some("true");
        let done = {
            let mut contacts = self.org.contacts.lock();
            let field = self.external(&contacts, field)?;
            if given.keys().any(|name| name.eq_ignore_ascii_case(&field.name)) {
                let message =
                    format!("The {} field should not be specified in the sobject data.", field.name);
                return Err(ApiError::write("INVALID_FIELD", message, &[&field.name])
                    .violating("the external id of the path is a member of the body"));
            }
            let matched = match self.the_one(&contacts, &field, value) {
                Err(several) => return Ok(several),
                Ok(matched) => matched,
            };
            if matched.is_none() && update_only {
                return Err(ApiError::not_found());
            }
            self.put(&mut contacts, &field, value, matched, &given, unless_after)?
        };
        match done {
            Upserted::Created(number) => {
                self.tell(&[number]);
                Ok(self.created(number, true))
            }
            Upserted::Updated(number) => {
                self.tell(&[number]);
                if self.version() < 46 || self.org.settings.read().upserts_are_quiet {
                    return Ok(Done::empty(StatusCode::NO_CONTENT));
                }
                let id = ids::id(ids::CONTACT, number);
                let body = json!({ "id": id, "success": true, "errors": [], "created": false });
                Ok(Done::json(StatusCode::OK, &body))
            }
        }
    }

    /// Creates or updates, and lets the org act on it.
    pub(super) fn put(
        &self,
        contacts: &mut Contacts,
        field: &Field,
        value: &str,
        matched: Option<u64>,
        given: &Map<String, Value>,
        unless_after: Option<i64>,
    ) -> Result<Upserted, ApiError> {
        let actor = self.actor();
        let done = match matched {
            Some(number) => {
                contacts.update(number, given, &actor, unless_after)?;
                Upserted::Updated(number)
            }
            None => {
                let mut given = given.clone();
                let value = if field.kind.is_number() {
                    serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))
                } else {
                    value.into()
                };
                given.insert(field.name.to_string(), value);
                Upserted::Created(contacts.create(&given, &actor)?)
            }
        };
        let (Upserted::Created(number) | Upserted::Updated(number)) = done;
        self.settle(contacts, number);
        Ok(done)
    }
}
