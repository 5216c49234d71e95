//! A mapping that makes documents which the provider's own schema does not allow: a different one for each word that a
//! record's notes begin with. A component at work as it should be, whose author did not think of everything.

use serde_json::{Map, Value, json};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Documents of every odd kind.
pub struct OddDocuments;

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["email"],
        "additionalProperties": false,
        "properties": {
            "email": { "type": "string", "format": "email" },
            "first_name": { "type": "string", "minLength": 1, "maxLength": 20 },
            "notes": { "type": "string" },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "active": { "type": "boolean" },
            "birthday": { "type": "string", "format": "date" },
            "seen": { "type": "string", "format": "date-time" },
            "status": { "enum": ["open", "closed"] },
            "website": { "type": "string", "format": "uri" },
            "postal_code": { "type": "string", "pattern": "^[0-9]{5}$" },
            "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 3, "uniqueItems": true },
            "address": { "type": "object", "required": ["city"], "properties": { "city": { "type": "string" } } }
        }
    })
}

/// The members of a document in the order of writing: so that one may come twice, and a value may be any text.
fn odd(kind: &str, email: &str) -> Option<String> {
    let one = |name: &str, value: &str| format!("{{\"email\":\"{email}\",\"{name}\":{value}}}");
    let deep = format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    Some(match kind {
        "number-for-text" => "{\"email\":5}".to_owned(),
        "text-for-number" => one("age", "\"many\""),
        "text-for-boolean" => one("active", "\"yes\""),
        "list-for-text" => one("notes", "[\"a\"]"),
        "object-for-text" => one("notes", "{\"value\":\"a\"}"),
        "null-for-text" => one("notes", "null"),
        "missing" => "{\"notes\":\"a\"}".to_owned(),
        "missing-inside" => one("address", "{}"),
        "extra" => one("shoe_size", "38"),
        "too-long" => one("first_name", &format!("\"{}\"", "n".repeat(21))),
        "too-short" => one("first_name", "\"\""),
        "no-such-day" => one("birthday", "\"2026-02-30\""),
        "no-day" => one("birthday", "\"soon\""),
        "no-such-hour" => one("seen", "\"2026-01-31T25:00:00Z\""),
        "no-such-option" => one("status", "\"whale\""),
        "no-address" => "{\"email\":\"nobody\"}".to_owned(),
        "no-uri" => one("website", "\"a b\""),
        "no-match" => one("postal_code", "\"1234x\""),
        "too-many" => one("age", "151"),
        "fewer-than-none" => one("age", "-1"),
        "fraction" => one("age", "1.5"),
        "beyond-2-53" => one("age", "9007199254740993"),
        "beyond-every-reader" => one("age", "1e999"),
        "half-a-surrogate-pair" => one("notes", "\"a\\ud800z\""),
        "twice" => format!("{{\"email\":\"{email}\",\"notes\":\"a\",\"notes\":\"b\"}}"),
        "a-thousand-deep" => one("notes", &deep),
        "too-many-items" => one("tags", "[\"a\",\"b\",\"c\",\"d\"]"),
        "equal-items" => one("tags", "[\"a\",\"a\"]"),
        "number-among-texts" => one("tags", "[\"a\",1]"),
        _ => return None,
    })
}

impl Behaviour for OddDocuments {
    const ID: &'static str = "odd-documents";

    fn configure(settings: &[u8], facts: &[u8]) -> Result<Json, Vec<Problem>> {
        let described = ledger::configure(settings, facts)?;
        let mut described: Map<String, Value> = serde_json::from_slice(&described).unwrap_or_default();
        if let Some(contact) = described.get_mut("objects").and_then(|objects| objects.get_mut("contact")) {
            // What may be sent; what is read may be anything.
            contact["write-schema"] = schema();
        }
        Ok(Value::Object(described).to_string().into_bytes())
    }

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document: Value = serde_json::from_slice(canonical).unwrap_or_default();
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("notes").split(' ').next().and_then(|kind| odd(kind, text("email"))) {
            Some(odd) => Ok(odd.into_bytes()),
            None => ledger::to_provider(object, canonical, current),
        }
    }
}

guest!(OddDocuments);
