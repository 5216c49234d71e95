//! `tandem provider test` runs golden cases: what the mapping, an exchange or a webhook gave when somebody looked last.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use tandem_core::document;
use tandem_core::exchange::{Answer, Context, HttpRequest, Operation, Problem, Reply, State, Target, Write};

use super::args;
use super::case::{self, Case, Exchange};
use super::failure::{FAILED, Failure};
use super::online::pretty;
use super::room::Room;
use crate::provider::{EngineConfig, Limits, Offline, Provider, Setup};

/// Runs golden cases, or blesses what comes of them.
pub(super) fn test(config: &Path, asked: &args::ProviderTest, json: bool) -> Result<String, Failure> {
    let files = case::files(&asked.cases)?;
    let limits = Room::found(config)?.limits();
    let mut loaded = Loaded { component: &asked.file, limits, last: None };
    let mut text = String::new();
    let (mut held, mut blessed, mut broken) = (0_usize, 0_usize, Vec::new());
    for path in &files {
        let name = path.display();
        match run(&mut loaded, path, asked.bless) {
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

/// The component as it was configured last: to compile it takes seconds, and most cases have the same settings.
struct Loaded<'l> {
    component: &'l Path,
    limits: Limits,
    last: Option<(Value, Value, Offline)>,
}

impl Loaded<'_> {
    /// A fresh instance, so that no case hangs on those before it.
    fn provider(&mut self, case: &Case) -> Result<&mut dyn Provider, Failure> {
        let known = self
            .last
            .take()
            .filter(|(settings, facts, _)| (settings, facts) == (&case.settings, &case.facts));
        let offline = if let Some((.., mut offline)) = known {
            offline.renew().map_err(|fault| Failure::new(&fault))?;
            offline
        } else {
            let setup = Setup { settings: case.settings.clone(), facts: case.facts.clone() };
            Offline::load_with(self.component, &setup, &EngineConfig::default(), self.limits.clone())
                .map_err(|error| Failure::new(&error))?
        };
        let (.., offline) = self.last.insert((case.settings.clone(), case.facts.clone(), offline));
        offline.provider().map_err(|fault| Failure::new(&fault))
    }
}

fn run(loaded: &mut Loaded<'_>, path: &Path, bless: bool) -> Result<Outcome, Failure> {
    let (case, mut whole) = case::read(path)?;
    let found = answer(loaded.provider(&case)?, &case)?;
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

fn answer(provider: &mut dyn Provider, case: &Case) -> Result<Value, Failure> {
    let object = case.object();
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
            let seen = provider.receive(&case.delivery(body), &Context::default()).map_err(fault)?;
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
    let operation = mapped(provider, exchange.operation(object)?)?;
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
        // Without another response the case ends with the request.
        let Some(response) = responses.next() else { return Ok(json!({ "requests": requests })) };
        let note = step.note.clone();
        reply = provider.resume(&operation, &note, &response.http(), &context).map_err(fault)?;
    }
}

/// A write with its document as the CRM has it.
fn mapped(provider: &mut dyn Provider, operation: Operation) -> Result<Operation, Failure> {
    let Operation::Write(write) = operation else { return Ok(operation) };
    let document = provider
        .to_provider(&write.object, &write.document, None)
        .map_err(|fault| Failure::new(&fault))?
        .map_err(|problems| Failure::because(format!("to-provider refuses the document: {problems:?}")))?;
    Ok(Operation::Write(Write { document, ..write }))
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
