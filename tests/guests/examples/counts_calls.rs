//! Keeps state between calls: what it answers depends on how often it was asked.

use std::cell::Cell;

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

thread_local! {
    static CITIES: Cell<u64> = const { Cell::new(0) };
}

/// Changes every second city that it reads.
pub struct CountsCalls;

impl Behaviour for CountsCalls {
    const ID: &'static str = "counts-calls";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        let canonical = ledger::to_canonical(object, document)?;
        Ok(rewritten(&canonical, |members| {
            if let Some(Value::String(city)) = members.get_mut("city") {
                CITIES.set(CITIES.get() + 1);
                if CITIES.get().is_multiple_of(2) {
                    city.push_str(", again");
                }
            }
        }))
    }
}

guest!(CountsCalls);
