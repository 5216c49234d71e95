//! The ledger: a small CRM with plain REST, one JSON object for each record, entity tags and a change feed. Its provider
//! does everything the contract asks for and nothing it forbids.
//!
//! Paths: `GET /me`, `GET|PATCH|DELETE /records/OBJECT/ID`, `POST /records/OBJECT`, `POST /find/OBJECT`,
//! `GET /changes/OBJECT?after=…&limit=…`, `GET /records/OBJECT?after=…&limit=…`.

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use crate::Json;
use crate::bindings::tandem::provider::types::{
    Answer, Attribute, Block, Change, Context, Decision, Delivery, HttpRequest, HttpResponse, Listing,
    Observed, Operation, Page, Problem, Proof, QuotaState, Reference, Reply, Ruling, State, Step, Target,
    Throttle, Wait, Write, Written,
};

/// The fields of a record, the same on both sides.
pub const FIELDS: [&str; 20] = [
    "email",
    "given_name",
    "family_name",
    "phone",
    "mobile",
    "company",
    "job_title",
    "street",
    "city",
    "region",
    "postal_code",
    "country",
    "website",
    "language",
    "birthday",
    "notes",
    "source",
    "annual_revenue",
    "status",
    "tags",
];

thread_local! {
    /// Words that the settings add in front of each note; empty in most tests.
    static GREETING: RefCell<String> = const { RefCell::new(String::new()) };
}

fn text(value: &Value) -> Json {
    value.to_string().into_bytes()
}

fn problem(code: &str, message: impl Into<String>, pointer: Option<&str>) -> Problem {
    Problem { code: code.into(), message: message.into(), pointer: pointer.map(Into::into) }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Vec<Problem>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(vec![problem("not-an-object", "the document is not a JSON object", Some(""))]),
    }
}

/// The descriptor, under the id that is given.
#[must_use]
pub fn describe(id: &str) -> Json {
    text(&json!({
        "id": id,
        "version": "0.1.0",
        "title": "The ledger of the tests",
        "auth": {
            "token": { "kind": "static", "header": "authorization", "template": "Bearer {token}" }
        },
        "webhooks": {
            "verify": {
                "scheme": "hmac-sha256",
                "secret": "webhook",
                "message": "{timestamp}{body}",
                "header": "x-ledger-signature",
                "encoding": "hex",
                "timestamp": "x-ledger-time",
                "tolerance-ms": 300_000
            },
            "array": true,
            "account": "/account"
        },
        "response-headers": ["etag", "retry-after"],
        "settings": {
            "type": "object",
            "properties": {
                "base-url": { "type": "string" },
                "greeting": { "type": "string" },
                "refuse": { "type": "boolean" }
            },
            "additionalProperties": false
        },
        "examples": [
            {
                "name": "a contact",
                "object": "contact",
                "canonical": { "email": "ada@example.com", "given_name": "Ada", "tags": ["a", "b"] },
                "document": { "email": "ada@example.com", "given_name": "Ada", "tags": ["a", "b"] }
            },
            {
                "name": "members that are not mapped are not canonical",
                "object": "contact",
                "canonical": { "family_name": "Lovelace" },
                "document": { "family_name": "Lovelace", "shoe_size": 38 },
                "direction": "to-canonical"
            }
        ]
    }))
}

/// What a connection has: its base URL is a setting.
///
/// # Errors
/// Refuses the setting `refuse` and settings that are no object.
pub fn configure(settings: &[u8], _facts: &[u8]) -> Result<Json, Vec<Problem>> {
    let settings = object(settings)?;
    if settings.get("refuse") == Some(&Value::Bool(true)) {
        return Err(vec![problem("refused", "the settings ask to be refused", Some("/refuse"))]);
    }
    let greeting = settings.get("greeting").and_then(Value::as_str).unwrap_or_default();
    GREETING.set(greeting.to_owned());
    let base_url = settings.get("base-url").and_then(Value::as_str).unwrap_or("http://127.0.0.1:9");
    let host = base_url
        .split_once("://")
        .map_or(base_url, |(_, rest)| rest)
        .split(['/', ':'])
        .next()
        .unwrap_or_default();
    let fields: Map<String, Value> = FIELDS
        .iter()
        .map(|field| (format!("/{field}"), json!({ "provider": [format!("/{field}")] })))
        .collect();
    Ok(text(&json!({
        "base-url": base_url,
        "hosts": [host],
        "objects": {
            "contact": {
                "name": "contact",
                "schema": { "type": "object", "properties": { "email": { "type": "string", "maxLength": 254 } } },
                "fields": fields,
                "abilities": {
                    "key": true,
                    "condition": "etag",
                    "consistent-listing": true,
                    "changes": true,
                    "changes-show-deleted": true,
                    "find-settles-after-ms": 0,
                    "poll-every-ms": 1000
                }
            }
        },
        "quotas": [{ "name": "burst", "kind": "window", "limit": 100, "per-ms": 1000 }]
    })))
}

/// The members that are mapped, on top of those that the record has.
///
/// # Errors
/// When a document is not a JSON object.
pub fn to_provider(_object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
    let canonical = object(canonical)?;
    let mut document = current.map(object).transpose()?.unwrap_or_default();
    for field in FIELDS {
        match canonical.get(field) {
            Some(value) if field == "notes" => {
                let greeting = GREETING.with_borrow(Clone::clone);
                let value = value.as_str().map_or_else(|| value.clone(), |v| Value::String(greeting + v));
                document.insert(field.into(), value);
            }
            Some(value) => {
                document.insert(field.into(), value.clone());
            }
            None => {
                document.remove(field);
            }
        }
    }
    Ok(text(&Value::Object(document)))
}

/// The members that are mapped.
///
/// # Errors
/// When the document is not a JSON object.
pub fn to_canonical(_object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
    let mut document = object(document)?;
    let mut canonical = Map::new();
    for field in FIELDS {
        if let Some(value) = document.remove(field) {
            canonical.insert(field.into(), value);
        }
    }
    Ok(text(&Value::Object(canonical)))
}

/// Skips records whose status is `private`.
#[must_use]
pub fn decide(change: &Change) -> Ruling {
    let private = change
        .after
        .as_deref()
        .and_then(|after| serde_json::from_slice::<Value>(after).ok())
        .is_some_and(|after| after.get("status").and_then(Value::as_str) == Some("private"));
    if private {
        Ruling { decision: Decision::Skip("the record is private".into()), rule: "private".into() }
    } else {
        Ruling { decision: Decision::Sync, rule: "all".into() }
    }
}

fn reply(answer: Answer) -> Reply {
    Reply { answer, quotas: Vec::new() }
}

fn request(
    method: &str,
    path: String,
    body: Option<&Value>,
    precondition: Option<&str>,
    repeatable: bool,
) -> Answer {
    let mut headers = Vec::new();
    if body.is_some() {
        headers.push(Attribute { name: "content-type".into(), value: "application/json".into() });
    }
    if let Some(version) = precondition {
        headers.push(Attribute { name: "if-match".into(), value: version.into() });
    }
    Answer::Send(Step {
        request: HttpRequest {
            method: method.into(),
            target: Target::Path(path),
            headers,
            body: body.map(text),
            charges: Vec::new(),
            repeatable,
            secrets: Vec::new(),
        },
        note: b"sent".to_vec(),
        so_far: None,
    })
}

fn listing(kind: &str, listing: &Listing) -> Answer {
    let after = listing.cursor.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    request(
        "GET",
        format!("/{kind}/{}?after={after}&limit={}", listing.object, listing.limit),
        None,
        None,
        true,
    )
}

fn write(write: &Write) -> Answer {
    let Ok(document) = object(&write.document) else {
        return Answer::Rejected(vec![problem(
            "not-an-object",
            "the document is not a JSON object",
            Some(""),
        )]);
    };
    let mut body: Map<String, Value> = write
        .changed
        .iter()
        .map(|pointer| pointer.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned())
        .map(|name| (name.clone(), document.get(&name).cloned().unwrap_or(Value::Null)))
        .collect();
    match &write.id {
        None => {
            body.insert("key".into(), Value::String(write.key.clone()));
            request("POST", format!("/records/{}", write.object), Some(&Value::Object(body)), None, true)
        }
        Some(id) => request(
            "PATCH",
            format!("/records/{}/{id}", write.object),
            Some(&Value::Object(body)),
            write.version.as_deref(),
            true,
        ),
    }
}

/// The first request of an operation.
#[must_use]
pub fn start(operation: &Operation, _context: &Context) -> Reply {
    reply(match operation {
        Operation::Probe => request("GET", "/me".into(), None, None, true),
        Operation::Discover(_) => Answer::Facts(b"{}".to_vec()),
        Operation::Read(read) => {
            request("GET", format!("/records/{}/{}", read.object, read.id), None, None, true)
        }
        Operation::Find(find) => {
            let identity: Map<String, Value> = find
                .identity
                .iter()
                .map(|field| (field.name.trim_start_matches('/').into(), Value::String(field.value.clone())))
                .collect();
            let body = json!({ "key": find.key, "identity": identity });
            request("POST", format!("/find/{}", find.object), Some(&body), None, true)
        }
        Operation::Write(operation) => write(operation),
        Operation::Remove(remove) => request(
            "DELETE",
            format!("/records/{}/{}", remove.object, remove.id),
            None,
            remove.version.as_deref(),
            true,
        ),
        Operation::Changes(wanted) => listing("changes", wanted),
        Operation::Walk(wanted) => listing("records", wanted),
        Operation::Watch(_) => Answer::Other(("unsupported".into(), b"{}".to_vec())),
        Operation::Other((name, _)) => Answer::Other((name.clone(), b"{}".to_vec())),
    })
}

fn header<'a>(response: &'a HttpResponse, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
}

fn observed(object: &str, row: &Value, version: Option<&str>) -> Observed {
    let id = match row.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let gone = row.get("gone") == Some(&Value::Bool(true));
    let fields = row.get("fields").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    Observed {
        object: object.into(),
        id,
        state: if gone { State::Gone(Proof::Confirmed) } else { State::Whole(text(&fields)) },
        version: version
            .map(Into::into)
            .or_else(|| row.get("version").and_then(Value::as_str).map(Into::into)),
        stamp: row.get("stamp").and_then(Value::as_u64),
        key: row.get("key").and_then(Value::as_str).map(Into::into),
        keep: None,
        author: None,
        account: None,
        attributes: Vec::new(),
    }
}

fn rows(object: &str, body: &Value) -> Vec<Observed> {
    body.get("rows")
        .and_then(Value::as_array)
        .map(|rows| rows.iter().map(|row| observed(object, row, None)).collect())
        .unwrap_or_default()
}

fn page(listing: &Listing, body: &Value) -> Answer {
    Answer::Page(Page {
        rows: rows(&listing.object, body),
        cursor: body.get("cursor").and_then(Value::as_str).unwrap_or_default().into(),
        more: body.get("more") == Some(&Value::Bool(true)),
    })
}

fn refusal(operation: &Operation, response: &HttpResponse, context: &Context) -> Answer {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let said = body.get("error").and_then(Value::as_str).unwrap_or("the ledger gave no reason").to_owned();
    match (response.status, operation) {
        (401, _) => Answer::Unauthorised(said),
        (403, _) => {
            Answer::Blocked(Block { scope: "object".into(), problem: problem("forbidden", said, None) })
        }
        (404, Operation::Read(read)) => Answer::Current(Observed {
            state: State::Gone(Proof::Unconfirmed),
            ..observed(&read.object, &json!({ "id": read.id }), None)
        }),
        (404, Operation::Remove(remove)) => Answer::Written(Written {
            observed: Observed {
                state: State::Gone(Proof::Confirmed),
                ..observed(&remove.object, &json!({ "id": remove.id }), None)
            },
            unapplied: Vec::new(),
        }),
        (409, Operation::Write(write)) => Answer::Exists(Reference {
            object: write.object.clone(),
            id: body.get("id").and_then(Value::as_str).unwrap_or_default().into(),
        }),
        (410, _) => Answer::CursorLost(said),
        (412, _) => Answer::Refused,
        (429, _) => Answer::Throttled(Throttle {
            quota: Some("burst".into()),
            wait: header(response, "retry-after")
                .and_then(|seconds| seconds.parse::<u64>().ok())
                .map_or(Wait::Unknown, |seconds| Wait::Until(context.now + seconds * 1000)),
        }),
        (500.., _) => Answer::Again((Wait::Unknown, "unknown".into())),
        _ => Answer::Rejected(vec![problem("rejected", said, None)]),
    }
}

/// What a response means.
#[must_use]
pub fn resume(operation: &Operation, _note: &[u8], response: &HttpResponse, context: &Context) -> Reply {
    if !(200..300).contains(&response.status) {
        return reply(refusal(operation, response, context));
    }
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let version = header(response, "etag");
    let answer = match operation {
        Operation::Probe => Answer::Facts(text(&body)),
        Operation::Discover(_) | Operation::Watch(_) | Operation::Other(_) => {
            Answer::Other(("unsupported".into(), b"{}".to_vec()))
        }
        Operation::Read(read) => Answer::Current(observed(&read.object, &body, version)),
        Operation::Find(find) => Answer::Found(rows(&find.object, &body)),
        Operation::Write(write) => Answer::Written(Written {
            observed: observed(&write.object, &body, version),
            unapplied: Vec::new(),
        }),
        Operation::Remove(remove) => Answer::Written(Written {
            observed: Observed {
                state: State::Gone(Proof::Confirmed),
                ..observed(&remove.object, &json!({ "id": remove.id }), None)
            },
            unapplied: Vec::new(),
        }),
        Operation::Changes(listing) | Operation::Walk(listing) => page(listing, &body),
    };
    let quotas = body
        .get("remaining")
        .and_then(Value::as_u64)
        .map(|remaining| QuotaState {
            quota: "burst".into(),
            limit: Some(100),
            remaining: Some(remaining),
            resets: Wait::Unknown,
        })
        .into_iter()
        .collect();
    Reply { answer, quotas }
}

/// One event: `{"object", "id", "event", "account"}`.
///
/// # Errors
/// When the body is not such an event.
pub fn receive(delivery: &Delivery) -> Result<Vec<Observed>, Problem> {
    let event: Value = serde_json::from_slice(&delivery.body)
        .map_err(|_| problem("not-json", "the delivery is not JSON", None))?;
    let (Some(object), Some(id)) = (event.get("object").and_then(Value::as_str), event.get("id")) else {
        return Err(problem("no-record", "the delivery names no record", Some("/id")));
    };
    Ok(vec![Observed {
        state: State::Touched,
        account: event.get("account").and_then(Value::as_str).map(Into::into),
        attributes: event
            .get("event")
            .and_then(Value::as_str)
            .map(|name| Attribute { name: "event".into(), value: name.into() })
            .into_iter()
            .collect(),
        ..observed(object, &json!({ "id": id }), None)
    }])
}
