//! Never comes back.

use std::hint::black_box;

use tandem_guests::{Behaviour, guest};

/// Spins.
pub struct Spin;

impl Behaviour for Spin {
    const ID: &'static str = "spin";

    fn misbehave() {
        let mut turns = 0_u64;
        while black_box(true) {
            turns = black_box(turns.wrapping_add(1));
        }
    }
}

guest!(Spin);
