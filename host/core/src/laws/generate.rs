//! Records that nobody has: documents that are made up from the schemas of both sides.
//!
//! A value is made from what its schema says (type, enum, format, bounds), with the texts that break mappings: accents in
//! both forms, quotes, line ends, white space at the ends, other scripts. What a schema does not let through after all is
//! taken out again at the place that it complains of. Values of a customer's own fields, whose types only the provider
//! knows, are read from documents of the CRM that were made up.

use serde_json::{Map, Value};

use super::{Lawless, Mapping, Record, Refusal, Terms};
use crate::descriptor::Direction;
use crate::document;
use crate::exchange::Problem;

/// Tries to mend what was made up before it is given up.
const MENDING: usize = 6;

/// Deepest nesting of what is made up.
const DEEPEST: usize = 6;

const PIECES: &[&str] = &[
    "a", "Z", "7", " ", "Ann", "O'Brien", "-", ".", "\"", "\\", "/", ",", ";", "\n", "é", "e\u{301}", "ß",
    "Ω", "中", "ا", "😀", "null", "0", "{", "<b>", "&amp;", "%20",
];

const PHONES: &[&str] = &["+49 30 1234567", "0041 44 668 18 00", "(555) 010-9999", "555-0100;ext=12", "7"];

const SITES: &[&str] =
    &["https://example.com", "example.org/a?b=c", "HTTP://Example.COM:80/", "https://例え.example/ü"];

const MAILS: &[&str] = &["ann@example.com", "Bob.Smith@Example.COM", "x+tag@sub.example.org"];

const LANGUAGES: &[&str] = &["en", "de-CH", "pt_BR", "zh-Hant"];

/// SplitMix64: small, and the same everywhere.
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or_default())
    }
}

/// Makes records up, the same ones for the same seed.
pub(super) struct Maker<'t> {
    terms: &'t Terms<'t>,
    dice: Dice,
}

impl<'t> Maker<'t> {
    pub(super) fn new(terms: &'t Terms<'t>, seed: u64) -> Self {
        Self { terms, dice: Dice(seed) }
    }

    /// The next record.
    pub(super) fn record(&mut self, mapping: &mut dyn Mapping) -> Result<Record, Lawless> {
        let current = self.document(mapping)?;
        let canonical = self.canonical(mapping)?;
        Ok(Record { canonical, current })
    }

    /// A document of the CRM that its schema lets through and the mapping reads.
    fn document(&mut self, mapping: &mut dyn Mapping) -> Result<Value, Lawless> {
        let schema = self.terms.read.source();
        let mut document = match made(schema, schema, &mut self.dice, 0) {
            Some(Value::Object(members)) => Value::Object(members),
            _ => Value::Object(Map::new()),
        };
        // Members of fields that the schema does not name, and one that nobody mapped.
        for field in self.terms.fields().values() {
            for place in &field.provider {
                if document.pointer(place).is_none() && self.dice.one_in(2) {
                    let value = Value::String(words(&mut self.dice, 0, 20));
                    put(&mut document, place, value);
                }
            }
        }
        if self.dice.one_in(2) {
            put(&mut document, "/nobody mapped this", Value::String(words(&mut self.dice, 0, 10)));
        }
        for _ in 0..MENDING {
            let mut problems = self.terms.read.validate(&document).err().unwrap_or_default();
            if problems.is_empty() {
                match mapping.to_canonical(&document) {
                    Err(Refusal::Record(said)) => problems = said,
                    Err(Refusal::Fault(fault)) => return Err(Lawless::Fault(fault)),
                    Ok(_) => return Ok(document),
                }
            }
            if !take_out(&mut document, &problems) {
                break;
            }
        }
        Ok(if self.terms.read.is_valid(&document) { document } else { Value::Object(Map::new()) })
    }

    /// A canonical document that the canonical schema lets through and the mapping accepts.
    fn canonical(&mut self, mapping: &mut dyn Mapping) -> Result<Value, Lawless> {
        let schema = self.terms.canonical.schema().source();
        let borrowed = match self.terms.fields().keys().any(|field| field.starts_with("/custom/")) {
            true => self.read_of_another(mapping)?,
            false => Value::Null,
        };
        let mut document = Value::Object(Map::new());
        for (pointer, described) in self.terms.fields() {
            if described.direction == Direction::ToCanonical || self.dice.one_in(4) {
                continue;
            }
            let declared = pointer
                .strip_prefix('/')
                .and_then(|name| schema.get("properties")?.get(document::unescape(name).as_ref()));
            let value = match declared {
                _ if self.dice.one_in(8) => Some(Value::Null),
                Some(declared) => made(schema, declared, &mut self.dice, 0),
                None => borrowed.pointer(pointer).cloned(),
            };
            if let Some(value) = value {
                put(&mut document, pointer, value);
            }
        }
        for _ in 0..MENDING {
            let mut problems = self.terms.canonical.validate(&document).err().unwrap_or_default();
            if problems.is_empty() {
                match mapping.to_provider(&document, None) {
                    Err(Refusal::Record(said)) => problems = said,
                    Err(Refusal::Fault(fault)) => return Err(Lawless::Fault(fault)),
                    Ok(_) => return Ok(document),
                }
            }
            if !take_out(&mut document, &problems) {
                break;
            }
        }
        Ok(if self.terms.canonical.validate(&document).is_ok() {
            document
        } else {
            Value::Object(Map::new())
        })
    }

    fn read_of_another(&mut self, mapping: &mut dyn Mapping) -> Result<Value, Lawless> {
        let document = self.document(mapping)?;
        match mapping.to_canonical(&document) {
            Ok(bytes) => Ok(document::parse_foreign(&bytes).unwrap_or_default()),
            Err(Refusal::Record(_)) => Ok(Value::Null),
            Err(Refusal::Fault(fault)) => Err(Lawless::Fault(fault)),
        }
    }
}

/// Takes out what is complained of. False: nothing that is complained of could be found.
fn take_out(document: &mut Value, problems: &[Problem]) -> bool {
    let mut taken = false;
    for problem in problems {
        let Some(place) = problem.pointer.as_deref().filter(|place| !place.is_empty()) else { continue };
        let mut place = place;
        // A complaint of an element, or of something that is missing, is one of the nearest member that is there.
        while document.pointer(place).is_none() {
            let Some((parent, _)) = place.rsplit_once('/') else { break };
            place = parent;
        }
        let Some((parent, name)) = place.rsplit_once('/') else { continue };
        match document.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                taken |= members.shift_remove(document::unescape(name).as_ref()).is_some();
            }
            Some(Value::Array(items)) => {
                if let Ok(position) = name.parse::<usize>()
                    && items.get(position).is_some()
                {
                    items.remove(position);
                    taken = true;
                }
            }
            _ => {}
        }
    }
    taken
}

/// Sets a member, with the objects around it.
pub(super) fn put(document: &mut Value, place: &str, value: Value) {
    let mut node = document;
    let mut names = place.split('/').skip(1).peekable();
    while let Some(name) = names.next() {
        let Value::Object(members) = node else { return };
        let name = document::unescape(name).into_owned();
        if names.peek().is_none() {
            members.insert(name, value);
            return;
        }
        node = members.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
}

fn words(dice: &mut Dice, least: u64, most: u64) -> String {
    let count = 1 + dice.below(6);
    let text: String = (0..count).filter_map(|_| dice.pick(PIECES).copied()).collect();
    // As the host reads it: in NFC.
    let mut text: String =
        document::composed(&text).chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
    let short = least.min(most).saturating_sub(text.chars().count() as u64);
    text.extend((0..short).map(|_| char::from(b'a' + u8::try_from(dice.below(26)).unwrap_or_default())));
    text
}

fn digits(dice: &mut Dice, most: u64) -> String {
    let count = 1 + dice.below(most);
    let text: String =
        (0..count).map(|_| char::from(b'0' + u8::try_from(dice.below(10)).unwrap_or_default())).collect();
    let bare = text.trim_start_matches('0');
    if bare.is_empty() { "0".to_owned() } else { bare.to_owned() }
}

/// A value as a schema describes it, as far as it is understood here. None: leave it out.
fn made(root: &Value, schema: &Value, dice: &mut Dice, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let place = reference.strip_prefix('#')?;
        return made(root, root.pointer(place)?, dice, depth + 1);
    }
    if let Some(value) = schema.get("const") {
        return Some(value.clone());
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        return dice.pick(options).cloned();
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(options) = schema.get(choice).and_then(Value::as_array) {
            let option = dice.pick(options)?.clone();
            return made(root, &option, dice, depth + 1);
        }
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => vec!["string"],
    };
    match *dice.pick(&kinds)? {
        "object" => Some(object(root, schema, dice, depth)),
        "array" => {
            let items = schema.get("items")?;
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
            let count = least + dice.below(4);
            Some(Value::Array((0..count).filter_map(|_| made(root, items, dice, depth + 1)).collect()))
        }
        "boolean" => Some(Value::Bool(dice.one_in(2))),
        kind @ ("integer" | "number") => {
            let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(-1_000_000);
            let most = schema
                .get("maximum")
                .and_then(Value::as_i64)
                .unwrap_or(1_000_000)
                .min(least.saturating_add(1 << 40));
            let span = u64::try_from(most.saturating_sub(least)).unwrap_or_default().saturating_add(1);
            let whole = least.saturating_add(i64::try_from(dice.below(span)).unwrap_or_default());
            if kind == "number" && dice.one_in(2) {
                let text = format!("{whole}.{}", 1 + dice.below(99));
                return serde_json::from_str(&text).ok();
            }
            Some(Value::from(whole))
        }
        "null" => Some(Value::Null),
        _ => Some(Value::String(text(schema, dice)?)),
    }
}

fn object(root: &Value, schema: &Value, dice: &mut Dice, depth: usize) -> Value {
    let mut members = Map::new();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, declared) in properties {
            let wanted = required.contains(&name.as_str());
            if !wanted && dice.one_in(4) {
                continue;
            }
            let nullable = declared
                .get("type")
                .and_then(Value::as_array)
                .is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"));
            let value = if !wanted && nullable && dice.one_in(6) {
                Some(Value::Null)
            } else {
                made(root, declared, dice, depth + 1)
            };
            if let Some(value) = value {
                members.insert(name.clone(), value);
            }
        }
    }
    Value::Object(members)
}

/// Characters of a made-up text at most.
const LONGEST: u64 = 200;

fn text(schema: &Value, dice: &mut Dice) -> Option<String> {
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or_default().min(LONGEST);
    let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(80).min(LONGEST).max(least);
    let one = |items: &[&str], dice: &mut Dice| dice.pick(items).map(|text| (*text).to_owned());
    let normaliser = schema.get("x-normalise").and_then(Value::as_str).unwrap_or_default();
    match schema.get("format").and_then(Value::as_str).unwrap_or(normaliser) {
        "email" => one(MAILS, dice),
        "phone" => one(PHONES, dice),
        "uri" | "url" | "web-address" => one(SITES, dice),
        "language" => one(LANGUAGES, dice),
        "date" => {
            Some(format!("{:04}-{:02}-{:02}", 1900 + dice.below(200), 1 + dice.below(12), 1 + dice.below(28)))
        }
        "date-time" | "datetime" => Some(format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            1970 + dice.below(80),
            1 + dice.below(12),
            1 + dice.below(28),
            dice.below(24),
            dice.below(60),
            dice.below(60),
            dice.below(1000)
        )),
        "decimal" => {
            let sign = if dice.one_in(4) { "-" } else { "" };
            let whole = digits(dice, 16);
            let fraction = if dice.one_in(2) { format!(".{}", digits(dice, 4)) } else { String::new() };
            Some(format!("{sign}{whole}{fraction}"))
        }
        "int64" => Some(digits(dice, 18)),
        _ => Some(words(dice, least, most.max(1))),
    }
}

#[cfg(test)]
mod tests;
