//! Answers its own golden example differently each time: it must not be admitted.

use std::cell::Cell;

use serde_json::{Value, json};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Adds white space to what it answers, more with each call: the same document, other bytes.
pub struct Moody;

impl Behaviour for Moody {
    const ID: &'static str = "moody";

    fn describe() -> Json {
        let mut descriptor: Value = serde_json::from_slice(&ledger::describe(Self::ID)).unwrap_or_default();
        if let Some(examples) = descriptor.get_mut("examples") {
            *examples = json!([{
                "name": "the same every day",
                "object": "contact",
                "canonical": { "email": "ada@example.com" },
                "document": { "email": "ada@example.com" }
            }]);
        }
        descriptor.to_string().into_bytes()
    }

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        SEEN.set(SEEN.get() + 1);
        let mut answer = ledger::to_canonical(object, document)?;
        answer.extend((0..SEEN.get()).map(|_| b' '));
        Ok(answer)
    }
}

guest!(Moody);
