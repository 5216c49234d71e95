//! Values of custom fields: what v2 takes and shows, what the older v1 shows, and what webhooks say.
//!
//! v2 is strict: a number is no text, a choice is the number of its option, an empty list is no way to clear.

use serde_json::{Map, Value, json};

use super::fields::{ADDRESS, Field};
use crate::clock::parse_date;

/// Why a value is refused, in the words of the service.
type Why = String;

fn expected(what: &str, field: &Field) -> Why {
    format!("Expected '{what}' as value for person custom field '{}'", field.code)
}

/// A value as it is stored, in the form in which v2 shows it. `Ok(None)`: it is cleared.
pub(super) fn taken(field: &Field, given: &Value) -> Result<Option<Value>, Why> {
    if given.is_null() {
        return Ok(None);
    }
    let stored = match field.kind.as_str() {
        "varchar" | "varchar_auto" | "phone" => text(field, given, 255)?,
        "text" => text(field, given, 65_535)?,
        "double" => number(field, given)?,
        "enum" => Value::from(choice(field, given)?),
        "set" => set(field, given)?,
        "user" | "org" | "people" => Value::from(given.as_u64().ok_or_else(|| expected("number", field))?),
        "date" => day(field, given)?,
        "monetary" => {
            let object = object(field, given, &["value", "currency"])?;
            let currency = object.get("currency").and_then(Value::as_str);
            let currency =
                currency.filter(|code| code.len() == 3).ok_or_else(|| expected("currency", field))?;
            json!({ "value": number(field, object.get("value").unwrap_or(&Value::Null))?, "currency": currency })
        }
        "daterange" => {
            let object = object(field, given, &["value", "until"])?;
            let part = |name: &str| day(field, object.get(name).unwrap_or(&Value::Null));
            json!({ "value": part("value")?, "until": part("until")? })
        }
        "time" => {
            let object = object(field, given, &["value", "timezone_id", "timezone_name"])?;
            json!({
                "value": hour(field, object.get("value"))?,
                "timezone_id": object.get("timezone_id").cloned().unwrap_or_default(),
                "timezone_name": object.get("timezone_name").cloned().unwrap_or_default(),
            })
        }
        "timerange" => {
            let object = object(field, given, &["value", "until", "timezone_id", "timezone_name"])?;
            json!({
                "value": hour(field, object.get("value"))?,
                "until": hour(field, object.get("until"))?,
                "timezone_id": object.get("timezone_id").cloned().unwrap_or_default(),
                "timezone_name": object.get("timezone_name").cloned().unwrap_or_default(),
            })
        }
        "address" => address(field, given)?,
        other => return Err(format!("a field of the kind {other} cannot be written")),
    };
    Ok(Some(stored))
}

fn text(field: &Field, given: &Value, most: usize) -> Result<Value, Why> {
    if given.is_object() || given.is_array() {
        return Err("Invalid collection".to_owned());
    }
    let text = given.as_str().ok_or_else(|| expected("string", field))?;
    if text.chars().count() > most {
        return Err(format!(
            "Value of person custom field '{}' is longer than {most} characters",
            field.code
        ));
    }
    Ok(given.clone())
}

fn number(field: &Field, given: &Value) -> Result<Value, Why> {
    if given.is_number() { Ok(given.clone()) } else { Err(expected("number", field)) }
}

fn choice(field: &Field, given: &Value) -> Result<u64, Why> {
    let id = given.as_u64().ok_or_else(|| expected("number", field))?;
    match field.label(id) {
        Some(_) => Ok(id),
        None => Err(format!("Invalid option {id} for person custom field '{}'", field.code)),
    }
}

fn set(field: &Field, given: &Value) -> Result<Value, Why> {
    let rows = given.as_array().filter(|rows| !rows.is_empty()).ok_or_else(|| expected("array", field))?;
    rows.iter().map(|row| choice(field, row).map(Value::from)).collect::<Result<Value, Why>>()
}

fn day(field: &Field, given: &Value) -> Result<Value, Why> {
    match given.as_str().and_then(parse_date) {
        Some(_) => Ok(given.clone()),
        None => Err(expected("date", field)),
    }
}

fn hour(field: &Field, given: Option<&Value>) -> Result<Value, Why> {
    let text = given.and_then(Value::as_str).unwrap_or_default();
    let right = text.len() == 8 && text.parse::<jiff::civil::Time>().is_ok();
    if right { Ok(text.into()) } else { Err(expected("time", field)) }
}

fn object<'a>(field: &Field, given: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, Why> {
    let Some(object) = given.as_object() else {
        let mut kind = field.kind.clone();
        if let Some(first) = kind.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        return Err(format!("{kind} custom field value expected 'object'"));
    };
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("Unknown key '{name}' in person custom field '{}'", field.code)),
        None => Ok(object),
    }
}

/// Only the text is needed; parts that are left out become null.
fn address(field: &Field, given: &Value) -> Result<Value, Why> {
    let known: Vec<&str> = std::iter::once("value").chain(ADDRESS.iter().copied()).collect();
    let parts = object(field, given, &known)?;
    let value = parts.get("value").and_then(Value::as_str).ok_or_else(|| expected("string", field))?;
    let mut stored = Map::new();
    stored.insert("value".into(), value.into());
    for name in ADDRESS {
        let part = match parts.get(*name) {
            None | Some(Value::Null) => Value::Null,
            Some(Value::String(text)) => text.clone().into(),
            Some(_) => return Err(expected("string", field)),
        };
        stored.insert((*name).into(), part);
    }
    Ok(stored.into())
}

/// With the words of the options beside their numbers.
pub(super) fn labelled(field: &Field, value: &Value) -> Value {
    let with = |id: &Value| {
        let label = id.as_u64().and_then(|id| field.label(id));
        json!({ "id": id, "label": label })
    };
    match (field.kind.as_str(), value) {
        ("enum", Value::Number(_)) => with(value),
        ("set", Value::Array(ids)) => ids.iter().map(with).collect(),
        _ => value.clone(),
    }
}

/// As a webhook says it: an object with its kind.
pub(super) fn told(field: &Field, value: &Value) -> Value {
    let kind = field.kind.as_str();
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("enum" | "user" | "org" | "people", id) => json!({ "id": id, "type": kind }),
        ("set", Value::Array(ids)) => {
            let ids: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
            json!({ "values": ids, "type": kind })
        }
        ("daterange" | "timerange", Value::Object(parts)) => {
            let mut told = Map::new();
            for (name, part) in parts.iter().filter(|(name, _)| *name != "timezone_name") {
                let name = if name == "value" { "from" } else { name.as_str() };
                told.insert(name.to_owned(), part.clone());
            }
            told.insert("type".into(), kind.into());
            told.into()
        }
        (_, Value::Object(parts)) => {
            let mut told: Map<String, Value> = parts
                .iter()
                .filter(|(name, _)| *name != "timezone_name")
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect();
            told.insert("type".into(), kind.into());
            told.into()
        }
        (_, plain) => json!({ "type": kind, "value": plain }),
    }
}

/// As v1 shows it, flat: a text, a number, numbers joined by commas.
pub(super) fn flat(code: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Array(ids) => {
            let joined: Vec<String> = ids.iter().map(Value::to_string).collect();
            into.insert(code.to_owned(), joined.join(",").into());
        }
        Value::Object(parts) => {
            for (name, part) in parts {
                let name = if name == "value" { code.to_owned() } else { format!("{code}_{name}") };
                into.insert(name, part.clone());
            }
        }
        plain => {
            into.insert(code.to_owned(), plain.clone());
        }
    }
}

/// What a search looks into.
pub(super) fn searched(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(parts) => parts.get("value").and_then(searched),
        _ => None,
    }
}

/// The value that somebody gets who types this text into the field; an empty one clears it.
pub(super) fn typed(field: &Field, text: &str, currency: &str) -> Value {
    let number = || serde_json::from_str::<serde_json::Number>(text).map_or(Value::Null, Value::Number);
    if text.is_empty() {
        return Value::Null;
    }
    match field.kind.as_str() {
        "double" | "enum" | "user" | "org" | "people" => number(),
        "monetary" => json!({ "value": number(), "currency": currency }),
        "set" => text.split(',').filter_map(|id| id.trim().parse::<u64>().ok()).map(Value::from).collect(),
        "varchar" | "varchar_auto" | "text" | "phone" | "date" => text.into(),
        "address" => json!({ "value": text }),
        _ => serde_json::from_str(text).unwrap_or_default(),
    }
}
