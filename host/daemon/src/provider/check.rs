//! Whether an answer is what the contract says: JSON that is JSON, requests that may be sent, nothing beyond its bound.
//!
//! Messages say what is wrong and where, and never quote the answer: it may hold what a customer wrote.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tandem_core::descriptor::Descriptor;
use tandem_core::exchange::{
    Answer, Attribute, Decision, HttpRequest, Observed, Operation, Placeholder, Problem, QuotaState, Reply,
    Ruling, State, Step, Target, Written,
};

use super::limits::Limits;

/// What is wrong, ready to follow "answered".
pub(super) type Wrong = String;

/// Headers that are the host's to set, or that would change where a message ends.
const HOSTS_HEADERS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

fn bytes(what: &str, found: usize, limit: usize) -> Result<(), Wrong> {
    if found > limit { Err(format!("{what} of {found} bytes, more than its {limit}")) } else { Ok(()) }
}

fn count(what: &str, found: usize, limit: usize) -> Result<(), Wrong> {
    if found > limit { Err(format!("{found} {what}, more than its {limit}")) } else { Ok(()) }
}

/// A JSON object within its size, its nesting within what the host reads (128), its text without lone surrogates.
pub(super) fn document(what: &str, text: &[u8], limits: &Limits) -> Result<(), Wrong> {
    bytes(what, text.len(), limits.document_bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Top.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => format!("{what} that is not a JSON object ({place})"),
            _ => format!("{what} that is not JSON ({place})"),
        }
    })
}

/// What a mapping made: a JSON object within its size. What else is wrong with it (text that is no Unicode, a number beyond
/// every reader, nesting without end) is the record's, not the component's: the reading of the document says where it is.
pub(super) fn mapped(text: &[u8], limits: &Limits) -> Result<(), Wrong> {
    bytes("a document", text.len(), limits.document_bytes)?;
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err("a document that is not a JSON object".to_owned());
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| {
        format!("a document that is not JSON (line {}, column {})", error.line(), error.column())
    })
}

/// Reads an object and keeps nothing.
struct Top;

impl<'de> DeserializeSeed<'de> for Top {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Any.visit_map(map)
    }
}

/// Reads any value and keeps nothing. Unlike `IgnoredAny` it decodes strings and counts the nesting.
struct Any;

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self).map(|()| Self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(())
    }
}

/// Problems: at least one, not too many.
pub(super) fn problems(list: &[Problem], limits: &Limits) -> Result<(), Wrong> {
    if list.is_empty() {
        return Err("a refusal without a problem".to_owned());
    }
    some_problems(list, limits)
}

fn some_problems(list: &[Problem], limits: &Limits) -> Result<(), Wrong> {
    count("problems", list.len(), limits.rows)?;
    list.iter().try_for_each(|one| problem(one, limits))
}

pub(super) fn problem(problem: &Problem, limits: &Limits) -> Result<(), Wrong> {
    bytes("a problem's code", problem.code.len(), limits.text_bytes)?;
    bytes("a problem's message", problem.message.len(), limits.text_bytes)?;
    match &problem.pointer {
        Some(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
            Err("a problem whose pointer is no JSON pointer".to_owned())
        }
        Some(pointer) => bytes("a problem's pointer", pointer.len(), limits.text_bytes),
        None => Ok(()),
    }
}

pub(super) fn ruling(ruling: &Ruling, limits: &Limits) -> Result<(), Wrong> {
    bytes("a rule's name", ruling.rule.len(), limits.text_bytes)?;
    match &ruling.decision {
        Decision::Skip(why) | Decision::Hold(why) | Decision::Remove(why) => {
            bytes("a reason", why.len(), limits.text_bytes)
        }
        Decision::Sync | Decision::Read => Ok(()),
    }
}

/// Rows of an answer or a delivery.
pub(super) fn rows(rows: &[Observed], limits: &Limits) -> Result<(), Wrong> {
    count("rows", rows.len(), limits.rows)?;
    rows.iter().try_for_each(|row| observed(row, limits))
}

fn name(what: &str, text: &str, limits: &Limits) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(format!("an empty {what}"));
    }
    bytes(what, text.len(), limits.text_bytes)
}

fn attributes(what: &str, list: &[Attribute], limits: &Limits) -> Result<(), Wrong> {
    count(what, list.len(), 256)?;
    list.iter().try_for_each(|one| {
        name("attribute's name", &one.name, limits)?;
        bytes("an attribute", one.value.len(), limits.text_bytes)
    })
}

fn observed(row: &Observed, limits: &Limits) -> Result<(), Wrong> {
    if let State::Partial(text) | State::Whole(text) = &row.state {
        document("a document", text, limits)?;
    }
    around(row, limits)
}

/// Everything of a row but its document.
fn around(row: &Observed, limits: &Limits) -> Result<(), Wrong> {
    name("object's name", &row.object, limits)?;
    name("record's id", &row.id, limits)?;
    match &row.state {
        State::Moved(to) => {
            name("object's name", &to.object, limits)?;
            name("record's id", &to.id, limits)?;
        }
        State::Partial(_) | State::Whole(_) | State::Touched | State::Gone(_) => {}
    }
    for text in [&row.version, &row.key, &row.author, &row.account].into_iter().flatten() {
        bytes("a member of a row", text.len(), limits.text_bytes)?;
    }
    bytes("bytes to keep", row.keep.as_ref().map_or(0, Vec::len), limits.keep_bytes)?;
    attributes("attributes", &row.attributes, limits)
}

fn written(done: &Written, limits: &Limits) -> Result<(), Wrong> {
    observed(&done.observed, limits)?;
    some_problems(&done.unapplied, limits)
}

fn request(request: &HttpRequest, limits: &Limits) -> Result<(), Wrong> {
    if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&request.method.as_str()) {
        return Err("a request with a method that is none of GET, POST, PUT, PATCH, DELETE".to_owned());
    }
    let (target, lawful) = match &request.target {
        Target::Path(path) => {
            (path, path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\"))
        }
        Target::Url(url) => (url, url.starts_with("https://") || url.starts_with("http://")),
    };
    if !lawful || target.chars().any(|c| c.is_control() || c == ' ') {
        return Err("a request with neither a path (/…) nor a URL (https://…)".to_owned());
    }
    bytes("a request's target", target.len(), limits.text_bytes)?;
    attributes("headers", &request.headers, limits)?;
    for header in &request.headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !header.name.chars().all(token) || header.value.chars().any(|c| c.is_control() && c != '\t') {
            return Err("a request with a header that is no header".to_owned());
        }
        if HOSTS_HEADERS.contains(&header.name.to_ascii_lowercase().as_str()) {
            let name = header.name.to_ascii_lowercase();
            return Err(format!("a request that sets the header {name}, which is the host's"));
        }
    }
    bytes("a request's body", request.body.as_ref().map_or(0, Vec::len), limits.request_body_bytes)?;
    count("charges", request.charges.len(), 64)?;
    request.charges.iter().try_for_each(|charge| name("quota's name", &charge.quota, limits))?;
    count("placeholders", request.secrets.len(), 64)?;
    request.secrets.iter().try_for_each(|place| {
        name("placeholder's marker", &place.marker, limits)?;
        name("secret's name", &place.secret, limits)?;
        if ["json", "form", "xml", "header"].contains(&place.escape.as_str()) {
            Ok(())
        } else {
            Err("a placeholder with an escape that is none of json, form, xml, header".to_owned())
        }
    })
}

/// A request bears only those secrets that the descriptor declares for its operation: what one operation needs, no other one gets.
fn secrets(request: &HttpRequest, operation: &Operation, descriptor: &Descriptor) -> Result<(), Wrong> {
    let operation = operation.declared();
    let declared = descriptor.secrets.get(operation).map(Vec::as_slice).unwrap_or_default();
    let Some(place) = request.secrets.iter().find(|place| !declared.contains(&place.secret)) else {
        return Ok(());
    };
    let Placeholder { marker, secret, .. } = place;
    Err(format!(
        "for the operation {operation} with a request that bears the secret {secret} in {}, which {}@{} does not declare for it; let \
         `describe` name it under /secrets/{operation}, or leave it out",
        where_is(request, marker),
        descriptor.id,
        descriptor.version,
    ))
}

/// Where a placeholder stands: a header, or a place in a JSON body.
fn where_is(request: &HttpRequest, marker: &str) -> String {
    if let Some(header) = request.headers.iter().find(|header| header.value.contains(marker)) {
        return format!("the header {}", header.name.to_ascii_lowercase());
    }
    let Some(body) = &request.body else { return "no place of it".to_owned() };
    match serde_json::from_slice(body).ok().and_then(|body| pointer_to(&body, marker)) {
        Some(pointer) => format!("{pointer} of the body"),
        None if body.windows(marker.len().max(1)).any(|part| part == marker.as_bytes()) => {
            "the body".to_owned()
        }
        None => "no place of it".to_owned(),
    }
}

/// The JSON pointer of the first string that has a text in it.
fn pointer_to(value: &Value, text: &str) -> Option<String> {
    let below = |key: &str, value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        pointer_to(value, text).map(|rest| format!("/{key}{rest}"))
    };
    match value {
        Value::String(found) => found.contains(text).then(String::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, value)| below(&at.to_string(), value)),
        Value::Object(members) => members.iter().find_map(|(key, value)| below(key, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn step(
    step: &Step,
    operation: &Operation,
    descriptor: Option<&Descriptor>,
    limits: &Limits,
) -> Result<(), Wrong> {
    request(&step.request, limits)?;
    descriptor.map_or(Ok(()), |descriptor| secrets(&step.request, operation, descriptor))?;
    let limit = match operation {
        Operation::Changes(_) | Operation::Walk(_) => limits.listing_note_bytes,
        _ => limits.note_bytes,
    };
    bytes("a note", step.note.len(), limit)?;
    step.so_far.as_ref().map_or(Ok(()), |done| written(done, limits))
}

fn quota(state: &QuotaState, limits: &Limits) -> Result<(), Wrong> {
    name("quota's name", &state.quota, limits)
}

/// A whole reply.
pub(super) fn reply(
    reply: &Reply,
    operation: &Operation,
    descriptor: Option<&Descriptor>,
    limits: &Limits,
) -> Result<(), Wrong> {
    count("quotas", reply.quotas.len(), 256)?;
    reply.quotas.iter().try_for_each(|state| quota(state, limits))?;
    match &reply.answer {
        Answer::Send(next) => step(next, operation, descriptor, limits),
        Answer::Written(done) => written(done, limits),
        // A read hands over what the CRM shows of a record. If that is no JSON it is the record's fault, not the component's: the
        // pipeline sets the record aside.
        Answer::Current(seen) => match &seen.state {
            State::Whole(text) => {
                bytes("a document", text.len(), limits.document_bytes)?;
                around(seen, limits)
            }
            _ => observed(seen, limits),
        },
        Answer::Found(found) => rows(found, limits),
        Answer::Page(page) => {
            bytes("a cursor", page.cursor.len(), limits.cursor_bytes)?;
            rows(&page.rows, limits)
        }
        Answer::Watching(channel) => bytes("a channel's state", channel.state.len(), limits.cursor_bytes),
        Answer::Facts(facts) => document("facts", facts, limits),
        Answer::Exists(existing) => {
            name("object's name", &existing.object, limits)?;
            name("record's id", &existing.id, limits)
        }
        Answer::Rejected(list) => problems(list, limits),
        Answer::Blocked(block) => problem(&block.problem, limits),
        Answer::Unauthorised(why) | Answer::CursorLost(why) | Answer::Again(_, why) => {
            bytes("a reason", why.len(), limits.text_bytes)
        }
        Answer::Other(word, value) => {
            bytes("a word", word.len(), limits.text_bytes)?;
            bytes("an answer", value.len(), limits.document_bytes)
        }
        Answer::Throttled(throttle) => {
            throttle.quota.as_ref().map_or(Ok(()), |quota| name("quota's name", quota, limits))
        }
        Answer::Refused => Ok(()),
    }
}
