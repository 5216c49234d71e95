//! The fields of a simulated person and the values that people write.
//!
//! Each value that a person writes bears a number of its own, the token. Whatever a server does to the value (it trims, changes case,
//! cuts the end off), the token stays, so that the checker can say of each value that it meets who wrote it and when.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tandem_core::schema::{CanonicalSchema, Schema};

use crate::dice::Dice;

/// The canonical object.
pub(crate) const OBJECT: &str = "contact";

/// A field: its canonical pointer and the CRM's name for it.
pub(crate) struct Field {
    pub(crate) pointer: &'static str,
    pub(crate) member: &'static str,
    pub(crate) property: &'static str,
}

const fn field(pointer: &'static str, member: &'static str, property: &'static str) -> Field {
    Field { pointer, member, property }
}

/// All fields. The code says which person it is; nobody edits it. City and postal code are a group; tags are a set.
pub(crate) static FIELDS: [Field; 7] = [
    field(CODE, "code", "Code"),
    field(EMAIL, "email", "Mail"),
    field(NAME, "name", "Name"),
    field("/title", "title", "Title"),
    field("/city", "city", "City"),
    field("/zip", "zip", "Zip"),
    field(TAGS, "tags", "Tags"),
];

pub(crate) const CODE: &str = "/code";
pub(crate) const EMAIL: &str = "/email";
pub(crate) const NAME: &str = "/name";
pub(crate) const TITLE: &str = "/title";
pub(crate) const TAGS: &str = "/tags";

/// Fields of one text that people edit.
pub(crate) const EDITED: [&str; 4] = [NAME, "/title", "/city", "/zip"];

/// No text is longer in System A.
pub(crate) const LONGEST: usize = 64;

/// What the CRM calls a field.
pub(crate) fn property_of(pointer: &str) -> Option<&'static str> {
    FIELDS.iter().find(|field| field.pointer == pointer).map(|field| field.property)
}

/// What Tandem calls one of the CRM's properties.
pub(crate) fn pointer_of(property: &str) -> Option<&'static str> {
    FIELDS.iter().find(|field| field.property == property).map(|field| field.pointer)
}

/// The schemas that all worlds share.
pub(crate) struct Schemas {
    pub(crate) canonical: std::sync::Arc<CanonicalSchema>,
    pub(crate) read: std::sync::Arc<Schema>,
}

pub(crate) static SCHEMAS: LazyLock<Result<Schemas, String>> = LazyLock::new(|| {
    let text = json!({ "type": ["string", "null"], "maxLength": LONGEST });
    let with = |name: &str, value: Value| {
        let mut field = text.as_object().cloned().unwrap_or_default();
        field.insert(name.to_owned(), value);
        Value::Object(field)
    };
    let email = json!({ "type": ["string", "null"], "maxLength": LONGEST, "x-identity": true, "x-normalise": "email" });
    let canonical = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "code": text,
            "email": email,
            "name": text,
            "title": with("x-normalise", json!("text")),
            "city": with("x-group", json!("address")),
            "zip": with("x-group", json!("address")),
            "tags": { "type": ["array", "null"], "items": { "type": "string" }, "x-set": true },
        },
    });
    // The CRM's texts are longer than System A's.
    let text = json!({ "type": ["string", "null"], "maxLength": 1_000 });
    let tags = json!({ "type": ["array", "null"], "items": { "type": "string" } });
    let read = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "Code": text, "Mail": text, "Name": text, "Title": text, "City": text, "Zip": text, "Tags": tags,
        },
    });
    Ok(Schemas {
        canonical: CanonicalSchema::compile(OBJECT, &canonical).map_err(|error| error.to_string())?.into(),
        read: Schema::compile("people", &read).map_err(|error| error.to_string())?.into(),
    })
});

/// What a server makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Nothing.
    None,
    /// No white space at both ends.
    Trim,
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
    /// So many characters.
    Cut(usize),
}

impl Rewrite {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 => Self::Trim,
            1 => Self::Lower,
            2 => Self::Upper,
            3 => Self::Cut(8),
            _ => Self::None,
        }
    }

    pub(crate) fn of(self, value: &Value) -> Value {
        let Value::String(text) = value else { return value.clone() };
        Value::String(match self {
            Self::None => text.clone(),
            Self::Trim => text.trim().to_owned(),
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            Self::Cut(length) => text.chars().take(length).collect(),
        })
    }
}

/// A person's value of a field, with its token.
pub(crate) fn text(dice: &mut Dice, pointer: &str, person: u64, token: u64) -> Value {
    if pointer == EMAIL {
        let name = if dice.chance(300) { "P" } else { "p" };
        return Value::String(format!("{name}{person}-{token}@x.example"));
    }
    let pad = if dice.chance(200) { " " } else { "" };
    let word = if dice.chance(300) { "na" } else { "Na" };
    let tail = match dice.below(20) {
        0..=3 => " or so",
        4 => " ",
        _ => "",
    };
    Value::String(format!("{pad}{word}{token}{tail}"))
}

/// The code of a person.
pub(crate) fn code(person: u64) -> Value {
    Value::String(format!("p{person}"))
}

/// The token that a text bears: its last number.
pub(crate) fn token(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let end = text.rfind(|it: char| it.is_ascii_digit())? + 1;
    let start = text.get(..end)?.rfind(|it: char| !it.is_ascii_digit()).map_or(0, |at| at + 1);
    text.get(start..end)?.parse().ok()
}

/// Null, absent and empty are no value here.
pub(crate) fn blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}
