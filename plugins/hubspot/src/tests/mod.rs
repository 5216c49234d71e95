//! Exchanges on canned answers, written from HubSpot's public description of the contacts API.

mod changes;
mod contact;
mod describe;
mod intake;
mod refusal;
mod single;

use serde_json::{Value, json};
use tandem_provider::{
    Answer, Attribute, Context, Operation, Provider, Reference, Reply, Request, Response, Target, Write,
};

use crate::HubSpot;

/// 2026-01-02T12:00:00Z.
const NOW: u64 = 1_767_355_200_000;

fn context() -> Context {
    Context { now: NOW, attributes: Vec::new() }
}

fn hubspot(settings: &Value) -> HubSpot {
    HubSpot::configure(settings, &json!({})).unwrap()
}

fn plain() -> HubSpot {
    hubspot(&json!({}))
}

fn keyed() -> HubSpot {
    hubspot(&json!({ "key_property": "tandem_key" }))
}

fn answer(status: u16, body: &Value) -> Response {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Response { status, headers: Vec::new(), body }
}

fn with_header(mut response: Response, name: &str, value: &str) -> Response {
    response.headers.push(Attribute::new(name, value));
    response
}

fn contact(id: &str, properties: &Value) -> Value {
    let mut all = json!({ "hs_object_id": id, "lastmodifieddate": "2026-01-02T11:59:00.250Z", "createdate": "2026-01-01T00:00:00Z" });
    for (name, value) in properties.as_object().unwrap() {
        all[name] = value.clone();
    }
    json!({
        "id": id, "properties": all, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-02T11:59:00.250Z", "archived": false,
    })
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

/// Runs an operation on canned answers. Every request is held against the public description.
fn run(provider: &HubSpot, operation: &Operation, responses: &[Response]) -> (Vec<Request>, Reply) {
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

/// Panics unless the public description allows the request: path, method, parameters, members of the body.
fn lawful(request: &Request) {
    assert!(matches!(request.target, Target::Path(_)), "HubSpot is asked below its base URL");
    let path = request.path().split('?').next().unwrap();
    let rest = path
        .strip_prefix("/crm/v3/objects/contacts")
        .or_else(|| path.strip_prefix("/crm/objects/2026-03/contacts"))
        .or_else(|| path.strip_prefix("/crm/objects/2026-09/contacts"));
    let names: Vec<String> = query(request).into_iter().map(|(name, _)| name).collect();
    let allow = |allowed: &[&str]| {
        assert!(names.iter().all(|name| allowed.contains(&name.as_str())), "{path}: {names:?}");
    };
    let strings = |value: &Value| value.as_object().unwrap().values().all(Value::is_string);
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    match (request.method.as_str(), rest) {
        ("GET", Some("")) => {
            allow(&["limit", "after", "properties", "propertiesWithHistory", "associations", "archived"]);
        }
        ("POST", Some("")) => {
            let body = body(request);
            assert_eq!(members(&body), ["properties", "associations"]);
            assert!(strings(&body["properties"]) && body["associations"].is_array());
        }
        ("POST", Some("/search")) => {
            let body = body(request);
            let mut found = members(&body);
            found.sort();
            assert_eq!(found, ["after", "filterGroups", "limit", "properties", "sorts"]);
            assert!(body["limit"].as_u64().unwrap() <= 200 && body["after"].is_string());
            assert!(body["sorts"].as_array().unwrap().iter().all(Value::is_string));
            let groups = body["filterGroups"].as_array().unwrap();
            assert!((1..=6).contains(&groups.len()));
            for filter in groups.iter().flat_map(|group| group["filters"].as_array().unwrap()) {
                assert!(["EQ", "GT", "GTE"].contains(&filter["operator"].as_str().unwrap()));
                assert!(filter["propertyName"].is_string() && filter["value"].is_string());
            }
            assert_eq!(request.charges.len(), 1);
            assert_eq!(request.charges[0].quota, "search");
            assert!(request.repeatable);
        }
        ("POST", Some("/batch/upsert")) => {
            let body = body(request);
            assert_eq!(members(&body), ["inputs"]);
            let inputs = body["inputs"].as_array().unwrap();
            assert_eq!(inputs.len(), 1);
            assert_eq!(members(&inputs[0]), ["id", "idProperty", "properties"]);
            assert!(strings(&inputs[0]["properties"]));
        }
        ("POST", Some("/gdpr-delete")) => {
            let body = body(request);
            assert_eq!(members(&body), ["objectId"]);
            assert!(strings(&body));
        }
        ("GET", Some(id)) => {
            assert!(id.starts_with('/') && id.len() > 1 && !id[1..].contains('/'), "{id}");
            allow(&["properties", "propertiesWithHistory", "associations", "archived", "idProperty"]);
        }
        ("PATCH", Some(id)) => {
            assert!(id.starts_with('/') && !id[1..].contains('/'));
            allow(&["idProperty"]);
            let body = body(request);
            assert_eq!(members(&body), ["properties"]);
            assert!(strings(&body["properties"]) && !body["properties"].as_object().unwrap().is_empty());
        }
        ("DELETE", Some(id)) => {
            assert!(id.starts_with('/') && !id[1..].contains('/'));
            allow(&[]);
            assert!(request.body.is_none());
        }
        ("GET", None) if path == "/account-info/v3/details" => allow(&[]),
        ("GET", None) => {
            assert!(
                [
                    "/crm/v3/properties/contacts",
                    "/crm/properties/2026-03/contacts",
                    "/crm/properties/2026-09/contacts"
                ]
                .contains(&path),
                "{path}"
            );
            allow(&["archived"]);
        }
        (method, _) => panic!("{method} {path} is not in the description"),
    }
    for header in &request.headers {
        assert_eq!((header.name.as_str(), header.value.as_str()), ("content-type", "application/json"));
    }
    assert_eq!(request.body.is_some(), !request.headers.is_empty());
}
