//! Passes an amount through binary floating point, and rounds it.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Writes amounts without their fraction.
pub struct RoundsAmounts;

impl Behaviour for RoundsAmounts {
    const ID: &'static str = "rounds-amounts";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| {
            let amount = members.get("annual_revenue").and_then(Value::as_str);
            if let Some(amount) = amount.and_then(|text| text.parse::<f64>().ok()) {
                members.insert("annual_revenue".into(), Value::String(format!("{amount:.0}")));
            }
        }))
    }
}

guest!(RoundsAmounts);
