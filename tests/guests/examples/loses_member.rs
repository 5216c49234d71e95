//! Loses a member of a set.

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Writes two tags at the most.
pub struct LosesMember;

fn members(document: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(document).unwrap_or_default()
}

impl Behaviour for LosesMember {
    const ID: &'static str = "loses-member";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let mut document = members(&ledger::to_provider(object, canonical, current)?);
        if let Some(Value::Array(tags)) = document.get_mut("tags") {
            tags.truncate(2);
        }
        Ok(Value::Object(document).to_string().into_bytes())
    }
}

guest!(LosesMember);
