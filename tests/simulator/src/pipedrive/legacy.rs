//! What only API v1 has: who the caller is, merges, and what changed recently.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::delivery::{self, Event};
use super::errors::Refusal;
use super::person::{Person, old_time};
use super::writing::one;
use super::{Context, Done};
use crate::clock::parse_instant;

impl Context<'_> {
    fn user(&self) -> Value {
        let account = self.account;
        json!({
            "id": account.user,
            "name": "Operator",
            "default_currency": account.currency,
            "locale": "en_US",
            "lang": 1,
            "email": format!("operator@{}.example.com", account.domain),
            "phone": null,
            "activated": true,
            "active_flag": true,
            "is_deleted": false,
            "timezone_name": account.zone,
            "role_id": 1,
            "icon_url": null,
            "is_you": true,
            "has_created_company": true,
        })
    }

    pub(super) fn me(&self) -> Done {
        self.only_query(&[]);
        let account = self.account;
        let mut user = self.user();
        if let Some(user) = user.as_object_mut() {
            user.insert("company_id".into(), account.company.into());
            user.insert("company_name".into(), format!("Company {}", account.company).into());
            user.insert("company_domain".into(), account.domain.as_str().into());
            user.insert("company_country".into(), "EE".into());
            user.insert("company_industry".into(), Value::Null);
            user.insert("language".into(), json!({ "language_code": "en", "country_code": "US" }));
        }
        Done::json(StatusCode::OK, &one(&user))
    }

    pub(super) fn users(&self) -> Done {
        self.only_query(&[]);
        Done::json(
            StatusCode::OK,
            &json!({ "success": true, "data": [self.user()], "additional_data": null }),
        )
    }

    pub(super) fn merge(&self, loser: u64) -> Result<Done, Refusal> {
        self.only_query(&[]);
        let body = self.object()?;
        for name in body.keys().filter(|name| *name != "merge_with_id") {
            self.violation(format!("unknown member {name}"));
        }
        let survivor = body.get("merge_with_id").and_then(Value::as_u64).ok_or_else(|| {
            self.violation("merge_with_id is no number");
            Refusal::v1(StatusCode::BAD_REQUEST, "merge_with_id must be given.")
        })?;
        let account = self.account;
        let rules = account.rules(&self.world().dice, self.now);
        let mut persons = account.persons.lock();
        let (gone, kept) = persons
            .merge(loser, survivor, rules)
            .map_err(|refusal| Refusal::v1(refusal.status, &refusal.message()))?;
        let events = Event::of_merge(&persons.fields, (&gone, &kept), account.user, "api", self.now);
        let mut view = kept.after.old_view();
        drop(persons);
        view.insert("merge_what_id".into(), loser.into());
        let waits = delivery::announce(self.world(), account, events);
        Ok(Done::json(StatusCode::OK, &one(&view.into())).after(waits))
    }

    pub(super) fn recents(&self) -> Result<Done, Refusal> {
        self.only_query(&["since_timestamp", "items", "start", "limit"]);
        let given = self.call.query("since_timestamp").unwrap_or_default();
        let since = parse_instant(&format!("{}Z", given.replace(' ', "T"))).ok_or_else(|| {
            self.violation("since_timestamp is no moment");
            Refusal::v1(StatusCode::BAD_REQUEST, "since_timestamp must be given as YYYY-MM-DD HH:MM:SS.")
        })?;
        let start = usize::try_from(self.whole("start")?.unwrap_or(0)).unwrap_or(usize::MAX);
        let limit = self.limit()?;
        let asked =
            self.call.query("items").is_none() || self.call.list("items").any(|item| item == "person");
        let persons = self.account.persons.lock();
        let mut rows: Vec<&Arc<Person>> =
            persons.all(self.now).filter(|person| asked && person.updated >= since).collect();
        rows.sort_by_key(|person| (person.updated, person.id));
        let more = rows.len() > start.saturating_add(limit);
        let page: Vec<&Arc<Person>> = rows.into_iter().skip(start).take(limit).collect();
        let last = page.last().map_or_else(|| given.to_owned(), |person| old_time(person.updated));
        let data: Vec<Value> = page
            .iter()
            .map(|person| json!({ "item": "person", "id": person.id, "data": person.old_view() }))
            .collect();
        Ok(Done::json(
            StatusCode::OK,
            &json!({
                "success": true,
                "data": data,
                "additional_data": {
                    "since_timestamp": given,
                    "last_timestamp_on_page": last,
                    "pagination": {
                        "start": start,
                        "limit": limit,
                        "more_items_in_collection": more,
                        "next_start": more.then(|| start + limit),
                    },
                },
            }),
        ))
    }
}
