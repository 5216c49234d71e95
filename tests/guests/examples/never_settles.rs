//! Makes something new of a value with each write: the CRM would be written to for ever.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Writes a note with one more star each time, and reads it without: what is read is always the same.
pub struct NeverSettles;

fn stars(document: &[u8]) -> usize {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let notes = document.get("notes").and_then(Value::as_str).unwrap_or_default();
    notes.len() - notes.trim_end_matches('*').len()
}

impl Behaviour for NeverSettles {
    const ID: &'static str = "never-settles";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let more = "*".repeat(current.map_or(0, stars) + 1);
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| {
            if let Some(Value::String(notes)) = members.get_mut("notes") {
                notes.push_str(&more);
            }
        }))
    }

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let canonical = ledger::to_canonical(object, document)?;
        Ok(rewritten(&canonical, |members| {
            if let Some(Value::String(notes)) = members.get_mut("notes") {
                notes.truncate(notes.trim_end_matches('*').len());
            }
        }))
    }
}

guest!(NeverSettles);
