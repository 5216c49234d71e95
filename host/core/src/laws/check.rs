//! One record against the laws.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Broken, Law, Lawless, Mapping, Record, Refusal, Terms, Way};
use crate::descriptor::Direction;
use crate::document::{self, escape};
use crate::normalise::normal_form;

/// What the mapping answered to a record.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// All answers one after the other, to be compared with those of another instance.
    pub(super) all: Vec<Said>,
    /// It refused one of the ways.
    pub(super) refused: bool,
}

/// One answer: on which way it was asked for, and its bytes unless the record was refused.
pub(super) type Said = (Way, Option<Vec<u8>>);

/// Checks one record.
pub(super) fn one(mapping: &mut dyn Mapping, terms: &Terms<'_>, record: &Record) -> Result<Answers, Lawless> {
    let mut case = Case { mapping, terms, record, answers: Answers::default() };
    for current in [Some(&record.current), None] {
        case.write_and_read(current)?;
    }
    case.read_and_write()?;
    Ok(case.answers)
}

struct Case<'c, 't> {
    mapping: &'c mut dyn Mapping,
    terms: &'c Terms<'t>,
    record: &'c Record,
    answers: Answers,
}

impl Case<'_, '_> {
    /// Law 1 and 3.
    fn write_and_read(&mut self, current: Option<&Value>) -> Result<(), Lawless> {
        let record = self.record;
        let Some(written) = self.write(&record.canonical, current, Way::ToProvider)? else {
            return Ok(());
        };
        if let Some(current) = current
            && let Some((place, expected, found)) = lost(self.terms, current, &written)
        {
            return Err(self.broken(Law::Unmapped, &place, Way::ToProvider, Some(expected), found));
        }
        let Some(read) = self.read(&written, Way::ToProvider)? else { return Ok(()) };
        self.same(Law::Written, Way::ToProvider, &record.canonical, &read)
    }

    /// Law 2 and 3.
    fn read_and_write(&mut self) -> Result<(), Lawless> {
        let record = self.record;
        let Some(read) = self.read(&record.current, Way::ToCanonical)? else { return Ok(()) };
        let Some(written) = self.write(&read, Some(&record.current), Way::ToCanonical)? else {
            return Ok(());
        };
        if let Some((place, expected, found)) = lost(self.terms, &record.current, &written) {
            return Err(self.broken(Law::Unmapped, &place, Way::ToCanonical, Some(expected), found));
        }
        let Some(again) = self.read(&written, Way::ToCanonical)? else { return Ok(()) };
        self.same(Law::Read, Way::ToCanonical, &read, &again)?;
        let Some(settled) = self.write(&again, Some(&written), Way::ToCanonical)? else {
            return Ok(());
        };
        for (field, described) in self.terms.fields() {
            if described.direction != Direction::Both || described.lossy.is_some() {
                continue;
            }
            for place in &described.provider {
                let (before, after) = (written.pointer(place), settled.pointer(place));
                if before.unwrap_or(&Value::Null) != after.unwrap_or(&Value::Null) {
                    let (before, after) = (before.cloned(), after.cloned());
                    return Err(self.broken(Law::Settles, field, Way::ToCanonical, before, after));
                }
            }
        }
        Ok(())
    }

    /// Fields that flow both ways are the same but for their normaliser.
    fn same(&self, law: Law, way: Way, expected: &Value, found: &Value) -> Result<(), Lawless> {
        let (expected, found) = (document::fields(expected), document::fields(found));
        for (field, described) in self.terms.fields() {
            if described.direction != Direction::Both || described.lossy.is_some() {
                continue;
            }
            let (went, came) = (expected.get(field), found.get(field));
            let chain = self.terms.chain(field);
            if normal(chain, went) != normal(chain, came) {
                return Err(self.broken(law, field, way, went.cloned(), came.cloned()));
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        canonical: &Value,
        current: Option<&Value>,
        way: Way,
    ) -> Result<Option<Value>, Lawless> {
        let first = self.mapping.to_provider(canonical, current);
        let second = self.mapping.to_provider(canonical, current);
        self.both(&first, &second, way)
    }

    fn read(&mut self, document: &Value, way: Way) -> Result<Option<Value>, Lawless> {
        let first = self.mapping.to_canonical(document);
        let second = self.mapping.to_canonical(document);
        self.both(&first, &second, way)
    }

    /// Both answers to the same question: the same, and a document.
    fn both(
        &mut self,
        first: &Result<Vec<u8>, Refusal>,
        second: &Result<Vec<u8>, Refusal>,
        way: Way,
    ) -> Result<Option<Value>, Lawless> {
        for answer in [first, second] {
            if let Err(Refusal::Fault(fault)) = answer {
                return Err(Lawless::Fault(fault.clone()));
            }
        }
        if first != second {
            let (first, second) = (first.as_deref().ok(), second.as_deref().ok());
            let place = differing(first, second);
            return Err(self.broken(Law::Bytes, &place, way, first.map(text), second.map(text)));
        }
        let Ok(bytes) = first else {
            self.answers.refused = true;
            self.answers.all.push((way, None));
            return Ok(None);
        };
        self.answers.all.push((way, Some(bytes.clone())));
        match document::parse_foreign(bytes) {
            Ok(document) => Ok(Some(document)),
            Err(problems) => {
                let first = problems.first();
                let place = first.and_then(|problem| problem.pointer.clone()).unwrap_or_default();
                let why = first.map(|problem| Value::String(problem.message.clone()));
                Err(self.broken(Law::Document, &place, way, None, why))
            }
        }
    }

    fn broken(
        &self,
        law: Law,
        field: &str,
        way: Way,
        expected: Option<Value>,
        found: Option<Value>,
    ) -> Lawless {
        Lawless::Broken(Box::new(Broken {
            law,
            object: self.terms.object.to_owned(),
            field: field.to_owned(),
            way,
            expected,
            found,
            example: self.record.clone(),
            after: None,
        }))
    }
}

/// No value and null are the same here: what is written cannot tell a CRM more than "nothing".
fn normal(chain: &str, value: Option<&Value>) -> Option<Value> {
    value.map(|value| normal_form(chain, &composed(value))).filter(|value| !value.is_null())
}

/// Text in NFC, as every document of the host is.
fn composed(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(document::composed(text).into_owned()),
        Value::Array(items) => Value::Array(items.iter().map(composed).collect()),
        other => other.clone(),
    }
}

/// The first member of `before` that belongs to no field and is another, or gone, in `after`.
pub(super) fn lost(
    terms: &Terms<'_>,
    before: &Value,
    after: &Value,
) -> Option<(String, Value, Option<Value>)> {
    let owned: BTreeSet<&str> =
        terms.fields().values().flat_map(|field| &field.provider).map(String::as_str).collect();
    first_lost(&mut String::new(), before, Some(after), &owned)
}

fn first_lost(
    at: &mut String,
    before: &Value,
    after: Option<&Value>,
    owned: &BTreeSet<&str>,
) -> Option<(String, Value, Option<Value>)> {
    if after == Some(before) || owned.contains(at.as_str()) {
        return None;
    }
    let holds_fields = at.is_empty()
        || owned
            .range(at.as_str()..)
            .next()
            .is_some_and(|next| next.strip_prefix(at.as_str()).is_some_and(|rest| rest.starts_with('/')));
    let members = match (before, after) {
        (Value::Object(members), Some(Value::Object(_))) => members,
        (Value::Object(members), _) if holds_fields => members,
        _ => return Some((at.clone(), before.clone(), after.cloned())),
    };
    let length = at.len();
    for (name, value) in members {
        at.push('/');
        at.push_str(&escape(name));
        let found = first_lost(at, value, after.and_then(|after| after.get(name)), owned);
        at.truncate(length);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The same record gave other bytes: where, and which.
pub(super) fn other_bytes(
    terms: &Terms<'_>,
    record: &Record,
    before: &[Said],
    after: &[Said],
) -> Option<Broken> {
    let ((way, before), (_, after)) = before.iter().zip(after).find(|(before, after)| before != after)?;
    Some(Broken {
        law: Law::Bytes,
        object: terms.object.to_owned(),
        field: differing(before.as_deref(), after.as_deref()),
        way: *way,
        expected: before.as_deref().map(text),
        found: after.as_deref().map(text),
        example: record.clone(),
        after: None,
    })
}

/// An answer as text, also when it is no document.
fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Where two answers differ: the pointer of the first member, or nothing when only their bytes do.
pub(super) fn differing(left: Option<&[u8]>, right: Option<&[u8]>) -> String {
    let read = |bytes: Option<&[u8]>| serde_json::from_slice::<Value>(bytes.unwrap_or_default()).ok();
    let (Some(Value::Object(left)), Some(Value::Object(right))) = (read(left), read(right)) else {
        return String::new();
    };
    let mut names = left.keys().chain(right.keys());
    names
        .find(|name| left.get(*name) != right.get(*name))
        .map(|name| document::pointer(name))
        .unwrap_or_default()
}
