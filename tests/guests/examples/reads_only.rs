//! Reads what it cannot write: a value that only the CRM has would be lost with the next write.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Reads every language, and writes only proper tags.
pub struct ReadsOnly;

impl Behaviour for ReadsOnly {
    const ID: &'static str = "reads-only";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| {
            let language = members.get("language").and_then(Value::as_str);
            let proper = |tag: &str| (2..4).contains(&tag.split(['-', '_']).next().unwrap_or_default().len());
            if language.is_some_and(|tag| !proper(tag)) {
                members.remove("language");
            }
        }))
    }
}

guest!(ReadsOnly);
