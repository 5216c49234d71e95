//! The smallest record that breaks the same law at the same field.

use serde_json::Value;

use super::{Broken, Law, Lawless, Mapping, Record, Terms, check};
use crate::document::escape;

/// Makes a record smaller for as long as it breaks the same law at the same field.
pub(super) fn smallest(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    mut broken: Broken,
    mut steps: usize,
) -> Broken {
    'again: loop {
        for candidate in candidates(&broken.example) {
            if steps == 0 {
                return broken;
            }
            steps -= 1;
            // What neither side may have shows nothing.
            if terms.canonical.validate(&candidate.canonical).is_err()
                || !terms.read.is_valid(&candidate.current)
            {
                continue;
            }
            if let Err(Lawless::Broken(smaller)) = check::one(mapping, terms, &candidate)
                && smaller.law == broken.law
                && (smaller.field == broken.field || broken.law == Law::Bytes)
            {
                broken = *smaller;
                continue 'again;
            }
        }
        return broken;
    }
}

/// Records that are a little smaller, the boldest steps first.
fn candidates(record: &Record) -> Vec<Record> {
    let empty = Value::Object(serde_json::Map::new());
    let mut all = Vec::new();
    if record.canonical != empty {
        all.push(Record { canonical: empty.clone(), current: record.current.clone() });
    }
    if record.current != empty {
        all.push(Record { canonical: record.canonical.clone(), current: empty });
    }
    for canonical in smaller(&record.canonical) {
        all.push(Record { canonical, current: record.current.clone() });
    }
    for current in smaller(&record.current) {
        all.push(Record { canonical: record.canonical.clone(), current });
    }
    all
}

/// A document with one thing less, or one thing simpler.
fn smaller(document: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    gather(document, &mut String::new(), &mut places);
    let mut all = Vec::new();
    for place in &places {
        all.extend(without(document, place));
    }
    for place in &places {
        let Some(value) = document.pointer(place) else { continue };
        for simpler in simpler(value) {
            let mut changed = document.clone();
            if let Some(slot) = changed.pointer_mut(place) {
                *slot = simpler;
                all.push(changed);
            }
        }
    }
    all
}

fn gather(node: &Value, at: &mut String, places: &mut Vec<String>) {
    let length = at.len();
    let mut visit = |name: &str, value: &Value| {
        at.push('/');
        at.push_str(name);
        places.push(at.clone());
        gather(value, at, places);
        at.truncate(length);
    };
    match node {
        Value::Object(members) => members.iter().for_each(|(name, value)| visit(&escape(name), value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(position, value)| visit(&position.to_string(), value));
        }
        _ => {}
    }
}

fn without(document: &Value, place: &str) -> Option<Value> {
    let (parent, name) = place.rsplit_once('/')?;
    let mut changed = document.clone();
    match changed.pointer_mut(parent)? {
        Value::Object(members) => {
            members.remove(crate::document::unescape(name).as_ref())?;
        }
        Value::Array(items) => {
            let position: usize = name.parse().ok()?;
            if position >= items.len() {
                return None;
            }
            items.remove(position);
        }
        _ => return None,
    }
    Some(changed)
}

fn simpler(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) if text != "a" && !text.is_empty() => {
            let letters: Vec<char> = text.chars().collect();
            let (first, second) = letters.split_at(letters.len() / 2);
            let mut all = vec![Value::from("a")];
            for half in [first, second] {
                if half.len() < letters.len() {
                    all.push(Value::String(half.iter().collect()));
                }
            }
            all.push(Value::String(letters.iter().skip(1).collect()));
            all
        }
        Value::Number(number) if number.as_i64() != Some(0) && number.as_i64() != Some(1) => {
            vec![Value::from(0), Value::from(1)]
        }
        Value::Object(members) if !members.is_empty() => vec![Value::Object(serde_json::Map::new())],
        Value::Array(items) if !items.is_empty() => vec![Value::Array(Vec::new())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
