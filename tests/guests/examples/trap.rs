//! Panics, which is a trap.

use tandem_guests::{Behaviour, guest};

/// Panics with a text that holds a value.
pub struct Trap;

impl Behaviour for Trap {
    const ID: &'static str = "trap";

    #[expect(clippy::panic, reason = "it is what this guest is for")]
    fn misbehave() {
        panic!("cannot do anything with the value PRIVATE-VALUE");
    }
}

guest!(Trap);
