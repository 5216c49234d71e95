//! A generic REST account: no vendor's, and what many small CRMs look like. People only.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /rest/v1/me` | 200 `{"account", "name", "uniqueMail"}` |
//! | `POST /rest/v1/people` | 201 and the person; 409 `{"error", "id"}` when `ExternalKey` exists, or `Mail` unless the account has `sameMail` |
//! | `GET /rest/v1/people/{id}` | 200 and the person; 404 |
//! | `PATCH /rest/v1/people/{id}` | 200 and the person: members that are named change, null clears; 412 with another `If-Match`, or when it was changed after `If-Unmodified-Since` |
//! | `DELETE /rest/v1/people/{id}` | 204; 404; 412 |
//! | `GET /rest/v1/people?after=&limit=` | 200 `{"items": [person], "next"}`, in order of ids; also `?mail=` and `?externalKey=` |
//! | `GET /rest/v1/changes?since=&limit=` | 200 `{"items": [{"id", "deleted", "person"}], "cursor", "more"}`; 410 for a cursor that is not known |
//!
//! A person is `{"Id", "Rev", "Changed", "ExternalKey", "Mail", "GivenName", "FamilyName", "Phone", "Company", "Title",
//! "City", "Notes", "Stage", "Staff", "Labels"}`; any other member whose name begins with a small letter is kept as it is, and
//! others are refused. `Id`, `Rev` and `Changed` (milliseconds) are the account's. `Rev` is also the entity tag. An account compares
//! either tags or times (`compares`), times to the second (RFC 9110, section 13.1.4). Every request needs the
//! account's bearer token (401). More than the account's limit in a second is 429 with `Retry-After`. Events go to the
//! account's `target`, if it has one, as `[{"account", "id", "event"}]` with `X-Rest-Time` (milliseconds) and
//! `X-Rest-Signature`: the hexadecimal HMAC-SHA-256 of time and body. An account may rewrite texts of members that are named when
//! it is made (`rewrites`): whoever writes, the rewritten text is stored, answered, and compared with what was there.

mod people;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::{Answer, Call, Outcome};
use crate::faults::Rewrite;
use crate::world::World;
use crate::writes::{NotedWrite, Writer};
use people::{People, Precondition, Refused};

/// An account to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewRestAccount {
    /// Its name, which is its id; otherwise a number.
    pub account: Option<String>,
    /// Otherwise a random one.
    pub token: Option<String>,
    /// Otherwise a random one. It signs the events.
    pub secret: Option<String>,
    /// Where events are posted to. None: nowhere.
    pub target: Option<String>,
    /// Requests in a second; otherwise 1000.
    pub limit: Option<u32>,
    /// Whether two people may have the same `Mail`; otherwise they may not.
    pub same_mail: bool,
    /// How the account rewrites texts, by member: whoever writes, the rewritten value is what is stored and answered. `Mail` and
    /// `ExternalKey` are never rewritten.
    pub rewrites: BTreeMap<String, Rewrite>,
    /// Each write of a person is noted, to be read by the control API.
    pub journal: bool,
    /// What is compared before a write.
    pub compares: Compares,
}

/// What an account compares before a write. The other header is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Compares {
    /// `If-Match` with the person's tag.
    #[default]
    Tag,
    /// `If-Unmodified-Since` with the time of its last change, to the second.
    Time,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestAccount {
    /// Its id.
    pub account: String,
    /// The bearer token.
    pub token: String,
    /// Signs the events.
    pub secret: String,
    /// Where events are posted to.
    pub target: Option<String>,
    /// Requests in a second.
    pub limit: u32,
    /// Whether two people may have the same `Mail`.
    #[serde(default)]
    pub same_mail: bool,
    /// What is compared before a write.
    pub compares: Compares,
}

/// Calls of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestCounts {
    /// By method and kind of path: `PATCH person`.
    pub calls: BTreeMap<String, u64>,
    /// Answers with 429.
    pub throttled: u64,
    /// Events that are neither delivered nor given up yet.
    #[serde(default)]
    pub under_way: u64,
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    accounts: RwLock<BTreeMap<String, Arc<Account>>>,
}

#[derive(Debug)]
struct Account {
    info: RwLock<RestAccount>,
    people: Mutex<People>,
    /// The second, and how many requests it has seen.
    window: Mutex<(i64, u32)>,
    counts: Mutex<RestCounts>,
    telling: Arc<AtomicU64>,
}

impl Rest {
    /// Makes an account. None: there is one of that name.
    pub(crate) fn make(&self, world: &World, new: NewRestAccount) -> Option<RestAccount> {
        let mut accounts = self.accounts.write();
        let name = new.account.unwrap_or_else(|| format!("{}", 7_001 + accounts.len()));
        let info = RestAccount {
            account: name.clone(),
            token: new.token.unwrap_or_else(|| format!("rest-{}", world.dice.uuid())),
            secret: new.secret.unwrap_or_else(|| world.dice.uuid().to_string()),
            target: new.target,
            limit: new.limit.unwrap_or(1_000),
            same_mail: new.same_mail,
            compares: new.compares,
        };
        if accounts.contains_key(&name) {
            return None;
        }
        let account = Account {
            info: RwLock::new(info.clone()),
            people: Mutex::new(People::new(info.same_mail, new.rewrites, new.journal)),
            window: Mutex::default(),
            counts: Mutex::default(),
            telling: Arc::default(),
        };
        accounts.insert(name, Arc::new(account));
        Some(info)
    }

    /// All accounts.
    pub(crate) fn list(&self) -> Vec<RestAccount> {
        self.accounts.read().values().map(|account| account.info.read().clone()).collect()
    }

    /// Sets where an account's events go. False: there is no such account.
    pub(crate) fn aim(&self, account: &str, target: Option<String>) -> bool {
        let accounts = self.accounts.read();
        accounts.get(account).map(|account| account.info.write().target = target).is_some()
    }

    /// Everybody of an account, in order of ids.
    pub(crate) fn dump(&self, account: &str) -> Option<Vec<Value>> {
        self.accounts.read().get(account).map(|account| account.people.lock().all())
    }

    /// Calls of an account, or of all of them together.
    pub(crate) fn counts(&self, account: &str) -> Option<RestCounts> {
        let accounts = self.accounts.read();
        if account != "all" {
            return accounts.get(account).map(|account| account.counts());
        }
        let mut sum = RestCounts::default();
        for one in accounts.values().map(|account| account.counts()) {
            for (call, count) in one.calls {
                *sum.calls.entry(call).or_default() += count;
            }
            sum.throttled += one.throttled;
            sum.under_way += one.under_way;
        }
        Some(sum)
    }

    /// Writes to the people of an account.
    pub(crate) fn writes(&self, account: &str) -> Option<Vec<NotedWrite>> {
        self.accounts.read().get(account).map(|account| account.people.lock().writes())
    }

    pub(crate) fn clear(&self) {
        self.accounts.write().clear();
    }

    fn by_token(&self, token: &str) -> Option<Arc<Account>> {
        self.accounts.read().values().find(|account| account.info.read().token == token).cloned()
    }

    /// A person is created, changed or deleted by somebody who works in the CRM.
    pub(crate) fn person(
        &self,
        world: &Arc<World>,
        account: &str,
        id: Option<&str>,
        members: Option<&Map<String, Value>>,
    ) -> Result<Value, String> {
        let account = self.accounts.read().get(account).cloned().ok_or("no such account")?;
        let now = world.clock.now();
        let mut people = account.people.lock();
        let done = match (id, members) {
            (None, Some(members)) => people.create(members, Writer::Person, now),
            (Some(id), Some(members)) => people.update(id, members, &Precondition::None, Writer::Person, now),
            (Some(id), None) => {
                people.delete(id, &Precondition::None, Writer::Person, now).map(|()| json!({ "Id": id }))
            }
            (None, None) => return Err("nobody is named".to_owned()),
        };
        drop(people);
        let person = done.map_err(|refused| refused.error().to_owned())?;
        let event = match (id, members) {
            (None, _) => "created",
            (_, Some(_)) => "changed",
            _ => "deleted",
        };
        webhooks::tell(world, &account.info.read(), &account.telling, &person, event);
        Ok(person)
    }
}

/// Whether a path is one of these.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/rest/")
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let json = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Answer { status, body, headers: vec![json] }
}

fn error(status: StatusCode, what: &str) -> Answer {
    answer(status, &json!({ "error": what }))
}

fn person(status: StatusCode, person: &Value) -> Answer {
    let mut answer = answer(status, person);
    let tag = person.get("Rev").and_then(Value::as_str).map(|rev| format!("\"{rev}\""));
    if let Some(tag) = tag.and_then(|tag| http::HeaderValue::from_str(&tag).ok()) {
        answer.headers.push((http::header::ETAG, tag));
    }
    answer
}

/// Answers a request.
pub(crate) fn serve(call: &Call) -> Outcome {
    let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(account) = token.and_then(|token| call.world.rest.by_token(token)) else {
        return Outcome::Answer(error(StatusCode::UNAUTHORIZED, "the token is not known"));
    };
    if let Some(seconds) = account.over_limit(call.world.clock.now()) {
        account.counts.lock().throttled += 1;
        let mut refused = error(StatusCode::TOO_MANY_REQUESTS, "too many requests in a second");
        refused.headers.push((http::header::RETRY_AFTER, http::HeaderValue::from(seconds)));
        return Outcome::Answer(refused);
    }
    Outcome::Answer(account.answer(call))
}

impl Account {
    fn counts(&self) -> RestCounts {
        RestCounts { under_way: self.telling.load(Ordering::SeqCst), ..self.counts.lock().clone() }
    }

    /// Seconds to wait, when this request is one too many.
    fn over_limit(&self, now: i64) -> Option<u16> {
        let second = now / 1_000;
        let mut window = self.window.lock();
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 += 1;
        (window.1 > self.info.read().limit).then_some(1)
    }

    fn precondition(&self, call: &Call) -> Result<Precondition, Answer> {
        let header = match self.info.read().compares {
            Compares::Tag => {
                let tag = call.header("if-match").map(|tag| tag.trim_matches('"').to_owned());
                return Ok(tag.map_or(Precondition::None, Precondition::Tag));
            }
            Compares::Time => call.header("if-unmodified-since"),
        };
        let Some(text) = header else { return Ok(Precondition::None) };
        match jiff::fmt::rfc2822::parse(text) {
            Ok(at) => Ok(Precondition::Unchanged(at.timestamp().as_second())),
            Err(_) => {
                call.violation(None, "If-Unmodified-Since is no HTTP date");
                Err(error(StatusCode::BAD_REQUEST, "If-Unmodified-Since is no date"))
            }
        }
    }

    fn answer(&self, call: &Call) -> Answer {
        let path: Vec<&str> = call.path.trim_start_matches("/rest/v1/").split('/').collect();
        let name = self.info.read().account.clone();
        let kind = match path.as_slice() {
            ["me"] => "me",
            ["people"] => "people",
            ["people", _] => "person",
            ["changes"] => "changes",
            _ => "nothing",
        };
        *self.counts.lock().calls.entry(format!("{} {kind}", call.method)).or_default() += 1;
        let now = call.world.clock.now();
        let on = match self.precondition(call) {
            Ok(on) => on,
            Err(refused) => return refused,
        };
        let done = match (&call.method, path.as_slice()) {
            (&Method::GET, ["me"]) => {
                let unique = !self.info.read().same_mail;
                return answer(
                    StatusCode::OK,
                    &json!({ "account": name, "name": format!("account {name}"), "uniqueMail": unique }),
                );
            }
            (&Method::GET, ["people"]) => {
                let people = self.people.lock();
                let found = match (call.query("mail"), call.query("externalKey")) {
                    (None, None) => {
                        return answer(StatusCode::OK, &people.page(call.query("after"), limit(call)));
                    }
                    (Some(mail), _) => people.find("Mail", mail),
                    (_, Some(key)) => people.find("ExternalKey", key),
                };
                return answer(StatusCode::OK, &json!({ "items": found, "next": null }));
            }
            (&Method::GET, ["changes"]) => match self.people.lock().changes(call.query("since"), limit(call))
            {
                Some(page) => return answer(StatusCode::OK, &page),
                None => return error(StatusCode::GONE, "the cursor is not known"),
            },
            (&Method::GET, ["people", id]) => {
                self.people.lock().read(id).map(|found| (StatusCode::OK, found, None))
            }
            (&Method::POST, ["people"]) => members(call)
                .and_then(|members| self.people.lock().create(&members, Writer::Api, now))
                .map(|made| (StatusCode::CREATED, made, Some("created"))),
            (&Method::PATCH, ["people", id]) => members(call)
                .and_then(|members| self.people.lock().update(id, &members, &on, Writer::Api, now))
                .map(|changed| (StatusCode::OK, changed, Some("changed"))),
            (&Method::DELETE, ["people", id]) => self
                .people
                .lock()
                .delete(id, &on, Writer::Api, now)
                .map(|()| (StatusCode::NO_CONTENT, json!({ "Id": id }), Some("deleted"))),
            _ => {
                call.violation(None, "there is no such path or method");
                return error(StatusCode::NOT_FOUND, "there is nothing here");
            }
        };
        match done {
            Ok((status, about, event)) => {
                if let Some(event) = event {
                    webhooks::tell(&call.world, &self.info.read(), &self.telling, &about, event);
                }
                if status == StatusCode::NO_CONTENT {
                    return answer(status, &Value::Null);
                }
                person(status, &about)
            }
            Err(refused) => refused.answer(),
        }
    }
}

impl Refused {
    fn answer(&self) -> Answer {
        match self {
            Self::Missing => error(StatusCode::NOT_FOUND, self.error()),
            Self::Stale => error(StatusCode::PRECONDITION_FAILED, self.error()),
            Self::Exists(id) => answer(StatusCode::CONFLICT, &json!({ "error": self.error(), "id": id })),
            Self::Invalid { member, why } => {
                answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "error": why, "member": member }))
            }
        }
    }
}

fn limit(call: &Call) -> usize {
    call.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100).clamp(1, 500)
}

fn members(call: &Call) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Refused::Invalid { member: String::new(), why: "the body is no JSON object".to_owned() }),
    }
}
