//! Calls itself for ever.

use std::hint::black_box;

use tandem_guests::{Behaviour, guest};

/// Recurses without end. The wasm stack gives out before the shadow stack in linear memory does.
pub struct DeepRecursion;

fn deeper(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX { 0 } else { black_box(deeper(depth + 1)) + 1 }
}

impl Behaviour for DeepRecursion {
    const ID: &'static str = "deep-recursion";

    fn misbehave() {
        black_box(deeper(0));
    }
}

guest!(DeepRecursion);
