//! Forgets the members that nobody mapped.

use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Writes what it knows, and nothing of what was there.
pub struct DropsUnmapped;

impl Behaviour for DropsUnmapped {
    const ID: &'static str = "drops-unmapped";

    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        let _forgotten = current;
        ledger::to_provider(object, canonical, None)
    }
}

guest!(DropsUnmapped);
