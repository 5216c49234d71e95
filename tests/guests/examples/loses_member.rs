//! Loses a member of a set.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Writes two tags at the most.
pub struct LosesMember;

impl Behaviour for LosesMember {
    const ID: &'static str = "loses-member";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| {
            if let Some(Value::Array(tags)) = members.get_mut("tags") {
                tags.truncate(2);
            }
        }))
    }
}

guest!(LosesMember);
