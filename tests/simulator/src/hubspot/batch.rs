//! Batches of contacts: one call for the quotas, up to a hundred inputs.
//!
//! Reads and updates answer 207 when some inputs do not exist. A create is all or nothing, unless every input has an
//! `objectWriteTraceId`: then it answers 207 row by row. An upsert answers 207 row by row, except by e-mail.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::contact::{Contact, Entry, Shown, View};
use super::contacts::{Event, Problem};
use super::errors::ApiError;
use super::{Context, Done};
use crate::clock::iso;

/// Inputs of a batch at most.
const INPUTS: usize = 100;

/// One input of a write.
struct Input {
    id: String,
    id_property: Option<String>,
    properties: Vec<(String, String)>,
    trace: Option<String>,
}

/// One row of an answer.
struct Row {
    contact: Arc<Contact>,
    new: Option<bool>,
    trace: Option<String>,
    history: Option<Vec<(Arc<str>, Vec<Entry>)>>,
}

impl Row {
    fn of(contact: Arc<Contact>) -> Self {
        Self { contact, new: None, trace: None, history: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchBody<'a> {
    status: &'static str,
    results: Vec<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_errors: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Value>>,
    started_at: String,
    completed_at: String,
}

impl Context<'_> {
    fn batch_body(&self, known: &[&str]) -> Result<Map<String, Value>, ApiError> {
        let body = self.object(known)?;
        match body.get("inputs").and_then(Value::as_array) {
            None => {
                self.violation("inputs is missing or not an array");
                Err(ApiError::missing_member("BatchInput", "inputs"))
            }
            Some(inputs) if inputs.len() > INPUTS => {
                self.violation(format!("a batch of more than {INPUTS} inputs"));
                Err(ApiError::validation(format!(
                    "Maximum batch size exceeded: {} inputs, at most {INPUTS} are allowed",
                    inputs.len()
                )))
            }
            Some(_) => Ok(body),
        }
    }

    fn inputs<'b>(
        &self,
        body: &'b Map<String, Value>,
        known: &[&str],
    ) -> Result<Vec<&'b Map<String, Value>>, ApiError> {
        let inputs = body.get("inputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        inputs
            .iter()
            .map(|input| {
                let input = input.as_object().ok_or_else(|| {
                    self.violation("an input is not an object");
                    ApiError::invalid_json("inputs must be objects")
                })?;
                self.only_members(input, known, "/inputs");
                Ok(input)
            })
            .collect()
    }

    fn input_id(&self, input: &Map<String, Value>) -> Result<String, ApiError> {
        match input.get("id") {
            Some(Value::String(id)) => Ok(id.clone()),
            Some(Value::Number(id)) => {
                self.violation("the id of an input is not a string");
                Ok(id.to_string())
            }
            _ => {
                self.violation("an input has no id");
                Err(ApiError::missing_member("BatchInput", "id"))
            }
        }
    }

    fn writes(&self, known: &[&str], with_id: bool) -> Result<Vec<Input>, ApiError> {
        let body = self.batch_body(&["inputs"])?;
        self.inputs(&body, known)?
            .into_iter()
            .map(|input| {
                let text = |name: &str| input.get(name).and_then(Value::as_str).map(str::to_owned);
                Ok(Input {
                    id: if with_id { self.input_id(input)? } else { String::new() },
                    id_property: text("idProperty"),
                    properties: self.properties(input, "BatchInput")?,
                    trace: text("objectWriteTraceId"),
                })
            })
            .collect()
    }

    fn batch_answer(&self, success: StatusCode, shown: &Shown, rows: &[Row], errors: Vec<Value>) -> Done {
        let results = rows
            .iter()
            .map(|row| {
                let mut view = View::new(&row.contact, shown, self.account.portal);
                view.new = row.new;
                view.trace = row.trace.as_deref();
                view.history.clone_from(&row.history);
                view
            })
            .collect();
        let failed = !errors.is_empty();
        let body = BatchBody {
            status: "COMPLETE",
            results,
            num_errors: failed.then_some(errors.len()),
            errors: failed.then_some(errors),
            started_at: iso(self.now),
            completed_at: iso(self.world().clock.now()),
        };
        Done::json(if failed { StatusCode::MULTI_STATUS } else { success }, &body)
    }

    fn missing_ids(ids: &[String]) -> Vec<Value> {
        if ids.is_empty() {
            return Vec::new();
        }
        vec![json!({
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
            "context": { "ids": ids },
            "errors": [],
            "links": {},
        })]
    }

    fn row_error(&self, problem: Problem, input: &Input) -> Value {
        let mut error = self.refuse(problem).without("status").into_body("");
        if let Some(error) = error.as_object_mut() {
            error.shift_remove("correlationId");
            error.insert("status".into(), "error".into());
            let mut context = json!({ "ids": [input.id] });
            if let (Some(trace), Some(context)) = (&input.trace, context.as_object_mut()) {
                context.insert("objectWriteTraceId".into(), json!([trace]));
            }
            error.insert("context".into(), context);
            error.insert("links".into(), json!({}));
            if !error.contains_key("errors") {
                error.insert("errors".into(), json!([]));
            }
            if !error.contains_key("category") {
                error.insert("category".into(), "OBJECT_NOT_FOUND".into());
            }
        }
        error
    }

    pub(super) fn batch_read(&self) -> Result<Done, ApiError> {
        self.only_query(&["archived"]);
        let archived = self.flag("archived");
        let body = self.batch_body(&["inputs", "properties", "propertiesWithHistory", "idProperty"])?;
        let names = |member: &str| -> Result<Vec<&str>, ApiError> {
            match body.get(member) {
                None => Ok(Vec::new()),
                Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                    Ok(list.iter().filter_map(Value::as_str).collect())
                }
                Some(_) => {
                    self.violation(format!("{member} is not an array of strings"));
                    Err(ApiError::invalid_json(&format!("{member} must be an array of strings")))
                }
            }
        };
        let (properties, with_history) = (names("properties")?, names("propertiesWithHistory")?);
        let id_property = body.get("idProperty").and_then(Value::as_str);
        let (mut rows, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let mut events = Vec::new();
        let shown = {
            let mut contacts = self.account.contacts.lock();
            for input in self.inputs(&body, &["id"])? {
                let id = self.input_id(input)?;
                let found = self.identify(&contacts, &id, id_property).or_else(|error| {
                    // An id that is no number does not exist, like any other.
                    if id_property.is_none() { Ok(None) } else { Err(error) }
                })?;
                let found = found.and_then(|id| {
                    if archived { contacts.get_archived(id).cloned() } else { contacts.get(id).cloned() }
                });
                match found {
                    Some(contact) if seen.insert(contact.id) => {
                        let history = self.histories(&contacts, contact.id, &with_history);
                        events.extend(self.after_read(&mut contacts, contact.id).0);
                        rows.push(Row { history, ..Row::of(contact) });
                    }
                    Some(_) => {}
                    None => missing.push(id),
                }
            }
            self.shown(&contacts, properties.into_iter())
        };
        super::webhooks::tell(self.world(), &self.account.app, self.account.portal, events, false);
        Ok(self.batch_answer(StatusCode::OK, &shown, &rows, Self::missing_ids(&missing)))
    }

    pub(super) fn batch_create(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let inputs = self.writes(&["properties", "associations", "objectWriteTraceId"], false)?;
        let by_row = inputs.iter().all(|input| input.trace.is_some());
        let (mut rows, mut errors, mut events) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut contacts = self.account.contacts.lock();
            if !by_row {
                self.rehearse(&contacts, &inputs)?;
            }
            for input in &inputs {
                let rules = self.account.rules(&self.world().dice);
                match contacts.create(&input.properties, &self.account.integration, self.now, rules) {
                    Ok(changed) => {
                        let settled = self.settle(&mut contacts, changed);
                        events.extend(settled.events);
                        rows.push(Row { trace: input.trace.clone(), ..Row::of(settled.contact) });
                    }
                    Err(problem) => errors.push(self.row_error(problem, input)),
                }
            }
        }
        let tickets = self.announce(events);
        Ok(self.batch_answer(StatusCode::CREATED, &Shown::Stored, &rows, errors).after(tickets))
    }

    /// Refuses a whole batch of creates when one of them would fail.
    fn rehearse(&self, contacts: &super::contacts::Contacts, inputs: &[Input]) -> Result<(), ApiError> {
        let mut addresses = HashSet::new();
        for input in inputs {
            contacts.would_create(&input.properties).map_err(|problem| self.refuse(problem))?;
            let address = input.properties.iter().find(|(name, _)| name == "email");
            if let Some((_, address)) = address
                && !address.is_empty()
                && !addresses.insert(address.trim().to_lowercase())
            {
                return Err(ApiError::validation(format!(
                    "Duplicate values found in batch for unique property email: {address}"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn batch_update(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let inputs = self.writes(&["id", "idProperty", "properties", "objectWriteTraceId"], true)?;
        let (mut rows, mut missing, mut events) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut contacts = self.account.contacts.lock();
            let mut found = Vec::with_capacity(inputs.len());
            for input in &inputs {
                let id = self.identify(&contacts, &input.id, input.id_property.as_deref())?;
                found.push(id.and_then(|id| contacts.get(id)).map(|contact| contact.id));
            }
            for (input, id) in inputs.iter().zip(&found) {
                if let Some(id) = id {
                    contacts.would_update(*id, &input.properties).map_err(|problem| self.refuse(problem))?;
                }
            }
            for (input, id) in inputs.iter().zip(found) {
                let Some(id) = id else {
                    missing.push(input.id.clone());
                    continue;
                };
                let rules = self.account.rules(&self.world().dice);
                let changed = contacts
                    .update(id, &input.properties, &self.account.integration, self.now, rules)
                    .map_err(|problem| self.refuse(problem))?;
                let settled = self.settle(&mut contacts, changed);
                events.extend(settled.events);
                rows.push(Row { trace: input.trace.clone(), ..Row::of(settled.contact) });
            }
        }
        let tickets = self.announce(events);
        let errors = Self::missing_ids(&missing);
        Ok(self.batch_answer(StatusCode::OK, &Shown::Stored, &rows, errors).after(tickets))
    }

    pub(super) fn batch_upsert(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let inputs = self.writes(&["id", "idProperty", "properties", "objectWriteTraceId"], true)?;
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        let mut events: Vec<Event> = Vec::new();
        {
            let mut contacts = self.account.contacts.lock();
            for input in &inputs {
                let Some(key) = input.id_property.as_deref() else {
                    self.violation("an upsert input without idProperty");
                    return Err(ApiError::validation(
                        "idProperty must be given for every input of an upsert",
                    ));
                };
                let found = self.identify(&contacts, &input.id, Some(key))?;
                let mut given = input.properties.clone();
                let rules = self.account.rules(&self.world().dice);
                let result = match found {
                    Some(id) => contacts.update(id, &given, &self.account.integration, self.now, rules),
                    None => {
                        if !given.iter().any(|(name, _)| name == key) {
                            given.push((key.to_owned(), input.id.clone()));
                        }
                        contacts.create(&given, &self.account.integration, self.now, rules)
                    }
                };
                match result {
                    Ok(changed) => {
                        let settled = self.settle(&mut contacts, changed);
                        events.extend(settled.events);
                        rows.push(Row {
                            new: Some(found.is_none()),
                            trace: input.trace.clone(),
                            ..Row::of(settled.contact)
                        });
                    }
                    Err(problem) => errors.push(self.row_error(problem, input)),
                }
            }
        }
        let tickets = self.announce(events);
        Ok(self.batch_answer(StatusCode::OK, &Shown::Stored, &rows, errors).after(tickets))
    }

    pub(super) fn batch_archive(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let body = self.batch_body(&["inputs"])?;
        let mut events = Vec::new();
        for input in self.inputs(&body, &["id"])? {
            let id = self.input_id(input)?;
            let id: u64 = id.parse().map_err(|_| ApiError::not_numeric(&id))?;
            let mut contacts = self.account.contacts.lock();
            if let Some(changed) = contacts.archive(id, &self.account.integration, self.now) {
                events.extend(changed.events);
            }
        }
        Ok(Done::empty().after(self.announce(events)))
    }
}
