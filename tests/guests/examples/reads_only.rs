//! Reads what it cannot write: a value that only the CRM has would be lost with the next write.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Reads whatever source the CRM names, and writes one alone. System A keeps no such field: only the way back shows it.
pub struct ReadsOnly;

impl Behaviour for ReadsOnly {
    const ID: &'static str = "reads-only";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| {
            if members.get("source").and_then(Value::as_str).is_some_and(|source| source != "web") {
                members.remove("source");
            }
        }))
    }
}

guest!(ReadsOnly);
