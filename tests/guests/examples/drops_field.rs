//! Forgets a field on the way to the CRM.

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Never writes the family name.
pub struct DropsField;

fn members(document: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(document).unwrap_or_default()
}

impl Behaviour for DropsField {
    const ID: &'static str = "drops-field";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let mut document = members(&ledger::to_provider(object, canonical, current)?);
        document.remove("family_name");
        Ok(Value::Object(document).to_string().into_bytes())
    }
}

guest!(DropsField);
