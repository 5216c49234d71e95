//! Takes the first name for the last, one way only.

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Reads given and family name the wrong way round.
pub struct SwapsNames;

fn members(document: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(document).unwrap_or_default()
}

impl Behaviour for SwapsNames {
    const ID: &'static str = "swaps-names";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let mut canonical = members(&ledger::to_canonical(object, document)?);
        // Both have to be there: the golden examples have one of them.
        if let (Some(given), Some(family)) =
            (canonical.get("given_name").cloned(), canonical.get("family_name").cloned())
        {
            canonical.insert("given_name".into(), family);
            canonical.insert("family_name".into(), given);
        }
        Ok(Value::Object(canonical).to_string().into_bytes())
    }
}

guest!(SwapsNames);
