//! The list of persons: filters, three orders, and cursors that name the first person of the next page.
//!
//! A page begins at a place in the order, not at a count of rows: a person that changes during a walk by `update_time`
//! comes again later, and one that was passed is not skipped. Deleted persons are in no list.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errors::Refusal;
use super::person::Person;
use super::persons::Persons;
use super::{Context, Done};
use crate::clock::{iso, parse_instant};

const QUERY: &[&str] = &[
    "filter_id",
    "ids",
    "owner_id",
    "org_id",
    "deal_id",
    "updated_since",
    "updated_until",
    "sort_by",
    "sort_direction",
    "include_fields",
    "custom_fields",
    "include_option_labels",
    "include_labels",
    "limit",
    "cursor",
];

/// Ids that can be asked for at once.
const IDS: usize = 100;

/// What is in a cursor, as the example of the specification has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cursor {
    field: String,
    field_value: Value,
    sort_direction: String,
    id: u64,
}

pub(super) fn encoded<T: Serialize>(cursor: &T) -> String {
    // A struct of texts and numbers always becomes JSON.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

pub(super) fn decoded<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Which persons, and in which order.
struct Wanted {
    ids: Option<Vec<u64>>,
    owner: Option<u64>,
    org: Option<u64>,
    nobody: bool,
    since: i64,
    until: i64,
    field: String,
    descending: bool,
    /// The first place of the page in the order.
    from: Option<(i64, u64)>,
    limit: usize,
}

impl Wanted {
    fn fits(&self, person: &Person) -> bool {
        !self.nobody
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&person.id))
            && self.owner.is_none_or(|owner| owner == person.owner)
            && self.org.is_none_or(|org| Some(org) == person.org)
            && (self.since..self.until).contains(&person.updated)
    }

    fn place(&self, person: &Person) -> (i64, u64) {
        let value = match self.field.as_str() {
            "update_time" => person.updated,
            "add_time" => person.added,
            _ => 0,
        };
        (value, person.id)
    }

    /// The rows of the page and the one after it.
    fn page(&self, persons: &Persons, now: i64) -> (Vec<Arc<Person>>, Option<Arc<Person>>) {
        let behind = |person: &Person| match self.from {
            None => true,
            Some(from) if self.descending => self.place(person) <= from,
            Some(from) => self.place(person) >= from,
        };
        let mut rows = Vec::new();
        let mut take = |person: &Arc<Person>| {
            if person.deleted.is_none() && self.fits(person) && behind(person) {
                rows.push(person.clone());
            }
            rows.len() <= self.limit
        };
        if self.field == "update_time" {
            // Only what was changed since is looked at.
            let from = if self.descending { self.since } else { self.from.map_or(self.since, |from| from.0) };
            let ids = persons.since(from.max(self.since)).map(|(_, id)| *id);
            let ids: Box<dyn Iterator<Item = u64>> =
                if self.descending { Box::new(ids.rev()) } else { Box::new(ids) };
            for person in ids.filter_map(|id| persons.live(id)) {
                if !take(person) {
                    break;
                }
            }
        } else {
            let mut all: Vec<&Arc<Person>> = persons.all(now).collect();
            all.sort_by_key(|person| self.place(person));
            if self.descending {
                all.reverse();
            }
            for person in all {
                if !take(person) {
                    break;
                }
            }
        }
        let next = if rows.len() > self.limit { rows.pop() } else { None };
        (rows, next)
    }

    fn cursor(&self, next: &Person) -> String {
        let field_value = match self.field.as_str() {
            "update_time" => iso(next.updated).into(),
            "add_time" => iso(next.added).into(),
            _ => next.id.into(),
        };
        let sort_direction = if self.descending { "desc" } else { "asc" };
        encoded(&Cursor {
            field: self.field.clone(),
            field_value,
            sort_direction: sort_direction.to_owned(),
            id: next.id,
        })
    }
}

impl Context<'_> {
    /// A moment of a query: whole seconds only.
    fn moment(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.call.query(name) else { return Ok(None) };
        let moment = parse_instant(text).filter(|_| !text.contains('.'));
        moment.map(Some).ok_or_else(|| self.wrong_query(name, "not a valid datetime"))
    }

    fn one_of(&self, name: &str, known: &[&str]) -> Result<Option<String>, Refusal> {
        match self.call.query(name) {
            None => Ok(None),
            Some(text) if known.contains(&text) => Ok(Some(text.to_owned())),
            Some(_) => Err(self.wrong_query(name, "Invalid enum value")),
        }
    }

    fn wanted(&self) -> Result<Wanted, Refusal> {
        let ids: Vec<u64> = self
            .call
            .list("ids")
            .map(|id| id.parse().map_err(|_| self.wrong_query("ids", "Expected numbers")))
            .collect::<Result<_, _>>()?;
        if ids.len() > IDS {
            return Err(self.wrong_query("ids", "A maximum of 100 ids is allowed"));
        }
        if self.whole("filter_id")?.is_some() {
            return Err(Refusal::not_found("Filter"));
        }
        let mut field = self.one_of("sort_by", &["id", "update_time", "add_time"])?;
        let mut direction = self.one_of("sort_direction", &["asc", "desc"])?;
        let mut from = None;
        if let Some(text) = self.call.query("cursor") {
            let wrong = || self.wrong_query("cursor", "Invalid cursor");
            let cursor: Cursor = decoded(text).ok_or_else(wrong)?;
            let at = match &cursor.field_value {
                Value::String(moment) => parse_instant(moment).ok_or_else(wrong)?,
                _ => 0,
            };
            let same =
                |asked: &Option<String>, held: &str| asked.as_deref().is_none_or(|asked| asked == held);
            if !same(&field, &cursor.field) || !same(&direction, &cursor.sort_direction) {
                return Err(wrong());
            }
            from = Some((at, cursor.id));
            field = Some(cursor.field);
            direction = Some(cursor.sort_direction);
        }
        Ok(Wanted {
            ids: self.call.query("ids").is_some().then_some(ids),
            owner: self.whole("owner_id")?,
            org: self.whole("org_id")?,
            // There are no deals here, so nobody is linked to one.
            nobody: self.whole("deal_id")?.is_some(),
            since: self.moment("updated_since")?.unwrap_or(i64::MIN),
            until: self.moment("updated_until")?.unwrap_or(i64::MAX),
            field: field.unwrap_or_else(|| "id".to_owned()),
            descending: direction.as_deref() == Some("desc"),
            from,
            limit: self.limit()?,
        })
    }

    pub(super) fn list(&self) -> Result<Done, Refusal> {
        self.only_query(QUERY);
        let shown = self.shown()?;
        let wanted = self.wanted()?;
        let persons = self.account.persons.lock();
        let (rows, next) = wanted.page(&persons, self.now);
        let data: Vec<Value> = rows.iter().map(|person| person.view(&persons.fields, &shown)).collect();
        Ok(Done::json(
            StatusCode::OK,
            &json!({
                "success": true,
                "data": data,
                "additional_data": { "next_cursor": next.map(|next| wanted.cursor(&next)) },
            }),
        ))
    }
}
