//! Exchanges on canned answers, written from Pipedrive's published description of version 2 of its API, its migration guides and its
//! guide for webhooks.

mod account;
mod changes;
mod describe;
mod entries;
mod intake;
mod laws;
mod person;
mod refusal;
mod single;
mod watch;
mod write;

use serde_json::{Value, json};
use tandem_provider::{
    Answer, Attribute, Context, Observed, Operation, Provider, Reference, Reply, Request, Response, State,
    Target, Write,
};

use crate::Pipedrive;

/// 2026-01-02T12:00:00Z.
const NOW: u64 = 1_767_355_200_000;
/// The modification time of [`person`], 11:59:00.
const THEN: u64 = NOW - 60_000;

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const TIER: &str = "1111111111111111111111111111111111111111";
const FEE: &str = "3333333333333333333333333333333333333333";

fn context() -> Context {
    Context { now: NOW, attributes: Vec::new() }
}

fn pipedrive(settings: &Value) -> Pipedrive {
    Pipedrive::configure(settings, &json!({})).unwrap()
}

fn plain() -> Pipedrive {
    pipedrive(&json!({}))
}

fn keyed() -> Pipedrive {
    pipedrive(&json!({ "key_field": KEY }))
}

/// With the fields of the contact sync, an option and an amount.
fn rich() -> Pipedrive {
    pipedrive(&json!({
        "contact_sync": true, "currency": "EUR",
        "custom": {
            "/custom/tier": { "field": TIER, "type": "enumeration", "options": { "gold": "11", "silver": "12" } },
            "/custom/fee": { "field": FEE, "type": "decimal", "field_type": "monetary" },
        },
    }))
}

fn answer(status: u16, body: &Value) -> Response {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Response { status, headers: Vec::new(), body }
}

fn done(data: &Value) -> Response {
    answer(200, &json!({ "success": true, "data": data }))
}

fn failed(status: u16, error: &str) -> Response {
    answer(
        status,
        &json!({ "success": false, "error": error, "error_info": "Please check developers.pipedrive.com", "data": null, "additional_data": null }),
    )
}

fn with_header(mut response: Response, name: &str, value: &str) -> Response {
    response.headers.push(Attribute::new(name, value));
    response
}

/// A person as Pipedrive answers, with these members.
fn person(id: u64, members: &Value) -> Value {
    let mut person = json!({
        "id": id, "name": "Ann", "first_name": "Ann", "last_name": null, "owner_id": 1, "org_id": null,
        "add_time": "2026-01-01T00:00:00Z", "update_time": "2026-01-02T11:59:00Z", "emails": [], "phones": [],
        "is_deleted": false, "visible_to": 3, "label_ids": [], "picture_id": null, "custom_fields": {},
    });
    for (name, value) in members.as_object().unwrap() {
        person[name] = value.clone();
    }
    person
}

fn read(id: &str) -> Operation {
    Operation::Read(Reference { object: "contact".into(), id: id.into() })
}

fn write(id: Option<&str>, document: &Value, changed: &[&str]) -> Operation {
    Operation::Write(Write {
        object: "contact".into(),
        id: id.map(str::to_owned),
        document: document.to_string().into_bytes(),
        changed: changed.iter().map(|it| (*it).to_owned()).collect(),
        version: None,
        stamp: None,
        key: "k-1".into(),
        keep: None,
        previous: None,
        attributes: Vec::new(),
    })
}

/// Runs an operation on canned answers. Every request is held against the published description and its cost.
fn run(provider: &Pipedrive, operation: &Operation, responses: &[Response]) -> (Vec<Request>, Reply) {
    let mut requests = Vec::new();
    let mut reply = provider.start(operation, &context());
    for response in responses {
        let Answer::Send(step) = reply.answer else {
            panic!("no request is left for an answer: {:?}", reply.answer)
        };
        lawful(&step.request);
        assert!(step.note.len() <= 64 * 1024);
        requests.push(step.request);
        reply = provider.resume(operation, &step.note, response, &context());
    }
    if let Answer::Send(step) = &reply.answer {
        lawful(&step.request);
    }
    (requests, reply)
}

fn sent(reply: &Reply) -> &Request {
    match &reply.answer {
        Answer::Send(step) => &step.request,
        other => panic!("{other:?}"),
    }
}

fn current(reply: Reply) -> Observed {
    match reply.answer {
        Answer::Current(observed) => *observed,
        other => panic!("{other:?}"),
    }
}

fn written(reply: Reply) -> Observed {
    match reply.answer {
        Answer::Written(written) => {
            assert!(written.unapplied.is_empty());
            written.observed
        }
        other => panic!("{other:?}"),
    }
}

fn document(state: &State) -> Value {
    match state {
        State::Whole(bytes) | State::Partial(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(request.body.as_deref().unwrap()).unwrap()
}

fn query(request: &Request) -> Vec<(String, String)> {
    let (_, query) = request.path().split_once('?').unwrap_or_default();
    query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|it| {
            let (name, value) = it.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    query(request).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// What a request takes of each quota; the window takes one of the day with it where the day is not charged by name.
fn charges(request: &Request) -> (u32, u32, u32) {
    let of = |name: &str| request.charges.iter().filter(|it| it.quota == name).map(|it| it.amount).sum();
    let (burst, search, daily): (u32, u32, u32) = (of("burst"), of("search"), of("daily"));
    assert_eq!(request.charges.iter().map(|it| it.amount).sum::<u32>(), burst + search + daily);
    (burst, search, if daily > 0 { daily } else { burst })
}

/// Panics unless the published description allows the request: path, method, parameters, members of the body, and its cost.
fn lawful(request: &Request) {
    assert!(matches!(request.target, Target::Path(_)), "Pipedrive is asked below its base URL");
    let path = request.path().split('?').next().unwrap();
    let names: Vec<String> = query(request).into_iter().map(|(name, _)| name).collect();
    let allow = |allowed: &[&str]| {
        assert!(names.iter().all(|name| allowed.contains(&name.as_str())), "{path}: {names:?}");
    };
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|it| it.is_ascii_digit());
    let number = |name: &str| parameter(request, name).map(|it| it.parse::<u32>().unwrap());
    let (method, rest) = (request.method.as_str(), path.strip_prefix("/api/v2/persons"));
    let cost = match (method, rest) {
        ("GET", Some("")) => {
            allow(&["updated_since", "sort_by", "sort_direction", "custom_fields", "limit", "cursor"]);
            assert!((1..=500).contains(&number("limit").unwrap()));
            if let Some(since) = parameter(request, "updated_since") {
                assert!(
                    since.ends_with('Z') && !since.contains('.'),
                    "{since}: parts of a second are refused"
                );
            }
            10
        }
        ("GET", Some("/search")) => {
            allow(&["term", "fields", "exact_match", "limit"]);
            assert_eq!(parameter(request, "exact_match").as_deref(), Some("true"));
            assert!(
                ["custom_fields", "email", "phone"].contains(&parameter(request, "fields").unwrap().as_str())
            );
            20
        }
        ("POST", Some("")) => {
            lawful_person(&body(request), true);
            5
        }
        ("GET" | "PATCH" | "DELETE", Some(id)) => {
            assert!(is_id(id.strip_prefix('/').unwrap()), "{id}");
            match method {
                "GET" => {
                    allow(&["custom_fields"]);
                    1
                }
                "PATCH" => {
                    allow(&[]);
                    lawful_person(&body(request), false);
                    5
                }
                _ => {
                    allow(&[]);
                    assert!(request.body.is_none());
                    3
                }
            }
        }
        ("GET", None) if path == "/api/v2/personFields" => {
            allow(&["limit", "cursor"]);
            10
        }
        ("GET", None) if path == "/v1/users/me" => {
            allow(&[]);
            2
        }
        ("GET", None) if path == "/v1/webhooks" => {
            allow(&[]);
            10
        }
        ("POST", None) if path == "/v1/webhooks" => {
            let body = body(request);
            let required = ["subscription_url", "event_action", "event_object", "name"];
            assert!(required.iter().all(|name| body[name].is_string()));
            assert_eq!((&body["event_action"], &body["event_object"]), (&json!("*"), &json!("person")));
            10
        }
        ("DELETE", None) => {
            assert!(is_id(path.strip_prefix("/v1/webhooks/").unwrap()));
            6
        }
        (method, _) => panic!("{method} {path} is not in the description"),
    };
    if let Some(fields) = parameter(request, "custom_fields") {
        assert!(fields.split(',').count() <= 15, "no more may be named");
    }
    let searches = u32::from(rest == Some("/search"));
    assert_eq!(charges(request), (1, searches, cost), "{method} {path}");
    for header in &request.headers {
        assert_eq!((header.name.as_str(), header.value.as_str()), ("content-type", "application/json"));
    }
    assert_eq!(request.body.is_some(), !request.headers.is_empty());
    assert_eq!(request.repeatable, ["GET", "DELETE"].contains(&method));
}

/// A body of `POST` or `PATCH`: as the published description has it, with the two parts of a name of the migration guide.
fn lawful_person(body: &Value, new: bool) {
    let text_or_null = |value: &Value| value.is_string() || value.is_null();
    for (name, value) in body.as_object().unwrap() {
        match name.as_str() {
            "name" => assert!(!value.as_str().unwrap().is_empty()),
            "first_name" | "last_name" => assert!(value.is_string()),
            "emails" | "phones" => {
                let entries = value.as_array().unwrap();
                for entry in entries {
                    assert!(!entry["value"].as_str().unwrap().is_empty());
                    assert!(entry["primary"].is_boolean() || entry.get("primary").is_none());
                    assert!(entry["label"].is_string() || entry.get("label").is_none());
                }
                assert!(entries.iter().filter(|entry| entry["primary"] == true).count() <= 1);
            }
            "job_title" | "notes" | "birthday" => assert!(text_or_null(value)),
            "postal_address" => assert!(value.is_null() || value["value"].is_string()),
            "custom_fields" => {
                let fields = value.as_object().unwrap();
                assert!(!fields.is_empty() && fields.keys().all(|key| key.len() == 40));
                assert!(fields.values().all(|value| value != &json!([])), "null clears, [] is refused");
            }
            other => panic!("{other} is not in the description"),
        }
    }
    let parts = ["first_name", "last_name"].map(|part| body.get(part).is_some());
    assert!(parts[0] == parts[1], "both parts of a name or none");
    if parts[0] {
        assert!(body["first_name"] != "" || body["last_name"] != "", "both may not be empty");
    }
    if new {
        assert!(parts[0] || body.get("name").is_some(), "a name is wanted");
    }
}
