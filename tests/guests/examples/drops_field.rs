//! Forgets a field on the way to the CRM.

use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Never writes the family name.
pub struct DropsField;

impl Behaviour for DropsField {
    const ID: &'static str = "drops-field";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        Ok(rewritten(&document, |members| drop(members.remove("family_name"))))
    }
}

guest!(DropsField);
