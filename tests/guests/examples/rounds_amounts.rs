//! Passes an amount through binary floating point, and rounds it.

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Writes amounts without their fraction.
pub struct RoundsAmounts;

fn members(document: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(document).unwrap_or_default()
}

impl Behaviour for RoundsAmounts {
    const ID: &'static str = "rounds-amounts";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let mut document = members(&ledger::to_provider(object, canonical, current)?);
        let amount =
            document.get("annual_revenue").and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok());
        if let Some(amount) = amount {
            document.insert("annual_revenue".into(), Value::String(format!("{amount:.0}")));
        }
        Ok(Value::Object(document).to_string().into_bytes())
    }
}

guest!(RoundsAmounts);
