//! `tandem provider test` runs golden cases: what the mapping, an exchange or a webhook gave when somebody looked last.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_core::document;
use tandem_core::exchange::{
    Answer, Attribute, Context, Delivery, Find, HttpRequest, HttpResponse, Listing, Operation, Problem,
    Reference, Remove, Reply, State, Target, Write,
};

use super::args;
use super::failure::{FAILED, Failure};
use super::online::pretty;
use super::room::Room;
use crate::provider::{EngineConfig, Limits, Offline, Provider, Setup};

/// Requests of one exchange in a case.
const STEPS: usize = 8;

/// A golden case: one of `to-provider`, `to-canonical`, `exchange`, `receive`, and what is expected of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Case {
    #[serde(default)]
    settings: Value,
    #[serde(default)]
    facts: Value,
    /// The canonical object. Default: contact.
    object: Option<String>,
    /// A canonical document.
    to_provider: Option<Value>,
    /// The CRM's document that it is written over.
    current: Option<Value>,
    /// A document of the CRM.
    to_canonical: Option<Value>,
    /// An operation, with what the CRM answers to each request.
    exchange: Option<Exchange>,
    /// A webhook's body.
    receive: Option<Value>,
    /// What came of it when somebody looked last.
    #[serde(default)]
    expected: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Exchange {
    /// "probe", "read", "find", "create", "update", "remove", "changes", "walk".
    operation: String,
    id: Option<String>,
    /// The canonical document of a write.
    document: Option<Value>,
    #[serde(default)]
    changed: Vec<String>,
    version: Option<String>,
    key: Option<String>,
    /// Of `find`: canonical pointers and values.
    #[serde(default)]
    identity: Map<String, Value>,
    cursor: Option<String>,
    #[serde(default)]
    now: u64,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Value,
}

/// Runs golden cases, or blesses what comes of them.
pub(super) fn test(config: &Path, asked: &args::ProviderTest, json: bool) -> Result<String, Failure> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&asked.cases) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) if asked.cases.is_file() => vec![asked.cases.clone()],
        Err(error) => {
            return Err(Failure::usage(format!(
                "{}: {error}; name the folder of cases",
                asked.cases.display()
            )));
        }
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: there is no case (*.json)", asked.cases.display())));
    }
    let limits = Room::found(config)?.limits();
    let mut text = String::new();
    let (mut held, mut blessed, mut broken) = (0_usize, 0_usize, Vec::new());
    for path in &files {
        let name = path.display();
        match run(&asked.file, &limits, path, asked.bless) {
            Ok(Outcome::Held) => {
                held += 1;
                let _ = writeln!(text, "ok       {name}");
            }
            Ok(Outcome::Blessed) => {
                blessed += 1;
                let _ = writeln!(text, "blessed  {name}");
            }
            Ok(Outcome::Differs(lines)) => {
                let _ = writeln!(text, "DIFFERS  {name}\n{lines}");
                broken.push(name.to_string());
            }
            Err(failure) => {
                let _ = write!(text, "FAILED   {name}\n         {}", failure.text);
                broken.push(name.to_string());
            }
        }
    }
    let _ = writeln!(
        text,
        "{held} of {} cases hold{}",
        files.len(),
        if blessed > 0 { format!(", {blessed} blessed") } else { String::new() }
    );
    let text = if json {
        pretty(&json!({ "ok": broken.is_empty(), "held": held, "blessed": blessed, "broken": broken }))?
    } else {
        text
    };
    if broken.is_empty() {
        return Ok(text);
    }
    super::print(&text)?;
    Err(Failure {
        status: FAILED,
        text: "error: cases do not hold; if what came is right, --bless writes it down\n".to_owned(),
    })
}

enum Outcome {
    Held,
    Blessed,
    Differs(String),
}

fn run(component: &Path, limits: &Limits, path: &Path, bless: bool) -> Result<Outcome, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::caused(path.display().to_string(), &error))?;
    let mut whole: Value =
        serde_json::from_str(&text).map_err(|error| Failure::because(error.to_string()))?;
    let case = Case::deserialize(&whole).map_err(|error| Failure::because(error.to_string()))?;
    let found = answer(component, limits, &case)?;
    if found == case.expected {
        return Ok(Outcome::Held);
    }
    if !bless {
        let mut lines = String::new();
        difference("", &case.expected, &found, &mut lines);
        return Ok(Outcome::Differs(lines));
    }
    if let Some(members) = whole.as_object_mut() {
        members.insert("expected".to_owned(), found);
    }
    let text = pretty(&whole)?;
    std::fs::write(path, text).map_err(|error| Failure::caused(path.display().to_string(), &error))?;
    Ok(Outcome::Blessed)
}

/// One line for each place that differs.
fn difference(at: &str, expected: &Value, found: &Value, lines: &mut String) {
    if expected == found {
        return;
    }
    if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
        let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
        for name in names {
            let nothing = Value::Null;
            let (expected, found) =
                (expected.get(name).unwrap_or(&nothing), found.get(name).unwrap_or(&nothing));
            difference(&format!("{at}/{}", document::escape(name)), expected, found, lines);
        }
        return;
    }
    // Writing to a string does not fail.
    let _ = writeln!(lines, "  {}\n    - {expected}\n    + {found}", if at.is_empty() { "/" } else { at });
}

fn answer(component: &Path, limits: &Limits, case: &Case) -> Result<Value, Failure> {
    let setup = Setup { settings: case.settings.clone(), facts: case.facts.clone() };
    let mut offline = Offline::load_with(component, &setup, &EngineConfig::default(), limits.clone())
        .map_err(|error| Failure::new(&error))?;
    let object = case.object.as_deref().unwrap_or("contact");
    let provider = offline.provider().map_err(|fault| Failure::new(&fault))?;
    let fault = |fault: crate::provider::Fault| Failure::new(&fault);
    let bytes = |value: &Value| value.to_string().into_bytes();
    let read = |answer: Result<Vec<u8>, Vec<Problem>>| match answer {
        Ok(text) => serde_json::from_slice(&text).unwrap_or(Value::Null),
        Err(problems) => json!({ "problems": problems }),
    };
    match case {
        Case { to_provider: Some(canonical), .. } => {
            let current = case.current.as_ref().map(bytes);
            Ok(read(provider.to_provider(object, &bytes(canonical), current.as_deref()).map_err(fault)?))
        }
        Case { to_canonical: Some(document), .. } => {
            Ok(read(provider.to_canonical(object, &bytes(document)).map_err(fault)?))
        }
        Case { receive: Some(body), .. } => {
            let delivery = Delivery { body: bytes(body), ..Delivery::default() };
            let seen = provider.receive(&delivery, &Context::default()).map_err(fault)?;
            Ok(match seen {
                Ok(rows) => Value::Array(rows.iter().map(observed).collect()),
                Err(problem) => json!({ "problem": problem }),
            })
        }
        Case { exchange: Some(exchange), .. } => exchanged(provider, object, exchange),
        _ => Err(Failure::because("the case has none of to-provider, to-canonical, exchange, receive")),
    }
}

fn exchanged(provider: &mut dyn Provider, object: &str, exchange: &Exchange) -> Result<Value, Failure> {
    let operation = operation(provider, object, exchange)?;
    let context = Context { now: exchange.now, attributes: Vec::new() };
    let fault = |fault: crate::provider::Fault| Failure::new(&fault);
    let mut requests = Vec::new();
    let mut reply: Reply = provider.start(&operation, &context).map_err(fault)?;
    let mut responses = exchange.responses.iter();
    loop {
        let Answer::Send(step) = &reply.answer else {
            return Ok(json!({ "requests": requests, "answer": answered(&reply.answer) }));
        };
        requests.push(request(&step.request));
        if requests.len() > STEPS {
            return Err(Failure::because(format!("more than {STEPS} requests for one operation")));
        }
        // Without another response the case ends with the request.
        let Some(response) = responses.next() else { return Ok(json!({ "requests": requests })) };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let headers = response.headers.iter();
        let response = HttpResponse {
            status: response.status,
            headers: headers
                .map(|(name, value)| Attribute { name: name.clone(), value: text(value) })
                .collect(),
            body: if response.body.is_null() { Vec::new() } else { response.body.to_string().into_bytes() },
        };
        let note = step.note.clone();
        reply = provider.resume(&operation, &note, &response, &context).map_err(fault)?;
    }
}

fn operation(provider: &mut dyn Provider, object: &str, exchange: &Exchange) -> Result<Operation, Failure> {
    let object = object.to_owned();
    let id = || exchange.id.clone().ok_or_else(|| Failure::because("the exchange needs an id"));
    let listing = || Listing {
        object: object.clone(),
        cursor: exchange.cursor.as_ref().map(|cursor| cursor.clone().into_bytes()),
        limit: 100,
    };
    Ok(match exchange.operation.as_str() {
        "probe" => Operation::Probe,
        "discover" => Operation::Discover(object),
        "read" => Operation::Read(Reference { object, id: id()? }),
        "remove" => {
            Operation::Remove(Remove { object, id: id()?, version: exchange.version.clone(), stamp: None })
        }
        "find" => Operation::Find(Find {
            object,
            key: exchange.key.clone(),
            identity: exchange
                .identity
                .iter()
                .map(|(name, value)| Attribute {
                    name: name.clone(),
                    value: value.as_str().unwrap_or_default().to_owned(),
                })
                .collect(),
        }),
        "changes" => Operation::Changes(listing()),
        "walk" => Operation::Walk(listing()),
        word @ ("create" | "update") => {
            let canonical = exchange.document.clone().unwrap_or_else(|| json!({})).to_string();
            let document = provider
                .to_provider(&object, canonical.as_bytes(), None)
                .map_err(|fault| Failure::new(&fault))?
                .map_err(|problems| {
                    Failure::because(format!("to-provider refuses the document: {problems:?}"))
                })?;
            Operation::Write(Write {
                object,
                id: if word == "update" { Some(id()?) } else { None },
                document,
                changed: exchange.changed.clone(),
                version: exchange.version.clone(),
                stamp: None,
                key: exchange.key.clone().unwrap_or_else(|| "key".to_owned()),
                keep: None,
                previous: None,
                attributes: Vec::new(),
            })
        }
        other => return Err(Failure::because(format!("there is no operation {other:?}"))),
    })
}

/// Bytes as JSON if they are that, else as text.
fn readable(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn request(request: &HttpRequest) -> Value {
    let target = match &request.target {
        Target::Path(path) | Target::Url(path) => path,
    };
    let headers: Map<String, Value> =
        request.headers.iter().map(|header| (header.name.clone(), header.value.clone().into())).collect();
    json!({
        "method": request.method,
        "target": target,
        "headers": headers,
        "body": request.body.as_deref().map(readable),
        "repeatable": request.repeatable,
    })
}

fn observed(seen: &tandem_core::exchange::Observed) -> Value {
    let state = match &seen.state {
        State::Touched => json!("touched"),
        State::Partial(document) => json!({ "partial": readable(document) }),
        State::Whole(document) => json!({ "whole": readable(document) }),
        State::Gone(proof) => json!({ "gone": format!("{proof:?}").to_lowercase() }),
        State::Moved(to) => json!({ "moved": to.id }),
    };
    json!({
        "object": seen.object, "id": seen.id, "state": state, "version": seen.version, "stamp": seen.stamp,
        "key": seen.key, "author": seen.author, "account": seen.account,
    })
}

fn answered(answer: &Answer) -> Value {
    match answer {
        Answer::Written(written) => {
            json!({ "written": observed(&written.observed), "unapplied": written.unapplied })
        }
        Answer::Current(seen) => json!({ "current": observed(seen) }),
        Answer::Found(rows) => json!({ "found": rows.iter().map(observed).collect::<Vec<_>>() }),
        Answer::Page(page) => json!({
            "page": page.rows.iter().map(observed).collect::<Vec<_>>(),
            "cursor": readable(&page.cursor),
            "more": page.more,
        }),
        Answer::Facts(facts) => json!({ "facts": readable(facts) }),
        Answer::Exists(reference) => json!({ "exists": reference.id }),
        Answer::Rejected(problems) => json!({ "rejected": problems }),
        Answer::Blocked(block) => json!({ "blocked": block.problem, "scope": block.scope }),
        Answer::Unauthorised(why) => json!({ "unauthorised": why }),
        Answer::CursorLost(why) => json!({ "cursor-lost": why }),
        Answer::Throttled(throttle) => {
            json!({ "throttled": throttle.quota, "wait": format!("{:?}", throttle.wait) })
        }
        Answer::Again(wait, effect) => json!({ "again": format!("{wait:?}"), "took-effect": effect }),
        Answer::Refused => json!("refused"),
        Answer::Watching(_) => json!("watching"),
        Answer::Other(word, value) => json!({ "other": word, "value": readable(value) }),
        Answer::Send(_) => json!("send"),
    }
}
