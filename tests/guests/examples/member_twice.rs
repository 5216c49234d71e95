//! Puts its documents together by hand, and so a member twice: no two readers agree on what that says.

use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Writes notes under their own name, and once more at the end.
pub struct MemberTwice;

impl Behaviour for MemberTwice {
    const ID: &'static str = "member-twice";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let document = ledger::to_provider(object, canonical, current)?;
        let mut notes = None;
        rewritten(&document, |members| {
            notes = members.get("notes").filter(|notes| notes.is_string()).cloned();
        });
        let Some(notes) = notes else { return Ok(document) };
        let text = String::from_utf8_lossy(&document);
        let open = text.strip_suffix('}').unwrap_or_default();
        Ok(format!("{open},\"notes\":{notes}}}").into_bytes())
    }
}

guest!(MemberTwice);
