//! The fields of persons, over API v2.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errors::Refusal;
use super::fields::{Choice, Field, Fields};
use super::listing::{decoded, encoded};
use super::writing::one;
use super::{Context, Done};
use crate::dice::Dice;
use crate::operation::Operation;

const DETAILS: &[&str] = &["ui_visibility", "important_fields", "required_fields"];

#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    start: usize,
}

/// A key of forty characters, as each account makes its own.
pub(super) fn key(dice: &Dice) -> String {
    let mut key = dice.uuid().simple().to_string();
    key.push_str(&format!("{:08x}", dice.next() >> 32));
    key
}

impl Context<'_> {
    /// A field as it is shown, with the details that are asked for.
    fn field(&self, mut view: Value) -> Result<Value, Refusal> {
        for name in self.call.list("include_fields") {
            let detail = match name {
                "ui_visibility" => json!({
                    "add_visible_flag": false,
                    "details_visible_flag": true,
                    "show_in_add_deal_dialog": { "show": false, "order": null },
                }),
                "important_fields" => json!({ "enabled": false, "stage_ids": [] }),
                "required_fields" => json!({ "enabled": false }),
                _ => return Err(self.wrong_query("include_fields", "Invalid enum value")),
            };
            if let Some(view) = view.as_object_mut() {
                view.insert(name.to_owned(), detail);
            }
        }
        Ok(view)
    }

    pub(super) fn list_fields(&self) -> Result<Done, Refusal> {
        self.only_query(&["include_fields", "limit", "cursor"]);
        let limit = self.limit()?;
        let start = match self.call.query("cursor") {
            None => 0,
            Some(text) => {
                let cursor: Option<Cursor> = decoded(text);
                cursor.ok_or_else(|| self.wrong_query("cursor", "Invalid cursor"))?.start
            }
        };
        let persons = self.account.persons.lock();
        let synced = self.account.settings().contact_sync.then(Fields::synced);
        let all: Vec<&Field> = persons.fields.all().iter().chain(synced.iter().flatten()).collect();
        let more = all.len() > start.saturating_add(limit);
        let next = more.then(|| encoded(&Cursor { start: start + limit }));
        let page = all.iter().skip(start).take(limit);
        let data: Vec<Value> = page.map(|field| self.field(field.view())).collect::<Result<_, _>>()?;
        Ok(Done::json(
            StatusCode::OK,
            &json!({ "success": true, "data": data, "additional_data": { "next_cursor": next } }),
        ))
    }

    pub(super) fn read_field(&self, code: &str) -> Result<Done, Refusal> {
        self.only_query(&["include_fields"]);
        let persons = self.account.persons.lock();
        let field = persons.fields.get(code).ok_or_else(|| Refusal::not_found("Field"))?;
        Ok(Done::json(StatusCode::OK, &one(&self.field(field.view())?)))
    }

    fn only_members(&self, body: &serde_json::Map<String, Value>, known: &[&str]) {
        for name in
            body.keys().filter(|name| !known.contains(&name.as_str()) && !DETAILS.contains(&name.as_str()))
        {
            self.violation(format!("unknown member {name}"));
        }
    }

    pub(super) fn create_field(&self) -> Result<Done, Refusal> {
        let mut body = self.object()?;
        self.only_members(&body, &["field_name", "field_type", "options"]);
        // Only the control API may choose the key.
        body.shift_remove("field_code");
        let field = self.account.persons.lock().fields.define(&body, key(&self.world().dice))?;
        Ok(Done::json(StatusCode::OK, &one(&field.view())))
    }

    pub(super) fn update_field(&self, code: &str) -> Result<Done, Refusal> {
        let body = self.object()?;
        self.only_members(&body, &["field_name"]);
        let mut persons = self.account.persons.lock();
        let field = match body.get("field_name").and_then(Value::as_str) {
            Some(name) => persons.fields.rename(code, name)?,
            None => persons.fields.get(code).cloned().ok_or_else(|| Refusal::not_found("Field"))?,
        };
        Ok(Done::json(StatusCode::OK, &one(&field.view())))
    }

    pub(super) fn delete_field(&self, code: &str) -> Result<Done, Refusal> {
        let field = self.account.persons.lock().fields.remove(code)?;
        Ok(Done::json(StatusCode::OK, &one(&field.view())))
    }

    pub(super) fn change_options(&self, code: &str) -> Result<Done, Refusal> {
        let given = self.json()?;
        let mut persons = self.account.persons.lock();
        let changed: Vec<Choice> = match self.operation {
            Operation::PersonOptionsAdd => persons.fields.add_choices(code, &given)?,
            Operation::PersonOptionsUpdate => persons.fields.rename_choices(code, &given)?,
            _ => persons.fields.remove_choices(code, &given)?,
        };
        let data: Vec<Value> =
            changed.iter().map(|choice| json!({ "id": choice.id, "label": choice.label })).collect();
        Ok(Done::json(StatusCode::OK, &json!({ "success": true, "data": data, "additional_data": null })))
    }
}
