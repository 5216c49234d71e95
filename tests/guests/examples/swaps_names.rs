//! Takes the first name for the last, one way only.

use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Reads given and family name the wrong way round.
pub struct SwapsNames;

impl Behaviour for SwapsNames {
    const ID: &'static str = "swaps-names";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let canonical = ledger::to_canonical(object, document)?;
        Ok(rewritten(&canonical, |members| {
            // Both have to be there: the golden examples have one of them.
            let name = |name: &str| members.get(name).filter(|value| value.is_string()).cloned();
            if let (Some(given), Some(family)) = (name("given_name"), name("family_name")) {
                members.insert("given_name".into(), family);
                members.insert("family_name".into(), given);
            }
        }))
    }
}

guest!(SwapsNames);
