//! Makes progress, and takes far too long over it: it would end, in minutes.

use std::hint::black_box;

use tandem_guests::{Behaviour, guest};

/// Counts to a very large number, speaking now and then.
pub struct Slow;

impl Behaviour for Slow {
    const ID: &'static str = "slow";

    fn misbehave() {
        let mut primes = Vec::new();
        for candidate in 2_u64..3_000_000 {
            if primes.iter().all(|prime| black_box(candidate) % prime != 0) {
                primes.push(candidate);
                if primes.len() % 1000 == 0 {
                    tandem_guests::bindings::tandem::provider::log::log("debug", "still counting");
                }
            }
        }
        black_box(primes);
    }
}

guest!(Slow);
