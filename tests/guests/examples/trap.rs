//! Panics, which is a trap.

use tandem_guests::{Behaviour, guest};

/// Panics with a text that holds a value.
pub struct Trap;

impl Behaviour for Trap {
    const ID: &'static str = "trap";

    fn misbehave() {
        panic!("cannot do anything with the value PRIVATE-VALUE");
    }
}

guest!(Trap);
