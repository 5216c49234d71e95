//! Exchanges on canned answers, written from Salesforce's public description of the REST API.

mod changes;
mod contact;
mod describe;
mod ids;
mod intake;
mod outcome;
mod refusal;
mod single;
mod walk;

use serde_json::{Value, json};
use tandem_provider::{
    Answer, Attribute, Context, Observed, Operation, Provider, Reference, Remove, Reply, Request, Response,
    State, Target, Write,
};

use crate::Salesforce;

/// 2026-01-02T12:00:00Z.
const NOW: u64 = 1_767_355_200_000;

/// 2026-01-02T11:59:00Z: when the records of these tests were last modified.
const STAMP: u64 = NOW - 60_000;

const ROOT: &str = "/services/data/v60.0";
const CONTACTS: &str = "/services/data/v60.0/sobjects/Contact";

/// An id of a contact.
const ID: &str = "003Dn00000AbCdEIAV";
/// Another.
const OTHER: &str = "003Dn00000XyZaBIAV";
/// The user that the token is of.
const USER: &str = "005Dn000001XyZzIAK";
/// The organisation.
const ORG: &str = "00DDn0000012345MAA";

fn context() -> Context {
    Context { now: NOW, attributes: Vec::new() }
}

fn salesforce(settings: &Value) -> Salesforce {
    Salesforce::configure(settings, &json!({})).unwrap()
}

fn plain() -> Salesforce {
    salesforce(&json!({}))
}

fn keyed() -> Salesforce {
    salesforce(&json!({ "key_field": "Tandem_Key__c" }))
}

/// Knows who it is.
fn probed() -> Salesforce {
    Salesforce::configure(&json!({}), &json!({ "account": { "id": ORG, "user": USER } })).unwrap()
}

/// Takes what was sent for what is there.
fn assuming() -> Salesforce {
    salesforce(&json!({ "after_write": "assume", "key_field": "Tandem_Key__c" }))
}

fn answer(status: u16, body: &Value) -> Response {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Response { status, headers: Vec::new(), body }
}

fn with_header(mut response: Response, name: &str, value: &str) -> Response {
    response.headers.push(Attribute::new(name, value));
    response
}

/// An answer with one error in it.
fn error(status: u16, code: &str, message: &str, fields: &[&str]) -> Response {
    answer(status, &json!([{ "message": message, "errorCode": code, "fields": fields }]))
}

/// It is not there.
fn missing() -> Response {
    answer(404, &json!([{ "errorCode": "NOT_FOUND", "message": "The requested resource does not exist" }]))
}

/// A query's answer.
fn records(rows: &[Value]) -> Response {
    answer(200, &json!({ "totalSize": rows.len(), "done": true, "records": rows }))
}

fn contact(id: &str, fields: &Value) -> Value {
    let mut all = json!({
        "attributes": { "type": "Contact", "url": format!("{CONTACTS}/{id}") },
        "Id": id, "SystemModstamp": "2026-01-02T11:59:00.000+0000", "LastModifiedById": "005Dn00000AnnAnnIAA",
        "IsDeleted": false, "MasterRecordId": null, "LastName": "Lee", "HasOptedOutOfEmail": false,
    });
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
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

/// On condition that the record is as it was then.
fn seen_at(operation: Operation, stamp: u64) -> Operation {
    match operation {
        Operation::Write(write) => Operation::Write(Write { stamp: Some(stamp), ..write }),
        Operation::Remove(remove) => Operation::Remove(Remove { stamp: Some(stamp), ..remove }),
        other => other,
    }
}

fn remove(id: &str) -> Operation {
    Operation::Remove(Remove { object: "contact".into(), id: id.into(), version: None, stamp: None })
}

/// Runs an operation on canned answers. Every request is held against the public description.
fn run(provider: &Salesforce, operation: &Operation, responses: &[Response]) -> (Vec<Request>, Reply) {
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

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|it| it.name == name).map(|it| it.value.as_str())
}

fn path(request: &Request) -> &str {
    request.path().split('?').next().unwrap()
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let code = [bytes.next().unwrap(), bytes.next().unwrap()];
            u8::from_str_radix(std::str::from_utf8(&code).unwrap(), 16).unwrap()
        } else {
            byte
        });
    }
    String::from_utf8(out).unwrap()
}

fn query(request: &Request) -> Vec<(String, String)> {
    let (_, query) = request.path().split_once('?').unwrap_or_default();
    query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|it| {
            let (name, value) = it.split_once('=').unwrap();
            (name.to_owned(), decoded(value))
        })
        .collect()
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    query(request).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// What a query selects by: between WHERE and ORDER BY.
fn condition(request: &Request) -> String {
    let soql = parameter(request, "q").unwrap();
    soql.split_once(" WHERE ").unwrap().1.split(" ORDER BY ").next().unwrap().to_owned()
}

/// Panics unless the public description allows the request: path, method, parameters, headers, members of the body.
fn lawful(request: &Request) {
    assert!(matches!(request.target, Target::Path(_)), "Salesforce is asked below its base URL");
    assert!(request.charges.is_empty(), "every call is one of the day's");
    let path = path(request);
    let names: Vec<String> = query(request).into_iter().map(|(name, _)| name).collect();
    let is_id = |id: &str| matches!(id.len(), 15 | 18) && id.bytes().all(|it| it.is_ascii_alphanumeric());
    let below: Vec<&str> =
        path.strip_prefix(CONTACTS).map(|rest| rest.split('/').skip(1).collect()).unwrap_or_default();
    let mut headers: Vec<&str> = request.headers.iter().map(|it| it.name.as_str()).collect();
    headers.sort_unstable();
    let values = || {
        for (name, value) in body(request).as_object().unwrap() {
            assert!(
                !["Id", "Name", "MailingAddress", "attributes", "Tandem_Key__c"].contains(&name.as_str()),
                "{name}"
            );
            assert!(!value.is_object());
        }
    };
    match (request.method.as_str(), path, below.as_slice()) {
        ("GET", "/services/oauth2/userinfo" | "/services/data/v60.0/", _) => assert!(names.is_empty()),
        ("GET", "/services/data/v60.0/query" | "/services/data/v60.0/queryAll", _) => {
            assert_eq!(names, ["q"]);
            let soql = parameter(request, "q").unwrap();
            assert!(
                soql.starts_with("SELECT Id") && soql.contains(" FROM ") && soql.contains(" LIMIT "),
                "{soql}"
            );
        }
        ("GET", _, ["describe"]) => assert!(names.is_empty()),
        ("GET", _, ["deleted", ""]) => {
            assert_eq!(names, ["start", "end"]);
            for name in ["start", "end"] {
                assert!(parameter(request, name).unwrap().ends_with(":00Z"), "seconds are ignored");
            }
        }
        ("GET", _, [id]) => {
            assert!(is_id(id), "{id}");
            assert_eq!(names, ["fields"]);
        }
        ("GET", _, ["Tandem_Key__c", key]) => {
            assert!(!key.is_empty());
            assert_eq!(names, ["fields"]);
        }
        ("POST", _, []) if path == CONTACTS => {
            values();
            assert!(!request.repeatable, "there is no key that would tell the second from the first");
        }
        ("PATCH", _, ["Tandem_Key__c", key]) => {
            assert!(!key.is_empty());
            values();
            assert!(header(request, "if-unmodified-since").is_none());
        }
        ("PATCH", _, [id]) => {
            assert!(is_id(id), "{id}");
            values();
            assert!(!body(request).as_object().unwrap().is_empty());
        }
        ("DELETE", _, [id]) => {
            assert!(is_id(id) && names.is_empty() && request.body.is_none());
            assert_eq!(headers, ["sforce-call-options"], "a removal takes no condition");
        }
        (method, path, _) => panic!("{method} {path} is not in the description"),
    }
    for header in &headers {
        assert!(
            ["content-type", "if-unmodified-since", "sforce-call-options", "sforce-duplicate-rule-header"]
                .contains(header),
            "{header}"
        );
    }
    assert_eq!(request.method == "GET", headers.is_empty());
    assert_eq!(request.body.is_some(), headers.contains(&"content-type"));
    assert_eq!(request.method == "GET" || request.method == "DELETE", request.body.is_none());
}
