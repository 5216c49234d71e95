//! Several contacts in one request: up to two hundred, each with a result of its own, or all or none.

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::contacts::Contacts;
use super::errors::ApiError;
use super::rows::Upserted;
use super::{Context, Done, ids};
use crate::writes::{NotedWrite, Writes};

/// Records in one request at most.
const MOST: usize = 200;

fn too_many() -> ApiError {
    ApiError::bad(
        "EXCEEDED_ID_LIMIT",
        "record limit reached. cannot submit more than 200 records in this operation",
    )
    .violating("more than 200 records in one request")
}

fn row(id: &str, created: Option<bool>) -> Value {
    let mut row = json!({ "id": id, "success": true, "errors": [] });
    if let (Some(created), Some(row)) = (created, row.as_object_mut()) {
        row.insert("created".to_owned(), created.into());
    }
    row
}

/// What was done is undone: its results say so.
fn take_back(rows: &mut [Value]) {
    let message =
        "Record rolled back because not all records were valid and the request was using AllOrNone header";
    let undone = ApiError::write("ALL_OR_NONE_OPERATION_ROLLED_BACK", message, &[]).row();
    for row in rows.iter_mut().filter(|row| row.get("success") == Some(&Value::Bool(true))) {
        row.clone_from(&undone);
    }
}

/// A record of a body: its type is looked at, its id taken out.
fn record(value: &Value) -> Result<(Option<String>, Map<String, Value>), ApiError> {
    let Value::Object(record) = value else {
        return Err(ApiError::bad("JSON_PARSER_ERROR", "a record is not an object")
            .violating("a record is not an object"));
    };
    let mut record = record.clone();
    let kind = record.get("attributes").and_then(|attributes| attributes.get("type")).and_then(Value::as_str);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("Contact")) {
        let error = ApiError::bad("INVALID_TYPE", "sObject type attribute is missing or not supported");
        return Err(error.violating("a record does not say that it is a contact"));
    }
    let name = record.keys().find(|name| name.eq_ignore_ascii_case("id")).cloned();
    let id = name.and_then(|name| record.shift_remove(&name)).and_then(|id| id.as_str().map(str::to_owned));
    Ok((id, record))
}

impl Context<'_> {
    fn records(&self) -> Result<(bool, Vec<Value>), ApiError> {
        let body = self.object()?;
        for name in body.keys().filter(|name| !["allOrNone", "records"].contains(&name.as_str())) {
            self.violation(format!("unknown member /{name}"));
        }
        let all = body.get("allOrNone").and_then(Value::as_bool).unwrap_or(false);
        match body.get("records") {
            Some(Value::Array(records)) if records.len() > MOST => Err(too_many()),
            Some(Value::Array(records)) if !records.is_empty() => Ok((all, records.clone())),
            _ => Err(ApiError::bad("REQUIRED_FIELD_MISSING", "records is missing or empty")
                .violating("records is missing or empty")),
        }
    }

    /// Does something with each, and takes everything back when all or none was asked for and one was refused.
    fn each(
        &self,
        all: bool,
        count: usize,
        mut deed: impl FnMut(&mut Contacts, usize) -> Result<(u64, Option<bool>), ApiError>,
        told: bool,
    ) -> Done {
        let mut rows = Vec::with_capacity(count);
        let mut numbers = Vec::with_capacity(count);
        {
            let mut contacts = self.org.contacts.lock();
            let before = all.then(|| contacts.clone());
            if all {
                // Noted apart until it is known whether anything stays.
                let mut apart = Writes::default();
                apart.keep(true);
                contacts.writes = Arc::new(Mutex::new(apart));
            }
            for n in 0..count {
                match deed(&mut contacts, n) {
                    Ok((number, created)) => {
                        numbers.push(number);
                        rows.push(row(&ids::id(ids::CONTACT, number), created));
                    }
                    Err(error) => {
                        if let Some(reason) = &error.violation {
                            self.violation(reason.clone());
                        }
                        rows.push(error.row());
                    }
                }
            }
            if let Some(before) = before {
                let stays = numbers.len() == count;
                for write in contacts.writes.lock().all() {
                    before.writes.lock().note(|| NotedWrite { taken: write.taken && stays, ..write });
                }
                if stays {
                    contacts.writes = before.writes;
                } else {
                    *contacts = before;
                    numbers.clear();
                    take_back(&mut rows);
                }
            }
        }
        if told {
            self.tell(&numbers);
        }
        Done::json(StatusCode::OK, &rows)
    }

    pub(super) fn create_many(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let (all, records) = self.records()?;
        let actor = self.actor();
        let deed = |contacts: &mut Contacts, n: usize| {
            let (id, given) = record(records.get(n).unwrap_or(&Value::Null))?;
            if id.is_some() {
                let message = "cannot specify Id in an insert call";
                return Err(ApiError::write("INVALID_FIELD_FOR_INSERT_UPDATE", message, &["Id"]));
            }
            let number = contacts.create(&given, &actor)?;
            self.settle(contacts, number);
            Ok((number, None))
        };
        Ok(self.each(all, records.len(), deed, true))
    }

    pub(super) fn update_many(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let (all, records) = self.records()?;
        let actor = self.actor();
        let deed = |contacts: &mut Contacts, n: usize| {
            let (id, given) = record(records.get(n).unwrap_or(&Value::Null))?;
            let Some(id) = id else {
                let message = "Id not specified in an update call";
                return Err(ApiError::write("MISSING_ARGUMENT", message, &["Id"])
                    .violating("a record without its id"));
            };
            let number = self.number(&id)?;
            contacts.update(number, &given, &actor, None)?;
            self.settle(contacts, number);
            Ok((number, None))
        };
        Ok(self.each(all, records.len(), deed, true))
    }

    pub(super) fn upsert_many(&self, field: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let (all, records) = self.records()?;
        let field = self.external(&self.org.contacts.lock(), field)?;
        let deed = |contacts: &mut Contacts, n: usize| {
            let (_, mut given) = record(records.get(n).unwrap_or(&Value::Null))?;
            let name = given.keys().find(|name| name.eq_ignore_ascii_case(&field.name)).cloned();
            let value = match name.and_then(|name| given.shift_remove(&name)) {
                Some(Value::String(value)) if !value.is_empty() => value,
                Some(Value::Number(value)) => value.to_string(),
                _ => {
                    let message = format!("{} not specified", field.name);
                    return Err(ApiError::write("MISSING_ARGUMENT", message, &[]));
                }
            };
            let mut numbers = contacts.find(&field, &value);
            if numbers.len() > 1 {
                let message = format!("{}: more than one record found for external id field", field.name);
                return Err(ApiError::write("DUPLICATE_EXTERNAL_ID", message, &[]));
            }
            Ok(match self.put(contacts, &field, &value, numbers.pop(), &given, None)? {
                Upserted::Created(number) => (number, Some(true)),
                Upserted::Updated(number) => (number, Some(false)),
            })
        };
        Ok(self.each(all, records.len(), deed, true))
    }

    pub(super) fn delete_many(&self) -> Result<Done, ApiError> {
        self.only_query(&["ids", "allOrNone"]);
        let all = self.call.query("allOrNone") == Some("true");
        let ids: Vec<&str> = self.call.list("ids").collect();
        if ids.len() > MOST {
            return Err(too_many());
        }
        let actor = self.actor();
        let deed = |contacts: &mut Contacts, n: usize| {
            let number = self.number(ids.get(n).copied().unwrap_or_default())?;
            contacts.delete(number, &actor).map(|()| (number, None))
        };
        Ok(self.each(all, ids.len(), deed, false))
    }

    pub(super) fn read_many(&self) -> Result<Done, ApiError> {
        self.only_query(&["ids", "fields"]);
        let texts = |value: Option<&Value>| -> Vec<String> {
            value
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let (ids, fields) = if self.call.method == http::Method::POST {
            let body = self.object()?;
            (texts(body.get("ids")), texts(body.get("fields")))
        } else {
            let list =
                |name: &'static str| -> Vec<String> { self.call.list(name).map(str::to_owned).collect() };
            (list("ids"), list("fields"))
        };
        if ids.len() > 2_000 {
            return Err(too_many());
        }
        let contacts = self.org.contacts.lock();
        let fields = self.fields(&contacts, fields.iter().map(String::as_str))?;
        let rows: Vec<Value> = ids
            .iter()
            .map(|id| match self.number(id).and_then(|number| contacts.live(number)) {
                Ok(contact) => Value::Object(contact.row(self.version, &fields)),
                Err(_) => Value::Null,
            })
            .collect();
        Ok(Done::json(StatusCode::OK, &rows))
    }
}
