//! Values of custom fields, as text and as Pipedrive has them.
//!
//! Read answers have plain values, or objects with a `value` (amounts, times, addresses); options are ids, or objects with `id` and
//! `label`. Webhooks tell the type with each value: `{"type":"enum","id":3}`, `{"type":"set","values":[{"id":3}]}`,
//! `{"type":"text","value":"x"}`, `{"type":"daterange","from":"x","until":"y"}`. All of them are read; what is written has the form of the read answers.

use std::borrow::Cow;

use serde_json::{Value, json};
use tandem_provider::json::{Members, Node};

/// Between the ids of several options in flat form.
pub(crate) const SEPARATOR: char = ';';

/// What a custom field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A number.
    Number,
    /// One option's id, or another record's.
    Id,
    /// Options' ids.
    Ids,
    /// An amount with its currency, which stays what it is; this one where there is none.
    Amount(Option<String>),
    /// An object of which only `value` is ours.
    Compound,
    /// True or false.
    Flag,
}

impl Kind {
    /// By Pipedrive's word for the type.
    pub(crate) fn of(field_type: &str, currency: Option<&str>) -> Self {
        match field_type {
            "int" | "double" => Self::Number,
            "enum" | "user" | "org" | "people" | "deal" | "lead" | "project" | "stage" | "status"
            | "visible_to" => Self::Id,
            "set" | "deals" => Self::Ids,
            "monetary" => Self::Amount(currency.map(str::to_owned)),
            "daterange" | "time" | "timerange" | "address" => Self::Compound,
            "boolean" => Self::Flag,
            _ => Self::Text,
        }
    }

    /// By the settings' word for the type, before the account's fields are known.
    pub(crate) fn usual(kind: &str) -> Self {
        match kind {
            "integer" | "decimal" => Self::Number,
            "enumeration" => Self::Id,
            "set" => Self::Ids,
            "boolean" => Self::Flag,
            _ => Self::Text,
        }
    }

    /// Text as a value in read form. `current`: what is there. None: it cannot be one.
    pub(crate) fn value<'a>(&self, text: &str, current: Option<&Node<'a>>) -> Option<Node<'a>> {
        Some(match self {
            Self::Text => Node::text(text.to_owned()),
            Self::Number => number(text)?,
            Self::Id => id(text),
            Self::Ids => Node::List(text.split(SEPARATOR).filter(|it| !it.is_empty()).map(id).collect()),
            Self::Flag => match text {
                "true" => Node::Bool(true),
                "false" => Node::Bool(false),
                _ => return None,
            },
            Self::Amount(currency) => {
                let mut amount = object_of(current);
                amount.set("value", number(text)?);
                if amount.get("currency").and_then(Node::as_str).is_none()
                    && let Some(currency) = currency
                {
                    amount.set("currency", Node::text(currency.clone()));
                }
                Node::Object(amount)
            }
            Self::Compound => {
                let mut compound = object_of(current);
                compound.set("value", Node::text(text.to_owned()));
                // Pipedrive made it of the former value.
                compound.remove("formatted_address");
                Node::Object(compound)
            }
        })
    }

    /// Whether a write of it has to know what is there.
    pub(crate) fn needs_current(&self) -> bool {
        matches!(self, Self::Amount(_) | Self::Compound)
    }

    /// JSON Schema of a value in read form.
    pub(crate) fn schema(&self) -> Value {
        let id = json!({ "type": ["integer", "string"], "maxLength": 255 });
        match self {
            Self::Text => json!({ "type": ["string", "null"], "maxLength": 65_536 }),
            Self::Number => json!({ "type": ["number", "null"] }),
            Self::Id => json!({ "anyOf": [
                { "type": ["integer", "string", "null"], "maxLength": 255 },
                { "type": "object", "required": ["id"], "properties": { "id": id } },
            ]}),
            Self::Ids => json!({ "type": ["array", "null"], "maxItems": 1_000, "items": { "anyOf": [
                id, { "type": "object", "required": ["id"], "properties": { "id": id } },
            ]}}),
            Self::Amount(_) => json!({
                "type": ["object", "null"],
                "properties": { "value": { "type": ["number", "null"] }, "currency": { "type": ["string", "null"] } },
            }),
            Self::Compound => json!({
                "type": ["object", "string", "null"],
                "properties": { "value": { "type": ["string", "null"], "maxLength": 65_536 } },
            }),
            Self::Flag => json!({ "type": ["boolean", "null"] }),
        }
    }
}

/// A value as text; "" where there is none. None: it has no such form, and the mapping says so.
pub(crate) fn text<'a>(value: &Node<'a>) -> Option<Cow<'a, str>> {
    match value {
        Node::Null => Some(Cow::Borrowed("")),
        Node::Text(text) | Node::Number(text) => Some(text.clone()),
        Node::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Node::List(items) => {
            let mut joined = String::new();
            for item in items {
                let item = text(item)?;
                if !joined.is_empty() {
                    joined.push(SEPARATOR);
                }
                joined.push_str(&item);
            }
            Some(Cow::Owned(joined))
        }
        Node::Object(members) => {
            let inner = ["value", "id", "values"].iter().find_map(|name| members.get(name));
            match inner {
                None => Some(Cow::Borrowed("")),
                Some(Node::Object(_)) => None,
                Some(inner) => text(inner),
            }
        }
    }
}

/// A webhook's value in the form of the read answers.
pub(crate) fn read_form<'a>(value: &Node<'a>) -> Node<'a> {
    let Some(members) = value.as_object() else { return value.clone() };
    let Some(kind) = members.get("type").and_then(Node::as_str) else { return value.clone() };
    match kind {
        "set" => {
            let values = members.get("values").and_then(Node::as_list).unwrap_or_default();
            Node::List(values.iter().map(|it| it.get("id").unwrap_or(it).clone()).collect())
        }
        "monetary" | "daterange" | "time" | "timerange" | "address" => {
            let mut rest = members.clone();
            rest.remove("type");
            // The beginning of a range has another name here.
            if let Some(from) = rest.remove("from") {
                rest.set("value", from);
            }
            Node::Object(rest)
        }
        _ => members.get("value").or_else(|| members.get("id")).cloned().unwrap_or(Node::Null),
    }
}

fn object_of<'a>(current: Option<&Node<'a>>) -> Members<'a> {
    current.and_then(Node::as_object).cloned().unwrap_or_default()
}

/// Ids are numbers; those of built-in options are words.
fn id<'a>(text: &str) -> Node<'a> {
    let is_number = text.bytes().all(|it| it.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    let text = Cow::Owned(text.to_owned());
    if is_number { Node::Number(text) } else { Node::Text(text) }
}

/// A decimal as JSON has it: no leading zeros, and no more digits than a binary floating-point number keeps, which is what
/// Pipedrive and most of what stands between take it for.
fn number<'a>(text: &str) -> Option<Node<'a>> {
    const DIGITS: usize = 15;
    const LARGEST: u64 = 1 << 53;
    let (sign, bare) = text.strip_prefix('-').map_or(("", text), |bare| ("-", bare));
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let digits = |part: &str| part.bytes().all(|it| it.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || bare.ends_with('.') {
        return None;
    }
    let short = whole.trim_start_matches('0');
    let counted = short.len() + fraction.trim_end_matches('0').len();
    let is_safe = fraction.is_empty() && short.parse::<u64>().is_ok_and(|number| number <= LARGEST);
    if counted > DIGITS && !is_safe {
        return None;
    }
    let whole = if short.is_empty() { "0" } else { short };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(Node::Number(Cow::Owned(format!("{sign}{whole}{point}{fraction}"))))
}
