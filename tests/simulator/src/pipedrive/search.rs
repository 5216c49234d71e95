//! The search for persons: a term in names, addresses, numbers, notes and some custom fields, in the index.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errors::Refusal;
use super::fields::{Fields, SEARCHABLE};
use super::listing::{decoded, encoded};
use super::person::Person;
use super::values;
use super::{Context, Done};

const QUERY: &[&str] =
    &["term", "fields", "exact_match", "organization_id", "include_fields", "limit", "cursor"];

const FIELDS: &[&str] = &["custom_fields", "email", "notes", "phone", "name"];

#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    start: usize,
}

/// The texts of a person in a field of the search.
fn texts(person: &Person, fields: &Fields, name: &str) -> Vec<String> {
    match name {
        "name" => vec![person.name.whole.clone()],
        "email" => person.emails.iter().map(|channel| channel.value.clone()).collect(),
        "phone" => person.phones.iter().map(|channel| channel.value.clone()).collect(),
        "notes" => person.synced.get("notes").and_then(values::searched).into_iter().collect(),
        _ => fields
            .custom()
            .filter(|field| SEARCHABLE.contains(&field.kind.as_str()))
            .filter_map(|field| person.custom.get(&field.code).and_then(values::searched))
            .collect(),
    }
}

/// How well a text fits the term, both in small letters: whole, from its beginning, or somewhere.
fn score(text: &str, term: &str, exact: bool) -> Option<f64> {
    let text = text.to_lowercase();
    if text == term {
        Some(1.0)
    } else if exact {
        None
    } else if text.starts_with(term) {
        Some(0.75)
    } else {
        text.contains(term).then_some(0.5)
    }
}

impl Context<'_> {
    pub(super) fn search(&self) -> Result<Done, Refusal> {
        self.only_query(QUERY);
        let exact = self.flag("exact_match")?;
        let term = self.call.query("term").unwrap_or_default().trim().to_lowercase();
        let least = if exact { 1 } else { 2 };
        if term.chars().count() < least {
            return Err(self.wrong_query("term", &format!("must be at least {least} characters long")));
        }
        if self.call.list("fields").any(|name| !FIELDS.contains(&name)) {
            return Err(self.wrong_query("fields", "Invalid enum value"));
        }
        if self.call.list("include_fields").any(|name| name != "person.picture") {
            return Err(self.wrong_query("include_fields", "Invalid enum value"));
        }
        let named: Vec<&str> = self.call.list("fields").collect();
        let fields = if named.is_empty() { FIELDS.to_vec() } else { named };
        let organization = self.whole("organization_id")?;
        let limit = self.limit()?;
        let start = match self.call.query("cursor") {
            None => 0,
            Some(text) => {
                let cursor: Option<Cursor> = decoded(text);
                cursor.ok_or_else(|| self.wrong_query("cursor", "Invalid cursor"))?.start
            }
        };
        let mut persons = self.account.persons.lock();
        let rows: Vec<Arc<Person>> = persons.index.rows(self.now).cloned().collect();
        let mut found: Vec<(f64, Arc<Person>)> = rows
            .into_iter()
            .filter(|person| organization.is_none_or(|org| person.org == Some(org)))
            .filter_map(|person| {
                let texts = fields.iter().flat_map(|name| texts(&person, &persons.fields, name));
                let best = texts.filter_map(|text| score(&text, &term, exact)).reduce(f64::max)?;
                Some((best, person))
            })
            .collect();
        // The best first; among equals the oldest.
        found.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.id.cmp(&y.id)));
        let more = found.len() > start.saturating_add(limit);
        let next = more.then(|| encoded(&Cursor { start: start + limit }));
        let page = found.into_iter().skip(start).take(limit);
        let items: Vec<Value> =
            page.map(|(score, person)| self.item(score, &person, &persons.fields)).collect();
        Ok(Done::json(
            StatusCode::OK,
            &json!({
                "success": true,
                "data": { "items": items },
                "additional_data": { "next_cursor": next },
            }),
        ))
    }

    fn item(&self, score: f64, person: &Person, fields: &Fields) -> Value {
        let organization = person.org.map(|id| {
            let place = usize::try_from(id).unwrap_or(usize::MAX).saturating_sub(1);
            json!({ "id": id, "name": self.account.organizations.get(place), "address": null })
        });
        json!({
            "result_score": score,
            "item": {
                "id": person.id,
                "type": "person",
                "name": person.name.whole,
                "phones": texts(person, fields, "phone"),
                "emails": texts(person, fields, "email"),
                "visible_to": person.visible_to,
                "owner": { "id": person.owner },
                "organization": organization,
                "custom_fields": texts(person, fields, "custom_fields"),
                "notes": texts(person, fields, "notes"),
            },
        })
    }
}
