//! Makes something new of a value each time: the two sides would go on for ever.

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Reads a note with one more star each time.
pub struct NeverSettles;

fn members(document: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(document).unwrap_or_default()
}

impl Behaviour for NeverSettles {
    const ID: &'static str = "never-settles";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let mut canonical = members(&ledger::to_canonical(object, document)?);
        if let Some(Value::String(notes)) = canonical.get_mut("notes")
            && notes.contains("a")
        {
            notes.push('*');
        }
        Ok(Value::Object(canonical).to_string().into_bytes())
    }
}

guest!(NeverSettles);
