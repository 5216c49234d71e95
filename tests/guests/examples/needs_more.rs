//! Behaves, and needs more than the daemon gives unless it is told to: 40 MiB of memory.

use std::hint::black_box;

use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

/// Takes its memory with the first record that it reads.
pub struct NeedsMore;

impl Behaviour for NeedsMore {
    const ID: &'static str = "needs-more";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        black_box(vec![1_u8; 40 << 20]);
        ledger::to_canonical(object, document)
    }
}

guest!(NeedsMore);
