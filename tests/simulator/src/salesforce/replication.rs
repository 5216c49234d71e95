//! What was updated and what was deleted between two moments, which are taken by the minute.
//!
//! An answer says as `latestDateCovered` up to where it is complete: the next request begins there. What the org is still busy with
//! (setting `replicationLagSeconds`) is not told of yet.

use http::StatusCode;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::values::{parse_time, shown_time};
use super::{Context, Done, ids};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

fn minute(ms: i64) -> i64 {
    ms.div_euclid(MINUTE_MS) * MINUTE_MS
}

/// What is asked for, and up to where an answer is complete.
struct Span {
    from: i64,
    to: i64,
    covered: i64,
}

impl Context<'_> {
    fn moment(&self, name: &str) -> Result<i64, ApiError> {
        let Some(text) = self.call.query(name) else {
            return Err(ApiError::bad("MISSING_ARGUMENT", format!("{name} is missing"))
                .violating(format!("query parameter {name} is missing")));
        };
        parse_time(text).map(minute).ok_or_else(|| {
            ApiError::bad("INVALID_REPLICATION_DATE", format!("{name} is not a date and time"))
                .violating(format!("query parameter {name} is no moment"))
        })
    }

    fn span(&self, days: i64) -> Result<Span, ApiError> {
        self.only_query(&["start", "end"]);
        let (from, to) = (self.moment("start")?, self.moment("end")?);
        if from >= to {
            return Err(ApiError::bad("INVALID_REPLICATION_DATE", "startDate must be before endDate")
                .violating("start is not before end, by the minute"));
        }
        if from < minute(self.now) - days * DAY_MS {
            let message = format!("startDate cannot be more than {days} days ago");
            return Err(ApiError::bad("INVALID_REPLICATION_DATE", message));
        }
        let lag = i64::from(self.org.settings.read().replication_lag_seconds) * 1_000;
        let known = self.now - lag;
        Ok(Span { from, to: to.min(known + 1), covered: to.min(minute(known)) })
    }

    fn within(&self, count: usize) -> Result<(), ApiError> {
        let most = self.org.settings.read().replication_ids as usize;
        if count > most {
            let message = format!("exceeded max id limit: {most}");
            return Err(ApiError::bad("EXCEEDED_ID_LIMIT", message));
        }
        Ok(())
    }

    pub(super) fn updated(&self) -> Result<Done, ApiError> {
        let span = self.span(30)?;
        let contacts = self.org.contacts.lock();
        let ids: Vec<String> = contacts
            .changed(span.from, span.to)
            .filter(|contact| contact.live())
            .map(super::contact::Contact::id)
            .collect();
        self.within(ids.len())?;
        let body = json!({ "ids": ids, "latestDateCovered": shown_time(span.covered) });
        Ok(Done::json(StatusCode::OK, &body))
    }

    pub(super) fn removed(&self) -> Result<Done, ApiError> {
        let span = self.span(super::contacts::BIN_DAYS)?;
        let contacts = self.org.contacts.lock();
        let records: Vec<Value> = contacts
            .removed(span.from, span.to)
            .map(|(number, at)| json!({ "deletedDate": shown_time(at), "id": ids::id(ids::CONTACT, number) }))
            .collect();
        self.within(records.len())?;
        let body = json!({
            "deletedRecords": records,
            "earliestDateAvailable": shown_time(contacts.earliest(self.now)),
            "latestDateCovered": shown_time(span.covered),
        });
        Ok(Done::json(StatusCode::OK, &body))
    }
}
