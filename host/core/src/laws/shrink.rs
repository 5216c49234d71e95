//! The smallest record that breaks the same law at the same field.
//!
//! Each step takes something away or puts something simpler in its place, so that it ends; what is simplest is fixed, so that
//! the same mistake ends with the same record wherever it was found.

use serde_json::Value;

use super::{Broken, Law, Lawless, Mapping, Record, Terms, check, generate};
use crate::document::escape;

/// Texts in the place of others, the simplest first: one of each kind that schemas ask for.
const SIMPLEST: [&str; 8] =
    ["a", "b", "0", "0.1", "1970-01-01", "1970-01-01T00:00:00.000Z", "a@b.example", "en"];

/// Makes a record smaller for as long as it breaks the same law at the same field. What is read otherwise than it was written may
/// have been met on the way back first: it is told from the way there, where that shows it too.
pub(super) fn smallest(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    mut broken: Broken,
    mut steps: usize,
) -> Lawless {
    let bytes = broken.law == Law::Bytes;
    'again: loop {
        for candidate in candidates(terms, &broken.field, &broken.example) {
            if steps == 0 {
                break 'again;
            }
            steps -= 1;
            // What depends on what was asked before shall show on an instance that was asked nothing.
            if !allowed(terms, &candidate) || (bytes && mapping.renew().is_err()) {
                continue;
            }
            let first = if broken.law <= Law::Settles { Law::Written } else { broken.law };
            if let Err(Lawless::Broken(smaller)) = check::one(mapping, terms, &candidate)
                && (first..=broken.law).contains(&smaller.law)
                && (smaller.field == broken.field || bytes)
            {
                broken = *smaller;
                continue 'again;
            }
        }
        break;
    }
    Lawless::Broken(Box::new(broken))
}

/// A record that is answered otherwise by an instance that has seen others: the smallest one, after the smallest one.
pub(super) fn order(
    mapping: &mut dyn Mapping,
    terms: &Terms<'_>,
    broken: Broken,
    others: &[&Record],
    mut steps: usize,
) -> Lawless {
    let found = others.iter().find_map(|other| differs(mapping, terms, &broken.example, other));
    // It takes more than one: what was seen is shown as it is.
    let Some(mut broken) = found else { return Lawless::Broken(Box::new(broken)) };
    'again: loop {
        let Some(after) = broken.after.clone() else { break };
        let mut pairs: Vec<(Record, Record)> = Vec::new();
        pairs.extend(
            candidates(terms, &broken.field, &broken.example).into_iter().map(|it| (it, after.clone())),
        );
        pairs.extend(candidates(terms, "", &after).into_iter().map(|it| (broken.example.clone(), it)));
        for (record, after) in pairs {
            if steps == 0 {
                break 'again;
            }
            steps -= 1;
            if allowed(terms, &record)
                && allowed(terms, &after)
                && let Some(smaller) = differs(mapping, terms, &record, &after)
            {
                broken = smaller;
                continue 'again;
            }
        }
        break;
    }
    Lawless::Broken(Box::new(broken))
}

/// Whether a record is answered otherwise on a fresh instance than on one that has seen another record.
fn differs(mapping: &mut dyn Mapping, terms: &Terms<'_>, record: &Record, after: &Record) -> Option<Broken> {
    mapping.renew().ok()?;
    let fresh = check::one(mapping, terms, record).ok()?;
    mapping.renew().ok()?;
    check::one(mapping, terms, after).ok()?;
    let used = check::one(mapping, terms, record).ok()?;
    let broken = check::other_bytes(terms, record, &fresh.all, &used.all)?;
    Some(Broken { after: Some(after.clone()), ..broken })
}

/// What neither side may have shows nothing.
fn allowed(terms: &Terms<'_>, record: &Record) -> bool {
    terms.canonical.validate(&record.canonical).is_ok() && terms.read.is_valid(&record.current)
}

/// Records that are a little smaller, the boldest steps first.
fn candidates(terms: &Terms<'_>, field: &str, record: &Record) -> Vec<Record> {
    let empty = Value::Object(serde_json::Map::new());
    let mut all: Vec<Record> = alone(terms, field, record).into_iter().filter(|one| one != record).collect();
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
    all.extend(exchanged(record));
    all
}

/// The field by itself, in System A and nowhere else.
fn alone(terms: &Terms<'_>, field: &str, record: &Record) -> Option<Record> {
    let places = terms.fields().get(field).map(|described| described.provider.as_slice()).unwrap_or_default();
    let there = || places.iter().find_map(|place| record.current.pointer(place));
    let value = record.canonical.pointer(field).filter(|_| !field.is_empty()).or_else(there)?.clone();
    let empty = Value::Object(serde_json::Map::new());
    let mut canonical = empty.clone();
    generate::put(&mut canonical, field, value);
    Some(Record { canonical, current: empty })
}

/// The two simplest texts in each other's place, if the other one comes first: which is which says nothing.
fn exchanged(record: &Record) -> Option<Record> {
    fn first<'v>(value: &'v Value, found: &mut Option<&'v str>) {
        match value {
            Value::String(text) if ["a", "b"].contains(&text.as_str()) => {
                found.get_or_insert(text);
            }
            Value::Array(items) => items.iter().for_each(|item| first(item, found)),
            Value::Object(members) => members.values().for_each(|member| first(member, found)),
            _ => {}
        }
    }
    fn exchange(value: &Value) -> Value {
        match value {
            Value::String(text) if text == "a" => Value::from("b"),
            Value::String(text) if text == "b" => Value::from("a"),
            Value::Array(items) => items.iter().map(exchange).collect(),
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.clone(), exchange(value)));
                Value::Object(members.collect())
            }
            other => other.clone(),
        }
    }
    let mut found = None;
    first(&record.canonical, &mut found);
    first(&record.current, &mut found);
    (found == Some("b"))
        .then(|| Record { canonical: exchange(&record.canonical), current: exchange(&record.current) })
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
            // The others stay in their order.
            members.shift_remove(crate::document::unescape(name).as_ref())?;
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
        Value::String(text) => {
            let rank = SIMPLEST.iter().position(|simple| *simple == text.as_str());
            let ahead = SIMPLEST.iter().take(rank.unwrap_or(SIMPLEST.len()));
            let mut all: Vec<Value> = ahead.map(|simple| Value::from(*simple)).collect();
            if rank.is_none() {
                let letters: Vec<char> = text.chars().collect();
                let (first, second) = letters.split_at(letters.len() / 2);
                let tail = letters.get(1..).unwrap_or_default();
                // Nothing at all says less than a letter does.
                let shorter = [first, second, tail].into_iter().filter(|part| !part.is_empty());
                all.extend(
                    shorter
                        .filter(|part| part.len() < letters.len())
                        .map(|part| Value::String(part.iter().collect())),
                );
            }
            all
        }
        Value::Number(number) if number.as_i64() != Some(0) => match number.as_i64() {
            Some(1) => vec![Value::from(0)],
            _ => vec![Value::from(0), Value::from(1)],
        },
        Value::Bool(true) => vec![Value::Bool(false)],
        Value::Object(members) if !members.is_empty() => vec![Value::Object(serde_json::Map::new())],
        Value::Array(items) if !items.is_empty() => vec![Value::Array(Vec::new())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
