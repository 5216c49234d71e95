//! `query`, `queryAll` and the pages of their results.
//!
//! A result fixes which records it has and in which order; each page shows them as they are when it is fetched, without those that
//! were deleted in the meantime unless deleted ones were asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::contacts::Contacts;
use super::errors::ApiError;
use super::fields::Field;
use super::soql::{self, Shows};
use super::{Context, Done, ids, select};

/// Rows of a page at least and at most; an order in between is kept to here, and need not be.
const PAGE: std::ops::RangeInclusive<usize> = 200..=2_000;
/// How long a result is kept.
const KEPT_MS: i64 = 2 * 86_400_000;

#[derive(Debug)]
struct Cursor {
    number: u64,
    made: i64,
    rows: Vec<u64>,
    fields: Vec<Arc<Field>>,
    all: bool,
    page: usize,
}

/// Results that are kept for paging.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    last: u64,
    kept: VecDeque<Cursor>,
}

impl Context<'_> {
    fn page_size(&self) -> usize {
        let Some(header) = self.call.header("sforce-query-options") else { return *PAGE.end() };
        let size = header.split(',').find_map(|option| {
            let (name, value) = option.split_once('=')?;
            name.trim().eq_ignore_ascii_case("batchSize").then(|| value.trim().parse::<usize>().ok())?
        });
        match size {
            Some(size) if PAGE.contains(&size) => size,
            _ => {
                self.violation("batchSize is not a number from 200 to 2,000");
                size.unwrap_or(*PAGE.end()).clamp(*PAGE.start(), *PAGE.end())
            }
        }
    }

    pub(super) fn query(&self, all: bool) -> Result<Done, ApiError> {
        self.only_query(&["q"]);
        let Some(text) = self.call.query("q") else {
            return Err(ApiError::bad("MALFORMED_QUERY", "SOQL statement is missing").violating("no query"));
        };
        let contacts = self.org.contacts.lock();
        let query = soql::parse(text, &contacts.schema)?;
        let settings = *self.org.settings.read();
        let all = all || query.all;
        let rows = select::found(&contacts, &query, all, settings.scrambled_queries);
        let fields = match query.shows {
            Shows::Count => {
                return Ok(Done::json(
                    StatusCode::OK,
                    &json!({ "totalSize": rows.len(), "done": true, "records": [] }),
                ));
            }
            Shows::Fields(fields) => fields,
        };
        let mut cursors = self.org.cursors.lock();
        cursors.last += 1;
        let cursor =
            Cursor { number: cursors.last, made: self.now, rows, fields, all, page: self.page_size() };
        let done = self.page(&contacts, &cursor, 0);
        if cursor.rows.len() > cursor.page {
            cursors.kept.push_back(cursor);
            while cursors.kept.len() > settings.cursors.max(1) {
                cursors.kept.pop_front();
            }
        }
        Ok(done)
    }

    fn page(&self, contacts: &Contacts, cursor: &Cursor, from: usize) -> Done {
        let end = (from + cursor.page).min(cursor.rows.len());
        let records: Vec<Value> = cursor
            .rows
            .get(from..end)
            .unwrap_or_default()
            .iter()
            .filter_map(|number| contacts.records.get(number))
            .filter(|contact| contact.live() || cursor.all && !contact.purged)
            .map(|contact| Value::Object(contact.row(self.version, &cursor.fields)))
            .collect();
        let mut body = json!({ "totalSize": cursor.rows.len(), "done": end == cursor.rows.len() });
        if let Some(body) = body.as_object_mut() {
            if end < cursor.rows.len() {
                let locator = ids::id(ids::LOCATOR, cursor.number);
                let next = format!("/services/data/{}/query/{locator}-{end}", self.version);
                body.insert("nextRecordsUrl".to_owned(), next.into());
            }
            body.insert("records".to_owned(), records.into());
        }
        Done::json(StatusCode::OK, &body)
    }

    pub(super) fn more(&self, locator: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let unknown = || ApiError::bad("INVALID_QUERY_LOCATOR", "invalid query locator");
        let (id, from) = locator.split_once('-').ok_or_else(unknown)?;
        let number = ids::number(ids::LOCATOR, id).ok_or_else(unknown)?;
        let from: usize = from.parse().map_err(|_| unknown())?;
        let contacts = self.org.contacts.lock();
        let mut cursors = self.org.cursors.lock();
        cursors.kept.retain(|cursor| self.now - cursor.made < KEPT_MS);
        let cursor = cursors.kept.iter().find(|cursor| cursor.number == number).ok_or_else(unknown)?;
        if from >= cursor.rows.len() {
            return Err(unknown());
        }
        Ok(self.page(&contacts, cursor, from))
    }
}
