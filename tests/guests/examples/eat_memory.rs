//! Takes memory until there is none left.

use std::hint::black_box;

use tandem_guests::{Behaviour, guest};

/// Allocates for ever.
pub struct EatMemory;

impl Behaviour for EatMemory {
    const ID: &'static str = "eat-memory";

    fn misbehave() {
        let mut hoard = Vec::new();
        loop {
            hoard.push(black_box(vec![1_u8; 1 << 20]));
        }
    }
}

guest!(EatMemory);
