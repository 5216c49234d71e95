//! A provider that behaves.

use tandem_guests::{Behaviour, guest};

/// The ledger as it is.
pub struct Ledger;

impl Behaviour for Ledger {
    const ID: &'static str = "ledger";
}

guest!(Ledger);
