//! Keeps state between calls: what it answers depends on how often it was asked.

use std::cell::Cell;

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Puts a different note on every tenth person that it reads.
pub struct CountsCalls;

impl Behaviour for CountsCalls {
    const ID: &'static str = "counts-calls";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        CALLS.set(CALLS.get() + 1);
        let mut canonical: Map<String, Value> =
            serde_json::from_slice(&ledger::to_canonical(object, document)?).unwrap_or_default();
        if CALLS.get().is_multiple_of(10) {
            canonical.insert("city".into(), Value::String(format!("call {}", CALLS.get())));
        }
        Ok(Value::Object(canonical).to_string().into_bytes())
    }
}

guest!(CountsCalls);
